"""Convert rows to another format, into a file that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.atomic import new_file, require_new
from finetune_exe.domain.json_text import json_line
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from finetune_exe.data.convert import Conversion
    from finetune_exe.text.formats.format import Row
    from finetune_exe.text.formats.marked_turns import TurnForm
    from finetune_exe.text.thinking import Place


def convert_rows(
    paths: Sequence[str],
    *,
    target: FormatName,
    columns: Mapping[str, str],
    write: Callable[[Row], None],
    turns: TurnForm | None = None,
    thinking: Place | None = None,
) -> Conversion:
    """Hand on rows in another format.

    Args:
        paths: What `find_sources` takes.
        target: Format wanted.
        columns: Which columns hold "prompt" and "answer", where names do not say so.
        write: Called with each row.
        turns: Form in which turns stand in a text of each row.
        thinking: Where what answers think goes; None leaves it where it is.

    Raises:
        FineTuneError: D04 where not one row can be converted; whatever reading raises.
    """
    from finetune_exe.data.convert import convert

    conversion = convert(paths, target=target, columns=columns, write=write, turns=turns, thinking=thinking)
    if not conversion.written:
        worst = conversion.dropped[0]
        raise FineTuneError(
            "D04",
            what=f"none of the {conversion.seen:,} rows can be converted from {conversion.source_format} to {target}",
            where=f"first at {worst.first}",
            why=f"{worst.count:,} rows: {worst.message}",
            fix=worst.fix,
        )
    return conversion


def convert_to_file(
    paths: Sequence[str],
    output: Path,
    *,
    target: FormatName,
    columns: Mapping[str, str],
    turns: TurnForm | None = None,
    thinking: Place | None = None,
    overwrite: bool = False,
) -> Conversion:
    """Write rows in another format as JSON lines.

    Raises:
        FineTuneError: O01 where the file exists; D04 where no row can be converted; I01 where it cannot be written.
    """
    require_new(output, overwrite=overwrite)
    with new_file(output) as file:

        def write(row: Row) -> None:
            file.write(f"{json_line(row)}\n".encode())

        return convert_rows(paths, target=target, columns=columns, write=write, turns=turns, thinking=thinking)
