"""Trials on a Ray cluster of this machine: at once, stopped from afar, and their faults brought back whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_exe.domain.tuning import SearchedSetting, StudyDesign
from finetune_exe.errors import FineTuneError
from finetune_exe.tuning.ray_workers import RayWorkers
from finetune_exe.tuning.search import search
from finetune_exe.tuning.trials import Job, Outcome, Report, TrialStore

ray = pytest.importorskip("ray")
pytest.importorskip("optuna")

RATE = SearchedSetting(path="rate", planned=0.5, low=0.0, high=1.0, scale="linear", whole=False)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield
    ray.shutdown()


def bowl(job: Job, report: Report) -> Outcome:
    """Play a run of ten steps; job 97 is never good, 98 breaks, 99 takes its process with it."""
    if job.number == 98:
        raise FineTuneError("D01", what="w", where="x", why="y", fix="z")
    if job.number == 99:
        os._exit(1)
    loss = (job.values["rate"] - 0.3) ** 2
    for rung in range(1, 11):
        time.sleep(0.1 if job.number == 97 else 0)
        if report(rung, loss):
            return Outcome(state="pruned", progress=rung / 10, reason="stopped")
    return Outcome(state="finished", loss=loss, progress=1.0)


def job(number: int) -> Job:
    return Job(number=number, role="search", values={"rate": 0.9}, second_seed=False)


def test_a_study_runs_two_at_once(tmp_path: Path) -> None:
    workers = RayWorkers(bowl, num_workers=2, with_gpu=False)
    assert workers.capacity == 2
    design = StudyDesign(settings=(RATE,), num_trials=8, share=1.0)
    store = TrialStore(tmp_path, design.settings, seed=0)
    search(store, workers, design, told=lambda trial: None)
    roles = [trial.role for trial in store.trials]
    assert roles[:2] == ["plan", "repeat"]
    assert (roles.count("search"), roles[-1]) == (7, "confirm")
    searched = [trial.values["rate"] for trial in store.trials if trial.role == "search"]
    assert len(set(searched)) == 7


def test_a_trial_is_stopped_by_the_driver_and_faults_come_back() -> None:
    workers = RayWorkers(bowl, num_workers=1, with_gpu=False)
    workers.start(job(97))
    ended, outcome = workers.finish(lambda number, rung, loss: number == 97 and rung >= 2)
    assert (ended.number, outcome.state) == (97, "pruned")
    assert outcome.progress < 1
    workers.start(job(98))
    with pytest.raises(FineTuneError, match="FT-D01"):
        workers.finish(lambda *report: False)
    workers.start(job(99))
    _, outcome = workers.finish(lambda *report: False)
    assert (outcome.state, "died" in (outcome.reason or "")) == ("pruned", True)
