"""Draw rules, boxes, tables, bars and bullets out of plain characters, measured as a terminal shows them.

Every function takes text from anywhere: what could move the cursor or reorder the line is taken out here, and
nothing that is written breaks a frame.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

BOX_WIDTH = 37
"""Columns between the two sides of a box."""
PAGE_WIDTH = 80
"""Columns a report keeps within, where no single command or line of code is longer."""
DOUBLE_RULE = "═" * 39
THIN_RULE = "─" * 36
BULLET = "• "

_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_].*?(?:\x1b\\|\x07|$)|[ -/]*[0-~])?", re.DOTALL)
NO_BREAK = "\u00a0"
"""A space at which no line is broken; it is written as any other."""

JOINERS = "\u200c\u200d"
_SEAMS = "-/_.:="
_LEVELS = "▁▂▃▄▅▆▇█"
_LEAST_VALUE_WIDTH, _MOST_LABEL_WIDTH = 10, 30


def clean(text: str) -> str:
    """Make one printable line of any text: no control, escape or direction characters, line ends turned into spaces."""
    return " ".join(part for part in (line.strip() for line in clean_lines(text)) if part)


def clean_lines(text: str) -> list[str]:
    """Make printable lines of any text, spaces inside them kept; tabs become four spaces."""
    plain = _ESCAPE_SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\t", "    ")
    return ["".join(filter(_printable, line)) for line in re.split("[\n\u2028\u2029]", plain)]


def display_width(text: str) -> int:
    """Count the columns a terminal gives to `text`: two for wide characters, none for combining ones."""
    return sum(map(_columns, text))


def wrap(text: str, width: int) -> list[str]:
    """Break one line at spaces so that each part fits; a word longer than `width` is broken inside, best at a hyphen.

    Spaces at the beginning are kept, so that code keeps its shape.
    """
    margin = text[: len(text) - len(text.lstrip(" "))][: width // 2]
    lines, line = [], margin
    for word in filter(None, text.split(" ")):
        gap = "" if line == margin else " "
        if display_width(line + gap + word) <= width:
            line += gap + word
            continue
        if line != margin:
            lines.append(line)
        *full, line = _parts(word, width - len(margin))
        lines += [margin + piece for piece in full]
        line = margin + line
    return [*lines, line]


def shorten(text: str, width: int) -> str:
    """Cut one line to `width` columns, an ellipsis showing that there was more."""
    return text if display_width(text) <= width else _beginning(text, width - 1).rstrip() + "…"


def hang(label: str, text: str, width: int) -> list[str]:
    """Write `text` behind `label`; further lines stand under the text, not under the label.

    A label that leaves the text fewer than ten columns, or that is long as the text is, stands on lines of its own.
    """
    text, margin = clean(text), display_width(label)
    if width - margin >= max(_LEAST_VALUE_WIDTH, min(width - _MOST_LABEL_WIDTH, display_width(text))):
        first, *rest = wrap(text, width - margin)
        return [(label + first).rstrip(), *(" " * margin + line for line in rest)]
    return [*wrap(label.rstrip(), width), *("  " + line for line in wrap(text, width - 2))]


def box(lines: Sequence[str]) -> list[str]:
    """Draw a frame around lines that are at most `BOX_WIDTH` columns wide."""
    return [
        "┌" + "─" * BOX_WIDTH + "┐",
        *("│" + _pad(line, BOX_WIDTH) + "│" for line in lines),
        "└" + "─" * BOX_WIDTH + "┘",
    ]


def progress_bar(share: float) -> str:
    """Draw a share of one as ten blocks and a percentage, rounded down: only the whole is 100 %."""
    percent = int(100 * min(1.0, max(0.0, share)) + 1e-9)
    return "█" * (percent // 10) + "░" * (10 - percent // 10) + f" {percent}%"


def sparkline(values: Sequence[float], *, width: int = 60) -> str:
    """Plot numbers as a row of blocks, the smallest lowest; more than `width` of them are averaged in groups."""
    if not values:
        return ""
    columns = min(width, len(values))
    bounds = [len(values) * column // columns for column in range(columns + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(bounds)]
    low, span = min(means), max(means) - min(means)
    return "".join(_LEVELS[round((mean - low) / span * 7) if span else 3] for mean in means)


def spec_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = PAGE_WIDTH) -> list[str]:
    """Write a Markdown table with cells as long as their text; a long last cell goes on in the line below it."""
    lines = [_row(header), "|" + "|".join("-" * (display_width(name) + 2) for name in header) + "|"]
    for row in rows:
        *head, last = map(clean, row)
        room = max(_LEAST_VALUE_WIDTH, width - display_width(_row([*head, ""])))
        first, *rest = wrap(last, room)
        lines += [_row([*head, first]), *(_row([*(" " * display_width(cell) for cell in head), more]) for more in rest)]
    return lines


def aligned_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = PAGE_WIDTH) -> list[str]:
    """Write a Markdown table with columns as wide as they need, the widest narrowed until it fits `width`.

    A cell may have several lines; columns of numbers stand to the right.
    """
    cells = [[clean_lines(cell) for cell in row] for row in rows]
    widths = _column_widths([[clean_lines(name) for name in header], *cells], width - 3 * len(header) - 1)
    numeric = [all(re.match(r"[-+<]?[\d.]|n/a|-$", row[column][0]) for row in cells) for column in range(len(header))]
    lines = _aligned_row([[name] for name in header], widths, numeric)
    lines.append(
        "|"
        + "|".join("-" * (size + 1) + (":" if right else "-") for size, right in zip(widths, numeric, strict=True))
        + "|"
    )
    for row in cells:
        lines += _aligned_row(row, widths, numeric)
    return lines


def _aligned_row(row: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    parts = [[part for line in cell for part in wrap(line, size)] for cell, size in zip(row, widths, strict=True)]
    lines = []
    for index in range(max(map(len, parts))):
        shown = [cell[index] if index < len(cell) else "" for cell in parts]
        lines.append(_row([_pad(*item) for item in zip(shown, widths, numeric, strict=True)]))
    return lines


def _column_widths(rows: Sequence[Sequence[Sequence[str]]], room: int) -> list[int]:
    widths = [max(display_width(line) for row in rows for line in row[column]) for column in range(len(rows[0]))]
    least = [
        min(14, max(display_width(word) for row in rows for line in row[column] for word in [*_unbroken(line), ""]))
        for column in range(len(widths))
    ]
    while sum(widths) > room:
        column = max(range(len(widths)), key=lambda index: (widths[index] > least[index], widths[index]))
        if widths[column] <= 4:
            break
        widths[column] -= 1
    return [max(1, size) for size in widths]


def _unbroken(line: str) -> list[str]:
    """List the parts of a line that are best not broken: words, and long names between their hyphens."""
    return [part for word in line.split() for part in re.split(r"(?<=\w[-_/])(?=[A-Za-z])", word)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _pad(text: str, width: int, right: bool = False) -> str:
    gap = " " * (width - display_width(text))
    return gap + text if right else text + gap


def _parts(word: str, width: int) -> list[str]:
    """Cut a long word behind hyphens, slashes and the like, and anywhere where a part would be short."""
    parts = []
    while display_width(word) > width:
        part = _beginning(word, width)
        seam = max(map(part.rfind, _SEAMS)) + 1
        part = part[:seam] if seam > len(part) // 2 else part
        parts.append(part)
        word = word.removeprefix(part)
    return [*parts, word]


def _beginning(text: str, width: int) -> str:
    """Take the characters that fit, one at least."""
    used = 0
    for place, character in enumerate(text):
        used += _columns(character)
        if place and used > width:
            return text[:place]
    return text


def _columns(character: str) -> int:
    if character < "\u0300":
        return 1
    if unicodedata.category(character) in {"Mn", "Me", "Cf"} or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _printable(character: str) -> bool:
    return character in JOINERS or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
