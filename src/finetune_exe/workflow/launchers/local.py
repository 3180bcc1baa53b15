"""In this process, on one device."""

from __future__ import annotations

from collections.abc import Callable

from finetune_exe.workflow.launchers.job import Job


class Local:
    """Trains here."""

    def script(self, job: Job) -> str:
        """Write the command itself."""
        return job.line("fine-tune") + "\n"

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Train in this process."""
        return job.here()
