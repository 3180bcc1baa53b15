"""The split by groups, as properties."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.split import draw_rows, split_groups
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import FineTuneError

GROUPS = st.lists(st.integers(0, 30).map(str), min_size=3, max_size=200).filter(lambda groups: len(set(groups)) >= 3)
FRACTIONS = st.floats(0.01, 0.4)


def split(groups: list[str], validation: float = 0.1, test: float = 0.1, seed: int = 0) -> tuple[SplitName, ...]:
    return split_groups(groups, validation_fraction=validation, test_fraction=test, seed=seed)


@given(GROUPS, FRACTIONS, FRACTIONS, st.integers(0, 3))
def test_a_group_is_on_one_side_and_no_side_is_empty(
    groups: list[str], validation: float, test: float, seed: int
) -> None:
    sides = split(groups, validation, test, seed)
    assert len(set(zip(groups, sides, strict=True))) == len(set(groups))
    assert set(sides) == set(SPLITS)


@given(GROUPS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_plays_no_part(groups: list[str], random: object) -> None:
    shuffled = sorted(groups, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert dict(zip(groups, split(groups), strict=True)) == dict(zip(shuffled, split(shuffled), strict=True))


@given(GROUPS, FRACTIONS, FRACTIONS)
def test_shares_are_missed_by_less_than_a_group_and_a_row(groups: list[str], validation: float, test: float) -> None:
    counts = Counter(split(groups, validation, test))
    largest = max(Counter(groups).values())
    for name, share in (("validation", validation), ("test", test)):
        assert counts[name] <= share * len(groups) + largest + 1  # type: ignore[index]


def test_single_rows_meet_the_shares_exactly() -> None:
    counts = Counter(split([str(n) for n in range(1000)]))
    assert counts == {"train": 800, "validation": 100, "test": 100}


def test_the_seed_decides() -> None:
    groups = [str(n) for n in range(100)]
    assert split(groups, seed=1) == split(groups, seed=1) != split(groups, seed=2)


def test_two_groups_are_refused() -> None:
    with pytest.raises(FineTuneError) as caught:
        split(["a", "b", "a"])
    assert caught.value.code == "D04"


@given(GROUPS, st.integers(3, 250), st.integers(0, 3))
def test_a_draw_has_the_rows_asked_for_and_is_spread_over_groups(groups: list[str], max_rows: int, seed: int) -> None:
    drawn = draw_rows(groups, max_rows=max_rows, seed=seed)
    assert drawn == draw_rows(groups, max_rows=max_rows, seed=seed)
    assert sum(drawn) == min(max_rows, len(groups))
    chosen = {group for group, taken in zip(groups, drawn, strict=True) if taken}
    assert len(chosen) >= 3
    if len(groups) <= max_rows:
        assert all(drawn)
