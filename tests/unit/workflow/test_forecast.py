"""The learning curve of finished runs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.planning.planned import make_plan, make_profile
from tests.unit.report import sample

from finetune_exe.cli.forecast import command
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings, write_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.forecast import forecast


def loss_after(rows: int) -> float:
    return 4.0 * rows**-0.3 + 1.0


def finished_run(folder: Path, plan: Plan, rows: int, *, harder: float = 1.0) -> Path:
    """Write the documents of a run that was trained on so many rows; its validation rows may be harder than usual."""
    folder.mkdir()
    (folder / "dataset").mkdir()
    write_plan(apply_settings(plan, [f"data.max_rows={rows}"]), folder / "plan.yaml")
    dataset = sample.dataset()
    train = dataset.splits["train"].model_copy(update={"num_rows": rows})
    splits = {**dataset.splits, "train": train}
    dataset.model_copy(update={"splits": splits}).write(folder / "dataset" / "manifest.json")
    losses = {"initial_validation_loss": 3.0 * harder, "best_validation_loss": loss_after(rows) * harder}
    sample.run().model_copy(update=losses).write(folder / "run.json")
    return folder


@pytest.fixture
def plan() -> Plan:
    return make_plan(profile=make_profile())


def test_runs_on_fewer_rows_forecast_more(tmp_path: Path, plan: Plan) -> None:
    runs = [finished_run(tmp_path / str(rows), plan, rows) for rows in (2000, 500, 1000)]
    found = forecast(runs, more_rows=1000)
    assert [point.rows for point in found.points] == [500, 1000, 2000]
    assert found.change.contains(loss_after(3000) - loss_after(2000))
    assert set(found.inputs) == set(map(str, runs))


def test_how_hard_the_validation_rows_are_cancels(tmp_path: Path, plan: Plan) -> None:
    even = [finished_run(tmp_path / f"even{rows}", plan, rows) for rows in (500, 1000, 2000)]
    uneven = [
        finished_run(tmp_path / f"uneven{rows}", plan, rows, harder=harder)
        for rows, harder in ((500, 0.8), (1000, 1.3), (2000, 1.0))
    ]
    for one, other in zip(forecast(even, more_rows=500).points, forecast(uneven, more_rows=500).points, strict=True):
        assert other.loss == pytest.approx(one.loss)


def test_runs_that_are_no_series_are_refused(tmp_path: Path, plan: Plan) -> None:
    runs = [finished_run(tmp_path / str(rows), plan, rows) for rows in (500, 1000)]
    runs.append(finished_run(tmp_path / "full", apply_settings(plan, ["method.kind=full"]), 2000))
    for given in (runs, runs[:2], []):
        with pytest.raises(FineTuneError) as caught:
            forecast(given, more_rows=500)
        assert caught.value.code == "E02"


def test_the_command_says_it_in_one_line_and_as_json(tmp_path: Path, plan: Plan) -> None:
    runs = [str(finished_run(tmp_path / str(rows), plan, rows)) for rows in (500, 1000, 2000)]
    told = CliRunner().invoke(command, [*runs, "--more-rows", "500"], catch_exceptions=False)
    assert "500 more rows: -0.0" in told.output
    answer = json.loads(CliRunner().invoke(command, [*runs, "--more-rows", "500", "--json"]).output)
    assert answer["forecast"]["change"]["mid"] < 0
