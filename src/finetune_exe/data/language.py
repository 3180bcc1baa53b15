"""Tell coarsely which language a text is in: by script, and by common words where the script is Latin."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from finetune_exe.knowledge.stop_words import stop_words

_LOOKED_AT = 600
"""Characters of a text that are enough to tell: of 5,064 English answers, 29 are taken for another language by them, 57
by 150, and 28 by 4,000."""
_MIN_LETTERS = 12
"""Fewer letters do not tell."""
_MIN_COMMON = 3
"""Common words that must be there: with two, 50 of those answers are taken for another language; with four, 146 more
are not told."""
_MIN_SHARE = 0.12
"""Share of a text's words that must be common words of its language; at 0.2, 99 more of those answers are not told."""
_SCRIPTS = (
    ("ja", "\u3040-\u30ff"), ("ko", "\u1100-\u11ff\uac00-\ud7af"), ("zh", "\u3400-\u9fff"),
    ("bg", "\u042a\u044a"), ("uk", "\u0404\u0406\u0407\u0454\u0456\u0457\u0490\u0491"), ("ru", "\u0400-\u04ff"),
    ("ur", "\u0679\u0688\u0691\u06ba\u06be\u06d2"), ("fa", "\u067e\u0686\u0698\u06af\u06cc"), ("ar", "\u0600-\u06ff"),
    ("he", "\u0590-\u05ff"), ("el", "\u0370-\u03ff"), ("hi", "\u0900-\u097f"), ("bn", "\u0980-\u09ff"),
    ("pa", "\u0a00-\u0a7f"), ("gu", "\u0a80-\u0aff"), ("ta", "\u0b80-\u0bff"), ("te", "\u0c00-\u0c7f"),
    ("kn", "\u0c80-\u0cff"), ("ml", "\u0d00-\u0d7f"), ("si", "\u0d80-\u0dff"), ("th", "\u0e00-\u0e7f"),
    ("lo", "\u0e80-\u0eff"), ("my", "\u1000-\u109f"), ("ka", "\u10a0-\u10ff"), ("am", "\u1200-\u137f"),
    ("km", "\u1780-\u17ff"), ("hy", "\u0530-\u058f"),
)  # fmt: skip
"""Language that a script is taken for, and its letters; where several share a script, the rarer letters first."""
_OWN_LETTERS = 0.01
"""How often its own letters must come, against the shared ones."""
_SHARERS = {"ja": "zh", "uk": "ru", "bg": "ru", "ur": "ar", "fa": "ar"}
"""Languages told from another of the same script by a few letters of their own."""
_FOREIGN = tuple((code, re.compile(f"[{letters}]")) for code, letters in _SCRIPTS)
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_BEYOND_LATIN = re.compile(r"[\u0370-\u1cff\u1f00-\u1fff\u3040-\ud7af]")


def language_of(text: str) -> str | None:
    """Name the language of a text by its ISO 639-1 code.

    Languages that share a script with a larger one are told from it only where common letters differ; of Latin script,
    only those with a list of common words are known.

    Returns:
        The code, or None where the text is too short or of no known language, as source code is.
    """
    text = text[:_LOOKED_AT]
    if len(_BEYOND_LATIN.findall(text)) * 3 > len(text):
        return _by_script(text)
    words = _WORD.findall(text.lower().replace("\u2019", "'"))
    if sum(map(len, words)) < _MIN_LETTERS:
        return None
    known = stop_words()
    hits, votes = Counter[str](), defaultdict[str, float](float)
    for word in words:
        elided = word[: word.find("'") + 1]
        for code, weight in known.get(word, known.get(elided, {})).items():
            hits[code] += 1
            votes[code] += weight
    if not hits:
        return None
    best = max(hits, key=lambda code: (hits[code] + 3 * votes[code], code))
    return best if hits[best] >= max(_MIN_COMMON, _MIN_SHARE * len(words)) else None


def _by_script(text: str) -> str | None:
    counts = {code: len(letters.findall(text)) for code, letters in _FOREIGN}
    for code, owner in _SHARERS.items():
        if counts[code] and counts[code] >= _OWN_LETTERS * counts[owner]:
            return code
    best = max(counts, key=lambda code: counts[code])
    return best if counts[best] >= 4 else None
