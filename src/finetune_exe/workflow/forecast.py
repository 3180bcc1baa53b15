"""Read a learning curve off finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.forecast import CurvePoint, LossForecast
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.learning_curve import error_of_loss, forecast_loss
from finetune_exe.workflow.run_folder import RunFolder, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One run of the series."""

    path: Path
    plan: Plan
    run: TrainingRun
    rows: int
    validation_rows: int

    def point(self, *, untrained: float) -> CurvePoint:
        """Give the loss as it would be where the untrained model has the loss `untrained`."""
        loss = self.run.best_validation_loss * untrained / self.run.initial_validation_loss
        return CurvePoint(rows=self.rows, loss=loss, error=error_of_loss(self.validation_rows))


def forecast(runs: Sequence[Path], *, more_rows: int) -> LossForecast:
    """Forecast the validation loss with more rows from finished runs that differ in the number of rows.

    Runs on other rows were validated on other rows too. So each loss is taken relative to what the untrained model had
    on the same rows, in the words of the run with the most rows: what those rows have of their own cancels. What is
    left of it, an error that falls with their number, widens the forecast.

    Args:
        runs: Run folders of one base model, data and method, with different `data.max_rows`.
        more_rows: Training rows beyond the most of any run.

    Raises:
        FineTuneError: E01 where a folder is no finished run; E02 where the runs are no series, or cannot tell.
    """
    members = sorted(map(_open, runs), key=lambda member: member.rows)
    for member in members[1:]:
        _require_alike(members[0], member)
    untrained = members[-1].run.initial_validation_loss if members else 0.0
    points = [member.point(untrained=untrained) for member in members]
    found = forecast_loss(points, more_rows=more_rows)
    return found.model_copy(update={"inputs": {str(member.path): member.run.digest() for member in members}})


def _open(path: Path) -> _Member:
    plan, run = open_run(path)
    manifest = PreparedDataset.read(RunFolder(path).dataset / "manifest.json")
    rows = {name: split.num_rows for name, split in manifest.splits.items()}
    return _Member(path=path, plan=plan, run=run, rows=rows["train"], validation_rows=rows["validation"])


def _require_alike(first: _Member, other: _Member) -> None:
    settings = (
        ("model.reference", first.plan.model.reference, other.plan.model.reference),
        ("data.paths", first.plan.data.paths, other.plan.data.paths),
        ("method.kind", first.plan.method.kind, other.plan.method.kind),
    )
    for name, one, another in settings:
        if one != another:
            raise FineTuneError(
                "E02",
                what=f"the runs differ in {name}: {one} and {another}",
                where=f"{first.path} and {other.path}",
                why="only runs that differ in the number of rows show what rows do",
                fix="train the same plan again with --set data.max_rows=N",
            )
