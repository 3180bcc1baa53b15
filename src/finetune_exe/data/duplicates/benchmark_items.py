"""Read the items of benchmarks, whatever layout they came in: the questions, without their answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.data.encoding import utf8_lines
from finetune_exe.data.faults import insist
from finetune_exe.data.raw import RawRow
from finetune_exe.data.read import SUFFIXES, TEXT_SUFFIXES, read_rows
from finetune_exe.errors import FineTuneError

QUESTION_FIELDS = (
    "question", "query", "prompt", "instruction", "input", "turns", "problem", "goal", "stem", "premise", "context",
    "contextoptions", "ctx", "sentence", "passage", "text", "content",
)  # fmt: skip
"""Fields that hold what is asked, the most telling first; compared without case and underscores."""
ANSWER_FIELDS = frozenset((
    "answer", "answers", "bestanswer", "correctanswers", "incorrectanswers", "output", "outputs", "target", "targets",
    "completion", "continuation", "response", "solution", "canonicalsolution", "code", "test", "tests", "testlist",
    "chainofthought", "rationale", "explanation", "label", "finallabel", "gold", "choices", "options", "endings",
    "reference", "references", "canary", "source", "url", "id", "taskid", "kwargs", "metadata",
))  # fmt: skip
"""Fields that are never what is asked."""
FEWEST_WORDS = 3
"""A field of fewer words asks nothing that could be recognised."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkItem:
    """One text that a benchmark asks with."""

    benchmark: str
    """Name of its file, without what follows the first dot."""
    line: int
    """Line of the file; the number of the item, from 1, in a file without lines."""
    text: str


def read_benchmarks(paths: Sequence[str | Path]) -> tuple[BenchmarkItem, ...]:
    """Read every item of files and folders.

    A field named like a question is the question; where no field is, every field that is not named like an answer.

    Raises:
        FineTuneError: D07 where a path leads nowhere or no item is found; D01 to D03 for a file named by itself.
    """
    items: list[BenchmarkItem] = []
    for path in map(Path, paths):
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file() and SUFFIXES.keys() & _suffixes(p)):
                try:
                    items += _items(file)
                except FineTuneError as fault:
                    if fault.code not in ("D01", "D02", "D03"):
                        raise
        elif path.exists():
            items += _items(path)
        else:
            raise _no_benchmark(path, "there is nothing at this path")
    if not items:
        raise _no_benchmark(", ".join(map(str, paths)), "no file there has a row with a question")
    return tuple(items)


def _items(path: Path) -> list[BenchmarkItem]:
    name = path.name.split(".")[0]
    texts: Iterable[tuple[int, list[str]]]
    if _suffixes(path) & set(TEXT_SUFFIXES):
        lines = (line.decode(errors="replace").strip() for line in utf8_lines(path, insist))
        texts = ((number, [line]) for number, line in enumerate(lines, start=1))
    else:
        texts = (
            (entry.line or number, question_texts(entry.row))
            for number, entry in enumerate(read_rows(path), start=1)
            if isinstance(entry, RawRow)
        )
    return [
        BenchmarkItem(benchmark=name, line=line, text=text)
        for line, asked in texts
        for text in asked
        if len(_WORD.findall(text)) >= FEWEST_WORDS
    ]


def _suffixes(path: Path) -> set[str]:
    return {suffix.lower() for suffix in path.suffixes}


def question_texts(row: Any) -> list[str]:
    """Give what a benchmark's row asks: one text, or several where it asks in several ways or turns."""
    if isinstance(row, str):
        return [row]
    if not isinstance(row, dict):
        return []
    fields = {re.sub(r"[^a-z]", "", str(name).lower()): value for name, value in row.items()}
    for name in QUESTION_FIELDS:
        texts = list(_texts(fields.get(name)))
        if any(len(_WORD.findall(text)) >= FEWEST_WORDS for text in texts):
            return texts
    return list(_texts([value for name, value in fields.items() if name not in ANSWER_FIELDS]))


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts of a value; of objects inside, such as messages, only what they ask."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from question_texts(value)
    elif isinstance(value, Iterable):
        for part in value:
            yield from _texts(part)


def _no_benchmark(path: Path | str, why: str) -> FineTuneError:
    return FineTuneError(
        "D07", what="no benchmark items are there", where=str(path), why=why,
        fix="give a file, or a folder with files, of benchmark items: JSONL, JSON, CSV, Parquet or text",
    )  # fmt: skip
