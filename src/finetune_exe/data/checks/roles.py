"""Who speaks when: a conversation begins with the user and ends with the assistant, turn by turn."""

from __future__ import annotations

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked, call, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.text.conversation import Message


def _roles(row: RowView) -> list[str]:
    return [message.role for message in row.messages] if row.layout != "text" else []


def _system_only(row: RowView) -> str | None:
    if row.is_exchange:
        return None
    roles = _roles(row)
    return shorten(row.text) if roles and set(roles) == {"system"} else None


def _no_assistant(row: RowView) -> str | None:
    if row.is_exchange and row.messages[1].learn:
        return None
    roles = _roles(row)
    if not roles or set(roles) == {"system"}:
        return None
    if "assistant" not in roles:
        return shorten(row.text)
    learned = any(message.learn for message in row.messages if message.role == "assistant")
    return None if learned else "every answer is marked as not to be learned"


def _no_final_assistant(row: RowView) -> str | None:
    if row.is_exchange:
        return None
    roles = _roles(row)
    if "assistant" not in roles or roles[-1] in ("assistant", "system"):
        return None
    return shorten(row.messages[-1].content)


def _system_not_first(row: RowView) -> str | None:
    if row.is_exchange:
        return None
    roles = _roles(row)
    if "system" not in roles[1:] or roles[0] == "system":
        return None
    return shorten(row.messages[roles.index("system")].content)


def _two_system(row: RowView) -> str | None:
    if row.is_exchange:
        return None
    said = [message.content for message in row.messages if message.role == "system"]
    return shorten(said[1]) if len(said) > 1 else None


def _assistant_first(row: RowView) -> str | None:
    if row.is_exchange:
        return None
    for message in row.messages if row.layout != "text" else ():
        if message.role != "system":
            return shorten(message.content) if message.role == "assistant" else None
    return None


def _consecutive(row: RowView, role: str) -> str | None:
    if row.is_exchange:
        return None
    roles = _roles(row)
    for number in range(1, len(roles)):
        if roles[number] == role == roles[number - 1]:
            return shorten(row.messages[number].content)
    return None


def _consecutive_user(row: RowView) -> str | None:
    return _consecutive(row, "user")


def _consecutive_assistant(row: RowView) -> str | None:
    return _consecutive(row, "assistant")


_GOOD = turns(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi!"))

CHECKS = (
    RowCheck(
        code="no_assistant",
        severity="error",
        message="there is no assistant turn to learn from",
        fix="add the answer, or drop the row",
        find=_no_assistant,
        layouts=frozenset({"turns", "preference"}),
        example=turns(("user", "How does it work?")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="system_only",
        severity="error",
        message="nobody but the system speaks",
        fix="drop the row",
        find=_system_only,
        layouts=frozenset({"turns", "preference"}),
        example=turns(("system", "You are a helpful assistant.")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="no_final_assistant",
        severity="error",
        message="the last turn is not the assistant's, so what it answers to is never learned",
        fix="cut the turns behind the last answer, or add the answer",
        find=_no_final_assistant,
        layouts=frozenset({"turns", "preference"}),
        example=turns(("user", "Hello"), ("assistant", "Hi!"), ("user", "One more question: why?")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="system_not_first",
        severity="warning",
        message="the system speaks after others have spoken; many chat templates drop or refuse that",
        fix="move the system turn to the front",
        find=_system_not_first,
        layouts=frozenset({"turns", "preference"}),
        example=turns(("user", "Hello"), ("system", "Be brief."), ("assistant", "Hi!")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="two_system",
        severity="warning",
        message="the system speaks more than once; many chat templates keep only the first",
        fix="join the system turns into one",
        find=_two_system,
        layouts=frozenset({"turns", "preference"}),
        example=turns(("system", "Be brief."), ("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi!")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="assistant_first",
        severity="error",
        message="the assistant speaks before any user; most chat templates refuse that",
        fix="add the question that was answered, or drop the first turn",
        find=_assistant_first,
        layouts=frozenset({"turns", "preference"}),
        usual=0.5,
        example=turns(("assistant", "It is a mountain pass."), ("user", "And then?"), ("assistant", "Snow.")),
        counterexample=_GOOD,
    ),
    RowCheck(
        code="consecutive_user",
        severity="warning",
        message="the user speaks twice in a row",
        fix="join the two turns, or add the answer between them",
        find=_consecutive_user,
        layouts=frozenset({"turns", "preference"}),
        usual=0.5,
        example=turns(("user", "Hello"), ("user", "Are you there?"), ("assistant", "Hi!")),
        counterexample=asked("Hello. Are you there?", "Hi!"),
    ),
    RowCheck(
        code="consecutive_assistant",
        severity="warning",
        message="the assistant speaks twice in a row",
        fix="join the two turns, or add the question between them",
        find=_consecutive_assistant,
        layouts=frozenset({"turns", "preference"}),
        usual=0.5,
        example=turns(("user", "Hello"), ("assistant", "Hi!"), ("assistant", "How are you?")),
        counterexample=turns(
            ("user", "Weather?"), call('{"city": "Oslo"}'), Message(role="tool", content="4 C"), ("assistant", "4 C.")
        ),
    ),
)
