"""Draw rows, and share them out to train, validation and test by whole groups."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.errors import FineTuneError

MIN_GROUPS_DRAWN = 200
"""A draw takes rows from so many groups or more, where there are so many: what is measured per group needs many."""


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
    groups: Sequence[str], *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[SplitName, ...]:
    """Give every row its side, so that rows of one group are on one side.

    Groups are taken in an order drawn by the seed; each goes to the side that lacks the most rows of its wanted
    share. No side stays empty. The order of the rows plays no part.

    Args:
        groups: The group of every row.
        validation_fraction: Share of the rows wanted for validation.
        test_fraction: Share of the rows wanted for the test.
        seed: Another seed is another split.

    Raises:
        FineTuneError: D04 for fewer than three groups.
    """
    sizes = Counter(groups)
    if len(sizes) < len(SPLITS):
        raise FineTuneError(
            "D04",
            what=f"{len(groups):,} rows in {len(sizes)} groups cannot be split in train, validation and test",
            where="data.group_by",
            why="a group stays whole, so at least three are needed",
            fix="group by another column or by none (--set data.group_by=null), or add data",
        )
    lacking: dict[SplitName, float] = {
        "train": len(groups) * (1 - validation_fraction - test_fraction),
        "validation": len(groups) * validation_fraction,
        "test": len(groups) * test_fraction,
    }
    side: dict[str, SplitName] = {}
    order = sorted(sizes, key=lambda name: _rank(name, seed))
    empty = set(SPLITS)
    for position, group in enumerate(order):
        must_fill = len(order) - position <= len(empty)
        chosen = max((name for name in SPLITS if name in empty or not must_fill), key=lambda name: lacking[name])
        empty.discard(chosen)
        side[group] = chosen
        lacking[chosen] -= sizes[group]
    return tuple(side[group] for group in groups)


def _rank(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{name}".encode(errors="surrogatepass"), digest_size=8).digest()
