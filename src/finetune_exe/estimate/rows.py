"""How long the rows of a plan are, in tokens, judged from their characters."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import DataProfile
from finetune_exe.domain.values import Interval
from finetune_exe.knowledge.rules import rule


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """Rows on each side of the split."""

    train: int
    validation: int
    test: int


def split_sizes(plan: Plan, profile: DataProfile) -> SplitSizes:
    """Share out the profiled rows as the plan says."""
    rows = profile.num_rows if plan.data.max_rows is None else min(profile.num_rows, plan.data.max_rows)
    validation, test = round(rows * plan.data.validation_fraction), round(rows * plan.data.test_fraction)
    return SplitSizes(train=max(0, rows - validation - test), validation=validation, test=test)


def row_tokens(plan: Plan, profile: DataProfile) -> Interval:
    """Guess the mean length of a row in tokens."""
    return tokens_of(profile.row_characters_mean, longest=plan.data.max_length)


def tokens_of(characters: float, *, longest: float) -> Interval:
    """Turn characters into tokens, none above `longest`."""
    a_token = rule("characters_per_token")
    return Interval(
        low=min(longest, characters / a_token["high"]),
        mid=min(longest, characters / a_token["mid"]),
        high=min(longest, characters / a_token["low"]),
    )


def learned_share(profile: DataProfile | None) -> Interval:
    """Guess the share of a row's tokens that are learned: its answer's, or all of a text."""
    if profile is None:
        return Interval(low=0.1, mid=0.5, high=1.0)
    if profile.format == "completion":
        return Interval(low=1.0, mid=1.0, high=1.0)
    turns = max(1.0, profile.num_turns_mean / 2)
    answer = profile.answer_characters_p50 * turns
    share = min(1.0, answer / max(1.0, profile.row_characters_mean, answer))
    return Interval(low=share / 2, mid=share, high=min(1.0, 2 * share + 0.1))
