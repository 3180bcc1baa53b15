"""Logs of OpenAI's evals, in which each line is an event of a sample, turned into one row for each sample.

An event is of a type (`sampling`, `match`, `metrics`, ...) and holds data. Where samples were matched, the match is
what they are scored by; what was measured of them otherwise can be named as the score. A sample with several events of
one type was asked several times: numbers are averaged.

Source: openai/evals, evals/record.py, RecorderBase and LocalRecorder, version 3.0.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from finetune_exe.evaluation.tool_rows import text_of

_LARGEST = 1e100
"""Of a number that says anything."""


class Row(NamedTuple):
    """One result as it stands in the file."""

    line: int
    """Of the file, from 1; in one JSON document, the place of the row."""
    content: dict[str, Any]
    fault: str | None = None
    """Why there is no content."""


def is_event(content: Mapping[str, Any]) -> bool:
    """Tell an event of a sample from a result."""
    return {"run_id", "event_id", "sample_id", "type", "data"} <= content.keys()


def rows_of_events(rows: Sequence[Row]) -> Iterator[Row]:
    """Give a row for each sample that was scored; lines that cannot be read stay as they are.

    Args:
        rows: The lines of a log; those that are no events say what was run, and how it ended.
    """
    samples: dict[str, list[Row]] = {}
    for row in rows:
        if row.fault is not None:
            yield row
        elif is_event(row.content) and isinstance(row.content["data"], dict):
            samples.setdefault(str(row.content["sample_id"]), []).append(row)
    for sample, events in samples.items():
        scored = [event for event in events if event.content["type"] in ("match", "metrics")]
        if scored:
            yield Row(scored[0].line, _result(sample, events))


def _result(sample: str, events: Sequence[Row]) -> dict[str, Any]:
    matched, measured, sampled = (
        [event.content["data"] for event in events if event.content["type"] == kind]
        for kind in ("match", "metrics", "sampling")
    )
    scores = _averages(measured) | _averages(matched)
    names = [*_averages(matched), *scores]
    texts = {
        "prompt": text_of(sampled[0].get("prompt") if sampled else None),
        "reference": text_of(matched[0].get("expected") if matched else None),
        "answer": text_of(sampled[0].get("sampled") if sampled else None),
    }
    held = {name: text for name, text in texts.items() if text is not None}
    return {**(measured or matched)[0], **scores, **held, "item": sample, "metrics": list(dict.fromkeys(names))}


def _averages(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Average the numbers of ordinary size that all events of a type hold."""
    return {
        name: sum(event[name] for event in events) / len(events)
        for name in (events[0] if events else ())
        if all(isinstance(event.get(name), int | float) and abs(event[name]) <= _LARGEST for event in events)
    }
