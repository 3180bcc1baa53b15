"""How pairs of answers are ranked, as an event."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.events import Emit, PairsJudged
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.training.setup import Setup


def judge_pairs(setup: Setup, split: Literal["train", "validation"], step: int, emit: Emit, *, seconds: float) -> None:
    """Say how the pairs computed since the last call are ranked, where the objective has pairs."""
    margins = setup.losses.take_margins() if isinstance(setup.losses, PreferenceLoss) else None
    if margins is not None:
        emit(PairsJudged(seconds=seconds, step=step, split=split, accuracy=margins.accuracy, margin=margins.margin))
