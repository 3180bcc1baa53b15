"""The split by groups, as properties."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.split import Shares, draw_rows, split_groups
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import FineTuneError

GROUPS = st.lists(st.integers(0, 30).map(str), min_size=3, max_size=200).filter(lambda groups: len(set(groups)) >= 3)
FRACTIONS = st.floats(0.01, 0.4)


def split(groups: list[str], validation: float = 0.1, test: float = 0.1, seed: int = 0) -> tuple[SplitName, ...]:
    return split_groups(groups, shares=Shares(validation, test), seed=seed)


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


@given(st.integers(300, 900), st.integers(1, 100), st.integers(0, 3))
def test_rows_that_are_added_move_only_those_near_a_border(rows: int, added: int, seed: int) -> None:
    before = split([str(n) for n in range(rows)], seed=seed)
    after = split([str(n) for n in range(rows + added)], seed=seed)
    moved = sum(one != other for one, other in zip(before, after[:rows], strict=True))
    borders = 2 * (1 + 4 * (added * 0.2 * 0.8) ** 0.5)  # each moves by what the added rows are off their share
    assert moved <= borders


@given(GROUPS, FRACTIONS, FRACTIONS, st.integers(0, 3), st.integers(1, 6))
def test_strata_change_neither_the_wholeness_of_groups_nor_the_shares(
    groups: list[str], validation: float, test: float, seed: int, count: int
) -> None:
    strata = [int(group) % count for group in groups]
    sides = split_groups(groups, shares=Shares(validation, test), seed=seed, strata=strata)
    assert len(set(zip(groups, sides, strict=True))) == len(set(groups))
    assert set(sides) == set(SPLITS)
    largest = max(Counter(groups).values())
    for name, share in (("validation", validation), ("test", test)):
        assert Counter(sides)[name] <= share * len(groups) + 2 * largest + 1  # type: ignore[index]


def test_every_stratum_has_its_share_on_every_side() -> None:
    strata = [0] * 700 + [1] * 250 + [2] * 50
    sides = split_groups([str(n) for n in range(1000)], shares=Shares(0.1, 0.2), seed=0, strata=strata)
    counts = Counter(zip(strata, sides, strict=True))
    for stratum, size in Counter(strata).items():
        assert abs(counts[stratum, "test"] - 0.2 * size) <= 1
        assert abs(counts[stratum, "validation"] - 0.1 * size) <= 1
    assert Counter(sides) == {"train": 700, "validation": 100, "test": 200}


def test_what_stands_nowhere_else_is_learned() -> None:
    strata = [0] * 40 + list(range(1, 11))
    sides = split_groups([str(n) for n in range(50)], shares=Shares(0.1, 0.1), seed=0, strata=strata)
    assert set(sides[40:]) == {"train"}


@pytest.mark.parametrize(("shares", "empty"), [(Shares(0, 0.2), "validation"), (Shares(0.2, 0), "test")])
def test_a_side_that_is_not_wanted_stays_empty(shares: Shares, empty: SplitName) -> None:
    counts = Counter(split_groups([str(n) for n in range(100)], shares=shares, seed=0))
    assert counts[empty] == 0
    assert counts["train"] == 80


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
