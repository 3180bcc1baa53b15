"""Formats whose rows hold a list of turns: OpenAI messages and ShareGPT."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from finetune_exe.text.conversation import Conversation, Message, Role, RowFault
from finetune_exe.text.formats.format import (
    JUDGED_KEYS,
    Evidence,
    Row,
    cannot_carry,
    colliding,
    content_fault,
    is_judged,
    judged,
    missing_key,
    not_an_object,
    share,
)
from finetune_exe.text.formats.written_calls import CALLING_ROLES, as_written, read_calls
from finetune_exe.text.thinking import THINKING_KEYS
from finetune_exe.text.tool_calls import CALL_KEYS

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

ROLE_NAMES: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user", "usr": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant", "function_call": "assistant", "tool_call": "assistant",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool", "function_response": "tool",
    "tool_response": "tool",
}  # fmt: skip
"""The many names of the four roles."""
LIST_KEYS = ("messages", "conversations", "conversation")
WEIGHT_KEYS = ("loss_weight", "weight")
_NO_LAYOUT: dict[str, Any] = {}
USUAL_KEYS = frozenset({
    "role", "content", "from", "value", "tool_calls", "function_call", "tool_call_id", "loss_weight", "weight",
    *THINKING_KEYS,
})  # fmt: skip
"""Keys of a turn that are read by us or by chat templates; `name` is one in turns of tools and users."""


class _Turns(NamedTuple):
    """The list of turns of a row, the key it stands under (None for a bare list), and its JSON text if it was one."""

    key: str | None
    turns: list[Any]
    json_text: str | None


class _Content(NamedTuple):
    """The text of a turn, and what is needed to lay it out again."""

    text: str
    layout: dict[str, Any]


class _Turn(NamedTuple):
    message: Message
    layout: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFormat:
    """Rows with a list of turns, each naming who speaks and what is said."""

    name: FormatName
    needs: str
    list_key: str
    """The key a fresh row is written under; any of `LIST_KEYS` is read."""
    role_key: str
    content_key: str
    foreign_role_key: str
    """The key that betrays a turn of the other style."""
    roles: Mapping[str, Role]
    """The roles, by the one name that a fresh row gives each."""
    usual_roles: frozenset[str]
    """Names of roles that need no remark."""

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows whose first turn says who speaks the way this format does."""
        found = [turns for row in rows if (turns := self._claim(row)) is not None]
        if not found:
            return Evidence(score=0.0, phrases=())
        keys = sorted({repr(turns.key) if turns.key else "a bare list" for turns in found})
        held = f"{share(len(found), len(rows))} hold turns in {' or '.join(keys)}"
        return Evidence(
            score=len(found) / len(rows),
            phrases=(held, f"each turn has {self.role_key!r} and {self.content_key!r}"),
        )

    def _claim(self, row: Row) -> _Turns | None:
        if isinstance(row, dict) and (not JUDGED_KEYS.isdisjoint(row) or is_judged(row)):
            return None
        found = _find_turns(row)
        if isinstance(found, RowFault):
            return None
        if not found.turns:
            return found if found.key == self.list_key else None
        first = found.turns[0]
        return found if isinstance(first, dict) and self.role_key in first else None

    def read(self, row: Row) -> Conversation | RowFault:
        """Read the turns, whatever names the roles go by."""
        found = _find_turns(row)
        if isinstance(found, RowFault):
            return found
        if isinstance(row, dict) and row.get("label") is False:
            return RowFault(
                code="rejected_answer",
                message="the row marks its own answer as a bad one (label: false)",
                fix="keep only the rows with label true, or train on preferences with another tool",
            )
        if found.key is None and not any(isinstance(turn, dict) for turn in found.turns):
            return not_an_object(found.turns)
        if not found.turns:
            return RowFault(code="empty_messages", message="the row has no turn at all", fix="drop the row")
        messages: list[Message] = []
        layouts: list[dict[str, Any]] = []
        notes: list[str] = []
        for turn in found.turns:
            plain = self._read_plain(turn)
            if plain is not None:
                messages.append(plain)
                layouts.append(_NO_LAYOUT)
                continue
            read = self._read_turn(turn)
            if isinstance(read, RowFault):
                return read
            messages.append(read.message)
            layouts.append(read.layout)
            if read.layout or read.message.extra:
                notes += self._turn_notes(read)
        if any(layout.get("role") in CALLING_ROLES for layout in layouts) and not read_calls(messages, layouts):
            notes.append("call_as_text")
        origin: dict[str, Any] = {"format": self.name, "key": found.key, "turns": layouts}
        if found.json_text is not None:
            origin["json_text"] = found.json_text
            notes.append("messages_as_json_string")
        extra = {key: value for key, value in row.items() if key != found.key} if isinstance(row, dict) else {}
        system = extra.get("system")
        if isinstance(system, str) and system.strip() and messages[0].role != "system":
            messages.insert(0, Message(role="system", content=extra.pop("system")))
            origin["system_column"] = True
        _parse_tools(extra, origin)
        return Conversation(
            kind="chat", messages=tuple(messages), extra=extra, origin=origin, notes=tuple(dict.fromkeys(notes))
        )

    def _read_plain(self, turn: Any) -> Message | None:
        """Read a turn of two texts and nothing unusual, as nearly all are; None for any other."""
        if type(turn) is not dict or len(turn) != 2:
            return None
        content = turn.get(self.content_key)
        said = turn.get(self.role_key)
        if type(content) is not str or type(said) is not str or said not in self.roles:
            return None
        return Message(role=self.roles[said], content=content)

    def _turn_notes(self, turn: _Turn) -> Iterator[str]:
        """Name what is odd about a turn that is read all the same."""
        if turn.layout.get("role", "user") not in self.usual_roles:
            yield "role_name_variant"
        if "parts" in turn.layout:
            yield "content_parts"
        odd = turn.message.extra.keys() - USUAL_KEYS
        if odd and not (odd == {"name"} and turn.message.role in ("tool", "user")):
            yield "extra_message_key"

    def _read_turn(self, turn: Any) -> _Turn | RowFault:
        if not isinstance(turn, dict):
            return RowFault(
                code="non_string_content", message="a turn is not an object", fix=f"write each turn as {self.needs}"
            )
        if self.role_key not in turn:
            if self.foreign_role_key in turn:
                return RowFault(
                    code="mixed_keys_in_one_conversation",
                    message=f"a turn has {self.foreign_role_key!r} where its neighbours have {self.role_key!r}",
                    fix=f"name the keys of every turn {self.role_key!r} and {self.content_key!r}",
                )
            return RowFault(
                code="missing_role", message=f"a turn has no {self.role_key!r}", fix="say who speaks in every turn"
            )
        said = turn[self.role_key]
        role = _role_of(said)
        if role is None:
            return RowFault(
                code="unknown_role", message=f"nobody is known as {said!r}", fix="use system, user, assistant or tool"
            )
        content = self._read_content(turn)
        if isinstance(content, RowFault):
            return content
        layout = content.layout if said in self.roles else {**content.layout, "role": said}
        weight_key = next((key for key in WEIGHT_KEYS if key in turn), None)
        learn = True
        if weight_key is not None:
            weight = turn[weight_key]
            if role == "assistant" and (not isinstance(weight, int | float) or weight not in (0, 1)):
                return RowFault(
                    code="unsupported_weight",
                    message=f"{weight_key!r} is {weight!r}; a turn is learned (1) or not (0)",
                    fix="use 0 or 1",
                )
            layout = {**layout, "weight": {weight_key: weight}}
            learn = role != "assistant" or weight == 1
        own = {self.role_key, self.content_key, weight_key}
        extra = {key: value for key, value in turn.items() if key not in own}
        return _Turn(Message(role=role, content=content.text, learn=learn, extra=extra), layout)

    def _read_content(self, turn: dict[str, Any]) -> _Content | RowFault:
        calls = any(turn.get(key) for key in CALL_KEYS)
        if self.content_key not in turn:
            if calls:
                return _Content("", {"content": "absent"})
            return RowFault(
                code="missing_content", message=f"a turn has no {self.content_key!r}", fix="write what is said"
            )
        content = turn[self.content_key]
        if isinstance(content, str):
            return _Content(content, {})
        if content is None and calls:
            return _Content("", {"content": "null"})
        if isinstance(content, list):
            return _join_parts(content)
        return content_fault(self.content_key, content)

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write the turns; a row of this very format gets its own layout back."""
        if conversation.kind == "text":
            return cannot_carry(self.name, "a text without turns", fix="convert to completion")
        lost = judged(self.name, conversation)
        if lost:
            return lost
        own = conversation.origin if conversation.origin.get("format") == self.name else {}
        messages, extra = conversation.messages, dict(conversation.extra)
        if own.get("system_column") and messages[0].role == "system":
            extra["system"] = messages[0].content
            messages = messages[1:]
        elif isinstance(extra.get("system"), str) and not own:
            return cannot_carry(self.name, "a column 'system' that is no system prompt")
        if "tools_text" in own and json.loads(own["tools_text"]) == extra.get("tools"):
            extra["tools"] = own["tools_text"]
        layouts = own.get("turns", [])
        if len(layouts) != len(messages):
            layouts = [{}] * len(messages)
        names = {role: name for name, role in self.roles.items()}
        turns: list[dict[str, Any]] = []
        for message, layout in zip(messages, layouts, strict=True):
            clash = colliding(self.name, (self.role_key, self.content_key, *WEIGHT_KEYS), message.extra)
            if clash:
                return clash
            turns.append(self._write_turn(message, layout, names))
        key = own.get("key", self.list_key)
        if key is None:
            return turns
        clash = colliding(self.name, (key,), extra)
        if clash:
            return clash
        held: Any = turns
        if "json_text" in own:
            text = own["json_text"]
            held = text if json.loads(text) == turns else json.dumps(turns, ensure_ascii=False)
        return {key: held, **extra}

    def _write_turn(self, message: Message, layout: dict[str, Any], names: Mapping[Role, str]) -> dict[str, Any]:
        if layout:
            message = as_written(message, layout)
        said = layout.get("role")
        turn: dict[str, Any] = {self.role_key: said if _role_of(said) == message.role else names[message.role]}
        if "parts" in layout:
            turn[self.content_key] = _split_parts(message.content, layout["parts"])
        elif message.content or layout.get("content") is None:
            turn[self.content_key] = message.content
        elif layout["content"] == "null":
            turn[self.content_key] = None
        turn.update(message.extra)
        weight = layout.get("weight")
        if weight is not None and (message.role != "assistant" or message.learn == all(weight.values())):
            turn.update(weight)
        elif message.role == "assistant" and not message.learn:
            turn["weight"] = 0
        return turn


def _find_turns(row: Row) -> _Turns | RowFault:
    if isinstance(row, list):
        return _Turns(None, row, None)
    if isinstance(row, str):
        return not_an_object(row)
    key = next((key for key in LIST_KEYS if key in row), None)
    if key is None:
        return missing_key(row, "'messages' or 'conversations'")
    value = row[key]
    if isinstance(value, list):
        return _Turns(key, value, None)
    if isinstance(value, str):
        try:
            turns = msgspec.json.decode(value)
        except msgspec.DecodeError:
            turns = None
        if isinstance(turns, list):
            return _Turns(key, turns, value)
    return content_fault(key, value) if value is None else RowFault(
        code="messages_not_a_list", message=f"{key!r} is no list of turns", fix="write the turns as a list"
    )  # fmt: skip


def _join_parts(parts: list[Any]) -> _Content | RowFault:
    """Join typed text parts; the layout keeps each part's keys, the key of its text, and its length."""
    texts: list[str] = []
    layout: list[dict[str, Any]] = []
    for part in parts:
        key = next((k for k in ("text", "value") if isinstance(part, dict) and isinstance(part.get(k), str)), None)
        if key is None or part.get("type", "text") != "text":
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            return RowFault(
                code="non_text_content", message=f"a turn holds a part of type {kind!r}", fix="keep text parts only"
            )
        texts.append(part[key])
        rest = {k: v for k, v in part.items() if k != key}
        layout.append({"key": key, "length": len(part[key]), "rest": rest})
    return _Content("".join(texts), {"parts": layout})


def _split_parts(content: str, layout: list[dict[str, Any]]) -> list[dict[str, Any]]:
    parts, start = [], 0
    for number, part in enumerate(layout, start=1):
        end = len(content) if number == len(layout) else start + part["length"]
        parts.append({**part["rest"], part["key"]: content[start:end]})
        start = end
    return parts


def _parse_tools(extra: dict[str, Any], origin: dict[str, Any]) -> None:
    """Give templates the list of tools itself where the row holds it as JSON text."""
    text = extra.get("tools")
    if not isinstance(text, str):
        return
    try:
        tools = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return
    if isinstance(tools, list):
        extra["tools"] = tools
        origin["tools_text"] = text


def _role_of(name: object) -> Role | None:
    """Give the role that a name stands for, whatever its case; None for a name that stands for no role."""
    return ROLE_NAMES.get(name.strip().casefold()) if isinstance(name, str) else None
