"""Where the parts of a run lie, and its two documents read together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.workflow.run_lock import training_process


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where the parts of a run lie; the folder alone is enough to evaluate, diagnose and report."""

    path: Path

    @property
    def plan(self) -> Path:
        """The plan as it was run."""
        return self.path / "plan.yaml"

    @property
    def dataset(self) -> Path:
        """The prepared dataset."""
        return self.path / "dataset"

    @property
    def events(self) -> Path:
        """What happened, one JSON line each."""
        return self.path / "events.jsonl"

    @property
    def summary(self) -> Path:
        """The TrainingRun document; its presence means that training ended in good order."""
        return self.path / "run.json"

    @property
    def evaluation(self) -> Path:
        """The Evaluation document."""
        return self.path / "evaluation.json"

    @property
    def report(self) -> Path:
        """Plan, dataset, training and evaluation to read, as Markdown."""
        return self.path / "report.md"

    @property
    def model(self) -> Path:
        """What was learned, as of the best checkpoint, for other programs to load."""
        return self.path / "model"


def plain_name(run: Path) -> str:
    """Give a run's name in letters, digits, points and dashes alone, as batch systems and other programs take it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.resolve().name).strip("-.") or "run"


def open_run(path: Path) -> tuple[Plan, TrainingRun]:
    """Read plan and summary of a finished run.

    Raises:
        FineTuneError: E01 where the folder is no finished run.
    """
    run = RunFolder(path)
    missing = [file.name for file in (run.plan, run.summary) if not file.is_file()]
    if missing == [run.summary.name] and run.events.is_file():
        process = training_process(path)
        raise FineTuneError(
            "E01",
            what="this run has not ended yet",
            where=f"{path} (it lacks {run.summary.name})",
            why="a run writes its summary last, when training has ended in good order",
            fix=f"process {process} trains into it now: wait for it"
            if process is not None
            else f"go on with it: {typed('fine-tune', 'train', run.plan, '--run', path, '--resume')}",
        )
    if missing:
        near = _runs_near(path)
        raise FineTuneError(
            "E01",
            what="this is no finished run" if path.is_dir() else "there is no folder of a run at this path",
            where=f"{path} (it lacks {' and '.join(missing)})" if path.is_dir() else str(path),
            why="a run writes its summary last, when training has ended in good order",
            fix=f"name the folder of a run, such as {', '.join(near)}"
            if near
            else f"{typed('fine-tune', 'train', 'PLAN', '--run', path)}; to see why a run failed: "
            f"{typed('fine-tune', 'debug', path)}",
        )
    return read_plan(run.plan), TrainingRun.read(run.summary)


def _runs_near(path: Path) -> list[str]:
    """List a few finished runs in a folder, beside a path, or where runs of a plan at the path lie."""
    places = (path, path.parent, path.parent / "runs")
    found = (summary.parent for place in places for summary in sorted(place.glob("*/run.json")))
    return list(dict.fromkeys(map(str, found)))[:3]
