"""Files of per-item results: the item, its score and what else is known of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.binomial import pass_at_k
from finetune_exe.evaluation.event_logs import Row
from finetune_exe.evaluation.result_layouts import (
    ITEM_NAMES,
    SCORE_NAMES,
    Cell,
    read_rows,
)
from finetune_exe.evaluation.selection import select
from finetune_exe.evaluation.summary_files import refuse_summary

FAULTS_SHOWN = 3
TEXT_KEYS = ("prompt", "reference", "answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Under which names the lines hold what is needed."""

    item: str = "item"
    score: str = "score"
    cluster: str = "cluster"
    pass_at: int = 1
    """Samples of a task of which one must pass, where lines are samples."""
    leave_out_unscored: bool = False
    """Whether a line whose score is missing is an item that was not judged, rather than a fault."""

    def found_in(self, rows: Sequence[Row]) -> Keys:
        """Take the first usual name that any row has, for all rows, where no other was asked for."""
        metrics = next((names for row in rows if (names := _names(row.content.get("metrics")))), [])

        def first(usual: Sequence[str], otherwise: str) -> str:
            return next((name for name in usual if any(name in row.content for row in rows)), otherwise)

        return replace(
            self,
            item=first(ITEM_NAMES, self.item) if self.item == "item" else self.item,
            score=first((*metrics, *SCORE_NAMES), self.score) if self.score == "score" else self.score,
        )


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """One line."""

    item: str
    score: float | None
    """None where the file is read for its texts, or the item was not judged."""
    score_name: str
    """Field it stood in."""
    line: int
    cluster: str | None
    suite: str | None
    length: float | None
    texts: Mapping[str, str]
    """prompt, reference and answer, where they are there."""
    other: Mapping[str, Any]
    """The whole line, for slices."""


def read_results(
    path: Path, keys: Keys, *, scored: bool = True, only: Mapping[str, str] = MappingProxyType({})
) -> dict[str, ItemResult]:
    """Read a file of results by item.

    Args:
        path: The file.
        keys: Names of the fields.
        scored: Whether each line needs a score; otherwise it needs an answer and a reference.
        only: Value that a field must hold for its line to count.

    Raises:
        FineTuneError: D07 where it does not exist, E03 where it holds nothing, nothing that counts or no items, E04 for
            all lines that cannot be used.
    """
    rows = _rows(path)
    refuse_summary(path, rows)
    if rows and only:
        rows = select(rows, only, where=str(path))
    keys = keys.found_in(rows)
    read: dict[str, list[ItemResult]] = {}
    faults: list[tuple[int, str]] = []
    for row in rows:
        try:
            result = _read_row(row, keys, scored=scored)
        except ValueError as fault:
            faults.append((row.line, str(fault)))
            continue
        read.setdefault(result.item, []).append(result)
    for item, (first, *again) in read.items():
        if not (scored and all(map(_is_sample, (first, *again)))):
            faults += [(result.line, f"item {item!r} stands at line {first.line} already") for result in again]
        if scored and keys.pass_at > 1:
            faults += _too_few([first, *again], keys.pass_at)
    if faults:
        raise _bad(path, sorted(faults))
    if not read:
        raise FineTuneError(
            "E03",
            what="the file holds no result",
            where=str(path),
            why="there is nothing to compare",
            fix='write one line for each item, as in {"item": "q1", "score": 0.5}',
        )
    return {
        item: results[0] if len(results) == 1 else _together(results, keys.pass_at) for item, results in read.items()
    }


def _rows(path: Path) -> list[Row]:
    """Read the rows of a file of any layout."""
    try:
        return read_rows(path)
    except OSError as fault:
        raise FineTuneError(
            "D07",
            what="the file of results cannot be read",
            where=str(path),
            why=fault.strerror or str(fault),
            fix="name a file with one JSON object a line, or a run that was evaluated: fine-tune eval RUN"
            if path.is_dir()
            else "give a file with one JSON object a line",
        ) from fault
    except UnicodeDecodeError as fault:
        line = fault.object[: fault.start].count(b"\n") + 1
        raise _bad(path, [(line, "it is not UTF-8")]) from fault


def _is_sample(result: ItemResult) -> bool:
    """Ask whether a line is one of several programs that a model wrote for a task, passed or not."""
    passed = result.other.get("passed")
    is_truth = isinstance(_plain(passed), bool)
    return result.score_name == "passed" and str(result.other.get("task_id")) == result.item and is_truth


def _too_few(results: Sequence[ItemResult], wanted: int) -> list[tuple[int, str]]:
    """Say of a task why pass@k is not known of it; nothing where it is."""
    if not all(map(_is_sample, results)):
        return [(results[0].line, f"item {results[0].item!r} is no sample of a task that passed or failed")]
    if len(results) < wanted:
        return [
            (results[0].line, f"task {results[0].item!r} has {len(results)} samples, fewer than --pass-at {wanted}")
        ]
    return []


def _together(samples: Sequence[ItemResult], pass_at: int) -> ItemResult:
    """Score a task by its samples: the chance that one of so many passes, which for one is the share that does."""
    first, passed = samples[0], sum(sample.score == 1 for sample in samples)
    return replace(
        first,
        score=pass_at_k(len(samples), passed, pass_at),
        length=None,
        texts={name: text for name, text in first.texts.items() if name != "answer"},
    )


def _read_row(read: Row, keys: Keys, *, scored: bool) -> ItemResult:
    if read.fault is not None:
        raise ValueError(read.fault)
    row = read.content
    item = _field(row, keys.item)
    if isinstance(item, float) and item.is_integer():
        item = int(item)
    if not isinstance(item, str | int) or isinstance(item, bool):
        raise ValueError(f"{keys.item!r} is {item!r}, neither a text nor a whole number")
    texts = {key: row[key] for key in TEXT_KEYS if isinstance(row.get(key), str)}
    missing = [key for key in ("answer", "reference") if key not in texts]
    if not scored and missing:
        raise ValueError(f"it has no text {missing[0]!r}")
    cluster, suite = row.get(keys.cluster), row.get("suite")
    if isinstance(cluster, dict | list | float):
        raise ValueError(f"{keys.cluster!r} is {cluster!r}, neither a text nor a whole number")
    return ItemResult(
        item=str(item),
        score=_score(row, keys) if scored else None,
        score_name=keys.score,
        line=read.line,
        cluster=None if cluster is None else str(cluster),
        suite=suite if isinstance(suite, str) else None,
        length=_length(row.get("length")),
        texts=texts,
        other=row,
    )


def _field(row: Mapping[str, Any], key: str) -> Any:
    if key in row:
        return row[key]
    if key == SCORE_NAMES[0]:
        raise ValueError(f"it has no {key!r}{_instead_of_a_score(row)}")
    near = get_close_matches(key, [str(name) for name in row], n=1, cutoff=0.5)
    hint = f"; it has {near[0]!r}" if near else f"; it has {', '.join(map(repr, list(row)[:6])) or 'nothing'}"
    raise ValueError(f"it has no {key!r}{hint}")


def _instead_of_a_score(row: Mapping[str, Any]) -> str:
    """Name what a line without a score could be compared by."""
    others = {*ITEM_NAMES, *TEXT_KEYS, "cluster", "suite", "length"}
    numbers = [name for name, value in row.items() if name not in others and isinstance(_plain(value), int | float)]
    shown = f"; numbers stand in {', '.join(map(repr, numbers[:6]))}: --score KEY" if numbers else ""
    texts = "; its texts are compared by --metric chrf or bleu" if {"answer", "reference"} <= row.keys() else ""
    return shown + texts or f"; it has {', '.join(map(repr, list(row)[:6])) or 'nothing'}"


def _plain(value: Any) -> Any:
    return value.value() if isinstance(value, Cell) else value


def _score(row: Mapping[str, Any], keys: Keys) -> float | None:
    """Give the score of a line; None where it has none and may have none."""
    key = keys.score
    held = _plain(row.get(key))
    if keys.leave_out_unscored and (held is None or (isinstance(held, float) and math.isnan(held))):
        return None
    value = _plain(_field(row, key))
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, int | float):
        raise ValueError(f"{key!r} is {json.dumps(value)[:40]}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or abs(number) > 1e100:
        raise ValueError(f"{key!r} is {number:g}, not a finite number of ordinary size")
    return number


def _length(value: Any) -> float | None:
    """Take a length only where it is one; nothing depends on it but the correction for length."""
    value = _plain(value)
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e15 else None


def _bad(path: Path, faults: list[tuple[int, str]]) -> FineTuneError:
    shown = "; ".join(f"line {line}: {why}" for line, why in faults[:FAULTS_SHOWN])
    more = f"; and {len(faults) - FAULTS_SHOWN} more" if len(faults) > FAULTS_SHOWN else ""
    return FineTuneError(
        "E04",
        what=f"{len(faults)} line{'s' if len(faults) > 1 else ''} of the results cannot be used",
        where=str(path),
        why=shown + more,
        fix="correct the lines, and give an item with several answers the average of their scores; "
        "--leave-out-unscored compares without items that have no score; other names of the fields: --item KEY "
        "--score KEY --cluster KEY",
    )
