"""What tells who somebody is or how to reach them."""

from __future__ import annotations

import ipaddress
import re

from finetune_exe.data.checks.check import RowCheck, mask
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.identity_numbers import identity_number, lettered_number
from finetune_exe.data.checks.phones import phone_number
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.verify import (
    is_card_number,
    is_chinese_identity_number,
    is_iban,
    is_social_security_number,
)

_LATIN = r"A-Za-z0-9\u00c0-\u024f"
_EMAIL = re.compile(
    rf"(?<![{_LATIN}_.%+-])([{_LATIN}][{_LATIN}_.%+-]{{0,63}})"
    rf"@((?:[{_LATIN}-]{{1,63}}\.)+[A-Za-z]{{2,24}})(?![{_LATIN}_@])"
)
"""Chinese and other letters may stand around it without a space."""
_LOGIN = re.compile(r"://[^\s/?#@]*:[^\s/?#@]*\Z")
"""Before the password of an address such as scheme://name:password@host."""
_HIDDEN_EMAIL = re.compile(
    r"(?<![\w.])([a-z0-9][\w.+-]{1,40}(?: dot \w{2,20})?)\s*"
    r"(?:[\[({<]\s*at\s*[\])}>]\s*([\w-]{2,40}(?:\s*[\[({<]?"
    r"\s*(?:\bdot\b|\.)\s*[\])}>]?\s*[\w-]{2,24}){1,3})"
    r"| at ([\w-]{2,40}(?: dot [\w-]{2,24}){1,3}))\b",
    re.IGNORECASE,
)
"""An address with words for its signs, so that programs do not find it."""
_SAMPLE_DOMAIN = re.compile(
    r"example|sample|(?:^|\.)(?:test|invalid|localhost|domain|email|yourdomain|company\w*|yourcompany|mycompany"
    r"|website|yourwebsite|abc|xyz|acme"
    r"|mail(?!\.ru$)|host|server|site|business|school|university|organization|organisation|sample|placeholder|fake\w*|foo"
    r"|bar|address)\.\w+(?:\.\w+)?$|^(?:lists?|groups|bugs)\."
)
_SAMPLE_NAME = re.compile(
    r"(?:(?:your|my|user|first|last|full)[\w.-]*|[\w.-]*(?:example|test|sample|dummy)[\w.-]*|(?:john|jane"
    r"|j)[._-]?(?:doe|smith|d)?\d{0,3}|info|support|contact|admin"
    r"|sales|hello|help|no-?reply|service|office|mail|press|media|jobs|careers|webmaster|editor|team|feedback"
    r"|enquiries|inquiries|customer[\w.]*"
    r"|name|email|someone|somebody|abc|xyz|foo|bar|billing|marketing|hr|security|privacy|legal|subscribe|orders?"
    r"|booking|reservations?|git|root)"
)
_SOCIAL = re.compile(r"(?<![\d-])(\d{3})-(\d{2})-(\d{4})(?![\d-])")
_SAMPLE_SOCIAL = ("123-45-6789", "078-05-1120", "219-09-9999", "987-65-4321", "111-11-1111")
_CARD = re.compile(r"(?<![\w.+/-])(?:\d{4}[ -]\d{4}[ -]\d{4}[ -]\d{4}|\d{4}[ -]\d{6}[ -]\d{5}|\d{13,19})(?![\w.-]*\d)")
_CARD_WORD = re.compile(
    r"card|visa|master|amex|express|credit|debit|charge|payment|cv[vc]|\bexp|\bcc\b|\bcc_|karte|carte|tarjeta|carta|\u5361",
    re.IGNORECASE,
)
_SAMPLE_CARDS = (
    "4111111111111111", "4242424242424242", "5555555555554444", "378282246310005", "4012888888881881",
    "5105105105105100", "6011111111111117", "371449635398431", "4000056655665556", "5200828282828210",
)  # fmt: skip
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?![A-Za-z0-9])")
_SAMPLE_IBANS = (
    "DE89370400440532013000",
    "GB82WEST12345698765432",
    "FR1420041010050500013M02606",
    "GB29NWBK60161331926819",
)
_IP = re.compile(r"(?<![\w.-])(?<!\w/)((?:\d{1,3}\.){3}\d{1,3})(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){3,7}"
    r"(?:(?::[0-9A-Fa-f]{1,4}){1,4}|[0-9A-Fa-f]{1,4})(?![\w:]|\.\d)"
)
_IP_VERSION = re.compile(
    r"(?:version|release|v|driver|firmware|build|section|chapter|netmask|mask)\.? ?$", re.IGNORECASE
)
_WELL_KNOWN_IPS = ("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4", "208.67.222.222")
_ADDRESS = re.compile(
    r"\b(\d{1,5}) (?:[NSEW]\.? )?((?:[A-Z][\w'.-]+ ){1,3})(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Boulevard|Blvd"
    r"|Drive|Dr|Court|Ct|Way|Place|Pl"
    r"|Terrace|Square|Circle|Parkway|Highway|Row|Close|Crescent)\.?,? (?:(?:Apt|Apartment|Suite|Unit|Ste|Flat"
    r"|#)\.? ?\w+,? )?"
    r"(?:[A-Z][\w.'-]+(?: [A-Z][\w.'-]+){0,2}),? (?:[A-Z]{2} \d{5}(?:-\d{4})?|[A-Z]{1,2}\d[A-Z\d]? ?\d[A-Z]{2})\b"
    r"|\b[A-Z\u00c4\u00d6\u00dc][\w-]+(?:stra\u00dfe|strasse|str\.|weg|allee|platz"
    r"|gasse) \d{1,4} ?[a-z]?, (?:D-)?\d{5} [A-Z\u00c4\u00d6\u00dc]\w+"
    r"|\b\d{1,4}(?: ?bis| ?ter)?,? (?:rue|avenue|boulevard|place|chemin"
    r"|impasse) [^\n,]{3,40}, \d{5} [A-Z\u00c9\u00c8]\w+"
    r"|\b(?:Via|Viale|Piazza|Corso|Calle|Avenida|Plaza|Paseo|Rua) [A-Z\u00c0-\u00dcd][^\n,]{2,40},? "
    r"\d{1,4}[a-z]?,? (?:- )?\d{5} [A-Z\u00c0-\u00dc]\w+"
)
_DUTCH = re.compile(
    r"\b[A-Z][\w'-]+(?:straat|gracht|laan|weg|plein|kade|singel|dijk) \d{1,4} ?[a-z]?,? \d{4} ?[A-Z]{2},? [A-Z]\w+"
)
_SAMPLE_ADDRESS = re.compile(
    r"12?34?5? (?:Main|Elm|Any|Oak|Maple|Fake|Example|Sample)|Anytown|Any (?:Town|City)|Pennsylvania Ave"
)
_FAR_ADDRESS = re.compile(
    r"\b(?:\u0443\u043b|\u0443\u043b\u0438\u0446\u0430|\u043f\u0440-\u0442"
    r"|\u043f\u0440\u043e\u0441\u043f\u0435\u043a\u0442|\u043f\u0435\u0440|\u0431\u0443\u043b"
    r"|\u0448)\.? [\u0410-\u042f][\u0410-\u044f\u0451 -]{2,30}, ?(?:\u0434\u043e\u043c"
    r"|\u0434)?\.? ?\d+\w?,? ?(?:\u043a\u0432|\u043a\u0432\u0430\u0440\u0442\u0438\u0440\u0430)\.? ?\d+"
    r"|[\u4e00-\u9fff](?:\u8def|\u8857|\u9053|\u5df7|\u5f04|\u6751|\u5c0f\u533a)\d{1,5}(?:\u53f7|\u5f04)[\u4e00-\u9fff0-9A-Z-]{0,20}\d+(?:\u5ba4|\u6237)"
    r"|\b(?:Jl|Jalan)\.? [A-Z][\w .]{2,40}? (?:No|no)\.? ?\d+\w?,.{0,40}?\b\d{5}\b"
)
"""Homes in Russia, China and Indonesia: with a street, a house, and a flat or a post code."""
_FAR_SIGNS = ("\u043a\u0432", "\u5ba4", "\u6237")
_CHINESE_ID = re.compile(r"(?<!\d)[1-9]\d{5}(?:19|20)\d{9}[\dXx](?!\d)")
_NUMBER = re.compile(r"\d[\d .()/-]{5,}[\dXx]")
"""What every number below has in it."""
_POST_CODE = re.compile(r"\d(?:\d{4}|[A-Z]{2})(?![A-Za-z0-9])")
_ANY_DIGIT = re.compile(r"\d")
_CODE_SIGNS = re.compile(r"\d(?:\d{4}|[A-Z]{2})")
_ASCII_CODE_SIGNS = re.compile(r"\d(?:\d{4}[A-Z]|[A-Z]{2})|[A-Z]{2}\d{5}")
"""Where no letter is left out of the signs, a capital stands before or behind a post code."""
_MIN_DIGITS = 7
"""The shortest telephone number that is looked for."""
_DIGITS = re.compile(rf"\d(?:[.()/-]*\d){{{_MIN_DIGITS - 1}}}")
"""Enough digits together, where spaces are left out; so `_CODE_SIGNS`."""
_NUMBER_SIGNS = re.compile(r":[0-9A-F]*:[0-9A-F]*:|\d(?:[.()/-]*\d){2}(?:[A-Z]|(?:[.()/-]*\d){4})")
"""What is in every text in which one of the three kinds of numbers that come first may stand."""
_IPV6_SIGNS = re.compile(":[0-9A-F]*:[0-9A-F]*:[0-9A-F]*:")
_DUTCH_SIGNS = re.compile(r"\d{4}[A-Z]{3}")
_LIKELY = ("e-mail address", "phone number", "IP address", "postal address")
"""Ways to reach somebody or a place, which may be public ones; nothing in them proves whose they are."""
_BEFORE, _BEHIND = 60, 60
"""Characters around a number that are looked at with it."""


def _find(row: RowView) -> str | None:
    """Find a number that is somebody's by its check digits, or else a way to reach somebody."""
    other_digits = not row.is_ascii and _ANY_DIGIT.search(row.foreign) is not None
    if not other_digits and _ANY_DIGIT.search(row.signs) is None:
        return _reached(row)
    number = _number(row, other_digits=other_digits)
    if number is not None and not number.startswith(_LIKELY):
        return number
    return _reached(row) or number or _lives(row, other_digits=other_digits)


def _number(row: RowView, *, other_digits: bool) -> str | None:
    text, signs = row.text, row.signs
    if not other_digits and _NUMBER_SIGNS.search(signs) is None:
        return None
    first = _among_numbers(text) if other_digits or _DIGITS.search(signs) is not None else None
    if first is not None and not first.startswith(_LIKELY):
        return first
    lettered = lettered_number(text, signs)
    return lettered or first or (_ipv6(text) if _IPV6_SIGNS.search(signs) is not None else None)


def _reached(row: RowView) -> str | None:
    text, signs = row.text, row.signs
    if "@" in signs and (found := _email(text)) is not None:
        return found
    hidden = (
        " dot com" in text
        or ("]" in signs and ("at]" in text or "AT]" in signs))
        or ("()" in signs and "at)" in text)
        or "(AT)" in signs
    )
    return _hidden_email(text) if hidden else None


def _lives(row: RowView, *, other_digits: bool) -> str | None:
    if (found := _far_address(row, row.text)) is not None:
        return found
    codes = _ASCII_CODE_SIGNS if row.is_ascii else _CODE_SIGNS
    return _at_post_codes(row.text, row.signs) if other_digits or codes.search(row.signs) is not None else None


def _among_numbers(text: str) -> str | None:
    """Find what a number is, of all in a text one with check digits rather than another."""
    likely = None
    for match in _NUMBER.finditer(text):
        num_digits = sum(map(match[0].count, "0123456789"))
        if num_digits < _MIN_DIGITS:
            continue
        window = text[max(0, match.start() - _BEFORE) : match.end() + _BEHIND]
        found = _numbered(window, match[0], num_digits)
        if found is not None and not found.startswith(_LIKELY):
            return found
        likely = likely or found
    return likely


def _far_address(row: RowView, text: str) -> str | None:
    near = "J" in row.signs and ("Jl" in text or "Jalan" in text)
    if not near and (row.is_ascii or not any(map(row.foreign.__contains__, _FAR_SIGNS))):
        return None
    found = _FAR_ADDRESS.search(text)
    return None if found is None else f"postal address: {mask(found[0])}"


def _at_post_codes(text: str, signs: str) -> str | None:
    if _DUTCH_SIGNS.search(signs) is not None and (dutch := _DUTCH.search(text)) is not None:
        return f"postal address: {mask(dutch[0])}"
    for match in _POST_CODE.finditer(text):
        if (found := _address(text[max(0, match.start() - 2 * _BEHIND) : match.end() + _BEHIND])) is not None:
            return found
    return None


def _numbered(window: str, number: str, num_digits: int) -> str | None:
    """Search the neighbourhood of a number for what it may be by its length and its marks."""
    found = None
    if number.count("-") >= 2 and num_digits >= 9:
        found = _social(window)
    if num_digits >= 10:
        found = found or _iban(window)
    if num_digits >= 13:
        found = found or _card(window) or _chinese_id(window)
    if num_digits >= _MIN_DIGITS:
        found = found or identity_number(window)
    if number.count(".") >= 3:
        found = found or _ip(window)
    return found or (phone_number(window) if num_digits >= 8 else None)


def _email(text: str) -> str | None:
    for match in _EMAIL.finditer(text):
        name, domain = match[1].lower(), match[2].lower()
        if _SAMPLE_NAME.fullmatch(name) or _SAMPLE_DOMAIN.search(domain) or domain.endswith((".png", ".jpg", ".py")):
            continue
        if _LOGIN.search(text, max(0, match.start() - _BEHIND), match.start()) is not None:
            continue
        return f"e-mail address: {mask(match[0])}"
    return None


def _hidden_email(text: str) -> str | None:
    for match in _HIDDEN_EMAIL.finditer(text):
        name = match[1].lower()
        domain = re.sub(r"[\[({<\s]*(?:\bdot\b|\.)[\])}>\s]*", ".", match[2] or match[3]).lower()
        if "." in domain and not _SAMPLE_NAME.fullmatch(name) and not _SAMPLE_DOMAIN.search(domain):
            return f"e-mail address: {mask(match[0])}"
    return None


def _ipv6(text: str) -> str | None:
    for match in _IPV6.finditer(text):
        try:
            address = ipaddress.IPv6Address(match[0])
        except ValueError:
            continue
        if address.is_global:
            return f"IP address: {mask(match[0])}"
    return None


def _social(text: str) -> str | None:
    for match in _SOCIAL.finditer(text):
        if is_social_security_number(*match.groups()) and match[0] not in _SAMPLE_SOCIAL:
            return f"social security number: {mask(match[0])}"
    return None


def _card(text: str) -> str | None:
    for match in _CARD.finditer(text):
        digits = re.sub(r"\D", "", match[0])
        if not is_card_number(digits) or digits in _SAMPLE_CARDS:
            continue
        if digits != match[0] or _CARD_WORD.search(text, max(0, match.start() - 60), match.end() + 40):
            return f"card number: {mask(match[0])}"
    return None


def _iban(text: str) -> str | None:
    for match in _IBAN.finditer(text):
        number = match[0].replace(" ", "")
        if is_iban(number) and number not in _SAMPLE_IBANS:
            return f"bank account: {mask(match[0])}"
    return None


def _ip(text: str) -> str | None:
    for match in _IP.finditer(text):
        before = text[max(0, match.start() - 12) : match.start()]
        if match[1] in _WELL_KNOWN_IPS or _IP_VERSION.search(before):
            continue
        try:
            address = ipaddress.IPv4Address(match[1])
        except ValueError:
            continue
        if address.is_global and not match[1].endswith((".0", ".0.1")) and match[1].split(".")[0] != "0":
            return f"IP address: {mask(match[0])}"
    return None


def _address(text: str) -> str | None:
    match = _ADDRESS.search(text)
    if match is None or _SAMPLE_ADDRESS.search(match[0]):
        return None
    return f"postal address: {mask(match[0])}"


def _chinese_id(text: str) -> str | None:
    for match in _CHINESE_ID.finditer(text):
        if is_chinese_identity_number(match[0]):
            return f"identity number: {mask(match[0])}"
    return None


CHECKS = (
    RowCheck(
        code="pii",
        severity="error",
        message="the row holds data about a person: an address, a number of a card, an account or an identity card",
        fix="replace it by an invented one, or drop the row; what is meant for the public may stay",
        find=_find,
        likely=_LIKELY,
        example=asked("Pay.", "Charge it to card 4266 8414 4395 8705, expiry 07/28."),
        counterexample=asked(
            "Try the form.", "Mail user@example.com, call 555-0100, use 127.0.0.1, order 4000 1234 5678 9010."
        ),
    ),
)
