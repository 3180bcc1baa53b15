"""Columns that are told apart by their names and by what they hold, as real files have them."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.detect import detect_format

WORDS = ("harbour", "cask", "letter", "winter", "bridge", "lantern", "ferry", "market", "orchard", "mill")


def said(number: int, *, begin: str = "The") -> str:
    return f"{begin} {WORDS[number % 10]} of the {WORDS[number // 10 % 10]} was seen by {number} men."


def rows_of(**columns: Any) -> list[dict[str, Any]]:
    return [{name: make(number) for name, make in columns.items()} for number in range(60)]


ANSWERED = {
    "a text and its program": (
        rows_of(
            text=lambda n: said(n, begin="Write a function for"), code=lambda n: f"def f{n}():\n    return {n}",
            task_id=lambda n: n, test_setup_code=lambda _: "", test_list=lambda n: [f"assert f{n}() == {n}"],
        ),
        ("text", "code"),
    ),
    "a text and its summary": (rows_of(text=said, summary=lambda n: f"Seen by {n} men."), ("text", "summary")),
    "a context and how it goes on": (
        rows_of(context=lambda n: f"{n} + {n} =", continuation=lambda n: f" {2 * n}"), ("context", "continuation"),
    ),
    "the same beside a category": (
        rows_of(context=said, continuation=lambda n: f"{WORDS[n % 10]} {n}", category=lambda n: WORDS[n % 3]),
        ("context", "continuation"),
    ),
    "a program to complete beside its tests": (
        rows_of(
            task_id=lambda n: f"Task/{n}", prompt=lambda n: f"def f{n}(a):\n    '''Add {n}.'''\n",
            canonical_solution=lambda n: f"    return a + {n}\n", test=lambda n: f"def check(f):\n    assert f(1) == {n + 1}",
            entry_point=lambda n: f"f{n}",
        ),
        ("prompt", "canonical_solution"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ANSWERED)
def test_an_answer_beside_a_text_is_found(kind: str) -> None:
    rows, (prompt, answer) = ANSWERED[kind]
    read = detect_format(rows, where="rows.jsonl").format.read(rows[7])
    assert isinstance(read, Conversation)
    assert [message.content for message in read.messages] == [rows[7][prompt], rows[7][answer]]


@pytest.mark.parametrize(
    ("aside", "value"), [("code", "en"), ("target", "web"), ("path", "a/b c.txt"), ("source", "the old library")]
)
def test_a_text_with_a_note_on_it_stays_a_text_and_the_note_is_named(aside: str, value: str) -> None:
    rows = rows_of(text=said, **{aside: lambda _: value})
    detection = detect_format(rows, where="rows.jsonl")
    assert detection.format.name == "completion"
    assert detection.evidence[-1] == f"kept aside: '{aside}'"
