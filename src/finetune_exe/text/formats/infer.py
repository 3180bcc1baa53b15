"""Find out which columns hold question and answer where their names say nothing known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from finetune_exe.text.formats.columns import ColumnFormat, Layout
from finetune_exe.text.formats.format import Row, named

FILLED = 0.8
"""Share of the rows in which a column must hold text to be one of the two."""
CLEAR_LEAD = 1.0
"""By how much the better reading must lead."""
MOST_COLUMNS, MOST_CANDIDATES = 100, 8
"""Columns that are looked at, and that are weighed against each other."""
MANY = 10
"""Rows from which on contents are judged by how often they repeat."""
PROMPT_WORDS = (
    "prompt", "question", "quest", "query", "instruct", "input", "ask", "task", "user", "human", "source", "src",
    "request", "frage", "aufgabe", "pregunta", "domanda", "eingabe", "article", "document", "dialogue", "problem",
    "context",
)  # fmt: skip
ANSWER_WORDS = (
    "answer", "response", "respons", "reply", "output", "completion", "target", "tgt", "assistant", "bot", "model",
    "solution", "summary", "highlights", "label", "antwort", "respuesta", "risposta", "ausgabe", "result",
    "translation", "continuation", "code",
)  # fmt: skip
_NUMBERS = re.compile(r"(?:^|_)(?:id|uuid|hash|idx|index)$")
"""Ends of names of columns that number rows, whatever else the name says."""
_ASIDE = re.compile(r"(?:^|_)(?:url|link|date|time|lang|language|source|file|path|split)$")
_ASKS = re.compile(
    r"[?\uff1f\u061f]\s*$|^(?:what|who|how|why|when|where|which|write|list|explain|describe|give|name|translate|"
    r"summari[sz]e|classify|create|generate|find|identify|rewrite|was|wie|warum|wer|nenne)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """Which columns were taken for what, and why; or between which the rows do not decide."""

    format: ColumnFormat | None
    """None where it is not clear."""
    evidence: tuple[str, ...]
    candidates: tuple[str, ...]
    """Columns of text, likeliest prompt first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    name: str
    mean_length: float
    asks: float
    """Share of its texts that read like a question or an order."""
    distinct: float
    """Distinct texts, as a share of all."""
    hint: int
    """1 where the name says prompt, -1 where it says answer, 0 where it says neither."""


def infer_columns(rows: Sequence[Row]) -> Inferred:
    """Weigh names and contents of the text columns, and take two of them where one reading clearly leads."""
    objects = [row for row in rows if isinstance(row, dict)]
    columns = [column for column in _text_columns(objects) if not _is_aside(column, len(objects))]
    names = tuple(column.name for column in columns)
    if len(columns) < 2:
        return Inferred(format=None, evidence=(), candidates=names)
    scored = sorted(
        ((_score(prompt, answer, columns, len(objects)), prompt, answer)
         for prompt in columns for answer in columns if prompt is not answer),
        key=lambda entry: -entry[0],
    )  # fmt: skip
    (best, prompt, answer), (second, _, _) = scored[0], scored[1]
    if best - second < CLEAR_LEAD:
        likeliest = tuple(dict.fromkeys((prompt.name, answer.name, *names)))
        return Inferred(format=None, evidence=(), candidates=likeliest)
    evidence: tuple[str, ...] = (
        f"{prompt.name!r} is taken as the prompt: {_reasons(prompt, 1)}",
        f"{answer.name!r} is taken as the answer: {_reasons(answer, -1)}",
        f"this reading scores {best:.1f}, the next best {second:.1f}",
    )
    others = [
        key for key in dict.fromkeys(key for row in objects for key in row) if key not in (prompt.name, answer.name)
    ]
    if others:
        evidence = (*evidence, f"kept aside: {named(others)}")
    return Inferred(format=with_columns(prompt.name, answer.name), evidence=evidence, candidates=names)


def with_columns(prompt: str, answer: str) -> ColumnFormat:
    """Make the format of rows that hold prompt and answer under these names."""
    layout = Layout(prompts=(prompt.casefold(),), answers=(answer.casefold(),), labels=True)
    return ColumnFormat(
        name="prompt_completion",
        needs=f"{prompt}, {answer}",
        layouts=(layout,),
        foreign=frozenset(),
        writes_history=False,
        writes_empty_input=False,
        mark=f"{prompt},{answer}",
    )


def _text_columns(rows: Sequence[dict[str, Any]]) -> list[_Column]:
    found = []
    for name in dict.fromkeys(key for row in rows[:50] for key in islice(row, MOST_COLUMNS)):
        texts = [text for row in rows if isinstance(text := row.get(name), str) and text.strip()]
        if not texts or len(texts) < FILLED * len(rows):
            continue
        found.append(
            _Column(
                name=name,
                mean_length=sum(map(len, texts)) / len(texts),
                asks=sum(bool(_ASKS.search(text)) for text in texts) / len(texts),
                distinct=len(set(texts)) / len(texts),
                hint=_hint(name),
            )
        )
    return found[:MOST_CANDIDATES]


def _hint(name: str) -> int:
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).casefold())
    prompt = any(word.startswith(PROMPT_WORDS) for word in words)
    answer = any(word.startswith(ANSWER_WORDS) for word in words)
    return prompt - answer


def _is_aside(column: _Column, num_rows: int) -> bool:
    """Pass over ids, dates, addresses and constants: nothing to ask or to answer."""
    name = column.name.casefold()
    if _NUMBERS.search(name) or (column.hint == 0 and _ASIDE.search(name)):
        return True
    return num_rows >= MANY and column.distinct * num_rows <= 1.5 and column.hint == 0


def _score(prompt: _Column, answer: _Column, columns: Sequence[_Column], num_rows: int) -> float:
    """Say how well two columns go as prompt and answer: names count most, then what the texts look like."""
    score = 2.0 * (prompt.hint - answer.hint) + (1.0 if (prompt.hint, answer.hint) == (1, -1) else 0.0)
    score += 3.0 * (prompt.asks - answer.asks)
    score += 0.5 if columns.index(prompt) < columns.index(answer) else 0.0
    if num_rows >= MANY:
        score += 1.5 * (prompt.distinct - answer.distinct)
    longest = sorted((column.mean_length for column in columns), reverse=True)[:2]
    score += 0.5 * ((prompt.mean_length in longest) + (answer.mean_length in longest))
    return score


def _reasons(column: _Column, side: int) -> str:
    reasons = []
    if column.hint == side:
        reasons.append("its name says so")
    if side > 0 and column.asks > 0.1:
        reasons.append(f"{column.asks:.0%} of its texts ask or order")
    if side < 0 and column.asks < 0.5:
        reasons.append(f"{1 - column.asks:.0%} of its texts neither ask nor order")
    if side < 0 and column.distinct < 0.5:
        reasons.append("its texts repeat, as labels do")
    return ", ".join(reasons) or "by its place and length"
