"""Plain text whose lines are records: a label before each sentence, or a tag behind each word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from finetune_exe.data.raw import RawRow
from finetune_exe.errors import FineTuneError

_LABELLED = re.compile(r"(?:__label__(\S+)|(-?\d+))\s+(?!__label__)(\S.*)")
_WORD_TAG = re.compile(rb"O|[BIESLU]-\S+")
MIN_ROWS_PER_LABEL = 5
MIN_TAGGED_LINES = 3


def labelled_rows(text: str) -> list[RawRow] | None:
    """Read lines such as `1 a gripping film` or `__label__spam Buy now` as rows of text and label.

    Returns:
        The rows; None where a line begins with no label, where labels do not repeat, or where they merely count the
        lines, as in numbered prose.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    found = [(number, match) for number, line in lines if (match := _LABELLED.fullmatch(line))]
    labels = [match[1] or match[2] for _, match in found]
    distinct = len(set(labels))
    if len(found) < len(lines) or distinct < 2 or distinct * MIN_ROWS_PER_LABEL > len(lines):
        return None
    if all(label.lstrip("-").isdecimal() for label in labels):
        counting = sum(int(after) == int(before) + 1 for before, after in pairwise(labels))
        if counting > len(labels) / 2:
            return None
    return [
        RawRow(row={"text": match[3], "label": label}, line=number)
        for (number, match), label in zip(found, labels, strict=True)
    ]


def refuse_word_tags(path: Path, lines: Sequence[bytes]) -> None:
    """Refuse a file that tags its words one a line, as CoNLL files do, rather than read it as a table.

    Raises:
        FineTuneError: D03 where every line ends in a tag such as O or B-location.
    """
    records = [line.split() for line in lines]
    if len(records) < MIN_TAGGED_LINES or not all(
        len(record) > 1 and _WORD_TAG.fullmatch(record[-1]) for record in records
    ):
        return
    raise FineTuneError(
        "D03",
        what="the rows are single words with their tags, as in CoNLL files",
        where=str(path),
        why="a language model learns to write text, not to tag words one by one",
        fix='write one row a sentence: {"prompt": "Empire State Building = ESB", '
        '"completion": "Empire State Building: location"}',
    )
