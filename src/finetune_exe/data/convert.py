"""Convert data from one format to another, losing nothing silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.data.ingest import LostRow, count_drops, ingest, open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import Drop
from finetune_exe.domain.task import FormatName
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.format import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """Rows in the target format, and those that could not be written."""

    source_format: FormatName
    seen: int
    rows: tuple[Row, ...]
    dropped: tuple[Drop, ...]
    """Why rows are missing; with `rows` it accounts for all that were seen."""


def convert(paths: Sequence[str], *, target: FormatName, format_name: FormatName | None = None) -> Conversion:
    """Read rows in whatever format they have and write them in another.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        target: Format wanted.
        format_name: Form of the rows; None looks for itself.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    opened = open_sources(find_sources(paths), format_name=format_name)
    writer = format_named(target)
    written: list[Row] = []
    lost: list[LostRow] = []
    for row in ingest(opened, deduplicate=False):
        if isinstance(row, LostRow):
            lost.append(row)
            continue
        result = writer.write(row.conversation)
        if isinstance(result, RowFault):
            lost.append(LostRow(position=row.position, fault=result, row=""))
        else:
            written.append(result)
    return Conversion(
        source_format=opened[0].detection.format.name,
        seen=len(written) + len(lost),
        rows=tuple(written),
        dropped=count_drops(lost),
    )
