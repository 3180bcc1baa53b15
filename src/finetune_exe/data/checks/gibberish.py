"""Text that is no language: encoded bytes, or letters hit at random."""

from __future__ import annotations

import re
import string
from itertools import pairwise

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import text
from finetune_exe.data.checks.programs import seems_code
from finetune_exe.data.checks.row import RowView, signs_of

_MIN_CHARACTERS = 60
"""A shorter text may be an id, a password or a position of chess."""
_KEYS = ("qwertzuiop", "qwertyuiop", "asdfghjkl", "yxcvbnm", "zxcvbnm", "azertyuiop", "qsdfghjklm", "wxcvbn")
_MASHED = ("sdf", "ghj", "jkl", "qwer", "xcv")
"""Letters side by side on a keyboard that no word has side by side."""
_LONG_WORD = re.compile(r"[A-Za-z0-9+/=_-]{60,}")
_MIN_SHARE = 0.5
"""Share of the text that such words must fill."""
_MIN_DISTINCT = 24
"""Different characters in it: fewer make a ruler or a sequence."""
_HEX = re.compile(r"[0-9a-fA-F]{129,}")
"""More bytes in hexadecimal digits than any digest has."""
_HEX_DISTINCT = 10
"""Different digits in it: fewer make zeros and ones, or a pattern."""
_WORD = re.compile(r"\b[A-Za-z][a-z]{3,}\b")
_RARE_PAIR = re.compile(
    "a[oq]|b[cdfghkmnpqvwxz]|c[bdfgjmnpqvwxz]|d[chkpqtxz]|f[bcdghjkmnpqvwxz]|g[bcdfjkpqvwxz]|h[cfghjkpqvxz]|i[ijwy]"
    "|j[bcdfghjklmnpqrstvwxyz]|k[bcdfghjkmpqvxz]|l[hjqxz]|m[cdghjkqrtvwxz]|n[qwx]|oq|p[bcgjknqvwxz]"
    "|q[abcdefghijklmnopqrstvwxyz]|r[jqxz]|s[gjrvxz]|t[dgjkqvx]|u[hjquvwxz]|v[bcdfghjklmnpqrstuvwxyz]"
    "|w[cdfgjkmpquvwxyz]"
    "|x[bdfghjklmnoqrsuvwxyz]|y[fhjkquvxy]|z[bcdfghjklmnpqrstvwxy]"
)
"""Pairs of letters each of which is less than one in 25,000 of those in texts of many languages, counted there; two in
five of the pairs of random letters are such."""
_COMMON = (
    " the ", " of ", " to ", " and ", " is ", " in ", " de ", " la ", " que ",
    " der ", " und ", " die ", " en ", " di ", " na ", " yang ", " ja ", " se ", " el ", " il ",
)  # fmt: skip
"""Random letters are no words, and hardly ever these."""
_COMMON_SHARE = 0.04
"""Share of the words that they are in a cipher, where those of two letters come by chance; in texts of these languages
they are one in six."""
_TIMES_COMMON = 3
"""How many times as many of them a text has from its end, where it is written so."""
_MIN_WORDS = 8
"""Fewer words show no share."""
_ODD_SHARE = 0.5
"""Share of the words with such a pair; texts have one in fifty."""
_SIGNS_SHARE, _SIGNS_DISTINCT = 0.85, 15
"""Share of signs that are no letter, digit or space, and how many different ones, that make noise; a ruler has few."""
_BEGINNING = 240
"""Characters at the beginning of a text that are counted, so that a long one is not counted whole."""
_SIGNED = 3
"""Texts with a smaller share of signs, digits and capitals hold no encoded bytes."""
_ESCAPES = re.compile(
    r"(?:\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\[0-3][0-7]{2}|[%=](?:[0-9A-F]{2}|[0-9a-f]{2})|[01]{48,})+"
)
_BITS = re.compile(r"[01]{6,}[,;]?")
_HEX_WORD = re.compile(r"(?:0x|\\x)?(?:[0-9a-fA-F]{2}){1,4}[:,;]?")
_HEX_LETTER = re.compile("[a-fA-F]")
_MIN_HEX = 20
"""Bytes, or codes of letters, that stand one by one: fewer are a colour, an address or a key of a protocol."""
_BETWEEN_BYTES = re.compile(r"[\s:,;-]+")
_OCTAL = re.compile(r"[0-3][0-7]{2}")
_NEARLY_ALL = 0.95
"""Share of the words, or letters, that are written in numbers: a few at the end may be cut."""
_NOISE_CHARACTERS, _MIXED_CHARACTERS = 48, 24
"""A word that is longer than those of any language, and one that is long for a name of a program."""
_ENCODED_SHARE = 0.6
"""Share of the words that are bytes, bits or random."""
_MIXED = re.compile(
    r"^(?=[A-Za-z0-9]{5,}\W?$)[A-Za-z0-9]*"
    r"(?:[a-z][A-Z0-9]+[a-z]|[0-9][a-zA-Z]+[0-9]|[A-Z][0-9]+[A-Za-z]|[a-z][0-9]+[A-Z]|[A-Z][a-z]+[A-Z]+[0-9])|^\S{0,6}[A-Za-z0-9][!@#$%&*]+[A-Za-z0-9!@#$%&*]\S{0,6}$"
)
"""A word that goes from one kind of sign to another and back."""
_ASKS = re.compile(
    r"\b(?:hex\w*|binary|bytes?|bits?|(?:en|de)cod\w+|escap\w+|cipher\w*|hash\w*|dump|ascii|unicode|base ?64"
    r"|percent|url"
    r"|passwords?|keys?|tokens?|random|ids?|uuids?|serials?|dna|revers\w+|backwards?|spell\w*|anagrams?|without spaces"
    r"|letters?|characters?|power|factorial|digits?)\b",
    re.IGNORECASE,
)
"""What such an answer may be asked for by."""
_MIN_LETTERS, _MIN_ALPHABET, _MIN_COMMON = 24, 10, 2
"""Letters that stand one by one, different ones in a text, and common words in a reversed one: with one word, 11 of
28,986 rows of public files would be reversed text."""
_NUMBER, _MIN_NUMBERS = re.compile(r"\s*-?\d+(?:\.\d+)?(?:e-?\d+)?\s*"), 40
"""A number as lists have it, and how many make the vector of a text; nobody lists as many unless asked."""
_COUNTS = re.compile(
    r"\b(?:numbers?|count|list|sequence|primes?|digits?|series|array|sort\w*|multiples?|squares?|cubes?|fibonacci|integers?"
    r"|even|odd|values?|data|random|generate|table|codes?|add|sum|calculate|compute)\b",
    re.IGNORECASE,
)
_JOINED = re.compile("[A-Za-z,.'!?;:\"()\u2018\u2019\u201c\u201d-]{70,}")
"""Letters and marks without a space, and no sign of an address or a program among them."""
_ARMOR = re.compile(r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL)
"""A key or a certificate is what it says it is; a key is found as a secret."""
_SPOKEN = (string.ascii_letters + string.digits + string.whitespace).encode()


def _find(row: RowView) -> str | None:
    for given in row.answers:
        answer = _ARMOR.sub("", given) if "-----BEGIN " in given else given
        if len(answer) < _MIN_CHARACTERS and _is_mashed(answer):
            return shorten(answer)
        if (
            len(answer) >= _MIN_CHARACTERS
            and (found := _noise(answer, row, signed=_is_signed(answer, row))) is not None
        ):
            return found
    return None


def _is_mashed(answer: str) -> bool:
    """Whether every word of a short text runs along a row of keys."""
    if not any(map(answer.lower().__contains__, _MASHED)):
        return False
    words = [word for word in answer.lower().split() if word.isalpha()]
    along = [word for word in words if len(word) > 3 and _runs_along_keys(word)]
    return bool(along) and 2 * sum(map(len, along)) > sum(map(len, words))


def _runs_along_keys(word: str) -> bool:
    return any(
        all(
            one in keys and other in keys and abs(keys.index(one) - keys.index(other)) <= 1
            for one, other in pairwise(word)
        )
        for keys in _KEYS
    )


def _is_signed(answer: str, row: RowView) -> bool:
    """Whether much of an answer is signs, digits and capitals."""
    if _SIGNED * len(row.signs) < len(answer):
        return False
    beginning = answer[:_BEGINNING]
    return _SIGNED * len(signs_of(beginning)) > len(beginning)


def _noise(answer: str, row: RowView, *, signed: bool) -> str | None:
    spaces = answer.count(" ") + answer.count("\n")
    if spaces * 12 < len(answer) and (found := _long_words(answer)) is not None:
        return found
    if signed and answer.isascii():
        unspoken = answer.encode().translate(None, _SPOKEN)
        if len(unspoken) >= _SIGNS_SHARE * len(answer) and len(set(unspoken)) >= _SIGNS_DISTINCT:
            return shorten(answer)
        if _is_numbers(answer) and _COUNTS.search(row.prompt) is None:
            return shorten(answer)
        if _is_encoded(answer) and _ASKS.search(row.prompt) is None:
            return shorten(answer)
    if 5 * spaces > 2 * len(answer):
        return shorten(answer) if _is_spaced_out(answer) and _ASKS.search(row.prompt) is None else None
    if signed and answer.isascii() and _spells_text(answer) and _ASKS.search(row.prompt) is None:
        return shorten(answer)
    if spaces * 30 < len(answer) and _runs_together(answer) and _ASKS.search(row.prompt) is None:
        return shorten(answer)
    if spaces * 3 > len(answer) or not answer.isascii() or _COMMON_SHARE * spaces < _commonness(answer):
        return None
    if (_is_reversed(answer) or _has_no_vowels(answer)) and _ASKS.search(row.prompt) is None:
        return shorten(answer)
    words = _WORD.findall(answer[:2000])
    if len(words) < _MIN_WORDS:
        return None
    odd = sum(_RARE_PAIR.search(word.lower()) is not None for word in words)
    return shorten(answer) if odd >= _ODD_SHARE * len(words) and not seems_code(answer) else None


def _is_spaced_out(answer: str) -> bool:
    """Whether letters stand one by one with spaces between, and say more than a few words."""
    words = answer.split()
    single = [word for word in words if len(word) == 1 and word.isalpha()]
    return len(single) >= _MIN_LETTERS and 5 * len(single) > 4 * len(words) and len(set(single)) >= _MIN_ALPHABET


def _spells_text(answer: str) -> bool:
    """Whether numbers are the codes of a text, written in decimal."""
    words = _BETWEEN_BYTES.split(answer.strip("[]() \n"))
    numbers = [int(word) for word in words if len(word) <= 3 and word.isdecimal()]
    if len(numbers) < max(_MIN_HEX, _NEARLY_ALL * len(words)):
        return False
    said = bytes(number for number in numbers if number < 128).decode()
    letters = sum(map(str.isalpha, said))
    return len(said) > _NEARLY_ALL * len(numbers) and 4 * letters > 3 * len(said) - 4 * said.count(" ") and " " in said


def _is_numbers(answer: str) -> bool:
    """Whether a text is a long list of numbers: the tokens or the vector that stand for a text, not the text."""
    pieces = answer.strip("[]() \n").split(",")
    if len(pieces) < _MIN_NUMBERS or not all(map(_NUMBER.fullmatch, pieces)):
        return False
    numbers = list(map(float, pieces))
    return numbers not in (sorted(numbers), sorted(numbers, reverse=True))


def _has_no_vowels(answer: str) -> bool:
    letters = [letter for letter in answer.lower() if letter.isalpha()]
    return len(letters) >= _MIN_CHARACTERS and 20 * sum(map(answer.lower().count, "aeiouy")) < len(letters)


def _commonness(text: str) -> int:
    return sum(map(text.count, _COMMON))


def _is_reversed(answer: str) -> bool:
    """Whether common words show when a text is read from its end."""
    backwards = answer[::-1]
    found = sum(map(backwards.__contains__, _COMMON))
    return found >= _MIN_COMMON and _commonness(backwards) > _TIMES_COMMON * _commonness(answer)


def _runs_together(answer: str) -> bool:
    """Whether a text has lost the spaces between its words."""
    joined = _JOINED.search(answer)
    if joined is None or len(joined[0]) * 2 < len(answer):
        return False
    vowels = sum(map(joined[0].lower().count, "aeiou"))
    return len(set(joined[0].lower())) >= _MIN_ALPHABET and 4 * vowels > len(joined[0]) and 2 * vowels < len(joined[0])


def _long_words(answer: str) -> str | None:
    """Find encoded bytes without a space."""
    filled = [match[0] for match in _LONG_WORD.finditer(answer)]
    joined = "".join(filled)
    mixed = any(map(str.isupper, joined)) and any(map(str.islower, joined))
    if len(joined) >= _MIN_SHARE * len(answer) and len(set(joined)) >= _MIN_DISTINCT and mixed:
        return shorten(filled[0])
    hexed = _HEX.search(joined)
    if (
        hexed is not None
        and not hexed[0].isdecimal()
        and len(set(hexed[0])) >= _HEX_DISTINCT
        and 2 * len(joined) >= len(answer)
    ):
        return shorten(hexed[0])
    return None


def _is_encoded(answer: str) -> bool:
    """Whether most of a text is bytes written in digits or escapes, or words of random letters and digits."""
    if 2 * sum(map(len, _ESCAPES.findall(answer))) > len(answer):
        return True
    words = answer.split()
    if sum(map(len, filter(_is_noise, words))) > _ENCODED_SHARE * len(answer):
        return True
    if len(words) < _MIN_WORDS:
        words = _BETWEEN_BYTES.split(answer)
    if len(words) < _MIN_WORDS:
        return False
    bits = sum(_BITS.fullmatch(word) is not None for word in words)
    mixed = sum(len(word) < _NOISE_CHARACTERS and _MIXED.search(word) is not None for word in words)
    if max(bits, mixed) > _ENCODED_SHARE * len(words):
        return True
    octal = sum(_OCTAL.fullmatch(word) is not None for word in words)
    if octal >= _MIN_HEX and octal > _NEARLY_ALL * len(words):
        return True
    hexed = [word for word in words if _HEX_WORD.fullmatch(word) is not None]
    if len(hexed) < _MIN_HEX or len(hexed) <= _ENCODED_SHARE * len(words):
        return False
    lettered = sum(_HEX_LETTER.search(word) is not None for word in hexed)
    return 5 * lettered > len(hexed) and 5 * sum(map(_has_digit, hexed)) > len(hexed)


def _is_noise(word: str) -> bool:
    """Whether a word is too long for one and of too many kinds of signs for a rule or an address."""
    if len(word) < _NOISE_CHARACTERS:
        return len(word) >= _MIXED_CHARACTERS and _MIXED.search(word) is not None
    if "://" in word or not word.isascii():
        return False
    unspoken = len(signs_of(word))
    return len(set(word)) >= _MIN_DISTINCT and _SIGNED * unspoken > len(word)


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


CHECKS = (
    RowCheck(
        code="gibberish",
        severity="warning",
        message="the text is no language, but looks like encoded bytes or keys hit at random",
        fix="drop the row",
        find=_find,
        example=text("xr4k3tMVhTDyb8I7f7bDVRFYuOPDRFXcYiBI6myZGOTiU0Nlqieb0BwEQ22C3FOlaVXu4prGjVMn5YbslfLDWX2jKmY87A0"),
        counterexample=text(
            "The hash of the file is e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855."
        ),
    ),
)
