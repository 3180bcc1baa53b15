"""Faults that instruction data picks up where it is made, and rows that only look like them."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.judged import QUESTION, codes, found

from finetune_exe.data.checks import ROW_CHECKS, ROW_CHECKS_OF
from finetune_exe.data.checks.example import asked, labelled, turns
from finetune_exe.data.checks.mojibake import find_mojibake
from finetune_exe.data.checks.row import RowView

ANSWER = (
    "The harbour was dug by hand in the winter of the great frost, and it lets the boats rest when the sea is rough. "
    "It is one of the few that a ship can enter at any time of the day, so it is of use to all who live by the sea. "
    "Each year the men of the town clear the sand from it, and the school is closed for the days of the work."
)


@given(st.integers(1, 999), st.integers(1, 999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_a_worked_sum_is_told_by_its_result(first: int, second: int, sign: str, off: int) -> None:
    right = {"+": first + second, "-": first - second, "*": first * second}[sign]
    assert ("wrong_sum" in codes(f"So it is <<{first}{sign}{second}={right + off}>>{right + off}.")) == (off != 0)


def test_words_in_no_order_are_told_from_the_same_words_in_order() -> None:
    words = ANSWER.split()
    shuffled = []
    for seed in range(40):
        random.Random(seed).shuffle(words)  # noqa: S311
        shuffled.append(asked(QUESTION, " ".join(words)))
    hits = found("shuffled_words", [*shuffled, asked(QUESTION, ANSWER)])
    assert len(hits) >= 36
    assert 40 not in hits


def test_words_that_are_listed_or_repeated_are_in_order() -> None:
    listed = asked("Which are the commonest words?", "the\nand\nof\nto\na\nin\nis\nfor\nthat\nas\non")
    again = asked("How often does he walk?", "He walks to and from work. " * 8)
    rows = [asked(QUESTION, ANSWER), listed, again, asked("Who?", ""), asked("Who?", "the")]
    assert found("shuffled_words", rows) == []
    assert found("shuffled_words", [asked("Who?", "the")]) == []


@pytest.mark.parametrize("codec", ["cp437", "cp850", "cp1250", "cp1251", "cp1253", "cp1257", "koi8-r", "mac_roman"])
def test_quotation_marks_of_utf8_are_known_in_every_code_page(codec: str) -> None:
    said = "It\u2019s the harbour\u2019s \u201cold\u201d wall.".encode().decode(codec, "replace")
    assert find_mojibake(f"We saw it. {said}") >= 0


@pytest.mark.parametrize(("answer", "code"), [
    ("[b]Note[/b]: it was dug by hand.", "html_residue"), ("503 Service Unavailable", "error_text"),
    ("It is old.\nCopy code\nimport os", "generator_mark"), ("It\u0120was\u0120dug\u0120by hand.", "tokenizer_piece"),
    ("It is old.\\nIt is deep.\\nIt is wide.", "literal_escapes"), ("<noinput> It is old.", "draft_mark"),
    ("<think>\nHm.\n</think>", "only_thinking"), ("[object Object]", "missing_value"), (f"{ANSWER}\n\n{ANSWER}", "repetition_loop"),
    (f"{QUESTION}\n{ANSWER}", "prompt_repeated"), ("machine a.example login bob password Kq8vLm2Zt9", "secret"),
    ("db.net:5432:orders:app:Zk93qLm2vTx", "secret"), ("The k?nig went to M?nchen and said na?ve things.", "replacement_character"),
    (" ".join(map(str, b"The harbour was dug by hand.")), "gibberish"), ("T h e  h a r b o u r  w a s  d u g  b y  h a n d  i n  t h e  w i n t e r", "gibberish"),
    (".dnah yb gud saw dna ,nwot eht fo ruobrah eht saw ti erofeb sraey ynam fo ecap eht", "gibberish"),
])  # fmt: skip
def test_what_is_left_of_where_an_answer_was_made_is_found(answer: str, code: str) -> None:
    assert code in codes(answer)


@pytest.mark.parametrize(("question", "answer"), [
    ("How is text made bold on a forum?", "[b]like this[/b]"), ("What does NumPy's a[b] do?", "It takes the rows of a[b] where b holds."),
    ("Print two lines in Python.", "print('one\\n', 'two\\n')"), ("Write 'good morning' backwards.", "gninrom doog"),
    ("Which marks do posts use?", "EDIT: is written before a change."), ("What is 2 to the 200?", str(2**200)),
    ("Wie hei\u00dft das?", "Es hei\u00dft \u201eHafen\u201c, auf Isl\u00e4ndisch \u201eh\u00f6fn\u201c, \u00fea\u00f0 er og \u00fdmislegt."),
    ("Is it open? Where? When?", "Where? On the quay. When? At dawn. Why? For the tide."),
])  # fmt: skip
def test_what_only_looks_like_it_is_left_alone(question: str, answer: str) -> None:
    marks = {
        "html_residue",
        "literal_escapes",
        "gibberish",
        "source_residue",
        "replacement_character",
        "mojibake",
        "draft_mark",
    }
    assert not marks & codes(answer, question)


def test_an_answer_that_cannot_be_read_is_told_by_those_that_can() -> None:
    rows = [asked(f"Boat {number}?", json.dumps({"length": number})) for number in range(60)]
    assert found("unlike_others", [*rows, asked("Boat 61?", '{"length": 61'), asked("Boat 62?", "It is long.")]) == [
        60,
        61,
    ]
    rows = [asked(f"Boat {number}?", f"name: boat\nlength: {number}\n") for number in range(60)]
    assert found("unlike_others", [*rows, asked("Boat 61?", "name: boat\n\tlength: 61\n")]) == [60]


def test_a_label_field_with_two_labels_is_told_from_one_with_a_long_name() -> None:
    rows = [labelled(f"text {number}", ("card_lost", "pin_blocked")[number % 2]) for number in range(60)]
    several = [labelled("both", "card_lost / pin_blocked"), labelled("x", "['card_lost']"), labelled("y", "card lost")]
    assert found("several_labels", [*rows, *several]) == [60]
    assert found("label_variant", [*rows, *several]) == [61, 62]


def test_a_check_that_is_left_out_of_a_row_would_not_have_found_it() -> None:
    rows = [check.example for check in ROW_CHECKS] + [turns(("user", QUESTION), ("assistant", ANSWER))]
    for row in rows:
        view = RowView(row)
        assert {check.code for check in ROW_CHECKS_OF[view.layout] if check.find(view)} == {
            check.code for check in ROW_CHECKS if check.find(view)
        }
