"""Columns that say which rows belong together: of one conversation, one document, one user."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Groups = Mapping[str, NDArray[np.int64]]
    """For each column of `GROUP_NAMES` that occurs, a hash of each row's value; 0 where a row has none."""

GROUP_NAMES = (
    "module", "document", "document_id", "doc_id", "conversation_id", "dialogue_id", "thread_id", "session_id",
    "group", "user_id", "user", "author", "source", "url", "title", "file",
)  # fmt: skip
"""Their names, the surest first."""
MIN_GROUPS = 10
"""A column with fewer values sorts rows into kinds, and does not say which belong together."""
LARGEST_GROUP = 0.2
"""So does one with a value that more than this share of the rows have."""


def group_hashes(columns: Sequence[Mapping[str, Any]]) -> Groups:
    """Hash what rows have in columns that say which belong together.

    Args:
        columns: Of each row, what it has beside its conversation.
    """
    import numpy as np

    found: dict[str, NDArray[np.int64]] = {}
    for row, values in enumerate(columns):
        for key, value in values.items():
            name = key.casefold()
            if name in GROUP_NAMES and isinstance(value, str | int) and value != "":
                found.setdefault(name, np.zeros(len(columns), np.int64))[row] = _hash(str(value))
    return found


def join_groups(parts: Sequence[Groups], lengths: Sequence[int]) -> Groups:
    """Put the columns of rows one under the other, each part with its number of rows."""
    import numpy as np

    names = sorted({name for part in parts for name in part})
    return {
        name: np.concatenate(
            [part.get(name, np.zeros(length, np.int64)) for part, length in zip(parts, lengths, strict=True)]
        )
        for name in names
    }


def shared_column(train: Groups, held_out: Groups) -> str | None:
    """Choose the column that says of all rows, learned and held out, which belong together; None where none does."""
    import numpy as np

    for name in GROUP_NAMES:
        if name not in train or name not in held_out or not (train[name].all() and held_out[name].all()):
            continue
        counts = np.unique(train[name], return_counts=True)[1]
        if len(counts) >= MIN_GROUPS and counts.max() <= LARGEST_GROUP * counts.sum():
            return name
    return None


def _hash(value: str) -> int:
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1 or 1
