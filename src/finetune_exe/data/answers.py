"""Tell what an answer is by its form."""

from __future__ import annotations

import json
import re

from finetune_exe.domain.task import AnswerKind

_NUMBER = re.compile(r"[-+$\u20ac]?\d[\d.,/ ]*(?:%|[a-z]{1,3})?\.?")
_WORKED = re.compile(
    r"(?:####|\\boxed\{|\b(?:final )?answer (?:is|:)|\btherefore\b[^.]*?)\s*\W{0,3}[-+]?\d[\d.,/]*\W{0,4}$",
    re.IGNORECASE,
)
_SQL = re.compile(r"(?:select\b.+\bfrom\b|insert into\b|update\b.+\bset\b|delete from\b|create table\b|with \w+ as \()",
                  re.IGNORECASE | re.DOTALL)  # fmt: skip
_CODE_LINE = re.compile(
    r"\s*(?:(?:def|class|for|while|if|elif|try|fn|func|function|public|private|static|struct|enum|interface)\b.*[:{(]\s*$"
    r"|(?:from [\w.]+ )?import [\w., *{}]+;?$|#include\b|return\b.*;?$"
    r"|(?:const|let|var|val|int|float|double|string|auto)\b \w+.*="
    r"|[\w.\[\]]+ [-+*/]?= .+|[\w.]+\(.*\)[;:]?$|[{})\]]+[;,]?$|.+[;{]$|</?\w+[^>]*>|\$ ?\w+|\s*(?://|#) ?\w+)"
)
_FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:```|$)", re.DOTALL)
_CODE_SHARE = 0.6
"""Share of lines that must look like code."""
_LOOKED_AT = 4000
"""Characters of an answer that are enough to tell."""


def answer_kind(answer: str) -> AnswerKind:
    """Name the form of an answer."""
    text = answer.strip()
    if not text:
        return "empty"
    if text[0] in "{[" and text[-1] in "}]" and _is_json(text):
        return "json"
    if len(text) < 24 and _NUMBER.fullmatch(text):
        return "number"
    if _WORKED.search(text[-120:]):
        return "worked"
    fenced = "".join(_FENCE.findall(text[:_LOOKED_AT])) if "```" in text else ""
    if len(fenced) * 2 > min(len(text), _LOOKED_AT):
        text = fenced.strip()
        if text[:1] in ("{", "[") and _is_json(text):
            return "json"
        return "sql" if _SQL.match(text) else "code"
    if _SQL.match(text):
        return "sql"
    return "code" if _looks_like_code(text[:_LOOKED_AT]) else "prose"


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _looks_like_code(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 and not re.search(r"[;{}=]|\w\(", text):
        return False
    return sum(bool(_CODE_LINE.match(line)) for line in lines) >= _CODE_SHARE * len(lines)
