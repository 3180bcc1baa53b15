"""Turns that stand in one text, each behind a mark that says whose it is, such as `Q:` and `A:`, or `[INST]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple, cast

from finetune_exe.knowledge.turn_forms import TemplateTurns, template_turns
from finetune_exe.text.conversation import Conversation, Message, Role, RowFault
from finetune_exe.text.formats.columns import JOINER
from finetune_exe.text.formats.prompt_completion import PROMPT_COMPLETION
from finetune_exe.text.formats.read_only import ReadOnlyFormat
from finetune_exe.text.formats.rendered_calls import with_calls, without_definitions
from finetune_exe.text.formats.written_calls import is_object, numbered_call
from finetune_exe.text.thinking import THINKING_KEYS

_END = "end"
_ANYWHERE = re.compile(r"[^\w\s]|[A-Z]{3,}\W*\Z")
"""How marks begin that stand anywhere in a line; others stand at its beginning, for they are words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnForm:
    """A way to write turns in one text."""

    said: str
    """What a user says to have it parted: the name of the form, or the two marks."""
    marks: dict[str, str]
    """The mark before the turns of each role, without white space."""
    pattern: re.Pattern[str]
    """Finds marks; its last group is the role, or `end` behind a turn."""
    begins: tuple[str, ...] = ()
    """What may stand before the first turn and says nothing."""
    every_turn_ends: bool = False
    """Whether an end must stand behind every turn but the last; otherwise questions and answers take turns."""
    strips: bool = False
    """Whether the white space around turns goes; otherwise only what belongs to the marks."""
    template: TemplateTurns | None = None
    """What else is known of the form; None for two marks."""

    @property
    def is_of_tokens(self) -> bool:
        """Whether the marks are ones that tokenizers know, and no words."""
        return self.marks["user"][0] in "<["


def turn_form(said: str) -> TurnForm:
    """Give the form that a user names, by its name or by its two marks.

    Raises:
        ValueError: It is neither; the message says what would be.
    """
    if said in known_forms():
        return known_forms()[said]
    asks, _, answers = (part.strip() for part in said.partition(","))
    if asks and answers and asks != answers:
        return _form_of_marks(asks, answers)
    near = get_close_matches(said.lower(), known_forms(), n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(f"it takes two marks, as in 'Q:,A:', or the name of a form: {', '.join(known_forms())}{meant}")


@cache
def known_forms() -> dict[str, TurnForm]:
    """Map the names of the forms in which chat templates write conversations to them."""
    return {turns.name: _form_of_template(turns) for turns in template_turns()}


def form_of(text: str) -> TurnForm | None:
    """Find the known form of a whole text: of two that differ in white space, the one that leaves none in turns."""
    found = None
    for form in known_forms().values():
        turns = _part(text, form) if form.marks["user"] in text else ()
        if turns and not isinstance(turns, RowFault):
            found = found or form
            if all(turn.content == turn.content.strip() for turn in turns):
                return form
    return found


def form_of_exchange(prompt: str, answer: str) -> TurnForm | None:
    """Find the known form of a question that ends with the mark before its answer."""
    form = form_of(prompt + answer)
    return form if form is not None and _asks_for_answer(prompt, form) else None


def with_turns(form: TurnForm) -> ReadOnlyFormat:
    """Make the format of rows one text of which is to be parted."""

    def build(row: dict[str, Any]) -> Conversation | RowFault:
        column = next((key for key, text in row.items() if isinstance(text, str) and form.pattern.search(text)), None)
        if column is None:
            return _unclear(f"no text of the row holds {form.marks['user']!r} or {form.marks['assistant']!r}")
        text, used = _with_answer(row, form) or (row[column], {column})
        extra = {key: row[key] for key in row if key not in used}
        if form.template is None:
            turns = _part(text, form)
            return turns if isinstance(turns, RowFault) else Conversation(kind="chat", messages=turns, extra=extra)
        text, tools = without_definitions(text, form.template)
        turns = _part(text, form)
        if isinstance(turns, RowFault):
            return turns
        if tools:
            extra.setdefault("tools", tools)
            turns = turns if turns[0].role != "system" or turns[0].content else turns[1:]
        turns, left = with_calls(turns, form.template, tools)
        notes = ("call_as_text",) if left else ()
        return Conversation(kind="chat", messages=turns, extra=extra, notes=notes)

    return ReadOnlyFormat(
        name="completion",
        needs="text",
        shows=f"are parted by --turns {form.said}, as you said",
        claims=lambda _: True,
        build=build,
    )


def _with_answer(row: dict[str, Any], form: TurnForm) -> tuple[str, set[str]] | None:
    """Give question and answer of two columns as one text, where the question ends with the mark before an answer."""
    read = PROMPT_COMPLETION.read(row)
    if isinstance(read, RowFault) or len(read.messages) != 2:
        return None
    prompt, answer = (message.content for message in read.messages)
    return (prompt + answer, row.keys() - read.extra.keys()) if _asks_for_answer(prompt, form) else None


def _asks_for_answer(prompt: str, form: TurnForm) -> bool:
    """Whether a question ends with the mark before an answer."""
    marks = [*form.pattern.finditer(prompt)]
    return bool(marks) and marks[-1].lastgroup == "assistant" and not prompt[marks[-1].end() :].strip()


class _Piece(NamedTuple):
    """What stands behind a mark, up to the next."""

    role: str | None
    """None before the first mark, and behind the end of a turn."""
    mark: str
    said: str
    ends: bool
    """Whether what is next is an end: of the turn, or of the text."""
    tool: str | None
    """The tool that the mark names."""


def _pieces(text: str, form: TurnForm) -> Iterator[_Piece]:
    text = text.lstrip() if form.begins else text
    text = next((text.removeprefix(begin) for begin in form.begins if text.startswith(begin)), text)
    role, mark, place, tool = None, "", 0, None
    for match in form.pattern.finditer(text):
        yield _Piece(role, mark, text[place : match.start()], match.lastgroup == _END, tool)
        role = None if match.lastgroup == _END else match.lastgroup
        mark, place, tool = match[0].strip(), match.end(), _tool_of(match)
    yield _Piece(role, mark, text[place:], True, tool)


def _tool_of(match: re.Match[str]) -> str | None:
    """Give the name of a tool in a mark: what was found by a group that is no role."""
    roles = match.re.groupindex.values()
    found = (match[number] for number in range(1, match.re.groups + 1) if number not in roles)
    return next((name for name in found if name is not None), None)


def _part(text: str, form: TurnForm) -> tuple[Message, ...] | RowFault:
    """Part a text into turns; every character of it is a mark, white space between turns, or said by somebody.

    Where there is no mark for what the system says, that is what stands before the first mark.
    """
    turns: list[Message] = []
    number, thought = 0, ""
    for place, piece in enumerate(_pieces(text, form)):
        said = piece.said.strip() if form.strips else piece.said
        if piece.role is None:
            if not said.strip():
                continue
            if place or "system" in form.marks:
                return _unclear(f"{said.strip()[:40]!r} stands outside of the turns")
            turns.append(Message(role="system", content=said.strip()))
            continue
        number += 1
        if (fault := _fault(piece, number, turns, form)) is not None:
            return fault
        if piece.role == "thought":
            thought = f"{thought}\n\n{said}" if thought else said
            continue
        if thought and piece.role not in ("assistant", "call"):
            break
        if piece.role == "system" and said:
            said = _without_own(said, form)
            if not said:
                continue
        if piece.role == "input":
            more = JOINER + said if said.strip() else ""
            turns[-1] = replace(turns[-1], content=turns[-1].content + more)
        else:
            turns.append(_turn(piece, said, thought))
        thought = ""
    if thought:
        return _unclear(f"no answer stands behind what is thought, {thought[:40]!r}")
    if not turns or turns[-1].role != "assistant":
        return _unclear(f"no {form.marks['assistant']!r} follows the last {form.marks['user']!r}")
    return tuple(turns)


def _fault(piece: _Piece, number: int, turns: Sequence[Message], form: TurnForm) -> RowFault | None:
    """Say what is wrong with what stands behind a mark; None where nothing is."""
    if (expected := _expected(piece, turns, form)) is not None:
        return _unclear(f"mark {number} of the text is {piece.mark!r}, not {expected!r}")
    if form.every_turn_ends and not piece.ends:
        return _unclear(f"no end stands behind turn {number} of the text")
    if piece.role in ("user", "assistant") and not piece.said.strip():
        return _unclear(f"nothing stands behind mark {number} of the text, {piece.mark!r}")
    if piece.role == "call" and not is_object(piece.said):
        return _unclear(f"the arguments of the call of {piece.tool!r} are no JSON object")
    return None


def _expected(piece: _Piece, turns: Sequence[Message], form: TurnForm) -> str | None:
    """Name the mark that should stand where another does: turns without ends of their own go by question and answer."""
    if form.every_turn_ends or (piece.role == "system" and not turns):
        return None
    previous = turns[-1].role if turns else None
    expected = "assistant" if previous in ("user", "tool") else "user"
    others = {"user": "input", "assistant": "tool", "tool": "tool"}
    return None if piece.role in (expected, others.get(previous or "")) else form.marks[expected]


def _turn(piece: _Piece, said: str, thought: str) -> Message:
    """Make a turn of what stands behind a mark, with what was thought before."""
    extra = {THINKING_KEYS[0]: thought} if thought else {}
    if piece.role != "call" or piece.tool is None:
        return Message(role=cast("Role", piece.role), content=said, extra=extra)
    call = numbered_call(piece.tool, said.strip(), None)
    return Message(role="assistant", content="", extra={**extra, "tool_calls": [call]})


def _without_own(said: str, form: TurnForm) -> str:
    """Take away what a template writes by itself around what the system says."""
    for before, behind in form.template.own if form.template else ():
        begun = re.match(re.escape(before).replace(r"\{\}", "[^\n]*"), said)
        if begun:
            return said[begun.end() :].removesuffix(behind)
    return said


def _unclear(message: str) -> RowFault:
    return RowFault(
        code="turns_unclear",
        message=message,
        fix="part the row by hand, or say otherwise with --turns",
    )


def _form_of_marks(asks: str, answers: str) -> TurnForm:
    marks = {"user": asks, "assistant": answers}
    groups = {role: ("" if _ANYWHERE.match(mark) else r"^[^\S\n]*") + _exactly(mark) for role, mark in marks.items()}
    ordered = sorted(groups, key=lambda role: -len(marks[role]))
    return TurnForm(
        said=f"{asks},{answers}",
        marks=marks,
        pattern=re.compile("|".join(f"(?P<{role}>{groups[role]})" for role in ordered), re.MULTILINE),
        strips=True,
    )


def _form_of_template(turns: TemplateTurns) -> TurnForm:
    roles = {
        "system": turns.system, "user": turns.user, "input": turns.input, "tool": turns.tool, "thought": turns.thought,
        "call": turns.call, "assistant": turns.assistant,
    }  # fmt: skip
    begin = f"(?:{'|'.join(map(_exactly, turns.begins))})?" if turns.begins else ""
    groups = [
        f"(?P<{role}>{begin if role in ('system', 'user') else ''}{_any_of(marks)})"
        for role, marks in (*roles.items(), (_END, turns.ends))
        if marks
    ]
    return TurnForm(
        said=turns.name,
        marks={role: marks[0].strip() for role, marks in roles.items() if marks},
        pattern=re.compile("|".join(groups)),
        begins=turns.begins,
        every_turn_ends=turns.every_turn_ends,
        template=turns,
    )


def _any_of(marks: Iterable[str]) -> str:
    return f"(?:{'|'.join(map(_loosely, sorted(marks, key=len, reverse=True)))})"


def _loosely(mark: str) -> str:
    """Match a mark with no more white space at its ends than belongs there."""
    before, behind = len(mark) - len(mark.lstrip()), len(mark) - len(mark.rstrip())
    return r"\s?" * before + _exactly(mark.strip()) + r"\s?" * behind


def _exactly(mark: str) -> str:
    """Match a mark that no letter goes on before or behind, with any tool's name for {name}."""
    exactly = re.escape(mark).replace(r"\{name\}", r"([\w.-]+)")
    return (r"\b" if mark[0].isalnum() else "") + exactly + (r"\b" if mark[-1].isalnum() else "")
