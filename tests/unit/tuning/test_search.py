"""The search alone, on losses that are computed: it stays inside, starts with the plan, and goes on where it was cut."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from finetune_exe.domain.tuning import SearchedSetting, StudyDesign, Trial, best_of
from finetune_exe.tuning.search import LocalWorker, search
from finetune_exe.tuning.trials import JOURNAL, RUNGS, Job, Outcome, Report, TrialStore
from finetune_exe.tuning.verdict import conclude, seed_noise

pytest.importorskip("optuna")

RATE = SearchedSetting(path="optimizer.learning_rate", planned=1e-3, low=1e-5, high=1e-2, scale="log", whole=False)
RANK = SearchedSetting(
    path="method.lora_rank", planned=16, low=8, high=64, scale="steps", choices=(8, 16, 32, 64), whole=True
)
EPOCHS = SearchedSetting(path="schedule.epochs", planned=2.5, low=1, high=5, scale="linear", whole=False)
OPTIMUM = 1e-4


def loss_of(job: Job) -> float:
    """A bowl whose lowest point is at a learning rate of 1e-4; the second seed adds a little."""
    away = math.log10(job.values["optimizer.learning_rate"] / OPTIMUM)
    return 2.0 + 0.1 * away**2 + 0.001 * job.second_seed


class Trainer:
    """Plays a run in ten steps, and counts them."""

    def __init__(self, loss: Callable[[Job], float] = loss_of) -> None:
        self.loss = loss
        self.jobs: list[Job] = []
        self.steps: list[int] = []

    def __call__(self, job: Job, report: Report) -> Outcome:
        self.jobs.append(job)
        self.steps.append(0)
        for rung in range(1, RUNGS + 1):
            self.steps[-1] += 1
            if report(rung, self.loss(job) + 1.0 / rung):
                return Outcome(state="pruned", progress=rung / RUNGS, seconds=rung, reason="above the median")
        return Outcome(state="finished", loss=self.loss(job), progress=1.0, seconds=10.0)


def design_of(*settings: SearchedSetting, num_trials: int = 12) -> StudyDesign:
    return StudyDesign(settings=settings, num_trials=num_trials, share=1.0)


def run(folder: Path, design: StudyDesign, trainer: Trainer, *, seed: int = 0, **limits: float) -> tuple[Trial, ...]:
    folder.mkdir(exist_ok=True)
    store = TrialStore(folder, design.settings, seed=seed)
    search(store, LocalWorker(trainer), design, told=lambda trial: None, **limits)
    return store.trials


def test_the_plan_is_first_its_noise_second_and_the_best_is_confirmed(tmp_path: Path) -> None:
    trials = run(tmp_path, design_of(RATE, RANK), Trainer())
    assert [trial.role for trial in trials[:2]] == ["plan", "repeat"]
    assert {trial.role for trial in trials[2:-1]} == {"search"}
    assert trials[0].values == trials[1].values == {RATE.path: RATE.planned, RANK.path: RANK.planned}
    best = best_of(trials)
    assert best is not None
    assert (trials[-1].role, trials[-1].values) == ("confirm", best.values)
    assert sum(trial.role in ("plan", "search") for trial in trials) == 12


@pytest.mark.parametrize("seed", range(4))
def test_a_known_optimum_is_found(tmp_path: Path, seed: int) -> None:
    trials = run(tmp_path, design_of(RATE, RANK, num_trials=20), Trainer(), seed=seed)
    best = best_of(trials)
    assert best is not None
    assert abs(math.log10(best.values[RATE.path] / OPTIMUM)) < 0.5
    tuning = conclude(design_of(RATE, RANK), trials, name="s")
    assert tuning.verdict == "better"
    assert tuning.best == best.values


@pytest.mark.parametrize("seed", range(4))
def test_nothing_outside_the_bounds_or_twice_is_suggested(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    trials = run(tmp_path, design_of(RATE, RANK, EPOCHS, num_trials=20), Trainer(lambda job: rng.random()), seed=seed)
    searched = [trial for trial in trials if trial.role in ("plan", "search")]
    for trial in searched:
        assert RATE.low <= trial.values[RATE.path] <= RATE.high
        assert trial.values[RANK.path] in RANK.choices
        assert EPOCHS.low <= trial.values[EPOCHS.path] <= EPOCHS.high
    assert len({tuple(trial.values.items()) for trial in searched}) == len(searched) == 20


def test_a_small_space_is_searched_once(tmp_path: Path) -> None:
    trials = run(tmp_path, design_of(RANK, num_trials=12), Trainer(lambda job: job.values[RANK.path]))
    searched = [trial.values[RANK.path] for trial in trials if trial.role in ("plan", "search")]
    assert sorted(searched) == [8, 16, 32, 64]


def test_a_bad_trial_is_cut_short_and_a_good_one_is_not(tmp_path: Path) -> None:
    trainer = Trainer()
    trials = run(tmp_path, design_of(RATE, num_trials=16), trainer)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert pruned
    assert all(trainer.steps[trial.number] < RUNGS for trial in pruned)
    finished = sorted(trial.loss for trial in trials if trial.loss is not None and trial.role != "confirm")
    assert all(loss_of(trainer.jobs[trial.number]) > finished[len(finished) // 2] for trial in pruned[-1:])
    assert all(trial.state == "finished" for trial in trials if trial.role != "search")


class Killed(BaseException):
    """Ends the process, as far as the study can see."""


@pytest.mark.parametrize("after", [0, 1, 4])
def test_a_study_cut_short_goes_on_as_if_it_had_not_been(tmp_path: Path, after: int) -> None:
    design = design_of(RATE, RANK, num_trials=8)
    whole = run(tmp_path / "whole", design, Trainer())

    def dies(job: Job) -> float:
        if job.number == after:
            raise Killed
        return loss_of(job)

    with pytest.raises(Killed):
        run(tmp_path / "cut", design, Trainer(dies))
    with (tmp_path / "cut" / JOURNAL).open("a") as journal:
        journal.write('{"op_code": 6, "tri')
    trainer = Trainer()
    resumed = run(tmp_path / "cut", design, trainer)
    assert [(job.role, job.values) for job in trainer.jobs] == [(t.role, t.values) for t in whole[after:]]
    ended = [(trial.role, trial.values, trial.loss) for trial in resumed if trial.state != "failed"]
    assert ended == [(trial.role, trial.values, trial.loss) for trial in whole]
    assert not run(tmp_path / "cut", design, Trainer())[len(resumed) :]


def test_values_that_kill_the_process_twice_are_given_up(tmp_path: Path) -> None:
    design = design_of(RATE, num_trials=6)

    def dies(job: Job) -> float:
        if job.role == "search" and job.number in (2, 3):
            raise Killed
        return loss_of(job)

    for _ in range(2):
        with pytest.raises(Killed):
            run(tmp_path, design, Trainer(dies))
    trials = run(tmp_path, design, Trainer(dies))
    assert [trial.state for trial in trials[2:4]] == ["failed", "pruned"]
    assert trials[2].values == trials[3].values != trials[4].values
    assert "died" in (trials[3].reason or "")


def test_an_interrupted_trial_is_never_given_up(tmp_path: Path) -> None:
    def interrupted(job: Job) -> float:
        if job.role == "search":
            raise KeyboardInterrupt
        return loss_of(job)

    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, design_of(RATE, num_trials=4), Trainer(interrupted))
    trials = run(tmp_path, design_of(RATE, num_trials=4), Trainer())
    assert [trial.state for trial in trials[2:6]] == ["failed", "failed", "failed", "finished"]
    assert trials[2].values == trials[5].values


def test_a_trial_cut_off_in_the_making_is_passed_over(tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    run(tmp_path, design_of(RATE, num_trials=2), Trainer())
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / JOURNAL)))
    study = optuna.load_study(study_name="tune", storage=storage)
    study.ask()
    study.enqueue_trial({RATE.path: 5e-3}, user_attrs={"role": "confirm"})
    trials = run(tmp_path, design_of(RATE, num_trials=4), Trainer())
    assert sum(trial.role in ("plan", "search") for trial in trials) == 4
    assert not any(trial.values[RATE.path] == 5e-3 for trial in trials)


def test_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    first = run(tmp_path, design_of(RATE, num_trials=5), Trainer())
    trainer = Trainer()
    run(tmp_path, design_of(RATE, num_trials=8), trainer)
    assert len(first) == 7
    assert [job.role for job in trainer.jobs][:3] == ["search"] * 3
    assert not any(job.role in ("plan", "repeat") for job in trainer.jobs)


def test_no_trial_begins_that_would_not_end_in_time(tmp_path: Path) -> None:
    now = [0.0]

    def timed(job: Job) -> float:
        now[0] += 1.0
        return loss_of(job)

    store = TrialStore(tmp_path, (RATE,), seed=0)
    search(store, LocalWorker(Trainer(timed)), design_of(RATE, num_trials=50), seconds=100.0,
           told=lambda trial: None, clock=lambda: now[0])  # fmt: skip
    assert now[0] <= 100
    assert [trial.role for trial in store.trials].count("search") >= 3
    assert best_of(store.trials) is not None


def test_the_journal_is_lines_of_json(tmp_path: Path) -> None:
    run(tmp_path, design_of(RATE, num_trials=3), Trainer())
    assert all(json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines())


def test_what_matters_is_told_from_what_does_not(tmp_path: Path) -> None:
    run(tmp_path, design_of(RATE, EPOCHS, num_trials=20), Trainer())
    importance = TrialStore(tmp_path, (RATE, EPOCHS), seed=0).importance()
    assert importance[RATE.path] > importance[EPOCHS.path]
    assert sum(importance.values()) == pytest.approx(1)


def trials_of(plan: float, repeat: float, searched: list[float], confirm: float) -> tuple[Trial, ...]:
    """Make up a study whose settings are numbered."""
    made = [("plan", 0, plan), ("repeat", 0, repeat)]
    made += [("search", number + 1, loss) for number, loss in enumerate(searched)]
    lowest = min(range(len(searched)), key=searched.__getitem__)
    if searched[lowest] < plan:
        made.append(("confirm", lowest + 1, confirm))
    return tuple(
        Trial.model_validate({"number": number, "role": role, "values": {RATE.path: float(value)},
                              "state": "finished", "loss": loss})
        for number, (role, value, loss) in enumerate(made)
    )  # fmt: skip


def share_called_better(*, gain: float, count: int, studies: int = 1500) -> float:
    """Simulate studies whose losses have unit noise, in which one trial is truly better by `gain`."""
    rng = np.random.default_rng(5)
    better = 0
    for _ in range(studies):
        truth = [0.0] * (count - 1) + [-gain]
        searched = [mean + rng.normal() for mean in truth]
        lowest = min(range(count), key=searched.__getitem__)
        trials = trials_of(rng.normal(), rng.normal(), searched, truth[lowest] + rng.normal())
        better += conclude(design_of(RATE), trials, name="s").verdict == "better"
    return better / studies


@pytest.mark.parametrize("count", [4, 20])
def test_luck_is_seldom_called_better_and_a_large_gain_mostly_is(count: int) -> None:
    assert share_called_better(gain=0, count=count) < 0.14
    assert share_called_better(gain=8, count=count) > 0.95


def test_noise_is_that_of_equal_settings() -> None:
    trials = trials_of(2.0, 2.1, [1.5, 3.0], 1.5)
    assert seed_noise(trials) == pytest.approx(1.886 * math.sqrt((0.1**2 + 0.0**2) / 2))
    assert seed_noise(trials[:1]) is None
    assert conclude(design_of(RATE), trials[:1], name="s").verdict == "plan_is_best"
    unconfirmed = tuple(trial for trial in trials if trial.role != "confirm")
    assert conclude(design_of(RATE), unconfirmed, name="s").verdict == "cannot_tell"
