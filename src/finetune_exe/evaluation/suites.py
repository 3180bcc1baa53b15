"""Regression suites: files of items that tell whether general abilities were kept.

A suite is a file of JSON lines (or the `examples` of a JSON object). The form of an item is seen by its keys:

- `query`, `choices`, `gold`: which choice is likeliest behind the query;
- `context_options`, `continuation`, `gold`: behind which context the continuation is likeliest;
- `ctx` or `question` with `endings`, `label`: as the first;
- `context`, `continuation`: whether the continuation is what the model would write, token by token;
- `question`, `answer`; `input`, `output` or `target`: the same with these names, where the answer is short;
- `text`: how well the text is predicted, in bits per byte.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune_exe.domain.evaluation import WindowPolicy
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.perplexity import measure_documents
from finetune_exe.models.scoring import Alternatives, Likelihood, encode_alternatives, score_alternatives
from finetune_exe.text.tokenizer import ChatTokenizer

Kind = Literal["multiple_choice", "continuation", "text"]
SUFFIXES = (".jsonl", ".json")
LONGEST_ANSWER = 40
"""Characters of an answer that is still judged token by token."""
CLUSTER_KEYS = ("cluster", "subject", "category")


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteItem:
    """One item, ready to be scored by likelihood."""

    name: str
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    gold: int
    cluster: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A regression suite."""

    name: str
    kind: Kind
    items: tuple[SuiteItem, ...]

    @property
    def digest(self) -> str:
        """Name the content."""
        return hashlib.sha256(repr((self.kind, self.items)).encode()).hexdigest()[:32]


def read_suites(folder: Path, *, max_items: int) -> tuple[list[Suite], list[str]]:
    """Read the suites of a folder.

    Args:
        folder: Its `.jsonl` and `.json` files are suites, those of folders in it too; or one such file.
        max_items: Items taken of each, spread evenly over the file.

    Returns:
        The suites, by name, and the files left out, each with the reason.

    Raises:
        FineTuneError: E05 where there is no suite, or a file mixes items with others that cannot be used.
    """
    paths = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES)
    suites, left_out = [], []
    for path in paths:
        rows = _read_rows(path)
        name = path.stem if path == folder else path.relative_to(folder).with_suffix("").as_posix()
        kind = next((kind for row in rows[:1] if (kind := _kind(row)) is not None), None)
        if kind is None:
            left_out.append(f"{name}: {_formless(rows)}")
            continue
        if kind == "continuation":
            short = [row for row in rows if not isinstance(row, dict) or _short_answer(row) is not None]
            if len(short) < len(rows):
                left_out.append(f"{name}: {len(rows) - len(short)} of {len(rows)} items, whose answers are long")
            rows = short
        chosen = (
            [index * len(rows) // max_items for index in range(max_items)]
            if len(rows) > max_items
            else range(len(rows))
        )
        items = tuple(_item(rows[index], kind, index, path) for index in chosen)
        suites.append(Suite(name=name, kind=kind, items=items))
    if not suites:
        raise FineTuneError(
            "E05",
            what="there is no regression suite here",
            where=str(folder),
            why="; ".join(left_out) or ("it holds no .jsonl or .json file" if folder.exists() else "it does not exist"),
            fix='give a folder of files with lines such as {"query": "2 + 2 =", "choices": ["3", "4"], "gold": 1}',
        )
    return suites, left_out


def score_suite(
    model: Any,
    suite: Suite,
    tokenizer: ChatTokenizer,
    *,
    max_length: int,
    bf16: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[float]:
    """Score each item of a suite from 0 to 1; of a text, minus its bits per byte.

    Args:
        model: A causal language model in evaluation mode.
        suite: The items.
        tokenizer: The model's.
        max_length: Longest sequence the model can take.
        bf16: Compute matrix products in bfloat16.
        progress: Told how many items are done.
    """
    if suite.kind == "text":
        return _text_scores(model, suite, tokenizer, max_length=max_length, bf16=bf16, progress=progress)
    groups: list[Alternatives] = []
    owners: list[int] = []
    for number, item in enumerate(suite.items):
        parts = encode_alternatives(item.contexts, item.continuations, tokenizer, max_length=max_length)
        groups += parts
        owners += [number] * len(parts)
    found: list[list[Likelihood]] = [[] for _ in suite.items]
    scores = score_alternatives(
        model, groups, pad_token_id=tokenizer.pad_token_id, bf16=bf16,
        progress=lambda done: progress(done * len(suite.items) // len(groups)),
    )  # fmt: skip
    for owner, likelihoods in zip(owners, scores, strict=True):
        found[owner] += likelihoods
    return [_score(item, suite.kind, likelihoods) for item, likelihoods in zip(suite.items, found, strict=True)]


def _score(item: SuiteItem, kind: Kind, likelihoods: Sequence[Likelihood]) -> float:
    match kind:
        case "multiple_choice":
            totals = [likelihood.log_likelihood for likelihood in likelihoods]
            return float(max(range(len(totals)), key=totals.__getitem__) == item.gold)
        case _:
            return float(likelihoods[0].greedy)


def _text_scores(
    model: Any, suite: Suite, tokenizer: ChatTokenizer, *, max_length: int, bf16: bool, progress: Callable[[int], None]
) -> list[float]:
    """Score texts by minus their bits per byte; one longer than the model can take is predicted window by window.

    Source: loglikelihood_rolling of EleutherAI's lm-evaluation-harness, whose windows do not overlap.
    """
    policy = WindowPolicy(context=max_length, stride=max_length, begins_with_bos=True)
    losses = measure_documents(
        model, [item.continuations[0] for item in suite.items], tokenizer, policy, bf16=bf16,
        progress=lambda done: progress(min(done, len(suite.items))),
    )  # fmt: skip
    return [-loss.nll / math.log(2) / max(1, loss.num_bytes) for loss in losses]


def _kind(row: Any) -> Kind | None:
    if not isinstance(row, dict):
        return None
    keys = row.keys()
    if {"choices", "gold"} <= keys or {"context_options", "gold"} <= keys or {"endings", "label"} <= keys:
        return "multiple_choice"
    if _short_answer(row) is not None:
        return "continuation"
    return "text" if isinstance(row.get("text"), str) and len(keys) <= 3 else None


def _formless(rows: Sequence[Any]) -> str:
    """Say what the first item of a suite has, where that is no form."""
    if not rows:
        return "it is empty"
    has = ", ".join(map(str, rows[0])) if isinstance(rows[0], dict) else f"a {type(rows[0]).__name__}"
    return f"its items have no form that is scored by likelihood; the first one has {has or 'nothing'}"


def _short_answer(row: dict[str, Any]) -> tuple[str, str] | None:
    for question, answer in (
        ("context", "continuation"),
        ("input", "output"),
        ("input", "target"),
        ("question", "answer"),
        ("context", "answer"),
    ):
        asked, wanted = row.get(question), row.get(answer)
        if isinstance(asked, str) and isinstance(wanted, str) and asked.strip() and 0 < len(wanted) <= LONGEST_ANSWER:
            return asked, wanted
    return None


def _item(row: Any, kind: Kind, index: int, path: Path) -> SuiteItem:
    try:
        if not isinstance(row, dict):
            raise ValueError(f"a {type(row).__name__} is no object")
        contexts, continuations, gold = _parts(row, kind)
    except (KeyError, ValueError) as fault:
        raise FineTuneError(
            "E05",
            what="an item of the suite cannot be used",
            where=f"{path}, item {index + 1}",
            why=f"it has no {fault}" if isinstance(fault, KeyError) else str(fault),
            fix="give it the keys of the file's first item, or leave it out; the guide to evaluation lists the forms",
        ) from fault
    cluster = next((str(row[key]) for key in CLUSTER_KEYS if isinstance(row.get(key), str | int)), f"item {index}")
    return SuiteItem(name=str(index), contexts=contexts, continuations=continuations, gold=gold, cluster=cluster)


def _parts(row: dict[str, Any], kind: Kind) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    if kind == "text":
        return ("",), (_text(row["text"]),), 0
    if kind == "continuation":
        found = _short_answer(row)
        if found is None:
            raise ValueError("it has no question with a short answer")
        return (found[0].rstrip(),), (_spaced(found[0], found[1]),), 0
    if "context_options" in row:
        contexts = tuple(text.rstrip() for text in _texts(row["context_options"]))
        continuation = _text(row["continuation"])
        return (
            contexts,
            tuple(_spaced(context, continuation) for context in contexts),
            _gold(row["gold"], len(contexts)),
        )
    choices = _texts(row.get("choices", row.get("endings")))
    query = _text(row.get("query", row.get("ctx", row.get("question"))))
    options = tuple(_spaced(query, choice) for choice in choices)
    return (query.rstrip(),) * len(options), options, _gold(row.get("gold", row.get("label")), len(options))


def _spaced(context: str, continuation: str) -> str:
    """Part a continuation from its context by one space, or by the line end the context ends in."""
    if context[-1:] == "\n":
        return context[len(context.rstrip()) :] + continuation.lstrip()
    return " " + continuation.lstrip()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{json.dumps(value)[:40]} is no text")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{json.dumps(value)[:40]} is no list of texts")
    return [_text(part) for part in value]


def _gold(value: Any, count: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number < count or count < 2:
        raise ValueError(f"the right choice is {value!r} of {count}")
    return number


def _read_rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            content = json.loads(text)
            rows = content.get("examples") if isinstance(content, dict) else content
            if not isinstance(rows, list):
                raise _unreadable(path, "it holds no list of items")
            return rows
    except (OSError, ValueError, RecursionError) as fault:
        raise _unreadable(path, str(fault)) from fault
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as fault:
                raise _unreadable(path, f"line {number} is no JSON: {fault.msg} at column {fault.colno}") from fault
            except (ValueError, RecursionError) as fault:
                raise _unreadable(path, f"line {number}: {fault}") from fault
    return rows


def _unreadable(path: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "E05", what="the suite cannot be read", where=str(path), why=why,
        fix="write one JSON object a line, or a JSON object with a list `examples`",
    )  # fmt: skip
