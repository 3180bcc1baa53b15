"""Leaks planted between training and validation rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.duplicates.oracle import seeded
from tests.unit.data.duplicates.test_find_duplicates import VOCABULARY, edited, text

from finetune_exe.data.duplicates.leaks import Leak, LeakKind, find_leaks
from finetune_exe.data.duplicates.rows import RowText, words_of_rows


def plant(rng: random.Random, row: RowText, kind: LeakKind) -> RowText:
    """Make a held-out row that leaks one of training in the way named."""
    match kind:
        case "exact":
            return row
        case "normalised":
            return RowText(f"  {row.prompt.upper()}", row.answer.replace(" ", "  "))
        case "near_light":
            return RowText(row.prompt, edited(rng, row.answer, 1))
        case "near_heavy":
            return RowText(row.prompt, edited(rng, row.answer, len(row.answer.split()) // 8))
        case "prompt_only":
            return RowText(row.prompt, text(rng, 40))
        case "output_only":
            return RowText(text(rng, 12), row.answer)
        case "group":
            return RowText(text(rng, 12), text(rng, 40))


KINDS: tuple[LeakKind, ...] = (
    "exact", "normalised", "near_light", "near_heavy", "prompt_only", "output_only",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_every_planted_leak_is_named_by_its_kind_and_row(seed: int) -> None:
    rng = seeded(seed)
    train = [RowText(text(rng, rng.randint(6, 20)), text(rng, rng.randint(30, 90))) for _ in range(300)]
    held_out, expected = [], []
    for number, of in enumerate(rng.sample(range(300), 120)):
        if number % 2:
            held_out.append(RowText(text(rng, 12), text(rng, 50)))
            continue
        kind = KINDS[number // 2 % len(KINDS)]
        expected.append(Leak(number, of, kind))
        held_out.append(plant(rng, train[of], kind))
    assert find_leaks(words_of_rows(train), words_of_rows(held_out)) == tuple(expected)
    assert Counter(leak.kind for leak in expected) == dict.fromkeys(KINDS, 10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50))
def test_rows_without_anything_in_common_leak_nothing(seed: int) -> None:
    rng = seeded(seed)
    rows = [RowText(text(rng, 10), text(rng, rng.randint(1, 60))) for _ in range(60)]
    assert find_leaks(words_of_rows(rows[:40]), words_of_rows(rows[40:])) == ()


def test_common_answers_and_shared_instructions_are_no_leak() -> None:
    rng = seeded(0)
    refusal = "I am sorry, but I can not help you with that request today."
    train = [RowText(text(rng, 9), refusal) for _ in range(8)]
    train += [RowText("Translate to French", text(rng, 20)) for _ in range(40)]
    train += [RowText(text(rng, 9), "positive")] * 2
    held_out = [
        RowText(text(rng, 9), refusal), RowText("Translate to French", text(rng, 20)), RowText(text(rng, 9), "positive"),
        RowText("Hello", "Hi there"), RowText("", ""),
    ]  # fmt: skip
    train.append(RowText("Hello", "Good day to you"))
    assert find_leaks(words_of_rows(train), words_of_rows(held_out)) == ()


def test_rows_of_one_group_leak_and_a_worse_leak_comes_first() -> None:
    train = words_of_rows([RowText("one question here", "one answer"), RowText("another one", "another answer")])
    held_out = words_of_rows(
        [RowText("quite new", "and new"), RowText("one question here", "one answer"), RowText("third", "thing")]
    )
    found = find_leaks(train, held_out, train_groups=["anna", None], held_out_groups=["anna", "anna", None])
    assert found == (Leak(0, 0, "group"), Leak(1, 0, "exact"))


def test_texts_without_prompts_leak_by_their_text_alone() -> None:
    rng = seeded(2)
    train = [RowText("", text(rng, 60)) for _ in range(20)]
    held_out = [RowText("", edited(rng, train[3].answer, 1)), RowText("", text(rng, 60))]
    assert [(leak.index, leak.of_index) for leak in find_leaks(words_of_rows(train), words_of_rows(held_out))] == [
        (0, 3)
    ]


def test_nothing_leaks_from_or_into_nothing() -> None:
    rows, none = words_of_rows([RowText("a question", " ".join(VOCABULARY[:20]))]), words_of_rows([])
    assert find_leaks(none, rows) == find_leaks(rows, none) == ()
