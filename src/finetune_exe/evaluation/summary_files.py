"""Files that tell the scores of whole tasks and of no item: what wrote them, and which of its files tell more.

Source: OLMES (run_eval.py; its OUTPUT_FORMATS.md), lm-evaluation-harness 0.4.13 (EvalResults) and lighteval 0.13.0
(EvaluationTracker.results).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.event_logs import Row

SHOWN = 3
"""Files named of those that lie beside it."""


class Summary(NamedTuple):
    """One kind of such files."""

    keys: frozenset[str]
    """That its objects have."""
    tool: str
    items: str
    """How its files with items are called, from the folder of the summary."""
    writes: str
    """When it writes them."""


_OLMES = "OLMES", "task-*-predictions.jsonl", "it writes one for each task, in the same folder"
SUMMARIES = (
    Summary(frozenset({"task_name", "task_hash", "num_instances"}), *_OLMES),
    Summary(frozenset({"all_primary_scores"}), *_OLMES),
    Summary(
        frozenset({"results", "n-shot"}), "lm-evaluation-harness", "samples_*.jsonl",
        "it writes one for each task with --log_samples",
    ),
    Summary(
        frozenset({"config_general", "results", "summary_tasks"}), "lighteval", "details_*.parquet",
        "it writes them under details/ with --save-details",
    ),
    Summary(
        frozenset({"comparisons", "readiness", "num_clusters"}), "fine-tune eval", "evaluation/tuned.jsonl",
        "it writes them into the run, whose folder may be named instead",
    ),
)  # fmt: skip


def summary_of(content: Mapping[str, object]) -> Summary | None:
    """Find what an object is a summary of; None where it is none."""
    return next((summary for summary in SUMMARIES if summary.keys <= content.keys()), None)


def refuse_summary(path: Path, rows: Sequence[Row]) -> None:
    """Refuse a file without items, since of two averages nobody can say what chance brings.

    Raises:
        FineTuneError: E03, naming the files to give instead.
    """
    found = summary_of(rows[0].content) if rows else None
    if found is None:
        return
    beside = sorted(path.parent.glob(found.items))
    more = f" and {len(beside) - SHOWN} more" if len(beside) > SHOWN else ""
    raise FineTuneError(
        "E03",
        what=f"the file tells scores of whole tasks, as {found.tool} writes them, and of no item",
        where=str(path),
        why="the test is of the same items under both models; two averages do not say what chance brings",
        fix=f"give the scores by item: {', '.join(map(str, beside[:SHOWN]))}{more}"
        if beside
        else f"give the scores by item, {found.items}: {found.writes}",
    )
