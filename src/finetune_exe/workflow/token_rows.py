"""Take a few rows, of a prepared dataset or straight from files, to be shown token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from finetune_exe.errors import FineTuneError
from finetune_exe.report.token_view import ShownRow, ShownToken
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.tokenizer import ChatTokenizer

MOST_TOKENS = 100_000
"""Tokens of a row that is shown without a plan, which would say how long rows may be."""


def rows_of_dataset(folder: Path, tokenizer: ChatTokenizer, *, num_rows: int) -> list[ShownRow]:
    """Take the first training sequences of a prepared dataset, as training will read them.

    Raises:
        FineTuneError: D05 where the dataset is not whole.
    """
    from finetune_exe.prepared.store import load_dataset

    data = load_dataset(folder).split("train")
    wanted = min(num_rows, len(data))
    sources = [row.source for row in islice(data.stream_rows(), int(data.rows[wanted - 1]) + 1)]
    shown = []
    for index in range(wanted):
        tokens, learned = data.sequence(index)
        shown.append(_shown(sources[data.rows[index]], tokens.tolist(), learned.tolist(), tokenizer))
    return shown


def rows_of_files(
    paths: Sequence[str], tokenizer: ChatTokenizer, *, num_rows: int, columns: Mapping[str, str] | None = None
) -> list[ShownRow]:
    """Take the first rows of files that can be trained on, encoded as they would be.

    Raises:
        FineTuneError: C05, D01 to D03 or D07 where the data cannot be read; D04 where no row can be trained on.
    """
    from finetune_exe.data.encoded import encode_conversations
    from finetune_exe.data.ingest import ingest, open_sources
    from finetune_exe.data.rows import KeptRow, LostRow
    from finetune_exe.data.sources import find_sources

    shown: list[ShownRow] = []
    first_fault: tuple[str, RowFault] | None = None
    for row in ingest(open_sources(find_sources(paths), format_name=None, columns=columns), deduplicate=False):
        fault = row.fault if isinstance(row, LostRow) else None
        if isinstance(row, KeptRow):
            [encoded] = encode_conversations([row.conversation], tokenizer, max_length=MOST_TOKENS)
            fault = encoded.fault
            sequences = () if fault else encoded.sequences
            shown += (_shown(row.position.place, s.tokens, s.learned, tokenizer) for s in sequences)
        if fault is not None and first_fault is None:
            first_fault = (row.position.place, fault)
        if len(shown) >= num_rows:
            break
    if not shown and first_fault is not None:
        place, fault = first_fault
        raise FineTuneError(
            "D04",
            what="there is no row to show: none can be trained on",
            where=f"first at {place}",
            why=fault.message,
            fix=fault.fix,
        )
    return shown[:num_rows]


def _shown(source: str, ids: Sequence[int], learned: Sequence[bool], tokenizer: ChatTokenizer) -> ShownRow:
    tokens = (
        ShownToken(id=number, text=tokenizer.decode([number]), learned=flag)
        for number, flag in zip(ids, learned, strict=True)
    )
    return ShownRow(source=source, tokens=tuple(tokens))
