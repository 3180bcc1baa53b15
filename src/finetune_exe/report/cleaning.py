"""What cleaning would do to the user's rows."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from finetune_exe.domain.cleaning import CleaningPreview, ShownRow
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Verbatim, Words, render_text
from finetune_exe.units import format_count

LINE_CHARACTERS = 200
"""Longer lines of rows are shown shortened."""
LINES_SHOWN = 12
"""Of each row."""


def render_cleaning(preview: CleaningPreview) -> str:
    """Write what would be dropped and repaired, with some rows of each kind before and after."""
    seen, kept, dropped = map(format_count, (preview.seen, preview.kept, preview.seen - preview.kept))
    repaired = f" ({format_count(preview.num_repaired)} repaired)" if preview.num_repaired else ""
    page: list[Block] = [
        Title("DRY RUN: NOTHING IS WRITTEN", (
            Field("Rows", f"{seen} seen = {kept} kept{repaired} + {dropped} dropped"),
        )),
        *_dropped(preview),
        *_repaired(preview),
        *_shown(preview),
        Heading("NOT LOOKED AT"),
        Bullet("lengths and loss masks, which take the tokenizer, and data.max_rows: --plan without --dry-run"),
    ]  # fmt: skip
    return render_text(page)


def _dropped(preview: CleaningPreview) -> list[Block]:
    if not preview.dropped:
        return []
    rows = tuple(
        (drop.code, format_count(drop.count), drop.first, f"{drop.message}\nfix: {drop.fix}")
        for drop in preview.dropped
    )
    return [Heading("WOULD BE DROPPED"), Table(header=("Code", "Rows", "First", "Why, and the fix"), rows=rows)]


def _repaired(preview: CleaningPreview) -> list[Block]:
    if not preview.repaired:
        return []
    rows = tuple((change.code, format_count(change.count), change.first, change.message) for change in preview.repaired)
    return [Heading("WOULD BE REPAIRED"), Table(header=("Code", "Rows", "First", "What"), rows=rows)]


def _shown(preview: CleaningPreview) -> list[Block]:
    if not preview.shown:
        return []
    blocks: list[Block] = [Heading("ROWS"), Words("Lines with - would go, lines with + would come.")]
    for code, rows in preview.shown.items():
        for row in rows:
            blocks += [Bullet(f"{code}: {row.source}"), Verbatim("\n".join(_difference(row)))]
    return blocks


def _difference(row: ShownRow) -> list[str]:
    """Write the lines that differ, a row that goes as a whole."""
    before, after = _lines(row.before), _lines(row.after or ())
    marked: list[str] = []
    for kind, first, end, new_first, new_end in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind != "equal":
            marked += (f"- {line}" for line in before[first:end])
            marked += (f"+ {line}" for line in after[new_first:new_end])
    lines = [line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]}..." for line in marked]
    more = len(lines) - LINES_SHOWN
    return lines if more <= 0 else [*lines[:LINES_SHOWN], f"  ... and {format_count(more)} more lines"]


def _lines(turns: Sequence[str]) -> list[str]:
    return [line for turn in turns for line in _visible(turn)]


def _visible(text: str) -> Iterator[str]:
    """Break a text into lines, with what cannot be seen written as its code."""
    for line in text.split("\n"):
        inner = line.strip(" ")
        first = len(line) - len(line.lstrip(" "))
        end = "<U+0020>" * (len(line) - first - len(inner))
        seen = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in inner)
        yield f"{' ' * first}{seen}{end}"
