"""How far a run is, from what lies in its folder and who holds it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from finetune_exe.domain.events import Diagnosed, Evaluated, Noticed, StepFinished, read_events
from finetune_exe.domain.shipment import ShipmentForm
from finetune_exe.workflow.background import Started, Work
from finetune_exe.workflow.run_folder import RunFolder
from finetune_exe.workflow.run_lock import training_process
from finetune_exe.workflow.run_states import run_state

MOST_NOTICED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """State and figures of a run; the words it wrote are apart."""

    state: Work | Literal["starting", "finished", "unfinished", "damaged", "failed", "absent"]
    process: int | None
    """Who trains into it, on this machine."""
    step: int | None = None
    num_steps: int | None = None
    epoch: float | None = None
    train_loss: float | None = None
    validation_loss: float | None = None
    best_validation_loss: float | None = None
    num_checkpoints: int = 0
    has_evaluation: bool = False
    exports: tuple[str, ...] = ()
    """Forms in which the model lies in the run's folder export."""
    problems: tuple[str, ...] = ()
    noticed: tuple[str, ...] = ()
    """What the run said of itself, the latest last."""

    def facts(self) -> dict[str, object]:
        """Give all but the words."""
        return {name: value for name, value in asdict(self).items() if name not in ("problems", "noticed")}


def run_progress(path: Path, *, started: Started | None = None) -> RunProgress:
    """Look at a run, which may be under way.

    Args:
        path: Its folder, which need not exist yet.
        started: The process that the caller started for it.
    """
    run, process = RunFolder(path), training_process(path)
    at_work = process is not None or (started is not None and started.outcome is None)
    if not path.is_dir():
        failed = started is not None and started.outcome == "failed"
        return RunProgress(state="starting" if at_work else "failed" if failed else "absent", process=process)
    found = run_state(path)
    events = read_events(run.events) if run.events.is_file() else []
    steps = [event for event in events if isinstance(event, StepFinished)]
    evaluated = [event for event in events if isinstance(event, Evaluated)]
    said = [event.message if isinstance(event, Noticed) else f"{event.label}: {event.title}"
            for event in events if isinstance(event, Noticed | Diagnosed)]  # fmt: skip
    last = steps[-1] if steps else None
    return RunProgress(
        state=found.state if not at_work else started.work if started and not process else "training",
        process=process,
        step=last.step if last else None,
        num_steps=last.num_steps if last else None,
        epoch=last.epoch if last else None,
        train_loss=last.loss if last else None,
        validation_loss=evaluated[-1].validation_loss if evaluated else None,
        best_validation_loss=min((event.validation_loss for event in evaluated), default=None),
        num_checkpoints=found.num_checkpoints,
        has_evaluation=run.evaluation.is_file(),
        exports=tuple(form for form in get_args(ShipmentForm) if (path / "export" / form).is_dir()),
        problems=() if at_work else found.problems,
        noticed=tuple(said[-MOST_NOTICED:]),
    )
