"""Which marks of punctuation only divide a text, and which say something."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


SPACE, LETTER, DIGIT, STOP, HYPHEN, APOSTROPHE, CLOSER, SIGN, LEFT_OUT = range(9)
"""Kinds of bytes: white space and control characters; those of letters, and of everything beyond ASCII; digits; marks
that end a sentence or a part of one; signs, those that close something told apart; and marks that only divide."""
_KINDS = {STOP: ".,;:!?", HYPHEN: "-", APOSTROPHE: "'", CLOSER: '")]}'}


def kinds_of_bytes(blob: Bytes) -> Bytes:
    """Give the kind of each byte of texts in UTF-8, each with a NUL after it.

    Marks are left out that only divide the text, and may be missing in a copy that says the same: stops before white
    space, before what closes, or at the end, but for the exclamation mark of a number or of a single letter, which is a
    factorial; apostrophes between letters; and hyphens between words of two letters or more. All other marks say
    something: 3.5 is not 3,5, -5 is not 5, a.b is not a,b, != is not =.
    """
    kinds = _table()[blob]
    marks = np.flatnonzero((kinds - np.uint8(STOP)) <= np.uint8(APOSTROPHE - STOP))
    if not len(marks):
        return kinds
    kind, before, after = kinds[marks], kinds[marks - 1], kinds[marks + 1]
    ends_run = np.ones(len(marks), np.bool_)
    ends_run[:-1] = marks[1:] != marks[:-1] + 1
    follows = after[ends_run][np.cumsum(np.concatenate(([0], ends_run[:-1])))]
    stops = (kind == STOP) & ((follows == SPACE) | (follows == CLOSER))
    two_before, two_after = kinds[marks - 2], kinds[np.minimum(marks + 2, len(blob) - 1)]
    counted = (before == DIGIT) | ((before == LETTER) & (two_before != LETTER) & (two_before != DIGIT))
    stops &= ~((blob[marks] == ord("!")) & counted)
    between = (before == LETTER) & (after == LETTER)
    joins = between & (kind == APOSTROPHE)
    joins |= between & (kind == HYPHEN) & (two_before == LETTER) & (two_after == LETTER)
    kinds[marks[stops | joins]] = LEFT_OUT
    return kinds


@lru_cache(maxsize=1)
def _table() -> Bytes:
    table = np.full(256, LETTER, np.uint8)
    for byte in range(128):
        character = chr(byte)
        if not character.isalnum() and character != "_":
            table[byte] = SIGN if character.isprintable() and not character.isspace() else SPACE
        elif character.isdigit():
            table[byte] = DIGIT
    for kind, characters in _KINDS.items():
        table[[ord(character) for character in characters]] = kind
    return table
