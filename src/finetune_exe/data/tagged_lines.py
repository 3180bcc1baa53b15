"""Plain text that is records: a label before each sentence, a tag behind each word, or one dialogue after the other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

from finetune_exe.data.layout import MIN_ROWS_PER_LABEL
from finetune_exe.data.raw import RawRow
from finetune_exe.text.formats.dialogue_marks import turns_in, usual_turns

_LABELLED = re.compile(r"(?:__label__(\S+)|(-?\d+))\s+(?!__label__)(\S.*)")
_WORD_TAG = re.compile(r"O|[BIESLU]-\S+")
MIN_TAGGED_LINES = 3
"""Fewer lines may end with a capital O or a code by chance."""
DIALOGUES_LOOKED_AT = 50
"""Were half of all pieces dialogues, nine in ten of so many would be so twice in 10**9 files."""


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


def dialogue_rows(text: str) -> Iterator[RawRow] | None:
    """Read dialogues each of which stands on a line or in a paragraph of its own.

    Returns:
        The rows; None where neither lines nor paragraphs are dialogues by themselves.
    """
    for gap in (r"\n", r"\n\s*\n"):
        looked_at = list(islice(_pieces(text, gap), DIALOGUES_LOOKED_AT))
        if len(looked_at) > 1 and usual_turns([turns_in(said) for _, said in looked_at]) is not None:
            return (RawRow(row={"text": said}, line=line) for line, said in _pieces(text, gap))
    return None


def _pieces(text: str, gap: str) -> Iterator[tuple[int, str]]:
    """Give the pieces between gaps that hold something, each with the number of its first line."""
    line = 1
    for piece in re.split(f"({gap})", text):
        if piece.strip():
            yield line + piece[: len(piece) - len(piece.lstrip())].count("\n"), piece.strip("\n")
        line += piece.count("\n")


def are_word_tags(lines: Sequence[str]) -> bool:
    """Say whether a file tags its words one a line, as CoNLL files do: every line ends in a tag such as O or B-PER."""
    records = [line.split() for line in lines]
    return len(records) >= MIN_TAGGED_LINES and all(
        len(record) > 1 and _WORD_TAG.fullmatch(record[-1]) for record in records
    )


def read_tagged_words(lines: Iterator[bytes]) -> Iterator[RawRow]:
    """Yield one row for each sentence of a file that tags words one a line; blank lines end sentences."""
    tokens: list[str] = []
    tags: list[str] = []
    first = 1
    for number, line in enumerate(lines, start=1):
        fields = line.decode(errors="replace").split()
        if fields and not fields[0].startswith("-DOCSTART-"):
            first = first if tokens else number
            tokens.append(fields[0])
            tags.append(fields[-1] if len(fields) > 1 else "O")
        elif tokens:
            yield RawRow(row={"tokens": tokens, "tags": tags}, line=first)
            tokens, tags = [], []
    if tokens:
        yield RawRow(row={"tokens": tokens, "tags": tags}, line=first)
