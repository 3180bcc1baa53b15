"""What a plan says is to be repaired and dropped."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from finetune_exe.data.checks import CHECKS
from finetune_exe.data.checks.check import Check, DataCheck, RowCheck
from finetune_exe.data.checks.findings import LEAKS
from finetune_exe.data.cleaning.repairs import FIXES, Fix
from finetune_exe.data.faults import FAULTS, FILE_FAULTS, LINE_FAULTS, ROW_NOTES
from finetune_exe.domain.plan import DataChoice
from finetune_exe.errors import FineTuneError

NOTES = {
    code: kind for code, kind in {**ROW_NOTES, **LINE_FAULTS}.items() if code in ROW_NOTES or kind.severity == "warning"
}
"""What a row that can be read may be noted for."""
DROPPABLE: tuple[str, ...] = tuple(dict.fromkeys([*(check.code for check in CHECKS), *NOTES]))
"""Codes that `data.drop` may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is done about faults beyond dropping what cannot be trained on."""

    fixes: tuple[Fix, ...]
    row_checks: tuple[RowCheck, ...]
    """Rows that one of them finds are dropped."""
    data_checks: tuple[DataCheck, ...]
    notes: frozenset[str]
    """Rows noted for one of them are dropped."""


def read_policy(data: DataChoice) -> Policy:
    """Look up what the plan's codes stand for.

    Raises:
        FineTuneError: C02 for codes that `data.drop` may not name.
    """
    wrong = [_say_wrong(code) for code in data.drop if code not in DROPPABLE]
    if wrong:
        raise FineTuneError(
            "C02",
            what="; ".join(wrong),
            where="data.drop",
            why="only a fault that a check finds in a row that can be read can be dropped by name",
            fix="name codes of docs/guides/data-checks.md, such as --set data.drop=[mojibake, near_duplicate]",
        )
    chosen: list[Check] = [check for check in CHECKS if check.code in data.drop]
    return Policy(
        fixes=tuple(fix for fix in FIXES if fix.code in data.fix),
        row_checks=tuple(check for check in chosen if isinstance(check, RowCheck)),
        data_checks=tuple(check for check in chosen if isinstance(check, DataCheck)),
        notes=frozenset(code for code in NOTES if code in data.drop),
    )


def _say_wrong(code: str) -> str:
    if code in LEAKS:
        return f"{code}: leaks show beside held-out rows only, which --check looks at"
    if code in FILE_FAULTS:
        return f"{code}: this is said of a file, not of a row"
    if code in FAULTS:
        return f"{code}: such rows are dropped in any case"
    near = difflib.get_close_matches(code, DROPPABLE, n=1)
    return f"{code}: no check has this code" + (f"; did you mean {near[0]}?" if near else "")
