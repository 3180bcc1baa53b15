"""Numbers of telephones: by the way they are written, or by the word before them."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import mask

_PHONE = re.compile(
    r"(?<![\w.+/=#-])(?:(?:\+[1-9]|(?<!\d )00[1-9](?=\d{0,2}[ .(-]))\d{0,2}[ .-]?"
    r"(?:\(0?\d{1,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,8}){1,4}"
    r"|(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])[2-9]\d{2}[-.]\d{4})(?![\w-]|\.\d)"
)
_NATIONAL = re.compile(
    r"(?<![A-Za-z0-9_.+/=#-])(?:0[1-79](?:[ .]\d\d){4}|\([1-9]\d\) ?9\d{4}-\d{4}|0[789]0-\d{4}-\d{4}"
    r"|8[ -]?\(?[3489]\d\d\)?[ -]\d{3}-\d\d-\d\d|08[1-9]\d-\d{4}-\d{3,5}|1[3-9]\d-\d{4}-\d{4}"
    r"|01[016-9]-\d{3,4}-\d{4}|01(?:5\d{2}|[67]\d)[ /-]\d{7,8}"
    r"|07\d{3} \d{6}|07\d{3} \d{3} \d{3}|04\d{2} \d{3} \d{3})(?![A-Za-z0-9_-]|\.\d)"
)
"""France, Brazil, Japan, Russia, Indonesia, China, mobile ones of Germany, Britain, Australia: written as nothing else
is."""
_TERMS = re.compile(r"\d+")
_CALLED = re.compile(
    r"(?:\b(?:tel(?:e(?:phone|fono?|fone)|\u00e9fono)?|phone|mobile|mobil"
    r"|cell(?:phone|ular[ei]?)?|fax|whatsapp|handy|m\u00f3vil|telepon|telefon\w*|telp|hubungi|ponsel"
    r"|portable|gsm|celular|call|text|dial|ring|reach)\b"
    r"|\u624b\u673a|\u624b\u6a5f|\u7535\u8bdd|\u96fb\u8a71"
    r"|\u643a\u5e2f|\uc804\ud654|\ud578\ub4dc\ud3f0|\uc5f0\ub77d\ucc98"
    r"|\u0111i\u1ec7n tho\u1ea1i(?: c\u1ee7a t\u00f4i)?(?: l\u00e0)?|\u0647\u0627\u062a\u0641"
    r"|\u062c\u0648\u0627\u0644|\u0437\u0432\u043e\u043d\u0438\u0442\u0435|\u043c\u043e\u0431\u0438\u043b\w*"
    r"|\u0442\u0435\u043b(?:\u0435\u0444\u043e\u043d)?\b)"
    r"(?:[\s:.,#\uff1a=-]|\b(?:number|nummer|num\u00e9ro|n\u00famero|no|nr"
    r"|is|ist|est|es|at|on|me|us|him|her|them|now|saya|nomor|di)\b|[\u53f7\u7801\u662f\u4e3a\u756a\u306f\ub294\uc740]"
    r"|\u0646\u064a|\u064a|\u0631\u0642\u0645|\u0647\u0648){0,12}?"
    r"(\+?\(?\d[\d()./ -]{6,17}\d)(?![\w-]|[.,]\d)",
    re.IGNORECASE,
)
_WORDS = (
    "tel", "phone", "mobil", "cell", "fax", "whatsapp", "handy", "m\u00f3vil", "portable", "gsm", "celular", "call",
    "text", "dial", "ring", "reach", "\u624b", "\u7535\u8bdd", "\u96fb\u8a71", "\u643a\u5e2f", "\uc804\ud654",
    "\ud578\ub4dc\ud3f0", "\u0647\u0627\u062a\u0641", "\u062c\u0648\u0627\u0644", "\u0442\u0435\u043b",
    "\u0437\u0432\u043e\u043d", "\u043c\u043e\u0431\u0438\u043b",
    "telp", "\u0111i\u1ec7n tho\u1ea1i", "\uc5f0\ub77d\ucc98", "hubungi", "ponsel",
)  # fmt: skip
"""One of them is in every text with a number that is called one of a telephone."""
_TOLL_FREE = ("800", "888", "877", "866", "855", "844", "833", "900")
_MIN_DIGITS, _MAX_DIGITS = 8, 15
"""No country has longer numbers (E.164: 15 digits), and few have shorter ones."""
_MIN_ABROAD = 11
"""The same with the 00 before a country."""
_MIN_CALLED, _MAX_CALLED = 9, 12
"""Digits of a number that a text says somebody is called by, without a country."""


def phone_number(text: str) -> str | None:
    """Mask the first telephone number in the neighbourhood of a number, or give None."""
    for match in _PHONE.finditer(text):
        if _may_be_real(match[0]) and not _is_subtracted(match[0], text):
            return f"phone number: {mask(match[0])}"
    for match in _NATIONAL.finditer(text):
        if _is_random(re.sub(r"\D", "", match[0])):
            return f"phone number: {mask(match[0])}"
    said = text.casefold()
    for match in _CALLED.finditer(text) if any(map(said.__contains__, _WORDS)) else ():
        digits = re.sub(r"\D", "", match[1])
        if _MIN_CALLED <= len(digits) <= _MAX_CALLED and _is_random(digits) and not _is_for_all(digits):
            return f"phone number: {mask(match[1])}"
    return None


def _may_be_real(number: str) -> bool:
    digits = re.sub(r"\D", "", number)
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS or not _is_random(digits):
        return False
    if number.startswith("00") and len(digits) < _MIN_ABROAD:
        return False
    foreign = number.startswith(("+", "00"))
    american = not foreign or digits.startswith("1")
    if american and (len(digits) < 10 or _is_for_all(digits)):
        return False
    return not (number.startswith("+") and not re.search(r"[ .()-]", number) and len(digits) < 10)


def _is_subtracted(number: str, text: str) -> bool:
    """Whether a number with dashes is a sum whose result stands in the text too."""
    first, *others = map(int, _TERMS.findall(number))
    result = abs(first - sum(others))
    return (
        "(" not in number
        and number.count("-") == len(others)
        and re.search(rf"(?<!\d){result}(?!\d)", text) is not None
    )


def _is_random(digits: str) -> bool:
    """Whether digits are no row of equal or of following ones, as samples have."""
    return len(set(digits)) >= 4 and "1234567" not in digits and "98765432" not in digits


def _is_for_all(digits: str) -> bool:
    """Whether a North American number is one of films, or costs nothing; numbers with 0800 are free elsewhere."""
    national = digits[-10:]
    return (
        "555" in (national[:3], national[3:6])
        or national[:3] in _TOLL_FREE
        or digits.startswith(("0800", "0808", "0900", "1800"))
    )
