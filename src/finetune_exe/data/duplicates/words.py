"""Turn texts into arrays of hashed words, the one form in which duplicates, leaks and benchmark items are looked for.

A word is a run of letters and digits, whatever its case, its Unicode form and the punctuation around it; a character
of a script written without spaces is a word of its own. Each word is 32 bits: 29 of its hash, 2 for capitals, 1 for
punctuation. The hash depends on nothing but the word, so arrays made in other processes agree.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Words32 = NDArray[np.uint32]
    Places = NDArray[np.int64]

HASH_BITS = 29
FIRST_CAPITAL, SECOND_CAPITAL, MARK_FOLLOWS = 29, 30, 31
"""Bits of a word: its first letter is a capital, its second is, and punctuation stands right after it."""
BATCH_CHARACTERS = 1 << 16
"""Texts are hashed in batches of about so many characters, which fit the processor's cache."""
THREADS = min(4, os.cpu_count() or 1)
"""numpy lets go of Python's lock, so that threads share the work; what comes out does not depend on their number."""

_RADIX = 0x9E3779B97F4A7C15
_FOREIGN = re.compile(r"[^\x00-\x7f]+")
_FOREIGN_MARKS = re.compile(r"[^\x00-\x7f\w]+")
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")
"""Thai, Lao, Burmese, Khmer, Japanese and Chinese characters."""
_COMBINING = "\x1a"


class WordArray(NamedTuple):
    """The words of several texts, one after the other."""

    words: Words32
    starts: Places
    """Text i has the words from starts[i] up to starts[i + 1]."""


class _Tables(NamedTuple):
    folded: NDArray[np.uint8]
    """Lower-case byte, or 0 where the byte is part of no word."""
    capital: NDArray[np.uint8]
    mark: NDArray[np.uint8]
    powers: Hashes
    inverses: Hashes


def hash_words(texts: Sequence[str]) -> WordArray:
    """Split texts into words and hash each.

    Args:
        texts: Any texts, in any script.

    Returns:
        The hashed words of all texts, and where those of each begin.
    """
    import numpy as np

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


def word_hashes(words: Words32) -> Words32:
    """Leave case and punctuation out of words."""
    import numpy as np

    return words & np.uint32((1 << HASH_BITS) - 1)


def _plain(text: str) -> str:
    """Leave of what is beyond ASCII only letters and digits, in one form, with spaces between words."""
    plain = _FOREIGN.sub(lambda match: _plain_run(match.group()), text)
    if _COMBINING in plain:
        normal = unicodedata.normalize("NFKC", text)
        return _FOREIGN.sub(lambda match: _plain_run(match.group()).replace(_COMBINING, ""), normal)
    return plain


@lru_cache(maxsize=1 << 12)
def _plain_run(run: str) -> str:
    """Put a run of characters beyond ASCII in one form; marks a run that may combine with what stands before it."""
    normal = _FOREIGN_MARKS.sub(" ", unicodedata.normalize("NFKC", run)).casefold()
    normal = _UNSPACED.sub(r" \1 ", normal)
    return normal + _COMBINING if unicodedata.combining(run[0]) else normal


def _hash_batch(texts: Sequence[str]) -> WordArray:
    """Hash the words of some texts at once.

    A word's hash is the polynomial of its bytes: the difference of two running sums, brought to a common power.
    """
    import numpy as np

    plain = [text if text.isascii() else _plain(text) for text in texts]
    joined = "\0".join([*plain, ""])
    if joined.count("\0") != len(texts):
        joined = "\0".join([*(text.replace("\0", " ") for text in plain), ""])
    blob = np.frombuffer(joined.encode("utf-8", "surrogatepass"), np.uint8)
    tables = _tables(1 << max(18, len(blob).bit_length()))
    folded = tables.folded[blob]
    inside = folded != 0
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    if len(blob) and inside[0]:
        edges = np.concatenate(([0], edges))
    first, after = edges[::2], edges[1::2]
    sums = np.zeros(len(blob) + 1, np.uint64)
    np.cumsum(folded * tables.powers[: len(blob)], out=sums[1:])
    hashed = mix((sums[after] - sums[first]) * tables.inverses[first])
    words = (hashed >> np.uint64(64 - HASH_BITS)).astype(np.uint32)
    words |= tables.capital[blob[first]].astype(np.uint32) << np.uint32(FIRST_CAPITAL)
    words |= tables.capital[blob[first + 1]].astype(np.uint32) << np.uint32(SECOND_CAPITAL)
    words |= tables.mark[blob[after]].astype(np.uint32) << np.uint32(MARK_FOLLOWS)
    ends = np.flatnonzero(blob == 0)
    return WordArray(words, np.concatenate(([0], np.searchsorted(first, ends))))


def mix(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit values so that each depends on all.

    Source: the finaliser of splitmix64, Steele, Lea and Flood, OOPSLA 2014.
    """
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=4)
def _tables(size: int) -> _Tables:
    import numpy as np

    folded, capital, mark = (np.zeros(256, np.uint8) for _ in range(3))
    for byte in range(256):
        character = chr(byte)
        if byte >= 128:
            folded[byte] = byte
        elif character.isalnum():
            folded[byte] = ord(character.lower())
            capital[byte] = character.isupper()
        else:
            mark[byte] = not character.isspace() and character.isprintable()
    inverse = pow(_RADIX, -1, 1 << 64)
    return _Tables(folded, capital, mark, _powers(_RADIX, size), _powers(inverse, size))


def _powers(radix: int, size: int) -> Hashes:
    import numpy as np

    powers = np.ones(1, np.uint64)
    while len(powers) < size:
        powers = np.concatenate((powers, powers * np.uint64(radix)))
        radix = radix * radix % (1 << 64)
    return powers[:size]
