"""What the checks say of rows made on the spot."""

from __future__ import annotations

from finetune_exe.data.checks import DATA_CHECKS, ROW_CHECKS
from finetune_exe.data.checks.check import DataCheck
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import tabulate
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Conversation

QUESTION = "Describe how the harbour of the town was built and why it matters to the people."


def codes_of(row: Conversation) -> set[str]:
    """Name the checks that find a fault in a row by itself."""
    view = RowView(row)
    return {check.code for check in ROW_CHECKS if check.find(view) is not None}


def codes(answer: str, question: str = QUESTION) -> set[str]:
    """Do so for a question and its answer."""
    return codes_of(asked(question, answer))


def found(code: str, rows: list[Conversation]) -> list[int]:
    """Number the rows in which a check over all of them finds its fault."""
    facts = tabulate(range(len(rows)), [RowView(row) for row in rows])
    check = next(check for check in DATA_CHECKS if check.code == code)
    assert isinstance(check, DataCheck)
    return sorted(hit.row for hit in check.find(facts))
