"""Collect what checks find, and put it in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from finetune_exe.data.checks import CHECKS
from finetune_exe.data.checks.check import Hit, Severity, shorten
from finetune_exe.data.checks.places import Places
from finetune_exe.data.checks.survey import Survey
from finetune_exe.data.faults import FAULTS, FileNote
from finetune_exe.domain.dataset import CheckFinding, DataQuality, FindingRow
from finetune_exe.text.conversation import RowFault

EXTRACTS_KEPT = 50
"""Rows of a finding that are quoted."""
MANY_ROWS = 20
"""Fewer rows show no custom: every fault in them is one."""
_APART = "take it out of the training rows"
LEAKS: dict[str, tuple[Severity, str, str]] = {
    "leak_exact": ("error", "the held-out row is trained on, to the letter", _APART),
    "leak_normalised": ("error", "the held-out row is trained on, but for case, white space and punctuation", _APART),
    "leak_near_light": ("error", "the held-out row is trained on, a few words changed", _APART),
    "leak_near_heavy": ("error", "the held-out row is trained on, many words changed", _APART),
    "leak_prompt_only": (
        "error", "the question of the held-out row is trained on, with another answer", "keep it on one side",
    ),
    "leak_output_only": (
        "warning", "the answer of the held-out row is trained on, to another question", "keep it on one side",
    ),
    "leak_group": (
        "error", "the held-out row belongs to a conversation or document that is trained on", "split by that group",
    ),
    "benchmark_contamination": (
        "error", "the row holds an item of a benchmark, whose result would then mean nothing", "take the row out",
    ),
}  # fmt: skip
"""What rows that should be kept apart can have in common: severity, meaning and fix."""
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}


class _Kind(NamedTuple):
    """What a code means."""

    severity: Severity
    message: str
    fix: str
    usual: float | None = None


def _known_kinds() -> dict[str, _Kind]:
    kinds = {code: _Kind(kind.severity, kind.meaning, kind.fix) for code, kind in FAULTS.items()}
    kinds |= {code: _Kind(*kind) for code, kind in LEAKS.items()}
    return kinds | {check.code: _Kind(check.severity, check.message, check.fix, check.usual) for check in CHECKS}


class Findings:
    """Rows by the code of their fault."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._kinds = _known_kinds()
        self._hits: dict[tuple[str, bool], dict[int, FindingRow]] = {}
        """By code, and whether the fault is likely only."""
        self._found: Counter[str] = Counter()
        self._files: list[CheckFinding] = []

    def add(self, code: str, hits: Iterable[Hit]) -> None:
        """Note rows that a check found; a row counts once a code."""
        for hit in hits:
            rows = self._hits.setdefault((code, hit.likely), {})
            if hit.row not in rows:
                rows[hit.row] = self._row(self._places, hit, quoted=len(rows) < EXTRACTS_KEPT)

    def add_elsewhere(self, code: str, hits: Iterable[Hit], places: Places) -> None:
        """Note rows of another split."""
        rows = self._hits.setdefault((code, False), {})
        for hit in hits:
            key = -1 - hit.row - (1 << 40) * (places.split == "test")
            if key not in rows:
                rows[key] = self._row(places, hit, quoted=len(rows) < EXTRACTS_KEPT)

    def _row(self, places: Places, hit: Hit, *, quoted: bool) -> FindingRow:
        return FindingRow(
            index=hit.row,
            line=places.line(hit.row),
            of_index=hit.of_row,
            of_source=None if hit.of_row is None else self._places.place(hit.of_row),
            split=places.split,
            source=places.place(hit.row),
            extract=_printable(hit.extract) if quoted else "",
        )

    def add_fault(self, index: int, fault: RowFault, text: str = "") -> None:
        """Note a record that cannot be read."""
        known = self._kinds.get(fault.code)
        if known is None or (known.severity != "error" and fault.code not in FAULTS):
            # What the tokenizer proves is an error, also where the check without one could but warn.
            self._kinds[fault.code] = _Kind("error", fault.message, fault.fix)
        said = fault.message if fault.message != self._kinds[fault.code].message else ""
        self.add(fault.code, [Hit(index, said or shorten(text))])

    def add_survey(self, survey: Survey) -> None:
        """Note what a look at some rows gave."""
        for code, hits in survey.hits.items():
            self.add(code, hits)
        for code, indices in survey.notes.items():
            self.add(code, map(Hit, indices))
        for index, fault in survey.faults:
            self.add_fault(index, fault)

    def add_file(self, note: FileNote) -> None:
        """Note what is wrong with a file as a whole, or with lines of it that hold no record."""
        rows = tuple(
            FindingRow(index=None, line=line, split=self._places.split, source=f"{note.source}:{line}")
            for line in note.lines
        )
        self._files.append(
            CheckFinding(
                code=note.code,
                severity=note.severity,
                rows=rows,
                message=note.message,
                fix=note.fix,
                source=note.source,
            )
        )

    def in_order(self) -> tuple[CheckFinding, ...]:
        """Give one finding a code, or two where some of its rows are likely only.

        Errors come first, then warnings, then advice, each most frequent first.
        """
        found = [*self._files]
        for (code, likely), rows in self._hits.items():
            if rows:
                kind = self._kinds[code]
                chosen = tuple(sorted(rows.values(), key=lambda row: (row.split, row.index or 0)))
                found.append(
                    CheckFinding(
                        code=code,
                        severity="warning" if likely else self._severity(kind, len(rows)),
                        rows=chosen,
                        message=kind.message,
                        fix=kind.fix,
                    )
                )
        return tuple(sorted(found, key=lambda finding: (_ORDER[finding.severity], -len(finding.rows), finding.code)))

    def _severity(self, kind: _Kind, count: int) -> Severity:
        """Take a fault that very many rows have for the way this data is."""
        total = len(self._places)
        habit = kind.usual is not None and total >= MANY_ROWS and count > kind.usual * total
        return "info" if habit else kind.severity


def _printable(text: str) -> str:
    """Show control and format characters as their codes, so that an extract does nothing to a terminal."""
    return "".join(character if character.isprintable() else f"<U+{ord(character):04X}>" for character in text)


def judge(findings: Sequence[CheckFinding], *, num_rows: int) -> DataQuality:
    """Count the rows that are good in each respect."""
    bad: set[int] = set()
    suspicious: set[int] = set()
    repeated: set[int] = set()
    for finding in findings:
        rows = {row.index for row in finding.rows if row.split == "train" and row.index is not None}
        if finding.severity == "info":
            continue
        if finding.code in REPEATS:
            repeated |= rows
        elif finding.severity == "error":
            bad |= rows
        else:
            suspicious |= rows
    total = max(1, num_rows)
    return DataQuality(
        sound=1 - len(bad) / total,
        distinct=1 - len(repeated) / total,
        unsuspicious=1 - len(suspicious) / total,
        score=(num_rows - len(bad | suspicious | repeated)) / total,
    )


REPEATS = frozenset({"exact_duplicate", "normalised_duplicate", "near_duplicate", "contained_duplicate"})
"""Codes of rows that say what another says."""
