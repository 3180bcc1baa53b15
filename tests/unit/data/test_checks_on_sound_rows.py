"""Rows that look faulty and are not: what a reader would call a false alarm."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.judged import codes, found

from finetune_exe.data.checks.ending import OpenEnd, open_end
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.facts import TAIL_CHARACTERS, tabulate
from finetune_exe.data.checks.mojibake import find_mojibake
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.truncation import CHECKS as TRUNCATION
from finetune_exe.text.conversation import Conversation

PAGE = (
    "The harbour of the old town was dug by hand in the winter of the great frost, under the eyes of the bishop. "
    "It lets the boats rest when the sea is rough, and all who live by the water are proud of it to this day. "
    "The song Let us go down to the boats and sing was written for the first ship that was moored there."
)
WHOLE = [asked(f"What of the pier number {number}?", f"It is {number} feet long. It is old.") for number in range(80)]
CHINESE = "\u4e3a\u4ec0\u4e48\u8981\u5236\u4f5c\u4f60\uff1f"


@given(st.binary(min_size=400, max_size=900), st.sampled_from(["RSA PRIVATE KEY", "PRIVATE KEY", "CERTIFICATE"]))
def test_a_key_between_its_marks_is_no_gibberish(data: bytes, kind: str) -> None:
    body = "\n".join(line.decode() for line in base64.b64encode(data).splitlines())
    assert "gibberish" not in codes(f"It is in the file.\n-----BEGIN {kind}-----\n{body}\n-----END {kind}-----")


def test_noise_outside_the_marks_of_a_key_is_gibberish_still() -> None:
    noise = base64.b64encode(random.Random(0).randbytes(300)).decode()  # noqa: S311
    assert "gibberish" in codes(f"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n{noise}")


@pytest.mark.parametrize("scheme", ["postgres", "amqp", "mysql+pymysql", "https"])
def test_the_password_of_a_connection_is_a_secret_and_no_address(scheme: str) -> None:
    found_codes = codes(f"Connect to {scheme}://app:cWq7Lr2tZ9@db.harbour.net/orders and list the rows.")
    assert "secret" in found_codes
    assert "pii" not in found_codes


def test_an_address_of_a_person_is_found_beside_a_link() -> None:
    assert "pii" in codes("See https://harbour.net/a:b?to=mara.holm@seaport.net for the rest.")


def test_chinese_characters_whose_bytes_happen_to_be_utf8_are_no_mojibake() -> None:
    assert find_mojibake(f"OpenAI{CHINESE}") < 0


@given(st.text(alphabet=[chr(code) for code in range(0x430, 0x450)], min_size=6, max_size=20))
def test_cyrillic_read_as_gbk_is_mojibake(word: str) -> None:
    assert find_mojibake(word.encode().decode("gbk", "ignore")) >= 0


@pytest.mark.parametrize(("question", "answer"), [
    ("Which song was written for it?", "Let us go down to the boats and"),
    ("What is said of the boats?", "the boats rest when the sea is rough,"),
    ("Who is proud?\n\nA. all who live by the water and the\nB. the bishop and", "A. all who live by the water and the"),
])  # fmt: skip
def test_a_passage_of_the_prompt_does_not_break_off(question: str, answer: str) -> None:
    assert found("truncated_output", [*WHOLE, asked(f"{PAGE}\n\n{question}", answer)]) == []


def test_a_copy_of_the_text_that_stops_in_a_sentence_breaks_off() -> None:
    copied = PAGE[: PAGE.index("the sea is rough") + len("the sea")]
    rows = [*WHOLE, asked(f"Delete the last sentence.\n\n{PAGE}", copied)]
    assert found("truncated_output", rows) == [len(WHOLE)]


def test_how_an_answer_breaks_off_is_quoted() -> None:
    answer = "It protects the people of the old town. It exists to guard the rights and"
    facts = tabulate(range(len(WHOLE) + 1), [RowView(row) for row in (*WHOLE, asked("Why?", answer))])
    (hit,) = TRUNCATION[0].find(facts)
    assert hit.extract == "..." + answer[-TAIL_CHARACTERS:].strip()


def test_items_on_one_line_are_a_list_and_sentences_are_not() -> None:
    assert open_end("1. Werewolf 2. Charades 3. Balderdash 4. Two Truths and a Lie 5. Kubb") == OpenEnd.NO_PROSE
    steps = "1. Put the bread on the board and cut it. 2. Put it in the oven for an hour. 3. Take it out and eat with"
    assert open_end(steps) >= OpenEnd.OPEN


def test_a_title_taken_from_the_text_is_in_no_wrong_language() -> None:
    title = "The old harbour and the men who built it"
    page = f"Das Buch, in dem wir davon lesen, ist in England erschienen und hei\u00dft {title}, wie auch der Film."
    german = [
        asked("Was ist das?", f"Das ist das Haus, in dem wir seit {number} Jahren wohnen.") for number in range(30)
    ]
    assert found("wrong_language", [*german, asked(f"{page}\n\nWie hei\u00dft es?", title)]) == []
    assert found("wrong_language", [*german, asked("Wie hei\u00dft es?", title)]) == [30]


@pytest.mark.parametrize("behind", [True, False])
def test_another_question_about_the_same_page_is_no_copy(*, behind: bool) -> None:
    def row(question: str, page: str = PAGE) -> Conversation:
        return asked(f"{page}\n\n{question}" if behind else f"{question}\n\n{page}", "the harbour")

    questions = ["What was dug by hand?", "Where do vessels find shelter in a storm?"]
    assert found("near_duplicate", [row(question) for question in questions]) == []
    edited = PAGE.replace("bishop", "abbot").replace("proud", "fond")
    assert found("near_duplicate", [row(questions[0]), row(questions[0], edited)]) == [1]
    assert found("near_duplicate", [row(questions[0]), row("What was it that was dug by hand?")]) == [1]
