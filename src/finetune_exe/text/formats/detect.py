"""Find out which format rows have, and say why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.errors import FineTuneError
from finetune_exe.text.formats import FORMATS
from finetune_exe.text.formats.format import Format, Row

CLEAR = 0.5
"""Share of the rows that the format of a file must fit."""
RIVAL = 0.25
"""Share of the rows at which a second format makes the file a mixture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """The format of a file, and why it and no other."""

    format: Format
    evidence: tuple[str, ...]


def detect_format(rows: Sequence[Row], *, where: str) -> Detection:
    """Find the one format that most of the rows have.

    Args:
        rows: A sample of the file's rows, not empty.
        where: The file, for the message.

    Raises:
        FineTuneError: D03 where no format fits at least half of the rows, or two fit a quarter of them or more.
    """
    found = sorted(((entry.detect(rows), entry) for entry in FORMATS), key=lambda pair: -pair[0].score)
    (best, format_), (second, rival) = found[0], found[1]
    if best.score < CLEAR:
        raise _unknown(rows, where)
    if second.score >= RIVAL:
        raise FineTuneError(
            "D03",
            what=f"the rows are a mixture of {format_.name} ({best.score:.0%}) and {rival.name} ({second.score:.0%})",
            where=where,
            why="reading them all as one would drop or misread the others",
            fix="put the rows of each format in a file of their own, or name one: --set data.format=" + format_.name,
        )
    return Detection(format=format_, evidence=best.phrases)


def _unknown(rows: Sequence[Row], where: str) -> FineTuneError:
    keys = Counter(key for row in rows if isinstance(row, dict) for key in row)
    if keys["rejected"] or keys["rejected_messages"]:
        return FineTuneError(
            "D03",
            what="the rows are pairs of a chosen and a rejected answer",
            where=where,
            why="learning from preferences is another method than the supervised training done here",
            fix="write the chosen answers as prompt and completion to train on them alone",
        )
    seen = ", ".join(f"{key} ({count / len(rows):.0%})" for key, count in keys.most_common(8)) or "no keys at all"
    return FineTuneError(
        "D03",
        what=f"none of the {len(FORMATS)} formats fits the rows",
        where=where,
        why=f"the columns seen are: {seen}",
        fix="rename the columns to those of one format; "
        + "; ".join(f"{entry.name} needs {entry.needs}" for entry in FORMATS),
    )
