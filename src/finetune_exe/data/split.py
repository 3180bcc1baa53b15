"""Draw rows, and share them out to train, validation and test by whole groups."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import FineTuneError

MIN_GROUPS_DRAWN = 100
"""A draw takes rows from so many groups or more, where there are so many: what is measured per group needs many."""


class Shares(NamedTuple):
    """Shares of the rows wanted for validation and test."""

    validation: float
    test: float


def draw_rows(groups: Sequence[str], *, max_rows: int, seed: int) -> tuple[bool, ...]:
    """Choose `max_rows` rows, or all where there are fewer, group after group in random order.

    In one round no group gives more than a two-hundredth of the draw, or an even share of it where there are fewer
    groups; further rounds follow only where that is too little.

    Args:
        groups: The group of every row.
        max_rows: Most rows to choose.
        seed: Another seed is another draw.
    """
    if len(groups) <= max_rows:
        return (True,) * len(groups)
    members: dict[str, list[int]] = {}
    for index in sorted(range(len(groups)), key=lambda number: _rank(str(number), seed)):
        members.setdefault(groups[index], []).append(index)
    order = sorted(members, key=lambda name: _rank(name, seed))
    share = max(1, max_rows // min(MIN_GROUPS_DRAWN, len(members)))
    chosen: set[int] = set()
    for start in range(0, len(groups), share):
        for group in order:
            chosen.update(members[group][start : start + min(share, max_rows - len(chosen))])
        if len(chosen) == max_rows:
            break
    return tuple(index in chosen for index in range(len(groups)))


def split_groups(
    groups: Sequence[str], *, shares: Shares, seed: int, strata: Sequence[int] | None = None
) -> tuple[SplitName, ...]:
    """Give every row its side, so that rows of one group are on one side.

    Groups stand in an order drawn by the seed and their names; of each stratum, the first are tested, the next
    validate, the rest are learned. So the order of the rows plays no part, and rows that are added later move only
    groups near a border: most stay where they were. No side that is wanted stays empty.

    Args:
        groups: The group of every row.
        shares: What is wanted; a share of 0 is a side that gets no row.
        seed: Another seed is another split.
        strata: The stratum of every row, each of which is shared out alike; a group belongs to that of most its rows.

    Raises:
        FineTuneError: D04 where there are fewer groups than sides.
    """
    sizes = Counter(groups)
    wanted = [name for name in SPLITS if name == "train" or getattr(shares, name)]
    if len(sizes) < len(wanted):
        raise FineTuneError(
            "D04",
            what=f"{len(groups):,} rows in {len(sizes)} groups cannot be split in {', '.join(wanted)}",
            where="data.group_by",
            why="a group stays whole, so each side needs one at least; rows that are nearly the same are one group",
            fix="group by another column or by none (--set data.group_by=null), or add data",
        )
    ranks = {group: _rank(group, seed) for group in sizes}
    members: dict[int, list[str]] = {}
    for group, stratum in _strata_of(groups, strata or [0] * len(groups)).items():
        members.setdefault(stratum, []).append(group)
    side: dict[str, SplitName] = {}
    owed = Shares(0.0, 0.0)
    for stratum in sorted(members):
        ordered = sorted(members[stratum], key=ranks.__getitem__)
        owed = _share_out(ordered, sizes, shares, owed, side)
    for name in wanted:
        if name not in side.values():
            side[_spare(side, sizes, ranks)] = name
    return tuple(side[group] for group in groups)


def _share_out(
    ordered: Sequence[str], sizes: Mapping[str, int], shares: Shares, owed: Shares, side: dict[str, SplitName]
) -> Shares:
    """Divide one stratum, and give what the next ones owe to each side: what it got too little, or too much, so far.

    A group that is a stratum by itself is learned: what stands nowhere else can be tested, but not without learning it.
    """
    total = sum(sizes[group] for group in ordered)
    want = Shares(shares.validation * total + owed.validation, shares.test * total + owed.test)
    got: Counter[SplitName] = Counter()
    passed = 0
    for group in ordered:
        middle = passed + sizes[group] / 2
        passed += sizes[group]
        if len(ordered) == 1:
            side[group] = "train"
        elif middle < want.test:
            side[group] = "test"
        elif middle < got["test"] + want.validation:
            side[group] = "validation"
        else:
            side[group] = "train"
        got[side[group]] += sizes[group]
    return Shares(want.validation - got["validation"], want.test - got["test"])


def _strata_of(groups: Sequence[str], strata: Sequence[int]) -> dict[str, int]:
    """Give each group the stratum of most of its rows, the lowest where several have as many."""
    counts = Counter(zip(groups, strata, strict=True))
    best: dict[str, tuple[int, int]] = {}
    for (group, stratum), count in counts.items():
        best[group] = min(best.get(group, (0, 0)), (-count, stratum))
    return {group: stratum for group, (_, stratum) in best.items()}


def _spare(side: Mapping[str, SplitName], sizes: Mapping[str, int], ranks: Mapping[str, bytes]) -> str:
    """Choose the smallest group of a side that has several."""
    several = {name for name, count in Counter(side.values()).items() if count > 1}
    return min((group for group in side if side[group] in several), key=lambda group: (sizes[group], ranks[group]))


def _rank(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(errors="surrogatepass"), digest_size=8).digest()
