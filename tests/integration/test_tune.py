"""A study on a model made on the spot: what it leaves behind, how it goes on, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Done, FineTune, contents
from tests.tiny import write_rows

from finetune_exe.domain.events import StepFinished, read_events
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.tuning import Tuning
from finetune_exe.errors import EXISTS, GATE, INTERRUPTED, MISSING, OK, USAGE, FineTuneError
from finetune_exe.tuning import trials
from finetune_exe.tuning.trials import Job
from finetune_exe.workflow.tuning import StudyFolder, TrialRunner

pytest.importorskip("optuna")

SETTINGS = ("data.group_by=topic", "precision.base_dtype=float32", "schedule.epochs=1")
RATE = "optimizer.learning_rate"


@pytest.fixture
def plan(fine_tune: FineTune, tiny_model: Path, tmp_path: Path) -> Path:
    """Write a plan for sixty short rows."""
    write_rows(tmp_path / "rows.jsonl")
    options = [option for setting in SETTINGS for option in ("--set", setting)]
    done = fine_tune("analyze", "reply to requests", "--data", "rows.jsonl", "--model", tiny_model, *options)
    assert done.status == OK, done.err
    return tmp_path / "plan.yaml"


@pytest.fixture
def train_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Stand before the training loop: note each learning rate, and let a trial meet a fault."""
    from finetune_exe.training import loop

    real = loop.train

    def stand(faults: dict[int, BaseException] | None = None, *, always: BaseException | None = None) -> list[float]:
        rates: list[float] = []

        def train(plan: Any, *arguments: Any, **named: Any) -> Any:
            rates.append(plan.optimizer.learning_rate)
            fault = always or (faults or {}).get(len(rates) - 1)
            if fault is not None:
                raise fault
            return real(plan, *arguments, **named)

        monkeypatch.setattr(loop, "train", train)
        return rates

    return stand


def study_of(done: Done) -> Tuning:
    assert done.status == OK, done.err
    return Tuning.model_validate_json(json.dumps(done.json["tuning"]))


def refused(done: Done, *, status: int, code: str) -> str:
    assert done.status == status, done.err
    assert f"error[FT-{code}]" in done.err
    return done.err


def test_a_study_from_beginning_to_end(fine_tune: FineTune, plan: Path, tmp_path: Path) -> None:
    tuning = study_of(fine_tune("tune", plan, "--trials", "5", "--json"))
    study = StudyFolder(tmp_path / "studies" / "plan")
    base, tuned = read_plan(plan), read_plan(study.tuned)
    first = tuning.trials[0]
    assert (first.role, first.values[RATE]) == ("plan", base.optimizer.learning_rate)
    interval = base.decisions[RATE].interval
    assert interval is not None
    for trial in tuning.trials:
        run = study.trial(trial.number)
        assert interval.low <= trial.values[RATE] <= interval.high
        assert read_plan(run.plan).optimizer.learning_rate == trial.values[RATE]
        assert read_plan(run.plan).seed == base.seed + (trial.role in ("repeat", "confirm"))
        assert run.events.is_file()
        assert not list(run.path.rglob("*.safetensors"))
    assert len(list(study.path.rglob("manifest.json"))) == 1
    assert tuned.decisions[RATE].source.startswith("measured: ")
    assert tuned.decisions[RATE].value == tuned.optimizer.learning_rate == tuning.best[RATE]
    assert tuned.changed_by_user() == base.changed_by_user()
    assert tuning.plan_loss is not None
    assert tuning.best_trial is not None
    assert (tuning.best_trial.loss or 0) <= tuning.plan_loss
    assert "history" in study.report.read_text(encoding="utf-8")
    assert Tuning.read(study.result) == tuning


def test_ctrl_c_leaves_a_study_that_goes_on_without_repeating(
    fine_tune: FineTune, plan: Path, train_calls: Callable[..., list[float]]
) -> None:
    before = train_calls({2: KeyboardInterrupt()})
    done = fine_tune("tune", plan, "--trials", "4", "--over", RATE)
    assert done.status == INTERRUPTED
    assert "--resume" in done.err
    after = train_calls()
    tuning = study_of(fine_tune("tune", plan, "--resume", "--json"))
    ended = [trial for trial in tuning.trials if trial.state != "failed"]
    assert [trial.values[RATE] for trial in ended] == [*before[:2], *after]
    assert after[0] == before[2]
    assert [trial.role for trial in ended][:3] == ["plan", "repeat", "search"]
    again = train_calls()
    assert study_of(fine_tune("tune", plan, "--resume", "--json")).trials == tuning.trials
    assert again == []


def test_a_trial_that_fails_is_kept_with_its_reason(
    fine_tune: FineTune, plan: Path, train_calls: Callable[..., list[float]]
) -> None:
    nan = FineTuneError("T01", what="the loss is nan", where="w", why="y", fix="f")
    train_calls({2: nan, 3: RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")})
    tuning = study_of(fine_tune("tune", plan, "--trials", "4", "--over", RATE, "--json"))
    assert [(trial.state, trial.reason) for trial in tuning.trials[2:4]] == [
        ("pruned", "the loss is nan"), ("pruned", "out of memory"),
    ]  # fmt: skip


def test_a_plan_that_cannot_be_trained_has_no_result(
    fine_tune: FineTune, plan: Path, train_calls: Callable[..., list[float]]
) -> None:
    train_calls(always=MemoryError())
    error = refused(fine_tune("tune", plan, "--trials", "4"), status=GATE, code="S01")
    assert "out of memory" in error


def test_a_pruned_trial_makes_fewer_steps(fine_tune: FineTune, plan: Path, tmp_path: Path, tiny_model: Path) -> None:
    assert fine_tune("tune", plan, "--trials", "2", "--over", RATE).status == OK
    study = StudyFolder(tmp_path / "studies" / "plan")
    job = Job(number=90, role="search", values={RATE: 3e-4}, second_seed=False)
    runner = TrialRunner(study=study.path, base=tiny_model, share=1.0)
    outcome = runner(job, lambda rung, loss: rung >= 4)
    steps = [event for event in read_events(study.trial(90).events) if isinstance(event, StepFinished)]
    assert outcome.state == "pruned"
    assert 0.4 <= outcome.progress < 1
    assert len(steps) < steps[0].num_steps
    half = TrialRunner(study=study.path, base=tiny_model, share=0.5)(job, lambda rung, loss: False)
    assert half.state == "finished"
    longer = steps[0].num_steps
    steps = [event for event in read_events(study.trial(90).events) if isinstance(event, StepFinished)]
    assert len(steps) == steps[0].num_steps <= longer / 2 + 1


def test_what_cannot_be_searched_is_refused_and_leaves_nothing(fine_tune: FineTune, plan: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    error = refused(fine_tune("tune", plan, "--over", "optimizer.lerning_rate"), status=USAGE, code="C12")
    assert "did you mean optimizer.learning_rate?" in error
    assert "no interval" in refused(fine_tune("tune", plan, "--over", "optimizer.beta1"), status=USAGE, code="C12")
    assert "--minutes" in refused(fine_tune("tune", plan, "--minutes", "0.01"), status=GATE, code="C14")
    assert "no study" in refused(fine_tune("tune", plan, "--resume"), status=USAGE, code="C13")
    assert contents(tmp_path) == before


def test_a_study_is_neither_overwritten_nor_mixed(fine_tune: FineTune, plan: Path) -> None:
    assert fine_tune("tune", plan, "--trials", "2", "--over", RATE).status == OK
    refused(fine_tune("tune", plan), status=EXISTS, code="O01")
    changed = fine_tune("tune", plan, "--resume", "--set", "schedule.epochs=2")
    assert "schedule.epochs" in refused(changed, status=USAGE, code="C13")
    other = fine_tune("tune", plan, "--resume", "--over", "method.lora_rank")
    assert RATE in refused(other, status=USAGE, code="C13")


def test_without_optuna_the_message_is_what_to_type(
    fine_tune: FineTune, plan: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(trials, "find_spec", lambda name: None if name == "optuna" else find(name))
    error = refused(fine_tune("tune", plan, "--trials", "2"), status=MISSING, code="X01")
    assert 'pip install "finetune-exe[tune]"' in error
    assert contents(tmp_path) == before


def test_a_study_on_ray_gives_what_one_here_gives(fine_tune: FineTune, plan: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    here = study_of(fine_tune("tune", plan, "--trials", "3", "--over", RATE, "--json"))
    options = ("--on", "ray", "--workers", "2", "--study", "there", "--json")
    there = study_of(fine_tune("tune", plan, "--trials", "3", "--over", RATE, *options))
    assert [trial.role for trial in there.trials[:2]] == ["plan", "repeat"]
    assert {trial.role: trial.loss for trial in there.trials if trial.role in ("plan", "repeat")} == pytest.approx(
        {trial.role: trial.loss for trial in here.trials if trial.role in ("plan", "repeat")}, rel=1e-4
    )
    assert sum(trial.role in ("plan", "search") for trial in there.trials) == 3
    assert (tmp_path / "there" / "tuned.yaml").is_file()
