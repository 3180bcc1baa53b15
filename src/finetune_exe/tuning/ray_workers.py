"""Trials on a Ray cluster: suggested and judged here, trained there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from finetune_exe.errors import FineTuneError
from finetune_exe.tuning.search import Judge
from finetune_exe.tuning.trials import Job, Outcome, Report

_POLL_SECONDS = 0.5


class _Mailbox:
    """Carries losses from the trials to the driver, and its word to stop back; it runs as a Ray actor."""

    def __init__(self) -> None:
        self._reports: list[tuple[int, int, float]] = []
        self._stopped: set[int] = set()

    def report(self, number: int, rung: int, loss: float) -> bool:
        self._reports.append((number, rung, loss))
        return number in self._stopped

    def take(self) -> list[tuple[int, int, float]]:
        reports, self._reports = self._reports, []
        return reports

    def stop(self, number: int) -> None:
        self._stopped.add(number)


class RayWorkers:
    """Runs trials at once on the connected cluster, each a Ray task; the word to stop reaches one at its next report.

    Args:
        run: Runs a job; it is sent to the machines, which must see the study's folder under the same path.
        num_workers: Trials at once.
        with_gpu: Give each trial one GPU; otherwise each gets its share of the processor cores.
    """

    def __init__(self, run: Callable[[Job, Report], Outcome], *, num_workers: int, with_gpu: bool) -> None:
        import ray

        there = ray.cluster_resources()
        self.capacity = min(num_workers, int(there.get("GPU", 0))) or 1 if with_gpu else num_workers
        cores = max(1, int(there.get("CPU", 1)) // self.capacity) if not with_gpu else 1
        self._mailbox: Any = ray.remote(num_cpus=0)(_Mailbox).remote()
        self._task: Any = ray.remote(num_cpus=cores, num_gpus=int(with_gpu), max_retries=0)(_run_there)
        self._run = run
        self._jobs: dict[Any, Job] = {}

    def start(self, job: Job) -> None:
        """Send a job to the cluster."""
        self._jobs[self._task.remote(self._run, job, self._mailbox)] = job

    def finish(self, judge: Judge) -> tuple[Job, Outcome]:
        """Wait for the next job to end, judging what the others report meanwhile."""
        import ray

        while True:
            ready, _ = ray.wait(list(self._jobs), num_returns=1, timeout=_POLL_SECONDS)
            for number, rung, loss in ray.get(self._mailbox.take.remote()):
                if judge(number, rung, loss):
                    self._mailbox.stop.remote(number)
            if ready:
                job = self._jobs.pop(ready[0])
                return job, _outcome(ready[0])


def _outcome(reference: Any) -> Outcome:
    """Fetch what a task came to; a worker that was killed, as for want of memory, is the result of its trial."""
    import ray

    try:
        result = ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as fault:
        return Outcome(state="pruned", reason=f"the worker died: {' '.join(str(fault).split())[:200]}")
    if isinstance(result, FineTuneError):
        raise result
    assert isinstance(result, Outcome)
    return result


def _run_there(run: Callable[[Job, Report], Outcome], job: Job, mailbox: Any) -> Outcome | FineTuneError:
    """Run a job on a worker; a fault the user can mend travels back as a value, whole."""
    import ray

    try:
        return run(job, lambda rung, loss: bool(ray.get(mailbox.report.remote(job.number, rung, loss))))
    except FineTuneError as fault:
        return fault
