"""All that is expected of one run: of a plan's, or of one that somebody recorded."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Estimate
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.duration import estimate_cost, estimate_duration
from finetune_exe.estimate.footprint import Footprint, footprint
from finetune_exe.estimate.memory import Resident, resident_memory
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.estimate.processor import processor_throughput
from finetune_exe.estimate.recorded import RecordedRun, read_workload
from finetune_exe.estimate.rows import expected_rows
from finetune_exe.estimate.throughput import Refusal, Throughput, throughput
from finetune_exe.estimate.workload import Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanEstimate:
    """What the run of a plan is expected to take."""

    plan: Plan
    workload: Workload
    memory: Footprint
    process: Resident | None
    """Memory of the whole process, on a CPU."""
    speed: Throughput | Refusal
    duration: Estimate | None
    """Of the whole run, where there are data to run over."""
    cost: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEstimate:
    """What one recorded run is expected to take."""

    id: str | int
    workload: Workload | None
    memory: Footprint | None
    speed: Throughput | Refusal

    @property
    def refused(self) -> str | None:
        """Why part of the answer is missing."""
        return self.speed.reason if isinstance(self.speed, Refusal) else None


def estimate_run(run: RecordedRun) -> RunEstimate:
    """Estimate memory and speed of one recorded run."""
    workload = read_workload(run)
    if workload is None:
        unknown = Refusal(reason="neither the model is known nor its size given")
        return RunEstimate(id=run.id, workload=None, memory=None, speed=unknown)
    return RunEstimate(id=run.id, workload=workload, memory=footprint(workload), speed=throughput(workload))


def estimate_plan(plan: Plan) -> PlanEstimate:
    """Estimate what a plan's run takes; without data, rows are as long as the plan allows.

    Raises:
        FineTuneError: M05 where the model's dimensions are unknown.
    """
    workload = plan_workload(plan)
    if workload is None:
        raise FineTuneError(
            "M05",
            what=f"the dimensions of {plan.model.reference!r} are not known",
            where="the base model",
            why="memory and speed follow from them",
            fix="give a model that is known by name, or a folder with its config.json",
        )
    on_cpu = not plan.hardware.gpus
    duration = estimate_duration(plan) if expected_rows(plan) else None
    return PlanEstimate(
        plan=plan,
        workload=workload,
        memory=footprint(workload),
        process=resident_memory(workload) if on_cpu else None,
        speed=processor_throughput(workload, plan.hardware) if on_cpu else throughput(workload),
        duration=duration,
        cost=estimate_cost(plan, duration),
    )
