"""A search for better settings: what was searched, what every trial came to, and whether it beat the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from finetune_exe.domain.document import Document, Value

Role = Literal["plan", "repeat", "search", "confirm"]
"""The plan as it stands; the same with a second seed; a suggestion; the best one with the second seed."""
Verdict = Literal["better", "within_noise", "plan_is_best", "cannot_tell"]


class SearchedSetting(Value):
    """One number of the plan that is searched over."""

    path: str
    """Dotted path of the setting in the plan."""
    planned: float
    """What the plan says."""
    low: float
    high: float
    """Bounds of the search: the plan's own interval, wide enough to hold what the plan says."""
    scale: Literal["linear", "log", "steps"]
    """Whether values are drawn evenly, evenly in their logarithm, or out of `choices`."""
    choices: tuple[float, ...] = ()
    """The values tried, rising, where the scale has steps."""
    whole: bool
    """Whether the setting takes whole numbers only."""

    def is_near_edge(self, value: float) -> bool:
        """Say whether a value lies in an outer tenth of the bounds, or is an outer one of the choices."""
        if self.choices:
            return value in (self.low, self.high)
        low, high, place = (
            math.log(number) if self.scale == "log" else number for number in (self.low, self.high, value)
        )
        return not 0.1 <= (place - low) / (high - low) <= 0.9


class StudyDesign(Document):
    """What a study was told to do; it stays the same when the study is resumed, but for more trials."""

    settings: tuple[SearchedSetting, ...]
    num_trials: int = Field(ge=2)
    """Different settings to try, the plan's own among them."""
    share: float = Field(gt=0, le=1)
    """Part of the plan's training steps that each trial makes."""


class Trial(Value):
    """One run of the plan with other values."""

    number: int
    """Counted from 0 in the order of their beginning; the trial's folder has this name."""
    role: Role
    values: dict[str, float]
    """The searched settings, by path."""
    state: Literal["finished", "pruned", "failed"]
    """Pruned ones were stopped because of what they showed; failed ones say nothing about their settings."""
    loss: float | None = None
    """Lowest validation loss, in nats; None unless it finished."""
    progress: float = 0.0
    """Part of its steps that it made."""
    seconds: float = 0.0
    reason: str | None = None
    """Why it did not finish."""


class Tuning(Document):
    """What a search came to."""

    name: str
    design: StudyDesign
    trials: tuple[Trial, ...]
    best: dict[str, float]
    """Advised values by path: those of the best trial where it is better beyond chance, the plan's otherwise."""
    verdict: Verdict
    gain: float | None = None
    """Validation loss of the plan less that of the best trial, both with the seed nothing was chosen on."""
    noise: float | None = None
    """Difference that two runs of equal settings exceed in one of ten cases; None where it was not measured."""
    importance: dict[str, float] = Field(default_factory=dict)
    """Share of the searched settings in what made trials good, by path; empty where too few trials finished."""

    @property
    def plan_loss(self) -> float | None:
        """Validation loss of the plan as it stands."""
        return loss_of(self.trials, "plan")

    @property
    def best_trial(self) -> Trial | None:
        """The trial with the lowest loss among those that the search could choose from."""
        return best_of(self.trials)

    @property
    def at_the_edge(self) -> tuple[str, ...]:
        """Name the settings whose best value lies in an outer tenth of what was searched."""
        best, settings = self.best_trial, self.design.settings
        return () if best is None else tuple(one.path for one in settings if one.is_near_edge(best.values[one.path]))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Choose the lowest loss among trials with the plan's seed; at a tie the plan, else the earliest."""
    chosen = losses(trials, "plan", "search")
    return min(chosen, key=lambda each: (each[1], each[0].number))[0] if chosen else None


def losses(trials: Sequence[Trial], *roles: Role) -> list[tuple[Trial, float]]:
    """List the trials of some roles that came to a loss, with it."""
    return [(trial, trial.loss) for trial in trials if trial.role in roles and trial.loss is not None]


def loss_of(trials: Sequence[Trial], role: Role) -> float | None:
    """Give the loss of the first trial of a role; None where it came to none."""
    return next((loss for _, loss in losses(trials, role)), None)
