"""Instructions that a program can verify, by the names IFEval gives them.

Source: Zhou et al., Instruction-Following Evaluation for Large Language Models, arXiv 2311.07911 (2023), table 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

Values = Mapping[str, object]


def fulfilled(name: str, answer: str, values: Values) -> bool:
    """Say whether an answer keeps an instruction of `CONSTRAINTS`."""
    return bool(answer.strip()) and CONSTRAINTS[name](answer, values)


def _number(values: Values, key: str, default: int = 1) -> int:
    value = values.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _text(values: Values, key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _words(values: Values, key: str) -> list[str]:
    value = values.get(key)
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _compare(count: int, values: Values, key: str, relation: str = "relation") -> bool:
    wanted = _number(values, key)
    return count < wanted if _text(values, relation) == "less than" else count >= wanted


def _is_json(answer: str, _values: Values) -> bool:
    try:
        json.loads(re.sub(r"^```(?:json)?\s*|\s*```$", "", answer.strip(), flags=re.IGNORECASE))
    except (ValueError, RecursionError):
        return False
    return True


def _paragraphs(answer: str) -> list[str]:
    return [part for part in re.split(r"\s*\*\*\*\s*", answer) if part.strip()]


def _occurs(word: str, answer: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", answer, flags=re.IGNORECASE))


CONSTRAINTS: dict[str, Callable[[str, Values], bool]] = {
    "punctuation:no_comma": lambda answer, _: "," not in answer,
    "length_constraints:number_words": lambda answer, v: _compare(len(re.findall(r"\w+", answer)), v, "num_words"),
    "length_constraints:number_sentences": lambda answer, v: _compare(
        len(re.findall(r"[^.!?]+[.!?]+(?:\s|$)", answer)), v, "num_sentences"
    ),
    "length_constraints:number_paragraphs": lambda answer, v: len(_paragraphs(answer)) == _number(v, "num_paragraphs"),
    "detectable_format:number_highlighted_sections": lambda answer, v: (
        len(re.findall(r"\*[^\s*][^\n*]*\*", answer)) >= _number(v, "num_highlights")
    ),
    "detectable_format:number_bullet_lists": lambda answer, v: (
        len(re.findall(r"^\s*(?:\*[^*].*|-.*)$", answer, flags=re.MULTILINE)) == _number(v, "num_bullets")
    ),
    "detectable_format:title": lambda answer, _: any(
        inside.strip() for inside in re.findall(r"<<([^\n<>]+)>>", answer)
    ),
    "detectable_format:json_format": _is_json,
    "detectable_content:number_placeholders": lambda answer, v: (
        len(re.findall(r"\[.*?\]", answer)) >= _number(v, "num_placeholders")
    ),
    "detectable_content:postscript": lambda answer, v: (
        (_text(v, "postscript_marker") or "P.S.").casefold() in answer.casefold()
    ),
    "startend:quotation": lambda answer, _: len(answer.strip()) > 1 and answer.strip()[0] == answer.strip()[-1] == '"',
    "startend:end_checker": lambda answer, v: (
        answer.strip().strip('"').casefold().endswith(_text(v, "end_phrase").strip().casefold())
    ),
    "change_case:english_lowercase": lambda answer, _: answer == answer.lower(),
    "change_case:english_capital": lambda answer, _: answer == answer.upper(),
    "keywords:existence": lambda answer, v: all(_occurs(word, answer) for word in _words(v, "keywords")),
    "keywords:forbidden_words": lambda answer, v: (
        not any(_occurs(word, answer) for word in _words(v, "forbidden_words"))
    ),
    "keywords:frequency": lambda answer, v: _compare(_occurs(_text(v, "keyword"), answer), v, "frequency"),
    "keywords:letter_frequency": lambda answer, v: _compare(
        answer.casefold().count(_text(v, "letter").casefold()), v, "let_frequency", "let_relation"
    ),
}
