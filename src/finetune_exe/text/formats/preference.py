"""Pairs of a chosen and a rejected answer, in any layout that is about; and single answers that were judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.chatml import CHATML
from finetune_exe.text.formats.format import (
    Evidence,
    Row,
    cannot_carry,
    colliding,
    content_fault,
    is_judged,
    missing_key,
    not_an_object,
    share,
)
from finetune_exe.text.formats.prompt_completion import PROMPT_COMPLETION
from finetune_exe.text.formats.read_only import own_row
from finetune_exe.text.formats.sharegpt import SHAREGPT
from finetune_exe.text.formats.turns import LIST_KEYS

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

CHOSEN = ("chosen", "chosen_messages", "chosen_response")
REJECTED = ("rejected", "rejected_messages", "rejected_response", "rejected_output")
PROMPTS = ("prompt", "question", "query", "instruction", *LIST_KEYS)
ANSWERS = ("response", "output", "completion", "answer")
"""What the chosen answer may be called where only the rejected one says what it is."""
_SPEAKER = re.compile(r"\n\n(Human|Assistant): ?")

Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceFormat:
    """Rows with two answers to one prompt, the first of them the better."""

    name: FormatName = "preference"
    needs: str = "prompt, chosen, rejected"

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows with a rejected answer, or a chosen one."""
        found = [row for row in rows if isinstance(row, dict) and _first(row, (*REJECTED, *CHOSEN))]
        if not found:
            return Evidence(score=0.0, phrases=())
        prompt = next((key for row in found if (key := _first(row, PROMPTS))), None)
        phrases = (
            f"{share(len(found), len(rows))} hold a better and a worse answer",
            f"what they answer stands in {prompt!r}" if prompt else "what they answer stands in front of both",
        )
        return Evidence(score=len(found) / len(rows), phrases=phrases)

    def read(self, row: Row) -> Conversation | RowFault:
        """Read the prompt with the chosen answer as the conversation, and the rejected answer beside it."""
        if not isinstance(row, dict):
            return not_an_object(row)
        rejected_key = _first(row, REJECTED)
        chosen_key = _first(row, CHOSEN) or _first(row, ANSWERS)
        prompt_key = _first(row, PROMPTS)
        if rejected_key is None:
            return missing_key(row, "'rejected'")
        prompt = _prompt(row, prompt_key)
        if isinstance(prompt, RowFault):
            return prompt
        if chosen_key is None and prompt and prompt[-1].role == "assistant":
            chosen: Turns | RowFault = prompt[-1:]
            prompt = prompt[:-1]
        elif chosen_key is None:
            return missing_key(row, "'chosen'")
        else:
            chosen = _answer(chosen_key, row[chosen_key], alone=prompt_key is None)
        rejected = _answer(rejected_key, row[rejected_key], alone=prompt_key is None)
        if isinstance(chosen, RowFault) or isinstance(rejected, RowFault):
            return chosen if isinstance(chosen, RowFault) else rejected  # type: ignore[return-value]
        shared = _shared(chosen, rejected)
        if shared and chosen[0].role != "assistant":
            prompt = tuple(message for message in prompt if message.role == "system" and message not in chosen)
        elif prompt_key is None and not shared:
            return missing_key(row, "'prompt'")
        used = {prompt_key, chosen_key, rejected_key, "system", *(["input"] if prompt_key == "instruction" else [])}
        kinds = [type(row[key]) for key in (chosen_key, rejected_key) if key is not None]
        return Conversation(
            kind="chat",
            messages=(*prompt, *chosen),
            rejected=rejected[shared:],
            extra={key: value for key, value in row.items() if key not in used},
            origin={"format": self.name, "row": row},
            notes=("schema_mixed",) if len(set(kinds)) > 1 else (),
        )

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write prompt, chosen and rejected answer as lists of messages; an own row is given back as it was."""
        row = own_row(self, conversation)
        if row is not None:
            return row
        if not conversation.rejected:
            return cannot_carry(self.name, "a row without a rejected answer")
        if conversation.label is not None:
            return cannot_carry(self.name, "the mark of a judged answer")
        messages, start = conversation.messages, conversation.num_prompt_turns
        parts = {"prompt": messages[:start], "chosen": messages[start:], "rejected": conversation.rejected}
        written: dict[str, Any] = {}
        for key, part in parts.items():
            turns = _written(part)
            if isinstance(turns, RowFault):
                return turns
            written[key] = turns
        return colliding(self.name, written, conversation.extra) or {**written, **conversation.extra}


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedFormat:
    """Rows with one answer and a label that says whether it is a good one, as KTO learns from."""

    name: FormatName = "kto"
    needs: str = "messages (or prompt, completion), label: true or false"

    def detect(self, rows: Sequence[Row]) -> Evidence:
        """Count the rows with an answer and a truth value."""
        found = sum(isinstance(row, dict) and is_judged(row) for row in rows)
        if not found:
            return Evidence(score=0.0, phrases=())
        return Evidence(score=found / len(rows), phrases=(f"{share(found, len(rows))} mark an answer as good or bad",))

    def read(self, row: Row) -> Conversation | RowFault:
        """Read the conversation and its label."""
        if not isinstance(row, dict):
            return not_an_object(row)
        key = _first(row, ("label", "kto_tag"))
        if key is None:
            return missing_key(row, "'label'")
        if not isinstance(row[key], bool):
            return content_fault(key, row[key])
        rest = {name: value for name, value in row.items() if name != key}
        turns = next((rest[name] for name in LIST_KEYS if name in rest), None)
        shaped = PROMPT_COMPLETION if turns is None else SHAREGPT if _says_from(turns) else CHATML
        read = shaped.read(rest)
        if isinstance(read, RowFault):
            return read
        return replace(read, label=row[key], origin={"format": self.name, "row": row})

    def write(self, conversation: Conversation) -> Row | RowFault:
        """Write messages and label; an own row is given back as it was."""
        row = own_row(self, conversation)
        if row is not None:
            return row
        if conversation.label is None:
            return cannot_carry(self.name, "a row that was not judged")
        written = CHATML.write(replace(conversation, label=None, origin={}))
        if not isinstance(written, dict):
            return written if isinstance(written, RowFault) else cannot_carry(self.name, "a bare list")
        return colliding(self.name, ("label",), conversation.extra) or {**written, "label": conversation.label}


def _prompt(row: dict[str, Any], key: str | None) -> Turns | RowFault:
    """Read what both answers answer: text, a list of turns, or nothing where the answers hold it themselves."""
    system = row.get("system")
    begin: Turns = (Message(role="system", content=system),) if isinstance(system, str) and system.strip() else ()
    if key is None:
        return begin
    value = row[key]
    if isinstance(value, list):
        turns = _turns(value) if value else ()
        return turns if isinstance(turns, RowFault) else (*begin, *turns)
    if not isinstance(value, str):
        return content_fault(key, value)
    under = row.get("input") if key == "instruction" else None
    text = f"{value}\n\n{under}" if isinstance(under, str) and under else value
    return (*begin, Message(role="user", content=text))


def _answer(key: str, value: Any, *, alone: bool) -> Turns | RowFault:
    """Read one of the answers: text, one turn, or all turns up to it."""
    if isinstance(value, str):
        return (_transcript(value) if alone else ()) or (Message(role="assistant", content=value),)
    if isinstance(value, dict):
        return _turns([value])
    if isinstance(value, list) and value:
        return _turns(value)
    return content_fault(key, value)


def _turns(turns: list[Any]) -> Turns | RowFault:
    read = (SHAREGPT if _says_from(turns) else CHATML).read(turns)
    return read if isinstance(read, RowFault) else read.messages


def _says_from(turns: Any) -> bool:
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and "from" in turns[0]


def _transcript(text: str) -> Turns:
    """Read turns out of a text that names the speakers, as in "Human: ... Assistant: ..."."""
    pieces = _SPEAKER.split(text)
    if len(pieces) < 5 or pieces[0].strip():
        return ()
    return tuple(
        Message(role="user" if name == "Human" else "assistant", content=said)
        for name, said in zip(pieces[1::2], pieces[2::2], strict=True)
    )


def _shared(chosen: Turns, rejected: Turns) -> int:
    """Count the turns that both begin with; the last of each is its own."""
    count = 0
    while count < min(len(chosen), len(rejected)) - 1 and chosen[count] == rejected[count]:
        count += 1
    return count


def _written(turns: Turns) -> list[Any] | RowFault:
    written = CHATML.write(Conversation(kind="chat", messages=turns))
    return written["messages"] if isinstance(written, dict) else RowFault(
        code="cannot_convert", message="a turn has no place in messages", fix="leave the row as it is"
    )  # fmt: skip


def _first(row: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


PREFERENCE = PreferenceFormat()
KTO = JudgedFormat()
