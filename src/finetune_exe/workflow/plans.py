"""From a sentence to a plan, and from an edited plan file to a plan that holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune_exe.domain.plan import BaseModelChoice, DataNeeds, Plan, Task
from finetune_exe.domain.plan_yaml import apply_settings, read_plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Decision, Estimate, Hardware, Interval
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from finetune_exe.text.tokenizer import ChatTokenizer

PAIRS = ("data.format=preference", "objective.kind=dpo")
"""Settings that learn from pairs; either of them says how the rows are to be read."""
MEASURED = "measured on this machine"
"""Source of an estimate that a probe of the machine gave."""


def find_hardware(gpu: str | None) -> Hardware:
    """Describe the hardware asked for, or this machine; "cpu" is this machine without its GPUs.

    GPUs that $CUDA_VISIBLE_DEVICES hides are none of this machine.

    Raises:
        FineTuneError: H01 for a GPU nobody knows.
    """
    from finetune_exe.planning.hardware import detect_hardware, parse_hardware, visible_gpus

    if gpu and gpu.casefold() != "cpu":
        return parse_hardware(gpu)
    here = detect_hardware()
    return here.model_copy(
        update={"gpus": () if gpu else visible_gpus(here.gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))}
    )


def make_plan(
    spec: TaskSpec,
    *,
    hardware: Hardware | None = None,
    settings: Sequence[str] = (),
    calibrate: bool = False,
    probe: bool = False,
) -> Plan:
    """Look at the data, the model and the hardware, and decide everything.

    Args:
        spec: What the user asked for; wishes in its description count where nothing else says the same.
        hardware: What to plan for; None looks at this machine, or takes what `spec.gpu` names.
        settings: `path=value` wishes that override the advice.
        calibrate: Correct the predictions by what finished runs on this machine measured.
        probe: Measure the speed on this machine instead of taking it from a formula: by a few steps of the plan's
            training where its model is here, else, on a processor, by two seconds of matrix products.

    Raises:
        FineTuneError: X01 where the probe lacks PyTorch; C11 where the plan is for hardware that it cannot time; C02
            for faults that `data.drop` may not name; whatever the analysis raises.
    """
    from finetune_exe.planning.analyze import analyze
    from finetune_exe.planning.wishes import FIELDS, hear

    given = {FIELDS.get(assignment.partition("=")[0], "") for assignment in settings} | ({"gpu"} if hardware else set())
    spec = hear(spec, given=given)
    if spec.objective is not None:
        settings = (*PAIRS, *settings)
    profile = None
    if spec.data_paths:
        from finetune_exe.data.profile import profile_data

        pairs_asked_for = not set(PAIRS).isdisjoint(settings)
        profile = profile_data(spec.data_paths, format_name="preference" if pairs_asked_for else None)
    hardware = hardware or find_hardware(spec.gpu)
    if probe:
        hardware = _probed(hardware)
    plan = analyze(spec, profile=profile, hardware=hardware, settings=settings)
    _refuse_unknown_faults(plan)
    tokenizer = _tokenizer_at_hand(plan)
    if profile is not None and tokenizer is not None:
        from finetune_exe.data.token_counts import count_tokens

        tokens = count_tokens(
            plan.data.paths, tokenizer, model=plan.model.reference, num_rows=profile.num_rows,
            format_name=plan.data.format,
        )  # fmt: skip
        profile = profile.model_copy(update={"tokens": tokens})
        plan = analyze(spec, profile=profile, hardware=hardware, settings=settings)
        if probe and tokens is not None:
            plan = analyze(spec, profile=profile, hardware=hardware, settings=settings, speed=_timed(plan, tokenizer))
    if not calibrate:
        return plan
    from finetune_exe.planning.readiness import check_readiness
    from finetune_exe.workflow.ledger import calibrate_plan, ledger_path, read_ledger

    plan = calibrate_plan(plan, read_ledger(ledger_path()))
    return plan.model_copy(update={"readiness": check_readiness(plan)})


def _tokenizer_at_hand(plan: Plan) -> ChatTokenizer | None:
    """Load the tokenizer of the plan's model where it is on this machine already and there are rows to count."""
    if plan.profile is None:
        return None
    from finetune_exe.models.locate import folder_at_hand
    from finetune_exe.text.tokenizer import load_tokenizer

    try:
        folder = folder_at_hand(plan.model.reference, revision=plan.model.revision)
        return None if folder is None else load_tokenizer(folder, chat_template=plan.data.chat_template)
    except FineTuneError:
        return None  # not there, or not whole: it is said when the model is needed


def _timed(plan: Plan, tokenizer: ChatTokenizer) -> Estimate:
    """Time a few steps of the plan's own training."""
    from finetune_exe.data.token_counts import encode_sample
    from finetune_exe.estimate.duration import speed_key
    from finetune_exe.estimate.rows import is_paired
    from finetune_exe.training.probe import time_steps

    assert plan.profile is not None, "rows were counted"
    rows = encode_sample(
        plan.data.paths, tokenizer, max_length=plan.data.max_length, num_rows=plan.profile.num_rows,
        format_name=plan.data.format, paired=is_paired(plan),
    )  # fmt: skip
    sequences = [sequence for row in rows for sequence in row]
    pace = time_steps(plan, tokenizer.folder, sequences, tokenizer)
    speed = measured_estimate(
        pace.tokens_per_second, "tokens_per_second", unsteady=pace.slowest_step_ratio,
        reason=f"{pace.num_steps} timed steps of this training",
    )  # fmt: skip
    return speed.model_copy(update={"holds_for": speed_key(plan)})


def bare_plan(model: BaseModelChoice, *, task: str, hardware: Hardware, reason: str) -> Plan:
    """Make a plan of a model alone, without advice: all else is at its defaults."""
    return Plan(
        task=Task(description=task, type="generation"),
        model=model,
        hardware=hardware,
        data_needs=DataNeeds(minimum_samples=0, recommended_samples=0, reason="", source="", quality_checks=()),
        decisions={"model.reference": Decision(value=model.reference, reason=reason, source="you", confidence="high")},
    )


def measured_estimate(
    mid: float, unit: Literal["seconds", "tokens_per_second"], *, unsteady: float, reason: str
) -> Estimate:
    """Give what a probe measured with bounds a quarter wide, or wider where the machine was unsteady.

    Args:
        mid: The value.
        unit: Its unit.
        unsteady: Slowest over mean of what was timed.
        reason: What was timed.
    """
    width = max(0.25, unsteady - 1)
    interval = Interval(low=mid / (1 + width), mid=mid, high=mid * (1 + width))
    return Estimate(value=interval, unit=unit, reason=reason, source=MEASURED)


def _probed(hardware: Hardware) -> Hardware:
    """Measure how fast a processor multiplies; of a GPU, whose rate is known, make sure that it can be timed.

    Raises:
        FineTuneError: X01 without PyTorch; C11 for GPUs that are not here, that PyTorch does not see, or that are many.
    """
    from finetune_exe.models.load import pick_device, require_training_packages
    from finetune_exe.training.matrix_rate import measure_matrix_rate

    require_training_packages()
    if hardware.gpus:
        if len(hardware.gpus) > 1 or hardware.gpus != find_hardware(None).gpus or pick_device() == "cpu":
            raise FineTuneError(
                "C11",
                what=f"a probe cannot time a plan for {len(hardware.gpus)} x {hardware.gpus[0].name}",
                where="--probe, and --gpu or the sentence",
                why="it times steps of one process on this machine, on its processor or its one GPU",
                fix="leave --probe out, or plan for this machine: without --gpu, or with --cpu",
            )
        return hardware
    rate = measure_matrix_rate("bfloat16" if hardware.computes_bf16 else "float32")
    return hardware.model_copy(update={"matrix_flops_per_second": rate})


def open_plan(path: Path, *, settings: Sequence[str] = ()) -> Plan:
    """Read a plan file with the user's edits, and bring everything that follows from them up to date.

    Raises:
        FineTuneError: C01, C02, C04 for what the file or the settings may not say.
    """
    plan = edit_plan(read_plan(path), settings)
    _refuse_unknown_faults(plan)
    return plan


def _refuse_unknown_faults(plan: Plan) -> None:
    """Refuse at once what `data.drop` may not name."""
    if plan.data.drop:
        from finetune_exe.data.cleaning.policy import read_policy

        read_policy(plan.data)


def edit_plan(plan: Plan, settings: Sequence[str]) -> Plan:
    """Apply `path=value` settings, then recompute what depends on them: facts of the model, estimates, readiness."""
    from finetune_exe.planning.analyze import refresh

    return refresh(apply_settings(plan, settings) if settings else plan)
