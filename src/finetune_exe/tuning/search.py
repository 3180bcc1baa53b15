"""The order of a study: the plan first, its noise, what is suggested, and the best once more."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from finetune_exe.domain.tuning import StudyDesign, Trial, best_of
from finetune_exe.errors import FineTuneError
from finetune_exe.tuning.trials import Job, Outcome, Report, TrialStore

RunTrial = Callable[[Job, Report], Outcome]
"""Runs a job to its end, reporting on the way."""
Judge = Callable[[int, int, float], bool]
"""Told a trial's number, the tenth of the run that is done and the lowest loss; True means: go no further."""


class Workers(Protocol):
    """Where trials run."""

    @property
    def capacity(self) -> int:
        """Count the trials that run at once."""

    def start(self, job: Job) -> None:
        """Begin a job; no more than `capacity` are under way."""

    def finish(self, judge: Judge) -> tuple[Job, Outcome]:
        """Wait until a job has ended, asking `judge` on the way whether one shall stop."""


class LocalWorker:
    """Runs one trial after the other in this process."""

    capacity = 1

    def __init__(self, run: RunTrial) -> None:
        self._run = run
        self._job: Job | None = None

    def start(self, job: Job) -> None:
        """Take the job that `finish` runs."""
        self._job = job

    def finish(self, judge: Judge) -> tuple[Job, Outcome]:
        """Run the job."""
        job = self._job
        assert job is not None
        return job, self._run(job, lambda rung, loss: judge(job.number, rung, loss))


def search(
    store: TrialStore,
    workers: Workers,
    design: StudyDesign,
    *,
    seconds: float | None = None,
    told: Callable[[Trial], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Run what the study still lacks.

    The plan as it stands is the first trial. The same with a second seed follows, then suggestions; at the end the
    best of them runs with the second seed, on which nothing was chosen, so that its gain is not the luck of the best
    of many.

    Args:
        store: The trials so far.
        workers: Where trials run.
        design: What is searched.
        seconds: No trial begins that would not end in this time, judged by those that have.
        told: Shown each trial that has ended.
        clock: Seconds from a fixed start.
    """
    started = clock()
    running: list[Job] = []
    while True:
        while len(running) < workers.capacity:
            left = None if seconds is None else seconds - (clock() - started)
            job = _next_job(store, design, running, seconds_left=left)
            if job is None:
                break
            running.append(job)
            workers.start(job)
        if not running:
            return
        try:
            job, outcome = workers.finish(store.judge)
        except (KeyboardInterrupt, FineTuneError):
            for job in running:
                store.tell(job, Outcome(state="failed", reason="the study was interrupted"))
            raise
        running.remove(job)
        told(store.tell(job, outcome))


def _next_job(store: TrialStore, design: StudyDesign, running: list[Job], *, seconds_left: float | None) -> Job | None:
    """Choose what is run next; None where nothing is left, or something has to end first."""
    if seconds_left is not None and seconds_left <= 0:
        return None
    known = [trial for trial in store.trials if trial.state != "failed"]
    planned = {setting.path: setting.planned for setting in design.settings}
    begun = [*(trial.role for trial in known), *(job.role for job in running)]
    if "plan" not in begun:
        return store.ask("plan", values=planned, max_seconds=seconds_left)
    if any(trial.role == "plan" and trial.loss is None for trial in known):
        return None
    if "repeat" not in begun:
        return store.ask("repeat", values=planned, max_seconds=seconds_left)
    if sum(role in ("plan", "search") for role in begun) < design.num_trials and _affordable(known, seconds_left):
        job = store.ask("search", max_seconds=seconds_left)
        if job is not None:
            return job
    best = best_of(known)
    if running or best is None or best.role == "plan":
        return None
    if any(trial.role == "confirm" and trial.values == best.values for trial in known):
        return None
    return store.ask("confirm", values=best.values, max_seconds=seconds_left)


def _affordable(known: list[Trial], seconds_left: float | None) -> bool:
    """Say whether one more trial fits, and the confirmation behind it."""
    if seconds_left is None or not known:
        return True
    return 2 * max(trial.seconds for trial in known) <= seconds_left
