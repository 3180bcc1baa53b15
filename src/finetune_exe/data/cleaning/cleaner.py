"""Apply a policy to rows as they are read: repair them, and say which are dropped."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.data.checks.check import Hit
from finetune_exe.data.checks.facts import Facts, join_facts, tabulate
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.cleaning.policy import NOTES, Policy
from finetune_exe.data.cleaning.repairs import mend
from finetune_exe.data.rows import Mended
from finetune_exe.text.conversation import Conversation, RowFault

TABLE_ROWS = 2000
"""Rows whose facts are taken together."""


class Cleaner:
    """Repairs rows one by one, and collects those that the policy drops.

    Args:
        policy: What to repair and drop.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._condemned: dict[int, RowFault] = {}
        self._numbers: list[int] = []
        self._views: list[RowView] = []
        self._tables: list[Facts] = []

    def mend(self, conversation: Conversation) -> Mended:
        """Repair a row as the policy says."""
        return mend(conversation, self._policy.fixes) if self._policy.fixes else Mended(conversation)

    def look(self, number: int, conversation: Conversation) -> None:
        """Judge a row by itself, and remember what comparing it with others takes.

        Args:
            number: Its number; rows come in order.
            conversation: The row, repaired.
        """
        policy = self._policy
        noted = next((code for code in conversation.notes if code in policy.notes), None)
        if noted is not None:
            self._condemned[number] = _fault(noted, NOTES[noted].meaning, NOTES[noted].fix)
            return
        if not policy.row_checks and not policy.data_checks:
            return
        view = RowView(conversation)
        for check in policy.row_checks:
            if check.find(view) is not None:
                self._condemned[number] = _fault(check.code, check.message, check.fix)
                return
        if policy.data_checks:
            self._numbers.append(number)
            self._views.append(view)
            if len(self._views) >= TABLE_ROWS:
                self._tabulate()

    def condemned(self, places: Sequence[str]) -> dict[int, RowFault]:
        """Compare the rows that are left with each other, and say which rows are dropped and why.

        A row is not dropped for what another row has if that one is dropped for what this one has: of rows that repeat
        each other, one stays.

        Args:
            places: Where each row stands, by number.
        """
        if self._policy.data_checks:
            self._tabulate()
            facts = join_facts(self._tables)
            kept_for: dict[int, int] = {}
            for check in self._policy.data_checks:
                for hit in check.find(facts):
                    if hit.row in self._condemned or _leads_back(hit, kept_for):
                        continue
                    message = check.message
                    if hit.of_row is not None:
                        kept_for[hit.row] = hit.of_row
                        message += f": {places[hit.of_row]}"
                    self._condemned[hit.row] = _fault(check.code, message, check.fix)
        return self._condemned

    def _tabulate(self) -> None:
        self._tables.append(tabulate(self._numbers, self._views))
        self._numbers, self._views = [], []


def _leads_back(hit: Hit, kept_for: dict[int, int]) -> bool:
    """Whether the row that should stay instead of this one was dropped, in the end, in favour of this one."""
    row = hit.of_row
    while row is not None and row != hit.row:
        row = kept_for.get(row)
    return row is not None


def _fault(code: str, message: str, fix: str) -> RowFault:
    return RowFault(code=code, message=message, fix=f"{fix}; or keep such rows: take {code} out of data.drop")
