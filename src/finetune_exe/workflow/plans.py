"""From a sentence to a plan, and from an edited plan file to a plan that holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings, read_plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Estimate, Hardware

MEASURED = "measured on this machine"
"""Source of an estimate that a probe of the machine gave; it outlives edits of the plan."""


def find_hardware(gpu: str | None) -> Hardware:
    """Describe the hardware asked for, or this machine; "cpu" is this machine without its GPUs.

    Raises:
        FineTuneError: H01 for a GPU nobody knows.
    """
    from finetune_exe.planning.hardware import detect_hardware, parse_hardware

    if gpu is not None and gpu.casefold() == "cpu":
        return detect_hardware().model_copy(update={"gpus": ()})
    return parse_hardware(gpu) if gpu else detect_hardware()


def make_plan(
    spec: TaskSpec,
    *,
    hardware: Hardware | None = None,
    settings: Sequence[str] = (),
    speed: Estimate | None = None,
    calibrate: bool = False,
    probe: bool = False,
) -> Plan:
    """Look at the data, the model and the hardware, and decide everything.

    Args:
        spec: What the user asked for.
        hardware: What to plan for; None looks at this machine, or takes what `spec.gpu` names.
        settings: `path=value` wishes that override the advice.
        speed: A measured speed, better than any formula.
        calibrate: Correct the predictions by what finished runs on this machine measured.
        probe: Time matrix products here for two seconds, for a better speed; only where a processor shall train.

    Raises:
        FineTuneError: X01 where the probe lacks PyTorch; whatever the analysis raises.
    """
    from finetune_exe.planning.analyze import analyze

    profile = None
    if spec.data_paths:
        from finetune_exe.data.profile import profile_data

        pairs_asked_for = "data.format=preference" in settings
        profile = profile_data(spec.data_paths, format_name="preference" if pairs_asked_for else None)
    hardware = hardware or find_hardware(spec.gpu)
    if probe and not hardware.gpus:
        hardware = _probed(hardware)
    plan = analyze(spec, profile=profile, hardware=hardware, settings=settings, speed=speed)
    if not calibrate:
        return plan
    from finetune_exe.planning.readiness import check_readiness
    from finetune_exe.workflow.ledger import calibrate_plan, read_ledger

    plan = calibrate_plan(plan, read_ledger())
    return plan.model_copy(update={"readiness": check_readiness(plan)})


def _probed(hardware: Hardware) -> Hardware:
    from finetune_exe.models.load import require_training_packages
    from finetune_exe.training.matrix_rate import measure_matrix_rate

    require_training_packages()
    rate = measure_matrix_rate("bfloat16" if hardware.computes_bf16 else "float32")
    return hardware.model_copy(update={"matrix_flops_per_second": rate})


def open_plan(path: Path, *, settings: Sequence[str] = ()) -> Plan:
    """Read a plan file with the user's edits, and bring everything that follows from them up to date."""
    return edit_plan(read_plan(path), settings)


def edit_plan(plan: Plan, settings: Sequence[str]) -> Plan:
    """Apply `path=value` settings, then recompute what depends on them: facts of the model, estimates, readiness."""
    from finetune_exe.planning.analyze import refresh

    return refresh(apply_settings(plan, settings) if settings else plan)
