"""Turn texts into arrays of hashed words, the one form in which duplicates, leaks and benchmark items are looked for.

A word is a run of letters, digits and underscores, whatever its case and its Unicode form. A character of a script
written without spaces is a word of its own, and so is a sign that carries meaning: brackets, operators, currencies,
emoji, and marks of punctuation where they do more than divide sentences, as in 3.5, -5, n! or a.b (`marks.py`). Other
punctuation is left out. Each word is 32 bits: 29 of its hash, 2 for capitals, 1 for punctuation that was left out after
it. The hash depends on nothing but the word, so arrays made in other processes agree.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.marks import DIGIT, LEFT_OUT, LETTER, SIGN, kinds_of_bytes
from finetune_exe.data.duplicates.plain import plain

Hashes = NDArray[np.uint64]
Words32 = NDArray[np.uint32]
Places = NDArray[np.int64]

HASH_BITS = 29
"""Bits of a word's hash: what the three marks below leave of 32."""
FIRST_CAPITAL, SECOND_CAPITAL, MARK_FOLLOWS = 29, 30, 31
"""Bits of a word: its first letter is a capital, its second is, and punctuation stands right after it."""
BATCH_CHARACTERS = 1 << 16
"""Texts are hashed in batches of about so many characters, which fit the processor's cache."""
THREADS = min(4, os.cpu_count() or 1)
"""numpy lets go of Python's lock, so that threads share the work; what comes out does not depend on their number."""

_RADIX = 0x9E3779B97F4A7C15
"""2**64 over the golden ratio, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4): odd, so that it has an inverse."""


class WordArray(NamedTuple):
    """The words of several texts, one after the other."""

    words: Words32
    starts: Places
    """Text i has the words from starts[i] up to starts[i + 1]."""


class _Tables(NamedTuple):
    folded: NDArray[np.uint8]
    """Lower-case byte."""
    capital: NDArray[np.uint8]
    powers: Hashes
    inverses: Hashes


def hash_words(texts: Sequence[str]) -> WordArray:
    """Split texts into words and hash each.

    Args:
        texts: Any texts, in any script.

    Returns:
        The hashed words of all texts, and where those of each begin.
    """
    words: list[Words32] = []
    starts, first, size = [np.zeros(1, np.int64)], 0, 0
    for number, text in enumerate(texts, start=1):
        size += len(text)
        if size > BATCH_CHARACTERS or number == len(texts):
            array = _hash_batch(texts[first:number])
            words.append(array.words)
            starts.append(array.starts[1:] + starts[-1][-1])
            first, size = number, 0
    return WordArray(np.concatenate(words) if words else np.empty(0, np.uint32), np.concatenate(starts))


def begins(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the values that differ from the one before them, and the first."""
    marks = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=marks[1:])
    return marks


def word_hashes(words: Words32) -> Words32:
    """Leave case and punctuation out of words."""
    return words & np.uint32((1 << HASH_BITS) - 1)


def _hash_batch(texts: Sequence[str]) -> WordArray:
    """Hash the words of some texts at once.

    A word's hash is the polynomial of its bytes: the difference of two running sums, brought to a common power.
    """
    plain_texts = [text if text.isascii() else plain(text) for text in texts]
    joined = "\0".join([*plain_texts, ""])
    if joined.count("\0") != len(texts):
        joined = "\0".join([*(text.replace("\0", " ") for text in plain_texts), ""])
    blob = np.frombuffer(joined.encode("utf-8", "surrogatepass"), np.uint8)
    tables = _tables(1 << max(18, len(blob).bit_length()))
    kinds = kinds_of_bytes(blob)
    first, after = _bounds(kinds)
    folded = tables.folded[blob]
    sums = np.zeros(len(blob) + 1, np.uint64)
    np.cumsum(folded * tables.powers[: len(blob)], out=sums[1:])
    hashed = mix((sums[after] - sums[first]) * tables.inverses[first])
    words = (hashed >> np.uint64(64 - HASH_BITS)).astype(np.uint32)
    words |= tables.capital[blob[first]].astype(np.uint32) << np.uint32(FIRST_CAPITAL)
    words |= tables.capital[blob[first + 1]].astype(np.uint32) << np.uint32(SECOND_CAPITAL)
    words |= (kinds[after] == LEFT_OUT).astype(np.uint32) << np.uint32(MARK_FOLLOWS)
    ends = np.flatnonzero(blob == 0)
    return WordArray(words, np.concatenate(([0], np.searchsorted(first, ends))))


def _bounds(kinds: NDArray[np.uint8]) -> tuple[Places, Places]:
    """Say where words begin, and where they end: letters and digits in runs, signs one by one."""
    inside = (kinds - np.uint8(1)) < np.uint8(SIGN)
    letter = (kinds - np.uint8(LETTER)) <= np.uint8(DIGIT - LETTER)
    joins = np.zeros(len(kinds) + 1, np.bool_)
    np.logical_and(letter[1:], letter[:-1], out=joins[1:-1])
    return np.flatnonzero(inside > joins[:-1]), np.flatnonzero(inside > joins[1:]) + 1


def mix(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit values so that each depends on all.

    Source: the finaliser of splitmix64, Steele, Lea and Flood, OOPSLA 2014.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=4)
def _tables(size: int) -> _Tables:
    folded, capital = np.arange(256, dtype=np.uint8), np.zeros(256, np.uint8)
    for byte in range(ord("A"), ord("Z") + 1):
        folded[byte], capital[byte] = byte + 32, 1
    inverse = pow(_RADIX, -1, 1 << 64)
    return _Tables(folded, capital, _powers(_RADIX, size), _powers(inverse, size))


def _powers(radix: int, size: int) -> Hashes:
    powers = np.ones(1, np.uint64)
    while len(powers) < size:
        powers = np.concatenate((powers, powers * np.uint64(radix)))
        radix = radix * radix % (1 << 64)
    return powers[:size]
