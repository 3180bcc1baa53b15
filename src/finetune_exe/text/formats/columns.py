"""Formats whose rows hold question and answer in columns: Alpaca and prompt/completion."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.format import (
    CHOICES,
    JUDGED_KEYS,
    Evidence,
    Row,
    cannot_carry,
    colliding,
    content_fault,
    is_judged,
    judged,
    missing_key,
    named,
    not_an_object,
    share,
)
from finetune_exe.text.thinking import THINKING_KEYS

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

SYSTEM_NAMES = ("system", "system_prompt")
HISTORY_NAMES = ("history",)
JOINER = "\n\n"
MOST_KEPT_NAMES = 100
"""Names in a row up to which what they mean is remembered."""
_TEXTS = ("prompt", "input", "answer", "system")
_WRAPPING = re.compile(
    r'\{\s*"(?:instruction|input|output|response|answer|completion|prompt|question|text|content|messages)"\s*:'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One set of column names, first choice first; case does not matter."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    """Columns that are added below the prompt when they hold something."""
    labels: bool = False
    """Whether the answer may be a number or a truth value rather than text."""


class _Dialogue(NamedTuple):
    """A chat as a system prompt and pairs of question and answer."""

    system: str | None
    pairs: list[list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFormat:
    """Rows with the question in one column and the answer in another."""

    name: FormatName
    needs: str
    layouts: tuple[Layout, ...]
    foreign: frozenset[str]
    """Columns that show a row to be of another format."""
    writes_history: bool
    """Whether a fresh row may carry earlier turns in a `history` column."""
    writes_empty_input: bool
    """Whether a fresh row has an empty input column, which many readers ask for."""
    mark: str = ""
    """What rows of this format say they came from, where it is not its name: columns of unknown names get known ones
    when they are written in the format of that name."""

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows that have a question column and its answer column."""
        claims = [columns for row in rows if (columns := self._claim(row)) is not None]
        if not claims:
            return Evidence(score=0.0, phrases=())
        taken = {(what, column): None for columns in claims for what, column in columns.items()}
        others = {key for row in rows if isinstance(row, dict) for key in row} - {column for _, column in taken}
        phrases = [
            f"{share(len(claims), len(rows))} have a question and an answer column",
            *(f"{column!r} is taken as the {what}" for what, column in taken),
        ]
        if others:
            phrases.append(f"kept aside: {named(sorted(others))}")
        return Evidence(score=len(claims) / len(rows), phrases=tuple(phrases))

    def _claim(self, row: Row) -> dict[str, str] | None:
        if not isinstance(row, dict):
            return None
        keys = {key.casefold() for key in row}
        if not (self.foreign.isdisjoint(keys) and JUDGED_KEYS.isdisjoint(keys)) or is_judged(row):
            return None
        if any(isinstance(row.get(name), list | dict) for name in CHOICES):
            return None
        _, columns = self._columns(row)
        if not {"prompt", "answer"} <= columns.keys() or isinstance(row[columns["prompt"]], list | dict):
            return None
        answer = row[columns["answer"]]
        return None if isinstance(answer, list | dict) else columns

    def _columns(self, row: dict[str, Any]) -> tuple[Layout | None, dict[str, str]]:
        choose = _choose if len(row) <= MOST_KEPT_NAMES else _choose.__wrapped__
        return choose(self.layouts, tuple(row))

    def read(self, row: Row) -> Conversation | RowFault:
        """Read question and answer, with the system prompt and the earlier turns where there are any."""
        if not isinstance(row, dict):
            return not_an_object(row)
        layout, columns = self._columns(row)
        if layout is None:
            return missing_key(row, _one_of(self.layouts[0].prompts))
        if "answer" not in columns:
            return missing_key(row, _one_of(layout.answers))
        origin: dict[str, Any] = {"format": self.mark or self.name, "columns": columns}
        texts: dict[str, str] = {}
        for what in _TEXTS:
            text = row[columns[what]] if what in columns else ""
            if not isinstance(text, str):
                text = _text(row, what, columns, labels=layout.labels, origin=origin)
                if isinstance(text, RowFault):
                    return text
            texts[what] = text
        earlier = row[columns["history"]] if "history" in columns else None
        if earlier is not None and earlier != "" and not _is_history(earlier):
            return RowFault(
                code="bad_history",
                message=f"{columns['history']!r} is not a list of [question, answer] pairs of text",
                fix='write it as [["question", "answer"], ...], or remove the column',
            )
        if len(columns) > 2:
            origin["blank"] = {
                what: row[column]
                for what, column in columns.items()
                if what not in ("prompt", "answer") and not row[column]
            }
        origin["prompt_length"] = len(texts["prompt"])
        question = texts["prompt"] or texts["input"]
        if texts["prompt"] and texts["input"]:
            question += JOINER + texts["input"]
        messages = [Message(role="system", content=texts["system"])] if texts["system"] else []
        for user, assistant in [*(earlier or []), (question, texts["answer"])]:
            messages.append(Message(role="user", content=user))
            messages.append(Message(role="assistant", content=assistant))
        extra: dict[str, Any] = {}
        if len(row) > len(columns):
            used = columns.values()
            extra = {key: value for key, value in row.items() if key not in used}
        wrapped = _holds_row(texts["answer"]) and "json" not in question.casefold()
        notes = ("json_in_string",) if wrapped or _holds_row(texts["prompt"]) else ()
        return Conversation(kind="chat", messages=tuple(messages), extra=extra, origin=origin, notes=notes)

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write question and answer; a row of this very format gets its own columns back."""
        lost = judged(self.name, conversation)
        if lost:
            return lost
        own = conversation.origin if conversation.origin.get("format") == (self.mark or self.name) else {}
        dialogue = self._dialogue(conversation, history=self.writes_history or bool(own))
        if isinstance(dialogue, RowFault):
            return dialogue
        first = self.layouts[0]
        columns: dict[str, str] = own.get("columns") or {"prompt": first.prompts[0], "answer": first.answers[0]}
        values = self._values(dialogue, own)
        names = {"input": next(iter(first.inputs), "input"), "system": "system", "history": "history", **columns}
        row = {names[what]: values[what] for what in columns if what in values}
        row.update({names[what]: value for what, value in values.items() if what not in columns})
        if not own:
            optional = {*first.inputs, *SYSTEM_NAMES, *HISTORY_NAMES}
            taken = next((key for key in conversation.extra if key.casefold() in optional), None)
            if taken is not None:
                return cannot_carry(self.name, f"a column {taken!r} that means something else")
        return colliding(self.name, row, conversation.extra) or {**row, **conversation.extra}

    def _values(self, dialogue: _Dialogue, own: dict[str, Any]) -> dict[str, Any]:
        question, answer = dialogue.pairs[-1]
        values: dict[str, Any] = {**own.get("blank", {}), "prompt": question, "answer": answer}
        if own:
            length = own["prompt_length"]
            values["prompt"] = question[:length]
            rest = question[length:].removeprefix(JOINER) if length else question
            if rest:
                values["input"] = rest
            if own.get("answer_is_json"):
                values["answer"] = json.loads(answer)
        elif self.writes_empty_input:
            values["input"] = ""
        if dialogue.system is not None:
            values["system"] = dialogue.system
        if len(dialogue.pairs) > 1:
            values["history"] = dialogue.pairs[:-1]
        return values

    def _dialogue(self, conversation: Conversation, *, history: bool) -> _Dialogue | RowFault:
        if conversation.kind == "text":
            return cannot_carry(self.name, "a text without turns", fix="convert to completion")
        messages = list(conversation.messages)
        beside = {key for message in messages for key in message.extra}
        if beside and beside.issubset(THINKING_KEYS):
            fix = "say where it goes, --thinking within or --thinking out, or convert to chatml, which carries it"
            return cannot_carry(self.name, "what an answer thinks", fix=fix)
        if beside:
            return cannot_carry(self.name, "what a turn has beside its text, such as tool calls")
        if any(message.role == "assistant" and not message.learn for message in messages):
            return cannot_carry(self.name, "an answer that is not to be learned")
        system = messages.pop(0).content if messages and messages[0].role == "system" else None
        roles = [message.role for message in messages]
        if not roles or roles != ["user", "assistant"] * (len(roles) // 2):
            return cannot_carry(self.name, "turns that are not question and answer by turns")
        if len(roles) > 2 and not history:
            return cannot_carry(self.name, "more than one question and answer")
        texts = [message.content for message in messages]
        return _Dialogue(system, [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)])


@lru_cache(maxsize=256)
def _choose(layouts: tuple[Layout, ...], names: tuple[str, ...]) -> tuple[Layout | None, dict[str, str]]:
    """Choose the layout that has both its columns among the names, or else the first that has its prompt.

    With it goes what the row calls each column; rows of one file have few sets of names, so answers are kept.
    """
    found = [(layout, _find_columns(names, layout)) for layout in layouts]
    whole = [pair for pair in found if {"prompt", "answer"} <= pair[1].keys()]
    part = [pair for pair in found if "prompt" in pair[1]]
    return next(iter(whole + part), (None, {}))


def _find_columns(names: Sequence[str], layout: Layout) -> dict[str, str]:
    """Map what a column is (prompt, input, answer, system, history) to what the row calls it."""
    keys = {key.casefold(): key for key in names}
    choices = {
        "prompt": layout.prompts, "input": layout.inputs, "answer": layout.answers,
        "system": SYSTEM_NAMES, "history": HISTORY_NAMES,
    }  # fmt: skip
    return {what: keys[name] for what, names in choices.items() if (name := _first(names, keys)) is not None}


def _first(names: Sequence[str], keys: dict[str, str]) -> str | None:
    return next((name for name in names if name in keys), None)


def _text(
    row: dict[str, Any], what: str, columns: dict[str, str], *, labels: bool, origin: dict[str, Any]
) -> str | RowFault:
    """Make text of a value that is none; an optional column that is null is no text."""
    value = row[columns[what]]
    if value is None and what in ("input", "system"):
        return ""
    if labels and what == "answer" and isinstance(value, int | float):
        origin["answer_is_json"] = True
        return json.dumps(value)
    return content_fault(columns[what], value)


def _holds_row(text: str) -> bool:
    """Say whether a text is a whole row, or an answer in its wrapping, written out as JSON."""
    if not text.startswith("{") or not text.endswith("}") or not _WRAPPING.match(text):
        return False
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and (
        len(value) == 1 or {"instruction", "prompt", "question", "messages"} & value.keys() != set()
    )


def _is_history(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in value
    )


def _one_of(names: tuple[str, ...]) -> str:
    return " or ".join(map(repr, names[:3]))
