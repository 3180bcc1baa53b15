"""Worked sums that do not come out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune_exe.data.checks.check import RowCheck
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_SIMPLE = re.compile(r"<<(\d{1,9})([-+*/])(\d{1,9})=(\d{1,18})>>")
_CALCULATED = re.compile(r"<<([^<>=\n]{1,80})=([^<>=\n]{0,30})(>>|(?=[^>\d.]|\Z))")
"""A sum for a calculator, as <<48/2=24>>: of two whole numbers, or of any."""
_SUM_CHARACTERS = 20
"""Characters of the longest sum before its sign of equality, `$999999 + $999999 `, with one to spare."""
_EQUALS_A_NUMBER = re.compile(r"=(?<=\d=)\$?\d")
_PLAIN_SIGNS = re.compile(r"\d[-+*]\$?\d{1,6}=\$?\d")
_PLAIN = re.compile(
    r"(?<![\w.,^()\]%/:$+*=x<\u00d7\u00f7-])(?<![-+*/=x\u00d7\u00f7^(\d:] )"
    r"\$?(\d{1,6}) ?([-+*]) ?\$?(\d{1,6}) ?= ?\$?(\d{1,9})"
    r"(?![.,]?\w|%| ?[-+*/x\u00d7\u00f7^=(:] ?| \d)"
)
"""A sum of two whole numbers in running text, and no part of a longer one."""
_OTHERWISE = re.compile(
    r"\b(?:binary|hex\w*|octal|base|bits?|mod(?:ul[oa]r?)?|clock|strings?|wrong|incorrect|mistakes?|errors?|false|puzzle"
    r"|riddle|orwell\w*|code|python|javascript)\b",
    re.IGNORECASE,
)
"""Where sums come out in another way, or are not meant to."""
_TERMS = re.compile(r"[\d.,$+*/()% -]*\d[\d.,$+*/()% -]*")
_OPERATORS = re.compile("([-+*/])")
_NUMBER = re.compile(r" *(?:\d+(?:\.\d*)?|\.\d+)%? *")
_RESULT = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)%?")


def _find(row: RowView) -> str | None:
    if "=" not in row.signs:
        return None
    return (_marked(row) if "<<" in row.signs else None) or _plain_sum(row)


def _plain_sum(row: RowView) -> str | None:
    signs = row.signs
    if _EQUALS_A_NUMBER.search(signs) is None or _PLAIN_SIGNS.search(signs) is None or row.layout == "classification":
        return None
    for answer in row.answers:
        for found in _plain_sums(answer):
            if not _is_right(int(found[1]), found[2], int(found[3]), int(found[4])):
                return None if _OTHERWISE.search(row.text) is not None else found[0]
    return None


def _plain_sums(answer: str) -> Iterator[re.Match[str]]:
    """Find them around each sign of equality, which is faster than to look for numbers everywhere."""
    place = answer.find("=")
    while place >= 0:
        if answer[max(0, place - 2) : place].rstrip(" ")[-1:].isdigit():
            around = _PLAIN.finditer(answer, max(0, place - _SUM_CHARACTERS), place + _SUM_CHARACTERS)
            yield from (found for found in around if found.start() < place < found.end())
        place = answer.find("=", place + 1)


def _marked(row: RowView) -> str | None:
    simple = _SIMPLE.findall(row.signs)
    for first, sign, second, result in simple:
        if not _is_right(int(first), sign, int(second), int(result)):
            return f"<<{first}{sign}{second}={result}>>"
    if len(simple) == row.signs.count("<<"):
        return None
    for answer in row.answers:
        for found in _CALCULATED.finditer(answer) if "<<" in answer else ():
            if _TERMS.fullmatch(found[1]) is None:
                continue
            if found[3] != ">>":
                return f"not closed: {found[0]}"
            if not _comes_out(_plain(found[1]), _plain(found[2])):
                return found[0]
    return None


def _plain(number: str) -> str:
    return number.replace(",", "").replace("$", "").strip()


def _is_right(first: int, sign: str, second: int, result: int) -> bool:
    """Whether a sum of two whole numbers comes out; a quotient may be rounded."""
    match sign:
        case "+":
            return first + second == result
        case "-":
            return first - second == result
        case "*":
            return first * second == result
    return second != 0 and abs(first - result * second) <= second


def _comes_out(terms: str, result: str) -> bool:
    """Whether a sum has the result that is written, as far as its decimals go; what cannot be worked out does."""
    if _RESULT.fullmatch(result) is None:
        return True
    values = [value for value in (_worth(terms), _worth(terms, percent=True)) if value is not None]
    said = float(result.rstrip("%"))
    exact = not {".", "/", "%"}.intersection(terms + result)
    decimals = len(result.rstrip("%").partition(".")[2])
    slack = 0.0 if exact else max(1.0001 * 10**-decimals, abs(said) / 200)
    targets = (said, said / 100) if result.endswith("%") else (said,)
    return not values or any(abs(value - target) <= slack for value in values for target in targets)


def _worth(terms: str, *, percent: bool = False) -> float | None:
    """Work out a sum without brackets, or give None; with `percent`, 5% is 0.05, without it 5."""
    pieces = _OPERATORS.split(terms)
    if not all(map(_NUMBER.fullmatch, pieces[::2])):
        return None
    numbers = [_number(piece, percent=percent) for piece in pieces[::2]]
    total, product = 0.0, numbers[0]
    for sign, number in zip(pieces[1::2], numbers[1:], strict=True):
        match sign:
            case "*":
                product *= number
            case "/":
                if not number:
                    return None
                product /= number
            case _:
                total += product
                product = number if sign == "+" else -number
    return total + product


def _number(piece: str, *, percent: bool) -> float:
    plain = piece.strip()
    return float(plain[:-1]) / (100 if percent else 1) if plain.endswith("%") else float(plain)


CHECKS = (
    RowCheck(
        code="wrong_sum",
        severity="warning",
        message="a worked sum has another result than is written",
        fix="correct the sum and what follows from it, or drop the row",
        find=_find,
        usual=0.3,
        example=asked("How many are left?", "He has 48/2=<<48/2=27>>27 left.\n#### 27"),
        counterexample=asked("How many are left?", "He has 10/3=<<10/3=3.33>>3.33 and 5*4=<<5*4=20>>20 left."),
    ),
)
