"""Duplicates found among planted ones, against a comparison of all rows with all."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.data.duplicates.oracle import jaccard, near_clusters, row_words, seeded

from finetune_exe.data.duplicates.find import Duplicates, find_duplicates
from finetune_exe.data.duplicates.minhash import agreeing_pairs, sign
from finetune_exe.data.duplicates.pairs import Pair, cluster
from finetune_exe.data.duplicates.rare import rare_pairs
from finetune_exe.data.duplicates.rows import RowText, words_of_rows

VOCABULARY = [f"w{number}" for number in range(2000)]


def text(rng: random.Random, size: int) -> str:
    return " ".join(rng.choices(VOCABULARY, k=size))


def edited(rng: random.Random, original: str, edits: int) -> str:
    found = original.split()
    for _ in range(edits):
        found[rng.randrange(len(found))] = rng.choice(VOCABULARY)
    return " ".join(found)


def planted(seed: int, *, number: int = 150, sizes: tuple[int, int] = (12, 150)) -> list[RowText]:
    """Rows of random words, a third of which are edited copies of others, at every similarity."""
    rng = seeded(seed)
    rows: list[RowText] = []
    for _ in range(number):
        if rows and rng.random() < 0.35:
            prompt, answer = rng.choice(rows)
            rows.append(RowText(prompt, edited(rng, answer, rng.randrange(1, 2 + len(answer.split()) // 12))))
        else:
            rows.append(RowText(text(rng, 8), text(rng, rng.randint(*sizes))))
    return rows


def clusters_of(duplicates: Duplicates) -> set[frozenset[int]]:
    found: dict[int, set[int]] = {}
    for row, first in enumerate(duplicates.clusters.tolist()):
        found.setdefault(first, set()).add(row)
    return {frozenset(members) for members in found.values()}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.7, 0.8])
def test_near_duplicates_are_those_of_a_comparison_of_all_with_all(seed: int, threshold: float) -> None:
    rows = planted(seed)
    found = find_duplicates(words_of_rows(rows), threshold=threshold, thorough=False)
    assert clusters_of(found) == near_clusters(rows, threshold)
    assert found.near
    for pair in found.near:
        assert pair.index > pair.of_index
        assert pair.similarity == pytest.approx(jaccard(rows[pair.index], rows[pair.of_index]), abs=1e-12)
        assert pair.similarity >= threshold


def test_short_rows_are_found_like_long_ones() -> None:
    """Rows of 25 to 40 words whose answers differ in one place: a signature has few values of its own to offer."""
    rng = seeded(7)
    rows, expected = [], 0
    for _ in range(1500):
        prompt, answer = text(rng, 14), text(rng, rng.randint(12, 28))
        copy = edited(rng, answer, 1)
        rows += [RowText(prompt, answer), RowText(prompt, copy)]
        expected += 0.7 <= jaccard(*rows[-2:]) < 1
    found = {(pair.index, pair.of_index) for pair in find_duplicates(words_of_rows(rows), thorough=False).near}
    assert expected > 700
    assert sum(pair in found for pair in zip(range(1, 3000, 2), range(0, 3000, 2), strict=True)) >= 0.999 * expected


@settings(max_examples=15, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_the_rows_plays_no_part(rng: random.Random, seed: int) -> None:
    rows = planted(seed, number=60)
    order = list(range(len(rows)))
    rng.shuffle(order)
    found = clusters_of(find_duplicates(words_of_rows(rows)))
    shuffled = clusters_of(find_duplicates(words_of_rows([rows[place] for place in order])))
    assert {frozenset(order[place] for place in members) for members in shuffled} == found


def test_hundreds_of_copies_of_one_text_are_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """All agree in all bands, two copies are less alike than the threshold, and no band may pair all with all."""
    monkeypatch.setattr("finetune_exe.data.duplicates.minhash.FEWEST_PAIRS", 2000)
    rng = seeded(1)
    original = text(rng, 80)
    rows = [RowText("", edited(rng, original, 2)) for _ in range(300)] + [RowText("", original)] * 300
    found = find_duplicates(words_of_rows(rows), thorough=False)
    assert np.bincount(found.clusters).tolist()[0] == 600
    assert len(found.exact) >= 299


@pytest.mark.parametrize(
    ("one", "other", "kind"),
    [
        ("Sort the three words.", "Sort the three words.", "exact"),
        ("Sort the three words.", "  sort the  three\n words", "normalised"),
        ("Sort the three words.", "SORT THE THREE WORDS!", "normalised"),
        ("Sort the three words.", "\uff33ort the three words.", "normalised"),
        ("The cat sat here, then it ran off. It was late.", "The cat SAT here, then it ran off. It was LATE.", "near"),
        ("The cat sat here, then it ran off. It was late.", "The cat, sat here, then, it ran off. It was late.", "near"),
        ("Yes", "No", None),
        ("Sort the words", "Sort the names", None),
        ("one two three four", "one two three five", None),
        ("", "", "exact"),
        ("!!!", "???", None),
    ],
)  # fmt: skip
def test_what_two_texts_are_to_each_other(one: str, other: str, kind: str | None) -> None:
    found = find_duplicates(words_of_rows([RowText("", one), RowText("", other)]))
    lists = {name: getattr(found, name) for name in ("exact", "normalised", "near", "edited", "contained")}
    assert {name for name, pairs in lists.items() if pairs} == ({kind} if kind else set())
    if kind:
        assert lists[kind] == (Pair(1, 0, 1.0),)


def test_the_same_words_divided_otherwise_are_no_repeat() -> None:
    rows = [RowText("Say", "hello to them"), RowText("Say hello", "to them")]
    found = find_duplicates(words_of_rows(rows))
    assert not found.exact
    assert not found.normalised


def test_another_question_on_the_same_page_is_no_near_duplicate() -> None:
    rng = seeded(3)
    page = text(rng, 120)
    rows = [
        RowText(f"{page} Who built the bridge", "Nobody knows"),
        RowText(f"{page} When did it fall down", "In the great storm"),
        RowText(text(rng, 6), page),
        RowText(text(rng, 6), page),
    ]
    assert jaccard(rows[0], rows[1]) > 0.7
    assert jaccard(rows[2], rows[3]) > 0.7
    found = find_duplicates(words_of_rows(rows))
    assert not found.near
    assert not found.edited
    assert not found.conflicting


def test_much_edited_copies_are_found_below_the_threshold() -> None:
    rng = seeded(5)
    rows = []
    for _ in range(60):
        original = text(rng, rng.randint(20, 200))
        rows += [RowText("", original), RowText("", edited(rng, original, len(original.split()) // 9))]
    found = find_duplicates(words_of_rows(rows))
    pairs = {(pair.index, pair.of_index) for pair in (*found.near, *found.edited)}
    wanted = set(zip(range(1, 120, 2), range(0, 120, 2), strict=True))
    assert pairs <= wanted
    assert len(pairs) >= 57
    assert all(pair.similarity < 0.7 for pair in found.edited)
    assert len(found.edited) > 30


def test_a_row_inside_a_longer_one_is_named_with_the_longer_one() -> None:
    rng = seeded(6)
    rows = [RowText("", text(rng, 100)) for _ in range(20)]
    inside = " ".join(rows[4].answer.split()[30:70])
    found = find_duplicates(words_of_rows([*rows, RowText("", inside)]))
    assert found.contained == (Pair(20, 4, 1.0),)
    assert not found.near


def test_of_several_longer_rows_the_shortest_is_named() -> None:
    rng = seeded(8)
    parts = [text(rng, 40) for _ in range(9)]
    rows = [RowText("", " ".join(parts)), RowText("", " ".join(parts[2:5])), RowText("", parts[3])]
    assert find_duplicates(words_of_rows(rows)).contained == (Pair(1, 0, 1.0), Pair(2, 1, 1.0))


def test_conflicting_answers_are_other_answers_to_the_same_prompt() -> None:
    answer = "A long answer that goes on for quite some words, and then ends."
    rows = [
        RowText("What is it?", "A cat"), RowText("what is it", "A dog"), RowText("What is it?", "a cat!"),
        RowText("Explain it", answer), RowText("Explain it", answer.replace("quite some", "rather many")),
        RowText("", "A cat"), RowText("", "A dog"), RowText("Why?", ""), RowText("Why?", "Because"),
        *(RowText("Write a poem", f"poem {number}") for number in range(40)),
    ]  # fmt: skip
    assert find_duplicates(words_of_rows(rows)).conflicting == (Pair(1, 0, 1.0),)


def test_nothing_is_found_in_nothing() -> None:
    found = find_duplicates(words_of_rows([]))
    assert not any((found.exact, found.normalised, found.near, found.edited, found.contained, found.conflicting))
    assert found.clusters.tolist() == []


@given(st.integers(1, 30), st.data())
def test_clusters_are_the_connected_rows(number: int, data: st.DataObject) -> None:
    row = st.integers(0, number - 1)
    pairs = data.draw(st.lists(st.tuples(row, row), max_size=30))
    first = cluster(number, [Pair(max(pair), min(pair), 1.0) for pair in pairs]).tolist()
    reached = [{row} for row in range(number)]
    for _ in range(number):
        for one, other in pairs:
            reached[one] = reached[other] = reached[one] | reached[other]
    for row_number in range(number):
        assert first[row_number] == min(set().union(*(reached[other] for other in reached[row_number])))


def test_pairs_are_drawn_across_two_collections_only_when_so_asked() -> None:
    rows = planted(1, number=80)
    array = words_of_rows(rows)
    for found in (agreeing_pairs(sign(array).bands, across=40), rare_pairs(array, across=40).pairs):
        assert len(found.left)
        assert (found.left < 40).all()
        assert (found.right >= 40).all()
    every = agreeing_pairs(sign(array).bands)
    across = agreeing_pairs(sign(array).bands, across=40)
    wanted = {(a, b) for a, b in zip(every.left.tolist(), every.right.tolist(), strict=True) if a < 40 <= b}
    assert set(zip(across.left.tolist(), across.right.tolist(), strict=True)) == wanted


def test_rare_pairs_found_in_blocks_are_those_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = [" ".join(f"w{number * step % 23}" for step in range(1, 12)) for number in range(90)]
    array = words_of_rows([RowText("", text) for text in said])
    whole = rare_pairs(array)
    monkeypatch.setattr("finetune_exe.data.duplicates.rare.BLOCK_RUNS", 7)
    parts = rare_pairs(array)
    for one, other in zip((*parts.pairs, *parts[1:]), (*whole.pairs, *whole[1:]), strict=True):
        assert one.tolist() == other.tolist()
    assert len(whole.pairs.left) > 20


def test_rare_pairs_share_what_they_are_said_to_share() -> None:
    rows = [RowText("", "a b c d e f g"), RowText("", "a b c d e x y"), RowText("", "p q r s t u v")]
    found = rare_pairs(words_of_rows(rows))
    assert list(zip(found.pairs.left.tolist(), found.pairs.right.tolist(), strict=True)) == [(0, 1)]
    runs = [{tuple(row_words(row)[start : start + 3]) for start in range(5)} for row in rows]
    assert found.of_longer.tolist() == found.of_shorter.tolist() == [len(runs[0] & runs[1]) / 5]


def test_lists_are_sorted_and_no_row_is_in_two() -> None:
    found = find_duplicates(words_of_rows(planted(2) + planted(2)[:50]))
    lists = (found.exact, found.normalised, found.near, found.edited, found.contained)
    for pairs in lists:
        assert all(one.index < other.index for one, other in pairwise(pairs))
    rows = [pair.index for pairs in lists for pair in pairs]
    assert len(rows) == len(set(rows))
    assert len(found.exact) == 50
