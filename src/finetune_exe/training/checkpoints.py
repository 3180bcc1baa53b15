"""Checkpoints of a run: whole folders under `checkpoints/`, the best one always among them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from finetune_exe.atomic import new_folder
from finetune_exe.models.methods import TrainingMethod


class Checkpoints:
    """Saves what was learned at a step, keeping the best and the last few."""

    def __init__(self, run: Path, method: TrainingMethod, *, keep_last: int) -> None:
        self.folder = run / "checkpoints"
        self.method = method
        self.keep_last = keep_last
        self.steps: list[int] = []

    def path(self, step: int) -> Path:
        """Give the folder of a step's checkpoint."""
        return self.folder / f"step-{step}"

    def save(self, model: Any, step: int, *, best_step: int) -> Path:
        """Write a checkpoint in one piece, then remove those that are neither best nor recent."""
        with new_folder(self.path(step), overwrite=True) as work:
            try:
                self.method.save(model, work)
            except SafetensorError as fault:
                raise OSError(errno.EIO, str(fault), str(work)) from fault
        self.steps.append(step)
        recent = self.steps[-self.keep_last :]
        for old in [kept for kept in self.steps if kept not in recent and kept != best_step]:
            shutil.rmtree(self.path(old))
            self.steps.remove(old)
        return self.path(step)
