"""Statistics of HELM by instance (`per_instance_stats.json`), put together into one row for each answer.

Every metric of a run writes its own statistics of an instance, one behind those of another.

Source: crfm-helm 0.5.16, PerInstanceStats, Stat and MetricName; put together as write_run_display_json does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finetune_exe.evaluation.event_logs import Row
from finetune_exe.evaluation.tool_rows import helm_answer


def is_stats(content: Mapping[str, Any]) -> bool:
    """Tell statistics of an answer from a result."""
    return {"instance_id", "train_trial_index"} <= content.keys() and isinstance(content.get("stats"), list)


def rows_of_stats(rows: Sequence[Row]) -> Iterator[Row]:
    """Give a row for each answer, with the mean of each statistic by its name; other rows stay as they are."""
    answers: dict[str, Row] = {}
    for row in rows:
        if row.fault is not None or not is_stats(row.content):
            yield row
            continue
        answer = helm_answer(row.content)
        answers.setdefault(answer["item"], Row(row.line, answer)).content.update(_means(row.content["stats"]))
    yield from answers.values()


def _means(stats: Sequence[Any]) -> dict[str, Any]:
    """Give the means by name; a statistic of nothing has none."""
    means = {}
    for stat in stats:
        name = stat.get("name") if isinstance(stat, dict) else None
        if isinstance(name, dict) and isinstance(name.get("name"), str) and stat.get("mean") is not None:
            means[name["name"]] = stat["mean"]
    return means
