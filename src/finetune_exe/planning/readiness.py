"""What stands between a plan and a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import NamedTuple

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Check, Interval
from finetune_exe.estimate.duration import unknown_duration
from finetune_exe.estimate.rows import split_sizes, usable_rows
from finetune_exe.knowledge.rules import rule
from finetune_exe.units import GIB, format_count, format_duration, format_gib, format_usd

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")
_DAY = 86400


def check_readiness(plan: Plan) -> tuple[Check, ...]:
    """Look at everything a run of this plan needs that can be seen before it."""
    return (
        _model_known(plan),
        _data_readable(plan),
        _format_known(plan),
        _enough_rows(plan),
        _enough_test_rows(plan),
        _length_allowed(plan),
        _memory_fits(plan),
        _duration_bearable(plan),
        *map(_within, wished_limits(plan)),
        _baseline_defined(plan),
        _packages_installed(),
    )


def _model_known(plan: Plan) -> Check:
    name = "Base model known"
    if plan.model.shape is None:
        return Check(
            name=name, passed=None, detail=f"the dimensions of {plan.model.name} are not known before it is loaded"
        )
    return Check(name=name, passed=True, detail=f"{plan.model.name}, dimensions known")


def _data_readable(plan: Plan) -> Check:
    name = "Data readable"
    if plan.profile is None:
        return Check(name=name, passed=False, detail="no data were given", fix="add --data FILE")
    rows, unreadable = plan.profile.num_rows, plan.profile.num_unreadable
    share = unreadable / max(1, rows + unreadable)
    detail = f"{format_count(rows)} rows, {format_count(unreadable)} lines that are no row"
    if share > 0.05:
        return Check(name=name, passed=False, detail=detail, fix="run fine-tune dataset --check to see which lines")
    return Check(name=name, passed=True, detail=detail)


def _format_known(plan: Plan) -> Check:
    name = "Format recognised"
    if plan.profile is None:
        return Check(name=name, passed=None, detail="no data to look at")
    if plan.data.format in (None, plan.profile.format):
        return Check(name=name, passed=True, detail=f"{plan.profile.format}: {'; '.join(plan.profile.format_evidence)}")
    return Check(
        name=name,
        passed=False,
        detail=f"the plan says {plan.data.format}, the rows look like {plan.profile.format}",
        fix=f"--set data.format={plan.profile.format}",
    )


def _enough_rows(plan: Plan) -> Check:
    name, needed = "Enough rows", plan.data_needs.minimum_samples
    if plan.profile is None:
        return Check(name=name, passed=None, detail=f"at least {needed} are needed")
    sizes = split_sizes(plan)
    rows = sizes.train + sizes.validation + sizes.test
    given = plan.profile.num_rows
    if rows < needed <= given and usable_rows(plan.profile) < needed:
        detail = f"{format_count(rows)} of {format_count(given)} rows hold an answer to learn, {needed} are needed"
        return Check(name=name, passed=False, detail=detail, fix="give rows that hold what the model shall write")
    if rows < needed:
        return Check(
            name=name, passed=False, detail=f"{rows} rows, {needed} are needed", fix=f"collect {needed - rows} more"
        )
    return Check(name=name, passed=True, detail=f"{format_count(rows)} rows, {needed} are needed")


def _enough_test_rows(plan: Plan) -> Check:
    """Pass where the test rows can find a difference of half a standard deviation."""
    name, known = "Enough test rows", rule("detectable_difference")
    if plan.profile is None:
        return Check(name=name, passed=None, detail="no data to split")
    if plan.data.test_paths:
        return Check(name=name, passed=None, detail=f"those of {', '.join(plan.data.test_paths)}, not counted yet")
    rows = split_sizes(plan).test
    if rows == 0:
        return Check(name=name, passed=False, detail="no row is left to test on", fix="collect more rows")
    smallest = known["factor"] / math.sqrt(rows)
    detail = f"{format_count(rows)} test rows find a difference of {smallest:.2f} standard deviations"
    if smallest <= known["enough"]:
        return Check(name=name, passed=True, detail=detail)
    if plan.data.detectable_difference is not None:
        fix = f"--set data.detectable_difference={known['enough']:g}, or give more rows"
    else:
        wanted = math.ceil((known["factor"] / known["enough"]) ** 2 / plan.data.test_fraction)
        fix = f"give {wanted} rows, or raise data.test_fraction"
    return Check(name=name, passed=False, detail=detail, fix=fix)


def _length_allowed(plan: Plan) -> Check:
    name, context = "Rows fit the model", plan.model.context_length
    if context is None:
        return Check(name=name, passed=None, detail="the model's longest sequence is not known")
    detail = f"max_length {plan.data.max_length}, the model was made for {context} tokens"
    if plan.data.max_length > context:
        return Check(name=name, passed=False, detail=detail, fix=f"--set data.max_length={context}")
    return Check(name=name, passed=True, detail=detail)


def usable_memory_bytes(plan: Plan) -> float:
    """Say how much memory a run may fill: nine tenths, on a GPU after the driver took its share."""
    known, total = rule("gpu_reserve"), plan.hardware.accelerator_memory_bytes
    reserve = known["context_gib"] * GIB if plan.hardware.gpus else 0.0
    return (total - reserve) * (1 - known["fragmentation"])


def _memory_fits(plan: Plan) -> Check:
    name, memory = "Memory fits", plan.estimates.get("memory")
    if memory is None:
        return Check(name=name, passed=None, detail="memory cannot be estimated without the model's dimensions")
    usable = usable_memory_bytes(plan)
    detail = f"at most {format_gib(memory.value.high)} expected, {format_gib(usable)} usable"
    if memory.value.high <= usable:
        return Check(name=name, passed=True, detail=detail)
    if plan.batch.micro_batch_size > 1:
        fix = "--set batch.micro_batch_size=1 and more gradient_accumulation_steps"
    elif not plan.precision.gradient_checkpointing:
        fix = "--set precision.gradient_checkpointing=true"
    else:
        fix = "take a smaller model, a shorter data.max_length, or more memory"
    return Check(name=name, passed=False, detail=detail, fix=fix)


def _duration_bearable(plan: Plan) -> Check:
    name, duration = "Done within a day", plan.estimates.get("duration")
    if duration is None or (plan.profile is None and plan.task.num_rows is None):
        why = unknown_duration(plan) if duration is None else "no data were given and no number of rows"
        return Check(name=name, passed=None, detail=f"not known: {why}")
    detail = f"about {format_duration(duration.value.mid)} expected"
    if duration.value.mid <= _DAY:
        return Check(name=name, passed=True, detail=detail)
    return Check(name=name, passed=False, detail=detail, fix="--set data.max_rows=N, fewer epochs, or a smaller model")


class WishedLimit(NamedTuple):
    """A limit that the user set, beside what is expected; each in words."""

    name: str
    most: str
    expected: str
    perhaps: str
    is_kept: bool
    """Whether the expected value keeps within it."""
    is_sure: bool
    """Whether the upper bound does."""


def wished_limits(plan: Plan) -> Iterator[WishedLimit]:
    """Hold the limits of time and money against the estimates, where there are both and the rows are no guess."""
    if plan.profile is None and plan.task.num_rows is None:
        return
    hours, budget = plan.task.hours, plan.task.budget_usd
    duration, cost = plan.estimates.get("duration"), plan.estimates.get("cost")
    if hours is not None and duration is not None:
        yield _limit("Within the hours", 3600 * hours, duration.value, format_duration)
    if budget is not None and cost is not None:
        yield _limit("Within the budget", budget, cost.value, format_usd)


def _limit(name: str, most: float, expected: Interval, form: Callable[[float], str]) -> WishedLimit:
    return WishedLimit(
        name=name, most=form(most), expected=form(expected.mid), perhaps=form(expected.high),
        is_kept=expected.mid <= most, is_sure=expected.high <= most,
    )  # fmt: skip


def _within(limit: WishedLimit) -> Check:
    detail = f"about {limit.expected} expected, perhaps {limit.perhaps}, of {limit.most} at most"
    fix = None if limit.is_kept else "--set data.max_rows=N, fewer epochs, a smaller model, or a higher limit"
    return Check(name=limit.name, passed=limit.is_kept, detail=detail, fix=fix)


def _baseline_defined(plan: Plan) -> Check:
    name = "Baseline and metrics defined"
    if not plan.evaluation.metrics:
        return Check(name=name, passed=False, detail="no metric is left", fix="--set evaluation.metrics=[perplexity]")
    metrics = ", ".join(plan.evaluation.metrics)
    return Check(name=name, passed=True, detail=f"{metrics}, against {plan.model.name} itself on the same rows")


def _packages_installed() -> Check:
    name, missing = "Training packages installed", missing_packages()
    if missing:
        return Check(
            name=name,
            passed=False,
            detail=f"missing here: {', '.join(missing)}",
            fix='pip install "finetune-exe[train]"',
        )
    return Check(name=name, passed=True, detail=", ".join(_PACKAGES))


def missing_packages() -> tuple[str, ...]:
    """List the packages that training needs and this Python lacks; none is imported to find out."""
    return tuple(package for package in _PACKAGES if find_spec(package) is None)
