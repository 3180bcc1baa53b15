"""Numbers that name one person to a state: each with the check digits, the date or the word that proves it."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import mask
from finetune_exe.data.checks.verify import is_social_security_number, passes_luhn

_BRAZILIAN = re.compile(r"(?<![\d.-])(\d{3})\.(\d{3})\.(\d{3})-(\d{2})(?![\d-]|\.\d)")
_SPANISH = re.compile(r"(?<![A-Za-z0-9])([XYZ]?)-?(\d{7,8})-?([A-Z])(?![A-Za-z0-9])")
_SPANISH_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_FRENCH = re.compile(r"(?<!\d)[12] \d\d (?:0[1-9]|1[0-2]) (?:\d\d|2[AB]) \d{3} \d{3} \d\d(?!\d)")
_INDIAN = re.compile(r"(?<![\w-])[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}(?![\w-])")
_POLISH = re.compile(r"(?<!\d)\d{11}(?!\d)")
_SWEDISH = re.compile(r"(?<!\d)(?:19|20)?(\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))-?(\d{4})(?!\d)")
_KOREAN = re.compile(r"(?<!\d)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])-[1-4]\d{6}(?!\d)")
_PASSPORT = re.compile(
    r"(?:passport|passeport|pasaporte|reisepass|\u62a4\u7167)[\s#:.-]*"
    r"(?:number|no|nr|nummer|num\u00e9ro|is|\u53f7\u7801)?"
    r"[\s#:.-]*((?=[A-Z0-9]*\d{5})[A-Z0-9]{8,9})(?![A-Za-z0-9])",
    re.IGNORECASE,
)
_INDONESIAN = re.compile(r"(?<!\d)[1-9]\d{5}(?:0[1-9]|[1-6]\d|7[01])(?:0[1-9]|1[0-2])\d{6}(?!\d)")
"""Six digits of a place, then the date of birth; a woman's day is 40 more."""
_SNILS = re.compile(r"(?<!\d)(\d{3})-(\d{3})-(\d{3})[ -](\d{2})(?!\d)")
_RUSSIAN_PASSPORT = re.compile(
    r"\u043f\u0430\u0441\u043f\u043e\u0440\u0442\w*\D{0,20}\d{2} ?\d{2} \d{6}(?!\d)", re.IGNORECASE
)
_NAMED_SOCIAL = re.compile(r"(?:social security|\bssn)\D{0,20}(\d{3})[ -]?(\d{2})[ -]?(\d{4})(?!\d)", re.IGNORECASE)
_MIXED_SIGNS = re.compile(r"\d\d\d[A-Z]")
_LETTERED_SIGNS = re.compile(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]|[A-Z]{2}\d{6}[A-D]")
"""What a text without small letters and spaces has in it where one of the next two stands in it."""
_ITALIAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z](?![A-Za-z0-9])")
_BRITISH = re.compile(r"(?<![A-Za-z0-9])[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D](?![A-Za-z0-9])")
_ODD_DIGITS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ODD_LETTERS = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
"""What a digit or a letter in an odd place is worth in the check letter of an Italian tax number."""
_SAMPLES = ("123456789", "078051120", "219099999", "987654321", "111111111")
_FLIP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
"""A step of the check digit of Verhoeff: where each digit goes from one place to the next."""


def identity_number(text: str) -> str | None:
    """Name and mask the first identity number in the neighbourhood of a number, or give None."""
    said = text.casefold()
    if "pass" in said or "pasap" in said or "\u62a4\u7167" in said:
        found = _PASSPORT.search(text)
        if found is not None:
            return f"passport number: {mask(found[1])}"
    for match in _BRAZILIAN.finditer(text):
        if is_brazilian("".join(match.groups())):
            return f"identity number: {mask(match[0])}"
    if "dni" in said or "nif" in said or "nie" in said:
        for match in _SPANISH.finditer(text):
            number = int(str("XYZ".find(match[1])) + match[2]) if match[1] else int(match[2])
            if _SPANISH_LETTERS[number % 23] == match[3]:
                return f"identity number: {mask(match[0])}"
    found = _FRENCH.search(text)
    if found is not None and is_french(found[0]):
        return f"social security number: {mask(found[0])}"
    if "social sec" in said or "ssn" in said:
        social = _NAMED_SOCIAL.search(text)
        if (
            social is not None
            and is_social_security_number(*social.groups())
            and "".join(social.groups()) not in _SAMPLES
        ):
            return f"social security number: {mask(''.join(social.groups()))}"
    snils = _SNILS.search(text) if text.count("-") > 1 else None
    if snils is not None and is_snils("".join(snils.groups())):
        return f"social security number: {mask(snils[0])}"
    found = _RUSSIAN_PASSPORT.search(text) if "\u043f\u0430\u0441\u043f\u043e\u0440\u0442" in said else None
    if found is not None:
        return f"passport number: {mask(found[0][-11:])}"
    if "nik" in said or "ktp" in said:
        found = _INDONESIAN.search(text)
        if found is not None:
            return f"identity number: {mask(found[0])}"
    if "aadha" in said or "uid" in said:
        found = _INDIAN.search(text)
        if found is not None and passes_verhoeff(re.sub(r"\D", "", found[0])):
            return f"identity number: {mask(found[0])}"
    if "pesel" in said:
        found = _POLISH.search(text)
        if found is not None and is_polish(found[0]):
            return f"identity number: {mask(found[0])}"
    if "personn" in said or "\uc8fc\ubbfc" in said:
        swedish = _SWEDISH.search(text)
        if swedish is not None and passes_luhn(swedish[1] + swedish[2]):
            return f"identity number: {mask(swedish[0])}"
        found = _KOREAN.search(text)
        if found is not None:
            return f"identity number: {mask(found[0])}"
    return None


def lettered_number(text: str, signs: str) -> str | None:
    """Find an identity number that is made of capitals and few digits.

    Args:
        text: The text.
        signs: The same without small letters and spaces.
    """
    if _MIXED_SIGNS.search(signs) is not None and _LETTERED_SIGNS.search(signs) is not None:
        for match in _ITALIAN.finditer(text):
            if is_italian(match[0]):
                return f"identity number: {mask(match[0])}"
        found = _BRITISH.search(text)
        if found is not None and re.search(r"insurance|\bnino\b|\bni num", text, re.IGNORECASE):
            return f"social security number: {mask(found[0])}"
    return None


def is_brazilian(digits: str) -> bool:
    """Whether 11 digits end in the two check digits of a CPF."""
    values = list(map(int, digits))
    checks = [sum(value * (n + 1 - place) for place, value in enumerate(values[:n])) * 10 % 11 % 10 for n in (9, 10)]
    return len(set(digits)) > 1 and values[9:] == checks


def is_snils(digits: str) -> bool:
    """Whether 11 digits end in the two check digits of a Russian insurance number."""
    total = sum(int(digit) * (9 - place) for place, digit in enumerate(digits[:9])) % 101 % 100
    return total == int(digits[9:]) and len(set(digits[:9])) > 2


def is_french(text: str) -> bool:
    """Whether a number of the French social security ends in 97 less its remainder by 97."""
    digits = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_polish(digits: str) -> bool:
    """Whether 11 digits end in the check digit of a PESEL."""
    total = sum(int(digit) * weight for digit, weight in zip(digits[:10], (1, 3, 7, 9) * 3, strict=False))
    return (total + int(digits[10])) % 10 == 0 and len(set(digits)) > 2


def is_italian(text: str) -> bool:
    """Whether 16 characters end in the check letter of a codice fiscale."""
    total = 0
    for place, character in enumerate(text[:15]):
        value = int(character, 36) if character.isdigit() else ord(character) - ord("A")
        odd = _ODD_DIGITS if character.isdigit() else _ODD_LETTERS
        total += odd[value] if place % 2 == 0 else value
    return chr(ord("A") + total % 26) == text[15]


def passes_verhoeff(digits: str) -> bool:
    """Whether the last digit is the check digit of the others by Verhoeff's rule."""
    sum_ = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(place % 8):
            value = _FLIP[value]
        sum_ = _dihedral(sum_, value)
    return sum_ == 0


def _dihedral(one: int, other: int) -> int:
    """Multiply in the group of the symmetries of a pentagon."""
    turned = (one + other) % 5 if one < 5 else (one - other) % 5
    return turned + 5 * ((one >= 5) != (other >= 5))
