"""Tasks of EleutherAI's lm-evaluation-harness as regression suites.

The harness reads the task and writes its prompts; the likelihoods are computed here, so that items are paired, cached
and compared as those of any suite, and scores are the harness's own `acc`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.evaluation.suites import Kind, Suite, SuiteItem

_KINDS: dict[str, Kind] = {
    "multiple_choice": "multiple_choice", "loglikelihood": "continuation", "loglikelihood_rolling": "text",
}  # fmt: skip


def harness_suites(names: Sequence[str], *, folder: Path | None, max_items: int) -> tuple[list[Suite], list[str]]:
    """Make suites of the harness's tasks.

    Args:
        names: Tasks and groups of tasks, as the harness calls them.
        folder: Of tasks of one's own, as YAML files; the harness's own are there too.
        max_items: Items taken of each task, spread evenly over it.

    Returns:
        The suites, and the tasks left out, each with the reason.

    Raises:
        FineTuneError: X01 where the harness is not installed, E05 where a task is not known, cannot be loaded, or none
            is scored by likelihood.
    """
    if find_spec("lm_eval") is None:
        raise missing_component("lm_eval", extra="eval", needed_for="asking tasks of lm-evaluation-harness")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        found = TaskManager(include_path=None if folder is None else str(folder)).load(list(names))["tasks"]
    except Exception as fault:  # whatever another program runs into is its finding
        raise _unusable(", ".join(names), fault) from fault
    suites, left_out = [], []
    for name, task in sorted(found.items()):
        kind = _KINDS.get(task.OUTPUT_TYPE)
        if kind is None:
            left_out.append(f"{name}: its answers are generated ({task.OUTPUT_TYPE})")
            continue
        try:
            items = _items(task, kind, max_items)
        except Exception as fault:  # a task may run code of its own
            raise _unusable(name, fault) from fault
        if items:
            suites.append(Suite(name=f"harness/{name}", kind=kind, items=tuple(items)))
        else:
            left_out.append(f"{name}: its items have several right choices")
    if not suites:
        raise FineTuneError(
            "E05",
            what="no task is scored by likelihood",
            where=", ".join(names),
            why="; ".join(left_out),
            fix="choose tasks of choices, such as arc_easy, hellaswag or piqa",
        )
    return suites, left_out


def _items(task: Any, kind: Kind, max_items: int) -> list[SuiteItem]:
    """Ask the task for its prompts."""
    count = len(task.eval_docs)
    chosen = range(count) if count <= max_items else [index * count // max_items for index in range(max_items)]
    task.build_all_requests(samples=list(chosen), rank=0, world_size=1)
    grouped: dict[int, list[Any]] = {}
    for instance in task.instances:
        grouped.setdefault(instance.doc_id, []).append(instance)
    found = []
    for number, instances in grouped.items():
        asked = sorted(instances, key=lambda instance: instance.idx)
        if kind == "multiple_choice":
            asked = asked[: len(task.doc_to_choice(asked[0].doc))]
        gold = _gold(task, asked[0].doc) if kind == "multiple_choice" else 0
        if gold is None:
            continue
        texts = [instance.arguments if kind != "text" else ("", instance.arguments[0]) for instance in asked]
        found.append(SuiteItem(
            name=str(number), contexts=tuple(context for context, _ in texts),
            continuations=tuple(continuation for _, continuation in texts), gold=gold, cluster=f"item {number}",
        ))  # fmt: skip
    return found


def _gold(task: Any, doc: Any) -> int | None:
    """Find the place of the right choice; None where there are several, or none."""
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)
    choices = task.doc_to_choice(doc)
    if isinstance(gold, str):
        return choices.index(gold) if gold in choices else None
    return gold if isinstance(gold, int) and 0 <= gold < len(choices) else None


def _unusable(name: str, fault: Exception) -> FineTuneError:
    return FineTuneError(
        "E05",
        what="a task of lm-evaluation-harness cannot be used",
        where=name,
        why=f"{type(fault).__name__}: {' '.join(str(fault).split())[:300]}",
        fix="lm-eval ls tasks lists the names; data sets of tasks are downloaded, so the hub must be in reach",
    )
