"""Keys, tokens and passwords."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import unquote

from finetune_exe.data.checks.check import RowCheck, mask
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView, signs_of
from finetune_exe.data.checks.verify import entropy

_MARKS = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "xapp-", "AIza", "sk-",
    "sk_",
    "rk_", "eyJ",
    "hf_", "npm_", "SG.", "dop_v1_", "shpat_", "ya29.", "AccountKey=", "pypi-",
    "gsk_", "xai-", "r8_", "hvs.CAES", "glsa_", "GOCSPX-", "sq0atp-", "sq0csp-", "dapi", "PMAK-", "NRAK-", "lin_api_",
    "ntn_", "whsec_", "EAAA", "APA91b", "key-", "services/T", "api/webhooks/",
)  # fmt: skip
"""How keys begin that can be told by their form."""
_LONG_SIGNS = re.compile("|".join(re.escape(signs) for mark in _MARKS if len(signs := signs_of(mark)) > 1))
_LONG_SIGNED = tuple(mark for mark in _MARKS if len(signs_of(mark)) > 1)
_DASHED = ("xox", *(mark for mark in _MARKS if signs_of(mark) == "-"))
_DASHED_SIGNS = re.compile("-[A-Z0-9_-]{5}")
"""What a key that has a dash behind its mark leaves of it and of what follows, which is random."""
_SHORT_SIGNED = tuple(
    (signs, tuple(mark for mark in _MARKS if signs_of(mark) == signs and mark not in _DASHED))
    for signs in dict.fromkeys(map(signs_of, _MARKS))
    if len(signs) < 2 and signs != "-"
)
"""Marks with one sign or none: the sign is looked for first."""
_KEYS = re.compile(
    r"(?<![A-Za-z0-9-])(?:"
    r"(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Z])"
    r"|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,}|glpat-[\w-]{20,}"
    r"|xox[abeoprs]-[0-9A-Za-z-]{16,}|xapp-\d-[0-9A-Za-z-]{40,}|AIza[\w-]{35}(?![\w-])"
    r"|sk-(?:proj-|ant-|or-)?[\w-]{20,}|[rs]k_(?:live|test)_[0-9A-Za-z]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{16,}"
    r"|hf_[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{36}|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_[0-9a-f]{64}|shpat_[0-9a-fA-F]{32}"
    r"|gsk_[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{60,}|r8_[A-Za-z0-9]{36,}|hvs\.CAES[\w-]{24,}"
    r"|glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}"
    r"|GOCSPX-[\w-]{28}|sq0(?:atp|csp)-[\w-]{22,}|dapi[0-9a-f]{32}"
    r"|PMAK-[0-9a-f]{24}-[0-9a-f]{34}"
    r"|NRAK-[A-Z0-9]{27}|lin_api_[A-Za-z0-9]{40}|ntn_[A-Za-z0-9]{40,}"
    r"|whsec_[A-Za-z0-9]{32,}|EAAA[\w-]{56,}|APA91b[\w-]{100,}|key-[0-9a-f]{32}(?![0-9a-f])"
    r"|services/T[A-Z0-9]{8,}/B[A-Z0-9]{8,}/[A-Za-z0-9]{24}"
    r"|api/webhooks/\d{17,20}/[\w-]{60,}|ya29\.[\w-]{30,}|pypi-[\w-]{50,}|AccountKey=[A-Za-z0-9+/=]{60,}"
    r")"
)
_BOT = re.compile(r"(?<![\w:])\d{8,10}:AA[\w-]{33}(?![\w-])")
"""The token of a Telegram bot."""
_PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\\n]+[\w+/=\\\s:-]{60,}")
_URL = re.compile(r"\b[a-z][a-z0-9+]{2,15}://([^\s:/@<>\"']{0,64}):([^\s@/<>\"']{6,64})@[\w.-]+")
_NAMES = (
    "pass", "secret", "token", "key", "pwd", "credential", "authoriz", "kennwort", "contrase", "senha", "\u5bc6\u7801",
    "\u043f\u0430\u0440\u043e\u043b\u044c", "sandi", "\u0643\u0644\u0645\u0629", "\u30d1\u30b9\u30ef\u30fc\u30c9",
    "\ube44\ubc00\ubc88\ud638", "\u015fifre", "m\u1eadt kh\u1ea9u",
)  # fmt: skip
_ASCII_NAMES = tuple(filter(str.isascii, _NAMES))
_NAMED = re.compile(
    r"((?:aws_?)?secret(?:_?access)?_?key|(?:api|access|auth|private|secret|client|encryption"
    r"|account)[ _-]?(?:key|token|secret)"
    r"|pass(?:word|wd|phrase|code)?|pwd|token|secret|credentials?|authorization"
    r"|passwort|kennwort|mot de passe|contrase\u00f1a"
    r"|senha|kata sandi|\u5bc6\u7801|\u5bc6\u78bc|\u043f\u0430\u0440\u043e\u043b\u044c"
    r"|\u0643\u0644\u0645\u0629 (?:\u0627\u0644\u0645\u0631\u0648\u0631|\u0627\u0644\u0633\u0631)"
    r"|\u30d1\u30b9\u30ef\u30fc\u30c9|\u015fifre|m\u1eadt kh\u1ea9u|\ube44\ubc00\ubc88\ud638)"
    r"[\"'`]?\s{0,2}(?:(?:(?: is| ist| lautet| est| es)?\s{0,2}(?:[:=]|=>|:=|\uff1a))"
    r"|(?:is|ist|est|es|\u00e8|\u00e9|adalah|\u2014|\u662f|\u4e3a|\u70ba|\u306f|\u0647\u064a)(?=[\s\"'`A-Za-z0-9]))\s{0,2}[\"'`]?"
    r"(?:(?:Bearer|Basic|Token|Bot) )?([^\s\"'`,;]{8,200})",
    re.IGNORECASE,
)
_NOT_SECRET = re.compile(
    r"[<>(){}\[\]*\u2026]|^\$|\$(?:[{(]|(?-i:[A-Z]))|\$$|\.\.\.|your|example|sample|placeholder|change_?me|xxx|123456|abcdef|redact|dummy"
    r"|secret|passw|pass\d*$|token|insert|"
    r"^https?:|^[a-z]+(?:[._-][a-z]+)+$|^[a-z_]+$|^[\w-]+\.[\w.-]+$|^\W+$|^[0-9a-f]{8}-|^[\d.:/-]+$",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\b(?:sshpass -p ?|mysql\b[^\n|;]{0,60} -p|(?:curl|wget)\b[^\n|;]{0,80} (?:-u|--user) ?=?[^\s:]{1,40}:"
    r"|docker login\b[^\n|;]{0,80} (?:-p|--password) ?=?"
    r"|machine [^\s<>]+\s+login [^\s<>]+\s+password )[\"']?([^\s\"'`,;@]{8,100})"
)
"""A command that takes a password among its words."""
_OTHER = re.compile(
    r"(?:Set-)?Cookie: [^\n=]{1,40}=([A-Za-z0-9%._-]{16,200})|[?&]sig=([A-Za-z0-9%/+=]{30,120})"
    r"|(?<![\w.])[\w.-]+:\d{2,5}:[\w*]+:[\w*]+:([^\s:]{8,64})(?!\S)"
    r"|(?i:pass(?:word|wd)?|secret|token|api_?key)[\"'], ?[\"']([^\"'\n]{8,100})[\"']"
    r"|\"auth\": ?\"(?P<basic>[A-Za-z0-9+/=]{12,200})\""
)
_OTHER_SIGNS = re.compile(r"C:=|C:\.=|&=|:\d{2,5}:{3}|[\"'],[\"']|\"\":\"[A-Z0-9+/=]{4}")
"""What a text with one of them has, without small letters and spaces."""
_OTHER_WORDS = ("ookie: ", "sig=", '"auth"', "ass", "ecret", "oken", "key", "PASS", "SECRET", "TOKEN", "KEY")
"""Of which all but the line of a password file have one, too."""
_OPTIONS = (" -p", " -u", " --")
_DISCORD_SIGNS = re.compile(r"[MNO][A-Z0-9_-]{4,27}\.[A-Z0-9_-]{1,6}\.[A-Z0-9_-]{6,40}")
_DISCORD = re.compile(r"(?<![\w.])[MNO][\w-]{23,27}\.[\w-]{6}\.[\w-]{27,40}(?![\w.])")
_SAID = (
    "assword is ", "asscode is ", "asswort ist ", "assword \u00e8 ", "sandi adalah ",
    "\u5bc6\u7801\u662f", "\u5bc6\u7801\u4e3a", "\u5bc6\u78bc\u662f", "\u043f\u0430\u0440\u043e\u043b\u044c \u2014 ",
    "\u30d1\u30b9\u30ef\u30fc\u30c9\u306f", "\u0627\u0644\u0645\u0631\u0648\u0631 \u0647\u064a ",
)  # fmt: skip
"""What gives a value to a password without a sign."""
_SAID_FOREIGN = (
    "\u5bc6\u7801",
    "\u5bc6\u78bc",
    "\u043f\u0430\u0440\u043e\u043b\u044c",
    "\u30d1\u30b9",
    "\u0627\u0644\u0645\u0631\u0648\u0631",
)
"""What a text has in it that has one of them."""
_DIGIT = re.compile("[0-9]")
_ASSIGNED = re.compile("[:=\uff1a]")
_NAME_CHARACTERS = 32
"""Characters from a name to what it is set to, its quotes and spaces included."""
_MIN_ENTROPY = 2.9
"""Bits a character: of 216 words with letters and digits in public files, one has fewer."""
_CASE_CHANGES = 3
"""Small letters before a capital: 99 of 29,738 long words in public files have as many."""
_ASKS_FOR_ONE = re.compile(r"\b(?:password|passphrase|(?<![>\]] )token|api key|secret)", re.IGNORECASE)
"""The token of a text, as in "the <MASK> token", is another thing."""


def _find(row: RowView) -> str | None:
    text, signs = row.text, row.signs
    begun = [mark for mark in _DASHED if mark in text] if _DASHED_SIGNS.search(signs) is not None else []
    begun += [mark for sign, marks in _SHORT_SIGNED if sign in signs for mark in marks if mark in text]
    if _LONG_SIGNS.search(signs) is not None:
        begun += [mark for mark in _LONG_SIGNED if mark in text]
    if begun and (found := _key(text, begun)) is not None:
        return found
    if ":AA" in signs and (bot := _BOT.search(text)) is not None:
        return f"key: {mask(bot[0])}"
    if "-----" in signs and _PRIVATE_KEY.search(text) is not None:
        return "private key"
    if "://" in signs and "@" in signs and (found := _password_in_url(text)) is not None:
        return found
    if (
        "-" in signs
        and " -" in text
        and any(map(text.__contains__, _OPTIONS))
        and (found := _in_command(row, text)) is not None
    ):
        return found
    token = _DISCORD.search(text) if _DISCORD_SIGNS.search(signs) is not None else None
    if token is not None and not _is_word(token[0]):
        return f"key: {mask(token[0])}"
    return _named(row, text)


def _other(row: RowView) -> str | None:
    """Find secrets by where they stand: in a cookie, a signed address, a file of passwords, a call that defines one."""
    text = row.text
    if _OTHER_SIGNS.search(row.signs) is None or (
        ":::" not in row.signs and not any(map(text.__contains__, _OTHER_WORDS))
    ):
        return None
    for match in _OTHER.finditer(text):
        value = next(filter(None, match.groups()))
        if match.group("basic") is not None:
            try:
                value = base64.b64decode(value + "=" * (-len(value) % 4)).decode()
            except ValueError:
                continue
            if ":" not in value:
                continue
            value = value.partition(":")[2]
        if _is_secret(unquote(value)):
            return f"secret: {mask(value)}"
    return None


def _in_command(row: RowView, text: str) -> str | None:
    for match in _COMMAND.finditer(text):
        if _is_secret(match[1]) and not _is_asked_for(row, match[1]):
            return f"password in a command: {mask(match[1])}"
    return None


def _key(text: str, begun: Sequence[str]) -> str | None:
    """Find a key that can be told by its form, at every mark that keys begin with."""
    for mark in sorted(begun, key=_MARKS.index):
        place = text.find(mark)
        while place >= 0:
            match = _KEYS.match(text, place)
            if match is not None and not _is_sample(match[0]):
                return f"key: {mask(match[0])}"
            place = text.find(mark, place + 1)
    return None


def _password_in_url(text: str) -> str | None:
    for match in _URL.finditer(text):
        if (not _NOT_SECRET.search(match[2]) or not _is_word(match[2])) and match[2].lower() not in (
            "password",
            "postgres",
            match[1].lower(),
        ):
            return f"password in a URL: {mask(match[2])}"
    return None


def _named(row: RowView, text: str) -> str | None:
    """Find a value that is called a password or a key, at every word that may call it so."""
    signs = row.signs
    if _DIGIT.search(signs) is not None and (found := _said(row, text)) is not None:
        return found
    if ":" not in signs and "=" not in signs and "\uff1a" not in row.foreign:
        return None
    if row.is_ascii and _DIGIT.search(signs) is None:
        return None
    names = _ASCII_NAMES if row.is_ascii else _NAMES
    if not _is_named_before(text, names):
        return None
    lowered = _lowered(text)
    for start in _places_of([name for name in names if name in lowered], lowered):
        if not _ASSIGNED.search(text, start, start + _NAME_CHARACTERS):
            continue
        for match in _NAMED.finditer(text, max(0, start - _NAME_CHARACTERS), start + 250):
            if _is_secret(match[2].rstrip(".!?:")) and not _is_asked_for(row, match[2]):
                return f"{match[1].lower()}: {mask(match[2])}"
    return None


def _said(row: RowView, text: str) -> str | None:
    """Find a password that a sentence names."""
    named = "ssw" in text or "sandi " in text
    if not named and (row.is_ascii or not any(map(row.foreign.__contains__, _SAID_FOREIGN))):
        return None
    if named and " login " in text and (found := _in_command(row, text)) is not None:
        return found
    for phrase in _SAID:
        place = text.find(phrase)
        if place < 0:
            continue
        match = _NAMED.search(text, max(0, place - _NAME_CHARACTERS))
        if match is not None and _is_secret(match[2].rstrip(".!?:\u3002")) and not _is_asked_for(row, match[2]):
            return f"{match[1].lower()}: {mask(match[2])}"
    return None


def _lowered(text: str) -> str:
    """Write a text in small letters, each where it stood."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join([small if len(small := letter.lower()) == 1 else letter for letter in text])


def _is_named_before(text: str, names: Sequence[str]) -> bool:
    """Whether a word for a secret stands close before a sign that gives it a value, whatever the case."""
    pieces = text.replace("=", ":").replace("\uff1a", ":").split(":")
    before = "\n".join([piece[1 - _NAME_CHARACTERS :] for piece in pieces[:-1]]).lower()
    return any(map(before.__contains__, names))


def _places_of(names: Sequence[str], text: str) -> list[int]:
    """Find every place of some words in a text, in order."""
    places = []
    for name in names:
        place = text.find(name)
        while place >= 0:
            places.append(place)
            place = text.find(name, place + len(name))
    return sorted(places)


def _is_sample(key: str) -> bool:
    lowered = key.lower()
    if any(
        sign in lowered
        for sign in ("example", "xxxx", "your", "1234567890", "abcdefgh", "sample", "placeholder", "0000000")
    ):
        return True
    return entropy(key) < 3.0 or (key.startswith("sk-") and not any(map(str.isdigit, key)))


def _is_word(value: str) -> bool:
    """Whether letters are no random ones: those go up and down in case."""
    return sum(one.islower() and other.isupper() for one, other in pairwise(value)) < _CASE_CHANGES


def _is_secret(value: str) -> bool:
    if len(value) < 8 or _NOT_SECRET.search(value):
        return False
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    return letters and digits and entropy(value) >= _MIN_ENTROPY


def _is_asked_for(row: RowView, value: str) -> bool:
    """Whether the assistant made the secret up because it was asked to."""
    if row.layout == "text":
        return False
    asked = "\n".join([message.content for message in row.messages if message.role == "user"])
    return value not in asked and _ASKS_FOR_ONE.search(asked) is not None


_MESSAGE = "the row holds a key, a token or a password"
_FIX = "revoke the secret where it is real, and replace it by an invented one or drop the row"

CHECKS = (
    RowCheck(
        code="secret",
        severity="error",
        message=_MESSAGE,
        fix=_FIX,
        find=_find,
        example=asked("Greet.", "Hello.\npassword: Brandt2407!XZr"),
        counterexample=asked(
            "Set the key.", "Set AWS key AKIAIOSFODNN7EXAMPLE and store it as password: <your-password>."
        ),
    ),
    RowCheck(
        code="secret",
        severity="error",
        message=_MESSAGE,
        fix=_FIX,
        find=_other,
        example=asked("Connect.", "define('DB_PASSWORD', 'Brandt2407!XZr');"),
        counterexample=asked("Connect.", "define('DB_PASSWORD', 'your-password');"),
    ),
)
