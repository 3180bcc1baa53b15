"""Proofs that a number or a string is what it looks like: check digits, ranges, entropy."""

from __future__ import annotations

import math
from collections import Counter

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21,
    "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18,
    "FR": 27,
    "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23,
    "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "MC": 27, "MD": 24,
    "ME": 22,
    "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29,
    "RO": 24,
    "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "XK": 20,
}  # fmt: skip
"""Length of an IBAN by country (ISO 13616 registry)."""
_CARD_PREFIXES = (
    ("4", (13, 16, 19)), ("51", (16,)), ("52", (16,)), ("53", (16,)), ("54", (16,)), ("55", (16,)), ("2", (16,)),
    ("34", (15,)),
    ("37", (15,)), ("6011", (16, 19)), ("65", (16, 19)), ("64", (16, 19)), ("35", (16, 19)), ("36", (14,)),
    ("38", (14,)),
    ("30", (14,)), ("62", (16, 17, 18, 19)), ("50", (16, 19)), ("56", (16, 19)), ("58", (16, 19)), ("67", (16, 19)),
)  # fmt: skip


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others by Luhn's rule."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def is_card_number(digits: str) -> bool:
    """Whether digits are the number of a payment card: an issuer's prefix and length, and the check digit."""
    known = any(digits.startswith(prefix) and len(digits) in lengths for prefix, lengths in _CARD_PREFIXES)
    return known and len(set(digits)) > 3 and passes_luhn(digits)


def is_iban(text: str) -> bool:
    """Whether a text without spaces is a bank account number: its country's length, and the remainder 1 by 97."""
    if _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    moved = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def is_social_security_number(area: str, group: str, serial: str) -> bool:
    """Whether the parts of a US social security number are ones that can be given out."""
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_chinese_identity_number(text: str) -> bool:
    """Whether 18 characters end in the check character of GB 11643 and hold a date of birth."""
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    total = sum(int(digit) * weight for digit, weight in zip(text, weights, strict=False))
    return "10X98765432"[total % 11] == text[17].upper() and "01" <= text[10:12] <= "12" and "01" <= text[12:14] <= "31"


def entropy(text: str) -> float:
    """Give the bits a character that a text of these characters needs: 4.5 and more for random letters and digits."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())
