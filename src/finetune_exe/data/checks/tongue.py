"""Tell the language of an answer, surely or not at all."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

from finetune_exe.data.language import language_of
from finetune_exe.knowledge.stop_words import stop_words

_LOOKED_AT = 300
"""Characters at the beginning: with half, 161 of 5,904 public answers are no longer told to be English; with twice
as many, 23 more are."""
_MIN_LETTERS = 20
"""Fewer are a name, or a number with a word."""
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", re.DOTALL)
_SIGNS = re.compile(r"[{}()\[\];=<>_\\|$#*/+\d]")
_MAX_SIGNS = 0.12
"""Share of signs above which a text is code, a formula or a table."""
_LIKELY, _SURE, _VERY_SURE = 0.5, 0.95, 0.995
"""Probability beside common words of the language; beside few; and beside one or none."""
_MANY_LETTERS = 60
"""Letters for which a very sure guess is enough."""
_ENGLISH_HITS, _ASCII_HITS = 3, 2
"""Different words that only English has, among the first ones; fewer do where no letter has an accent."""
_ENGLISH_AMONG_OTHERS = 2
"""Different common words of English, shared ones among them, that tell it from the languages it shares them with."""
_CLASSIFIED = 160
"""Characters given to the classifier, whose time goes with their number."""
_MARKS = ".,:;!?()[]\"'*"
_NO_MARKS = dict.fromkeys(map(ord, _MARKS), " ")
_NO_MARKS_ASCII = bytes.maketrans(_MARKS.encode() + b"\x1c\x1d\x1e\x1f", b" " * (len(_MARKS) + 4))
"""The same for bytes, whose `split` leaves out some of what white space is in a text."""
_NO_ASCII_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")
_NAMES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt",
    "dutch": "nl", "swedish": "sv", "danish": "da", "norwegian": "no", "finnish": "fi", "polish": "pl", "czech": "cs",
    "romanian": "ro", "hungarian": "hu", "turkish": "tr", "indonesian": "id", "swahili": "sw", "vietnamese": "vi",
    "catalan": "ca", "estonian": "et", "croatian": "hr", "russian": "ru", "ukrainian": "uk", "chinese": "zh",
    "mandarin": "zh", "cantonese": "zh", "japanese": "ja", "korean": "ko", "arabic": "ar", "hebrew": "he",
    "greek": "el", "hindi": "hi", "bengali": "bn", "thai": "th", "urdu": "ur", "persian": "fa",
    "farsi": "fa", "haitian": "ht", "quechua": "qu",
    "tamil": "ta", "irish": "ga", "welsh": "cy", "basque": "eu", "gujarati": "gu", "marathi": "mr", "punjabi": "pa",
    "kannada": "kn", "telugu": "te", "malay": "ms", "filipino": "tl", "tagalog": "tl", "afrikaans": "af",
    "icelandic": "is", "bulgarian": "bg", "serbian": "sr", "slovak": "sk", "slovene": "sl", "albanian": "sq",
    "armenian": "hy", "georgian": "ka", "deutsch": "de", "englisch": "en", "anglais": "en", "ingles": "en",
    "ingl\u00e9s": "en", "inglese": "en", "latin": "", "locale": "", "idioma": "", "lingua": "", "langue": "",
    "bahasa": "", "sprache": "",
}  # fmt: skip
"""Words of a prompt after which an answer in that language is no surprise; with an empty code, one in any language."""
ALIKE = (
    {"da", "no", "nb", "nn", "sv"}, {"hr", "sr", "bs", "sl"}, {"id", "ms", "jv"}, {"cs", "sk"},
    {"pt", "gl", "es", "ca"}, {"ru", "uk", "bg", "be"}, {"ar", "fa", "ur"}, {"nl", "af"}, {"et", "fi"},
    {"fr", "ht"}, {"hi", "mr", "ne"}, {"tl", "id"},
)  # fmt: skip
"""Languages too close to be told apart in a short text."""
_PARTS = (
    "translat", "language", "\u00fcbersetz", "traduc", "traduz", "tradui", "fran\u00e7ais", "espa\u00f1ol",
    "terjemah", "vertal", "\u00e7evir",
    "\u7ffb\u8bd1", "\u82f1\u6587", "\u4e2d\u6587", "\u8bed\u8a00", "\u7ffb\u8a33", "\u043f\u0435\u0440\u0435\u0432",
    "\u044f\u0437\u044b\u043a", "with code ", "t\u0142umacz",
)  # fmt: skip
_NO_TONGUE = re.compile(
    r"\b(?:natural|programming|scripting|query|markup|assembly|body)[ -]languages?|\blanguage models?"
)
"""What is called a language and is none to answer in."""
_ASCII_PARTS = tuple(filter(str.isascii, _PARTS))
_ASCII_NAMES = {name.encode(): code for name, code in _NAMES.items() if name.isascii()}
_BEGINNING = 120
"""Characters in which an English text nearly always has words enough that only English has."""


def answer_language(answer: str) -> str | None:
    """Name the language of an answer by its ISO 639-1 code, or None where it cannot be told surely."""
    text = answer[:_LOOKED_AT]
    wanted = _ASCII_HITS if text.isascii() else _ENGLISH_HITS
    if _english_hits(_whole_words(text)) >= wanted or _english_hits(text) >= wanted:
        return "en"
    if "`" in text or "http" in text:
        text = _CODE.sub(" ", answer)[:_LOOKED_AT]
    if len(_SIGNS.findall(text)) > _MAX_SIGNS * len(text):
        return None
    if text.isascii():
        letters = len(text.encode().translate(None, _NO_ASCII_LETTERS))
        return _of_latin_script(text, letters) if letters >= _MIN_LETTERS else None
    letters = sum(map(str.isalpha, text))
    if letters < _MIN_LETTERS:
        return None
    if letters > 2 * len(_LATIN.findall(text)):
        return language_of(text)
    return _of_latin_script(text, letters)


def _of_latin_script(text: str, letters: int) -> str | None:
    """Ask the classifier, and believe it where common words of the language it names are there."""
    english = _english_hits(text)
    if english >= _ENGLISH_HITS or (english and text.isascii() and _is_rather_english(text)):
        return "en"
    code, probability = _identifier().classify(text[:_CLASSIFIED])
    common = _common_words(text, code)
    if common is None:
        alone = probability >= _VERY_SURE and letters >= _MANY_LETTERS and english == 0
        return str(code) if alone and not _is_list_of_names(text) else None
    if common >= 2 and english == 0 and probability >= _LIKELY:
        return None if _is_list_of_names(text) and common * 6 < text.count(" ") else str(code)
    if probability >= _VERY_SURE and common and english == 0 and letters >= _MANY_LETTERS:
        return None if _is_list_of_names(text) else str(code)
    return str(code) if probability >= _SURE and common >= (1 if letters < _MANY_LETTERS else 2) else None


def _is_rather_english(text: str) -> bool:
    """Whether more of the common words in a text are English than of another language; the classifier takes longer."""
    known = stop_words()
    counts = Counter(code for word in set(text.lower().split()) if word in known for code in known[word])
    english = counts.pop("en", 0)
    return english >= _ENGLISH_AMONG_OTHERS and english > max(counts.values(), default=0)


def _is_list_of_names(text: str) -> bool:
    """Whether most words begin with a capital, as names do, whose language says nothing."""
    words = [word for word in text.split() if word[:1].isalpha()]
    return 2 * sum(word[0].isupper() for word in words) > len(words)


def names_language(prompt: str, language: str) -> bool:
    """Whether a prompt speaks of translating, or of a language that may be the one of its answer.

    Args:
        prompt: What was asked.
        language: What its answer seems to be written in.
    """
    lowered = _NO_TONGUE.sub("", prompt.lower()) if "anguage" in prompt else prompt.lower()
    if any(map(lowered.__contains__, _ASCII_PARTS if lowered.isascii() else _PARTS)):
        return True
    if lowered.isascii():
        words = lowered.encode().translate(_NO_MARKS_ASCII).split()
        if _ASCII_NAMES.keys().isdisjoint(words):
            return False
        named = [_ASCII_NAMES[word] for word in words if word in _ASCII_NAMES]
    else:
        named = [_NAMES[word] for word in lowered.translate(_NO_MARKS).split() if word in _NAMES]
    return any(not code or code in alike(language) for code in named)


@cache
def alike(language: str) -> frozenset[str]:
    """Give the languages that may be taken for one, itself among them."""
    return frozenset({language}.union(*(group for group in ALIKE if language in group)))


@cache
def _english() -> frozenset[str]:
    shared = {word for word, codes in stop_words().items() if "en" in codes and len(codes) > 1}
    return frozenset(word for word, codes in stop_words().items() if "en" in codes) - shared


def _whole_words(text: str) -> str:
    """Cut a text behind one of its first words."""
    return text[: text.find(" ", _BEGINNING) + 1]


def _english_hits(text: str) -> int:
    return len(_english().intersection(text.lower().split()))


def _common_words(text: str, code: str) -> int | None:
    """Count common words of a language in a text; None for a language whose words are not known."""
    if code not in _known():
        return None
    return sum(code in stop_words().get(word, ()) for word in re.findall(r"[^\W\d_]+", text.lower()))


@cache
def _known() -> frozenset[str]:
    return frozenset(code for codes in stop_words().values() for code in codes)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
