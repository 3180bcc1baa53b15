"""A report as a list of blocks, and the two ways to write it: for a terminal and as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, assert_never

from finetune_exe.report import boxes


@dataclass(frozen=True, slots=True)
class Field:
    """A named value."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Bullet:
    """One point of a list."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """Words that stand alone on their line."""

    text: str


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty line."""


Line = Field | Bullet | Words | Blank


@dataclass(frozen=True, slots=True)
class Title:
    """What the report is, with the values to know first, between double rules."""

    text: str
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """The name of a section, over a thin rule."""

    text: str


@dataclass(frozen=True, slots=True)
class Box:
    """Lines in a frame, under a name where it has one."""

    lines: tuple[Line, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells; `form` is that of the plan or, with columns one under the other, that of measurements."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    form: Literal["plan", "aligned"] = "aligned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """Program text, never wrapped."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text out of the data, its lines kept, indented."""

    text: str


@dataclass(frozen=True, slots=True)
class Commands:
    """Commands to type, one a line, never wrapped."""

    lines: tuple[str, ...]


Block = Title | Heading | Box | Table | Code | Verbatim | Commands | Line
Page = Sequence[Block]


def render_text(page: Page) -> str:
    """Write a page for a terminal: SPEC's rules, boxes and tables, at most 80 columns, no control characters."""
    lines: list[str] = []
    for block in page:
        if isinstance(block, Title | Heading) and lines[-1:] == [""]:
            lines.pop()
        lines += _text_block(block)
    return _finish(lines)


def render_markdown(page: Page) -> str:
    """Write a page as Markdown, with everything that could be markup of its own escaped."""
    lines: list[str] = []
    for block in page:
        if not isinstance(block, Field | Bullet) and lines and lines[-1].lstrip().startswith("- "):
            lines.append("")
        new = _markdown_block(block)
        lines += new[1:] if lines[-1:] == [""] == new[:1] else new
    return _finish(lines)


def _finish(lines: Sequence[str]) -> str:
    return "\n".join(line.replace(boxes.NO_BREAK, " ").rstrip() for line in lines).strip("\n") + "\n"


def _text_block(block: Block) -> list[str]:
    match block:
        case Title(text, fields):
            inside = [line for field in fields for line in _text_line(field, boxes.PAGE_WIDTH)]
            rules = [boxes.DOUBLE_RULE, *inside, boxes.DOUBLE_RULE] if inside else [boxes.DOUBLE_RULE]
            return ["", boxes.clean(text), *rules]
        case Heading(text):
            return ["", boxes.clean(text), boxes.THIN_RULE]
        case Box(content, name):
            title = ["       " + boxes.shorten(boxes.clean(name), boxes.BOX_WIDTH - 9), ""] if name else []
            inside = [line for item in content for line in _text_line(item, boxes.BOX_WIDTH - 4)]
            return boxes.box([*title, *("  " + line for line in inside)])
        case Table(header=header, rows=rows, form=form):
            return (boxes.spec_table if form == "plan" else boxes.aligned_table)(header, rows)
        case Code(text=text, language=language):
            return _fenced(text.rstrip("\n"), language)
        case Verbatim(text):
            return ["  " + part for line in boxes.clean_lines(text) for part in boxes.wrap(line, boxes.PAGE_WIDTH - 2)]
        case Commands(commands):
            return [boxes.clean(command) for command in commands]
        case Field() | Bullet() | Words() | Blank():
            return _text_line(block, boxes.PAGE_WIDTH)
        case _:
            assert_never(block)


def _text_line(line: Line, width: int) -> list[str]:
    match line:
        case Field(label, value):
            return boxes.hang(f"{boxes.clean(label)}: ", value, width)
        case Bullet(text):
            return boxes.hang(boxes.BULLET, text, width)
        case Words(text):
            return boxes.hang("", text, width)
        case Blank():
            return [""]
        case _:
            assert_never(line)


def _markdown_block(block: Block) -> list[str]:
    match block:
        case Title(text, fields):
            return [f"# {_escape(text)}", "", *(line for field in fields for line in _markdown_block(field)), ""]
        case Heading(text):
            return ["", f"## {_escape(text)}", ""]
        case Box(content, name):
            title = [f"**{_escape(name)}**", ""] if name else []
            return [*title, *(line for item in content for line in _markdown_block(item)), ""]
        case Table(header=header, rows=rows):
            names = [_cell(name) for name in header]
            body = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
            return [
                "| " + " | ".join(names) + " |",
                "|" + "|".join("-" * (len(name) + 2) for name in names) + "|",
                *body,
                "",
            ]
        case Code(text=text, language=language):
            return [*_fenced(text.rstrip("\n"), language), ""]
        case Verbatim(text):
            return [*_fenced(text, "text"), ""]
        case Commands(commands):
            return _markdown_block(Code(text="\n".join(boxes.clean(line) for line in commands), language="sh"))
        case Field(label, value):
            return [f"- **{_escape(label)}:** {_escape(value)}"]
        case Bullet(text):
            return [f"- {_escape(text)}"]
        case Words(text):
            return [_escape(text), ""]
        case Blank():
            return [""]
        case _:
            assert_never(block)


def _fenced(text: str, language: str) -> list[str]:
    """Put a text between more backticks than it has in a row once it is clean, so that it cannot end its own block."""
    lines = boxes.clean_lines(text)
    fence = "`" * max(3, *(len(run) + 1 for line in lines for run in re.findall("`+", line)), 0)
    return [fence + language, *lines, fence]


def _escape(text: str) -> str:
    plain = html.escape(boxes.clean(text), quote=False)
    return re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w)|^[#+-](?= ))", r"\\\1", plain)


def _cell(text: str) -> str:
    return "<br>".join(_escape(line) for line in boxes.clean_lines(text))
