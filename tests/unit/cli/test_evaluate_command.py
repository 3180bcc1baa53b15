"""`fine-tune eval`: what was measured is shown, whatever comes after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.report import sample

from finetune_exe.cli.evaluate import command
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Check
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import endpoint
from finetune_exe.workflow import run_folder, runs, served


def test_an_endpoint_that_fails_does_not_keep_the_report_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise FineTuneError("E06", what="no answer", where="there", why="it is shut", fix="open it")

    monkeypatch.setattr(run_folder, "open_run", lambda _: (sample.plan(), None))
    monkeypatch.setattr(runs, "evaluate_run", lambda *_, **__: sample.evaluation())
    monkeypatch.setattr(served, "compare_served", fails)
    monkeypatch.setattr(served, "reach", lambda _: None)
    asked = ["run", "--endpoint", "http://localhost:1/v1", "m"]
    found = CliRunner().invoke(command, asked)
    assert isinstance(found.exception, FineTuneError)
    assert "BASE AGAINST TUNED" in found.stdout
    assert CliRunner().invoke(command, [*asked, "--json"]).stdout == ""


@pytest.mark.parametrize("option", ["--endpoint", "--judge"])
def test_a_server_that_cannot_be_reached_is_told_before_anything_is_measured(
    option: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = list[str]()
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path))
    monkeypatch.setattr(endpoint, "_PAUSES", (0.0,) * endpoint.TRIES)
    monkeypatch.setattr(runs, "evaluate_run", lambda *_, **__: measured.append("all"))
    found = CliRunner().invoke(command, ["run", option, "http://localhost:1/v1", "m"])
    assert isinstance(found.exception, FineTuneError)
    assert found.exception.code == "E06"
    assert not measured


def test_what_to_type_next_follows_the_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = sample.evaluation()
    monkeypatch.setattr(run_folder, "open_run", lambda _: (sample.plan(), None))
    for passed, verdict, command_next in ((True, "ready", "export"), (False, "not ready", "debug")):
        check = Check(
            name="answers end by themselves", passed=passed, detail="measured", fix=None if passed else "more data"
        )
        evaluation = measured.model_copy(update={"readiness": (check,)})
        assert evaluation.verdict == verdict
        monkeypatch.setattr(runs, "evaluate_run", lambda *_, found=evaluation, **__: found)
        shown = CliRunner().invoke(command, ["my run"]).stdout
        assert shown.endswith(f"\nNext: fine-tune {command_next} 'my run'\n")
    unsure = measured.model_copy(update={"readiness": (), "comparisons": (), "task_comparisons": ()})
    monkeypatch.setattr(runs, "evaluate_run", lambda *_, **__: unsure)
    shown = CliRunner().invoke(command, ["my run"]).stdout
    assert shown.endswith("where you know that it is good enough: fine-tune export 'my run' --anyway REASON\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "optimizer.learning_rate=1"], "only evaluation settings and precision.base_dtype"),
        (["--set", "precision.tf32=true"], "only evaluation settings and precision.base_dtype"),
        (["--harness-tasks", "tasks"], "--harness-tasks goes with --harness"),
        (["--suite-items", "100"], "--suite-items goes with --suites FOLDER or --harness TASK"),
    ],
)
def test_what_would_change_nothing_is_refused(options: list[str], says: str) -> None:
    found = CliRunner().invoke(command, ["run", *options])
    assert found.exit_code == 2
    assert says in " ".join(found.stderr.split())


@pytest.mark.parametrize("setting", ["precision.base_dtype=bfloat16", "evaluation.max_generations=3"])
def test_what_an_evaluation_may_change_reaches_it(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The readiness list itself advises the first."""
    asked: dict[str, Any] = {}

    def evaluate(*_: Any, **options: Any) -> Evaluation:
        asked.update(options)
        return sample.evaluation()

    monkeypatch.setattr(run_folder, "open_run", lambda _: (sample.plan(), None))
    monkeypatch.setattr(runs, "evaluate_run", evaluate)
    assert CliRunner().invoke(command, ["run", "--set", setting]).exit_code == 0
    settings = asked["settings"]
    assert settings is not None
    changed = {path for path, value, _ in settings.settings() if value != dict_of(sample.plan())[path]}
    assert changed == {setting.partition("=")[0]}


def dict_of(plan: Plan) -> dict[str, Any]:
    return {path: value for path, value, _ in plan.settings()}
