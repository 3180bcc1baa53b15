"""Which settings of a plan are searched over, and between which bounds."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.tuning import SearchedSetting
from finetune_exe.domain.values import Decision, Leaf
from finetune_exe.errors import FineTuneError

PREFERRED = ("optimizer.learning_rate", "method.lora_rank", "batch.micro_batch_size", "schedule.epochs")
"""What is searched where nothing is wished for, what matters most first."""
EPOCHS = "schedule.epochs"
TRIALS_FOR_A_THIRD = 16
"""From so many trials on three settings are searched at once instead of two."""
_LOGARITHMIC = ("optimizer.learning_rate", "optimizer.weight_decay", "optimizer.max_grad_norm")
_DOUBLING_FROM = 4.0
"""Whole numbers whose bounds are so many times apart are tried in powers of two."""


def search_space(
    plan: Plan, *, over: Sequence[str] = (), num_trials: int, share: float = 1.0
) -> tuple[SearchedSetting, ...]:
    """Take the settings to search and their bounds from the plan's own intervals.

    Args:
        plan: The plan; a decision's interval is the range in which the best value is expected.
        over: Dotted paths; none takes two or three of those that matter most.
        num_trials: How many different settings will be tried.
        share: Part of the steps each trial makes; below one, the number of epochs is no longer free.

    Raises:
        FineTuneError: C12 for a path that is no setting, or a setting without an interval to search.
    """
    if over:
        return tuple(_wished(plan, path, share=share) for path in dict.fromkeys(over))
    free = [path for path in PREFERRED if path != EPOCHS or share == 1]
    found = [setting for path in free if (setting := _searchable(plan, path)) is not None]
    if not found:
        raise _refused(
            "the plan has no interval for any of " + ", ".join(free),
            "decisions",
            "plan again with fine-tune analyze, which gives each number the range its best value is expected in",
        )
    return tuple(found[: 3 if num_trials >= TRIALS_FOR_A_THIRD else 2])


def with_values(plan: Plan, values: Mapping[str, Leaf], decisions: Mapping[str, Decision]) -> Plan:
    """Put values at their dotted paths, and the reasons beside them; estimates stay as they were."""
    content = plan.model_dump(mode="json", by_alias=True)
    for path, value in values.items():
        *groups, leaf = path.split(".")
        target: Any = content
        for group in groups:
            target = target[group]
        target[leaf] = value
    for path, decision in decisions.items():
        content["decisions"][path] = decision.model_dump(mode="json")
    return Plan.model_validate_json(json.dumps(content))


def setting_values(settings: Sequence[SearchedSetting], values: Mapping[str, float]) -> dict[str, Leaf]:
    """Give each value the type its setting takes."""
    return {setting.path: int(values[setting.path]) if setting.whole else values[setting.path] for setting in settings}


def _wished(plan: Plan, path: str, *, share: float) -> SearchedSetting:
    known = {name: value for name, value, _ in plan.settings()}
    if path not in known:
        numbers = [name for name in known if _searchable(plan, name) is not None]
        same_leaf = [name for name in known if name.rpartition(".")[2] == path.rpartition(".")[2]]
        near = [*same_leaf, *difflib.get_close_matches(path, known, n=2, cutoff=0.6)]
        raise _refused(
            f"{path!r} is no setting of this plan" + (f"; did you mean {near[0]}?" if near else ""),
            f"--over {path}",
            "this plan can be searched over " + ", ".join(numbers),
        )
    if path == EPOCHS and share < 1:
        raise _refused(
            "the number of epochs cannot be told from trials that make a share of them",
            f"--over {path}",
            "use --share 1 and fewer --trials or more --minutes, or search another setting",
        )
    setting = _searchable(plan, path)
    if setting is None:
        raise _refused(
            f"{path} has no interval of numbers in this plan",
            f"--over {path}",
            f"give it one in plan.yaml under decisions, {path}, interval; or name another setting",
        )
    return setting


def _searchable(plan: Plan, path: str) -> SearchedSetting | None:
    """Describe the search over a setting; None where it has no number, no interval, or nothing between the bounds."""
    value = next((value for name, value, _ in plan.settings() if name == path), None)
    decision = plan.decisions.get(path)
    if isinstance(value, bool) or not isinstance(value, int | float) or decision is None or decision.interval is None:
        return None
    low, high = min(decision.interval.low, value), max(decision.interval.high, value)
    if low == high or (isinstance(value, int) and math.ceil(low) == math.floor(high)):
        return None
    if isinstance(value, int):
        choices = _whole_choices(low, high, value)
        return SearchedSetting(
            path=path, planned=value, low=choices[0], high=choices[-1], scale="steps", choices=choices, whole=True
        )
    scale: Literal["log", "linear"] = "log" if path in _LOGARITHMIC and low > 0 else "linear"
    return SearchedSetting(path=path, planned=value, low=low, high=high, scale=scale, whole=False)


def _whole_choices(low: float, high: float, planned: int) -> tuple[float, ...]:
    first, last = math.ceil(low), math.floor(high)
    if last >= _DOUBLING_FROM * max(1, first):
        numbers = {2**power for power in range(last.bit_length()) if first <= 2**power <= last}
    else:
        numbers = set(range(first, last + 1))
    return tuple(float(number) for number in sorted(numbers | {planned}))


def _refused(what: str, where: str, fix: str) -> FineTuneError:
    return FineTuneError(
        "C12", what=what, where=where, why="a search needs a number and the bounds between which it may move", fix=fix
    )
