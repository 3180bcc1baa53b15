"""Rows as a prompt and an answer, and many of them in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from finetune_exe.data.duplicates.words import Hashes, Places, WordArray, Words32, hash_words, mix, word_hashes
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.tool_calls import all_said


class RowText(NamedTuple):
    """What a row says."""

    prompt: str
    """All that is not learned; empty for a text without turns."""
    answer: str
    """What is learned."""


def row_text(conversation: Conversation) -> RowText:
    """Divide a conversation into what is given and what is learned; the tools on offer are left out."""
    prompt: list[str] = []
    answer: list[str] = []
    for message in conversation.messages:
        (answer if message.role == "assistant" and message.learn else prompt).append(all_said(message))
    return RowText("\n".join(prompt), "\n".join(answer))


class Stretches(NamedTuple):
    """Stretches of an array of words."""

    words: Words32
    first: Places
    after: Places

    @property
    def lengths(self) -> Places:
        """Words of each."""
        return self.after - self.first

    def part(self, start: int, end: int) -> Stretches:
        """Take some, from number `start` up to `end`."""
        return Stretches(self.words, self.first[start:end], self.after[start:end])

    def copy(self) -> WordArray:
        """Copy their words one after the other."""
        starts = np.concatenate(([0], np.cumsum(self.lengths)))
        within = np.arange(starts[-1]) - np.repeat(starts[:-1], self.lengths)
        return WordArray(self.words[np.repeat(self.first, self.lengths) + within], starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowWords:
    """The words of many rows: about 4 bytes a word and 40 a row, whatever their texts were."""

    words: Words32
    starts: Places
    """Row i has the words from starts[i] up to starts[i + 1]."""
    answers: Places
    """Where in `words` the answer of row i begins."""
    exact: Hashes
    """Hash of each row as it stands, to the byte."""
    prompt_hashes: Hashes
    """Hash of the words of each prompt, case and punctuation aside."""
    answer_hashes: Hashes

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def lengths(self) -> Places:
        """Words of each row."""
        return self.starts[1:] - self.starts[:-1]

    def words_of(self, row: int) -> Words32:
        """Give the words of one row."""
        return self.words[self.starts[row] : self.starts[row + 1]]

    def whole(self, rows: Places) -> Stretches:
        """Give the words of some rows."""
        return Stretches(self.words, self.starts[:-1][rows], self.starts[1:][rows])

    def prompt(self, rows: Places) -> Stretches:
        """Give the words of some rows' prompts."""
        return Stretches(self.words, self.starts[:-1][rows], self.answers[rows])

    def answer(self, rows: Places) -> Stretches:
        """Give the words of some rows' answers."""
        return Stretches(self.words, self.answers[rows], self.starts[1:][rows])

    @property
    def row_hashes(self) -> Hashes:
        """Hash of each row's words, case and punctuation aside: equal where prompt and answer are."""
        return mix(self.prompt_hashes) + self.answer_hashes


def words_of_rows(rows: Sequence[RowText]) -> RowWords:
    """Hash the words of some rows. Rows hashed in parts, also in other processes, are put together by `join_rows`."""
    array = hash_words([part for row in rows for part in row])
    hashes = sequence_hashes(array)
    return RowWords(
        words=array.words,
        starts=array.starts[::2].copy(),
        answers=array.starts[1::2].copy(),
        exact=np.frombuffer(b"".join(map(_identity, rows)), np.uint64),
        prompt_hashes=hashes[::2].copy(),
        answer_hashes=hashes[1::2].copy(),
    )


def join_rows(parts: Iterable[RowWords]) -> RowWords:
    """Put rows that were hashed in parts one after the other."""
    kept = list(parts) or [words_of_rows([])]
    before = np.concatenate(([0], np.cumsum([len(part.words) for part in kept])))[:-1]
    starts = [part.starts[:-1] + offset for part, offset in zip(kept, before, strict=True)]
    return RowWords(
        words=np.concatenate([part.words for part in kept]),
        starts=np.concatenate([*starts, [sum(len(part.words) for part in kept)]]).astype(np.int64),
        answers=np.concatenate([part.answers + offset for part, offset in zip(kept, before, strict=True)]),
        exact=np.concatenate([part.exact for part in kept]),
        prompt_hashes=np.concatenate([part.prompt_hashes for part in kept]),
        answer_hashes=np.concatenate([part.answer_hashes for part in kept]),
    )


def choose_rows(rows: RowWords, chosen: Places) -> RowWords:
    """Take some rows.

    Args:
        rows: Any rows.
        chosen: Their numbers, rising.
    """
    wanted = np.zeros(len(rows), np.bool_)
    wanted[chosen] = True
    starts = np.concatenate(([0], np.cumsum(rows.lengths[chosen])))
    return RowWords(
        words=rows.words[np.repeat(wanted, rows.lengths)],
        starts=starts,
        answers=starts[:-1] + (rows.answers[chosen] - rows.starts[chosen]),
        exact=rows.exact[chosen],
        prompt_hashes=rows.prompt_hashes[chosen],
        answer_hashes=rows.answer_hashes[chosen],
    )


def sequence_hashes(array: WordArray) -> Hashes:
    """Hash each text's words as a whole."""
    lengths = np.diff(array.starts)
    within = (np.arange(len(array.words)) - np.repeat(array.starts[:-1], lengths)).astype(np.uint64)
    salted = mix(word_hashes(array.words) | within << np.uint64(32))
    sums = np.zeros(len(salted) + 1, np.uint64)
    np.cumsum(salted, out=sums[1:])
    return mix(sums[array.starts[1:]] - sums[array.starts[:-1]] + lengths.astype(np.uint64))


def _identity(row: RowText) -> bytes:
    return hashlib.blake2b(f"{row.prompt}\0{row.answer}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
