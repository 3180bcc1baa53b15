"""Which rows stand on which side of a split, by what they say: so that a later split can be held against it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.duplicates.words import Hashes
from finetune_exe.domain.dataset import SPLITS, SplitName
from finetune_exe.domain.plan import DataChoice
from finetune_exe.errors import FineTuneError

FROZEN: tuple[SplitName, ...] = ("validation", "test")
"""Sides that results are measured on."""


def write_members(work: Path, identities: Hashes, sides: NDArray[np.int8]) -> dict[SplitName, str]:
    """Write the identities of the rows of every side, in rising order, and give the digest of each.

    Args:
        work: An unfinished dataset.
        identities: Of each row, a hash of what it says, whatever tokenizer and template it is encoded with.
        sides: Of each row, its split as a position in `SPLITS`.
    """
    digests: dict[SplitName, str] = {}
    for number, name in enumerate(SPLITS):
        members = np.sort(identities[sides == number]).astype("<u8")
        np.save(_file(work, name), members, allow_pickle=False)
        digests[name] = hashlib.sha256(members.tobytes()).hexdigest()
    return digests


def require_frozen(data: DataChoice, digests: Mapping[SplitName, str], *, where: Path) -> None:
    """Insist on the test rows that the plan names by their digest, if it names any.

    Args:
        data: The plan's.
        digests: What `write_members` gave, or the manifest has.
        where: The dataset.

    Raises:
        FineTuneError: D09 where the test rows are others.
    """
    found = digests.get("test", "")
    wanted = (data.test_digest or "").removeprefix("sha256:")
    if found.startswith(wanted):
        return
    taken = f"sha256:{found[:12]}" if found else "null"
    raise FineTuneError(
        "D09",
        what=f"the test rows have the digest {found[:12] or 'none'}, not {wanted[:12]}",
        where=f"{where}, data.test_digest",
        why="rows, seed or settings changed and moved the split; what was measured before cannot be compared",
        fix="go back to the data and settings of before, or name the rows of the old test in data.test_paths; to take "
        f"the new ones: --set data.test_digest={taken}",
    )


def changed_sides(before: Path, after: Path) -> tuple[str, ...]:
    """Say how validation and test differ from those of the dataset that was there before.

    Args:
        before: A prepared dataset, or a folder that is none: then nothing is said.
        after: The one that takes its place.
    """
    notes = []
    for name in FROZEN:
        try:
            old, new = (np.load(_file(folder, name), allow_pickle=False) for folder in (before, after))
        except (OSError, ValueError, EOFError):
            continue
        gone, added = len(np.setdiff1d(old, new)), len(np.setdiff1d(new, old))
        if gone or added:
            notes.append(
                f"the {name} set is not the one that was here before: {gone:,} of its {len(old):,} rows are gone and "
                f"{added:,} are new; what was measured on the two cannot be compared"
            )
    return tuple(notes)


def _file(folder: Path, name: SplitName) -> Path:
    return folder / f"{name}.members.npy"
