"""Write rows as one side of a split, all at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finetune_exe.domain.dataset import Split, SplitName
from finetune_exe.prepared.store import SequenceView, SplitWriter, StoredRow


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRow:
    """A row with its training sequences, to be written."""

    stored: StoredRow
    sequences: Sequence[SequenceView]


def write_split(folder: Path, name: SplitName, rows: Sequence[PreparedRow]) -> Split:
    """Write the arrays and rows of one side of the split, all at once.

    Args:
        folder: An unfinished folder; the manifest is written into it afterwards.
        name: Which side.
        rows: At least one row, each with at least one sequence.
    """
    views = [(number, view) for number, row in enumerate(rows) for view in row.sequences]
    lengths = np.array([len(view.tokens) for _, view in views], dtype=np.int64)
    writer = SplitWriter(folder, name, num_tokens=int(lengths.sum()), num_sequences=len(views))
    lines = (
        {"source": row.stored.source, "group": row.stored.group, "conversation": row.stored.conversation}
        for row in rows
    )
    writer.add(
        tokens=np.concatenate([view.tokens for _, view in views]),
        learned=np.concatenate([view.learned for _, view in views]),
        lengths=lengths,
        owners=np.array([number for number, _ in views], dtype=np.int32),
        rows=[json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n" for line in lines],
    )
    return writer.finish(num_groups=len({row.stored.group for row in rows}))
