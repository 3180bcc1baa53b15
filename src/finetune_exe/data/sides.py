"""Which side of the split each row stands on: where its file is meant for one, or where its family is drawn to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.leaks import LeakKind, find_leaks
from finetune_exe.data.duplicates.rows import RowWords, choose_rows
from finetune_exe.data.families import LARGEST_FAMILY, families, find_strata
from finetune_exe.data.sources import Source, find_sources
from finetune_exe.data.split import Shares, split_groups
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.domain.plan import DataChoice
from finetune_exe.estimate.rows import test_share
from finetune_exe.text.conversation import RowFault

HARMLESS: frozenset[LeakKind] = frozenset(("output_only",))
"""The same answer to another question tells the test's answer to nobody who does not ask."""


class PlannedSource(NamedTuple):
    """One source of rows."""

    source: Source
    side: SplitName | None
    """The side all of its rows stand on; None for rows that are still to be shared out."""


class LeakingRow(NamedTuple):
    """A row that must not be learned."""

    row: int
    of_row: int
    """The row of validation or test it gives away."""
    kind: LeakKind

    def fault(self, place: str) -> RowFault:
        """Say what is wrong with the row.

        Args:
            place: Where the other one stands.
        """
        return RowFault(
            code=f"leak_{self.kind}",
            message=f"it gives away {place}, which is held out",
            fix="leave it out, or learn it all the same with --set data.on_leak=keep",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Where each row stands."""

    numbers: NDArray[np.int8]
    """Its split, as a position in `SPLITS`."""
    families: list[str]
    """The family that it stayed with."""
    evidence: tuple[str, ...]
    """What decided, for a person."""
    notes: tuple[str, ...] = ()
    """Where it is not what the plan asks for."""


def plan_sources(data: DataChoice) -> tuple[PlannedSource, ...]:
    """List the files of a plan, those for validation and test first; a file named for a side is learned by no other.

    Raises:
        FineTuneError: C05 or D07 where a path leads nowhere.
    """
    planned: dict[object, PlannedSource] = {}
    held_out: dict[SplitName, tuple[str, ...]] = {"test": data.test_paths, "validation": data.validation_paths}
    for side, paths in held_out.items():
        for source in find_sources(paths) if paths else ():
            planned.setdefault(_identity(source), PlannedSource(source, side))
    for source in find_sources(data.paths):
        planned.setdefault(_identity(source), PlannedSource(source, None))
    return tuple(planned.values())


def leaking_rows(
    words: RowWords, groups: Sequence[str | None], sides: Sequence[SplitName | None]
) -> tuple[LeakingRow, ...]:
    """Find the rows to be shared out that give away one of a file for validation or test.

    Args:
        words: The words of all rows.
        groups: The group of each; None for none.
        sides: The side of each that has one.
    """
    held_out = np.array([row for row, side in enumerate(sides) if side not in (None, "train")], np.int64)
    free = np.array([row for row, side in enumerate(sides) if side is None], np.int64)
    if not len(held_out):
        return ()
    found = find_leaks(
        choose_rows(words, held_out),
        choose_rows(words, free),
        train_groups=[groups[row] for row in held_out.tolist()],
        held_out_groups=[groups[row] for row in free.tolist()],
    )
    return tuple(
        LeakingRow(int(free[leak.index]), int(held_out[leak.of_index]), leak.kind)
        for leak in found
        if leak.kind not in HARMLESS
    )


def share_out(
    words: RowWords, groups: Sequence[str], sides: Sequence[SplitName | None], data: DataChoice, *, seed: int
) -> Sides:
    """Give every row its side.

    Args:
        words: The words of all rows.
        groups: The group of each.
        sides: The side of each that has one.
        data: How the others are shared out.
        seed: Another seed is another split.

    Raises:
        FineTuneError: D04 where there are too few groups for the sides that are wanted.
    """
    free = np.array([row for row, side in enumerate(sides) if side is None], np.int64)
    own = choose_rows(words, free)
    names = [groups[row] for row in free.tolist()]
    kin, notes = names, []
    if data.keep_similar_together:
        kin, one_mould = families(own, names)
        if one_mould:
            notes = [_one_mould(one_mould, len(kin))]
    strata = find_strata(own, data.stratify_by)
    test = test_share(data, len(kin))
    shares = Shares(0.0 if data.validation_paths else data.validation_fraction, test)
    drawn = split_groups(kin, shares=shares, seed=seed, strata=strata.numbers if strata else None)
    numbers = np.array([SPLITS.index(side) if side else 0 for side in sides], np.int8)
    numbers[free] = [SPLITS.index(side) for side in drawn]
    all_families = list(groups)
    for row, name in zip(free.tolist(), kin, strict=True):
        all_families[row] = name
    evidence = [f"{len(set(kin)):,} families of {len(kin):,} rows: a group, near duplicates, the same prompt"]
    if notes or not data.keep_similar_together:
        evidence = [f"{len(set(kin)):,} groups of {len(kin):,} rows; likeness plays no part"]
    if strata:
        evidence.append(f"each of {strata.num_strata} {strata.kind}s shared out alike")
    if data.detectable_difference is not None and not data.test_paths:
        evidence.append(f"the test takes {test:.1%}, to find {data.detectable_difference:g} standard deviations")
    for name, paths in (("validation", data.validation_paths), ("test", data.test_paths)):
        evidence += [f"{name} is as given: {', '.join(paths)}"] if paths else []
    return Sides(numbers=numbers, families=all_families, evidence=tuple(evidence), notes=tuple(notes))


def _one_mould(num_alike: int, num_rows: int) -> str:
    return (
        f"data.keep_similar_together was not followed: {num_alike:,} of {num_rows:,} rows hang together by likeness, "
        f"more than {LARGEST_FAMILY:.0%}, and one side would get them all; groups alone decide, so the test holds rows "
        f"that are much like learned ones (drop repeats with data.drop, or name a column in data.group_by)"
    )


def _identity(source: Source) -> object:
    return source.path.resolve() if source.path is not None else source.name
