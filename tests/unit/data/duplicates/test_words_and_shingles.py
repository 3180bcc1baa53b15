"""Words, shingles and similarities, against the same computed with Python's own strings and sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.duplicates.oracle import common_subsequence, jaccard, row_words, shingle_set, words

from finetune_exe.data.duplicates.near import common_order, word_overlap
from finetune_exe.data.duplicates.pairs import RowPairs
from finetune_exe.data.duplicates.rows import RowText, Stretches, choose_rows, join_rows, words_of_rows
from finetune_exe.data.duplicates.shingles import each_chunk, may_be_contained, shared_shingles, shingles
from finetune_exe.data.duplicates.words import hash_words, word_hashes

TEXTS = st.text(st.sampled_from("abAB 01.,!\n\t-'_+()\"="), max_size=60)
FEW_WORDS = st.lists(st.sampled_from(["one", "two", "three", "four", "five", "six"]), max_size=14).map(" ".join)
ROWS = st.builds(RowText, FEW_WORDS, FEW_WORDS)


def hashes(text: str) -> list[int]:
    return word_hashes(hash_words([text]).words).tolist()


@given(st.lists(TEXTS, max_size=8))
def test_words_are_split_and_told_apart_as_by_a_regular_expression(texts: list[str]) -> None:
    array = hash_words(texts)
    assert np.diff(array.starts).tolist() == [len(words(text)) for text in texts]
    named: dict[int, str] = {}
    expected = [word for text in texts for word in words(text)]
    for number, word in zip(word_hashes(array.words).tolist(), expected, strict=True):
        assert named.setdefault(number, word) == word
    assert len(named) == len(set(expected))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_the_words_of_a_text_do_not_depend_on_the_texts_around_it(texts: list[str]) -> None:
    array = hash_words(texts)
    for number, text in enumerate(texts):
        alone = hash_words([text])
        assert array.words[array.starts[number] : array.starts[number + 1]].tolist() == alone.words.tolist()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, World!", "hello world"),
        ("\ufb01ne \uff21\uff22\uff23", "fine abc"),  # a ligature and full-width letters
        ("caf\u00e9 \u201cna\u00efve\u201d \u2013 d\u00e9j\u00e0 vu", "cafe\u0301 \"naive\u0308\" - deja vu".replace("naive\u0308", "nai\u0308ve").replace("deja", "de\u0301ja\u0300")),
        ("STRA\u00dfE", "strasse"),
        ("\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440", "\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440"),
        ("a\u200ba", "a a"),
        ("a top-up", "A top up"),
        ("It\u2019s", "it s"),
        ("[ ]", "[]"),
        ("5 \u2212 3", "5 - 3"),
        ("10\u00b2", "10^2"),
        ("\u00bfQu\u00e9 tal?", "qu\u00e9 tal"),
        ("\u201eJa\u201c, sagt er.", '"ja" sagt er'),
        ("\u4f60\u597d\uff0c\u6211", "\u4f60\u597d\u6211"),
        ("\u0645\u0631\u062d\u0628\u0627\u060c \u0643\u064a\u0641\u061f", "\u0645\u0631\u062d\u0628\u0627 \u0643\u064a\u0641"),
        ("Fu\u00df\u00adball", "fussball"),
        ("\u2764\ufe0f", "\u2764"),
    ],
)  # fmt: skip
def test_case_marks_and_unicode_forms_do_not_count(one: str, other: str) -> None:
    assert hashes(one) == hashes(other)
    assert hashes(one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5", "3,5"), ("3.5", "35"), ("1..5", "1.5"), ("-5", "5"), ("\u22125", "5"), ("3+4", "3-4"), ("3\u20135", "3 5"),
        ("5!", "5"), ("n!", "n"), ("A-", "A+"), ("x-y", "x y"), ("50%", "50"), ("10\u00b2", "102"), ("H\u2082O", "H2O"),
        ("1\u00bd", "112"), ("\u20ac1", "\u00a31"), ("$1", "1"), ("a \u00d7 b", "a \u00f7 b"), ("a \u2264 b", "a \u2265 b"),
        ("a\u00b7b", "a b"), ("( ) [", "[ ( )"), ("not ( True ) or False", "not ( True or False )"),
        ("a != b", "a = b"), ("a.b", "a,b"), ("f(x)", "f[x]"), ('x = "a"', "x = a"), ("x = 'a'", "x = a"), ("a_b", "a b"),
        ("*p", "p"), ("&x", "x"), ("a / b", "a // b"), ("C#", "C++"), ("#1", "1"), (":)", ":("), ("#tag", "tag"),
        ("\U0001f389", "\u2728"), ("Nice \U0001f600", "Nice \U0001f622"), ("\U0001f44d\U0001f3fb", "\U0001f44d\U0001f3ff"),
        ("\u0915\u0940", "\u0915\u093e"), ("\u0e01\u0e48\u0e32", "\u0e01\u0e49\u0e32"), ("\u05db\u05b8", "\u05db\u05b7"),
        ("\u304c", "\u304b"), ("\u0663\u066b\u0665", "\u0663\u0665"), ("\u2192", "\u2190"), ("x\u0304", "x"),
    ],
)  # fmt: skip
def test_signs_that_say_something_count(one: str, other: str) -> None:
    assert hashes(one) != hashes(other)


def test_each_character_of_a_script_without_spaces_is_a_word() -> None:
    assert len(hashes("\u4eca\u5929\u5929\u6c14")) == 4
    assert len(hashes("good \u4eca\u5929 day")) == 4


def test_a_nul_inside_a_text_is_no_end_of_it() -> None:
    array = hash_words(["one\0two", "three"])
    assert array.starts.tolist() == [0, 2, 3]


def test_half_a_surrogate_pair_is_hashed_like_any_character() -> None:
    assert len(hashes("bad \ud83d half")) in (2, 3)


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=30), st.integers(0, 40))
def test_a_word_has_the_hash_worked_out_with_whole_numbers_wherever_it_stands(word: str, place: int) -> None:
    value = sum(byte * 0x9E3779B97F4A7C15**position for position, byte in enumerate(word.encode())) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    assert hashes(" " * place + word) == [(value ^ value >> 31) >> 35]


@given(st.lists(ROWS, min_size=1, max_size=8), st.integers(1, 6))
def test_shingles_are_the_runs_of_words_of_each_row(rows: list[RowText], size: int) -> None:
    array = words_of_rows(rows)
    made = shingles(array.words, array.starts, size=size)
    named: dict[int, tuple[str, ...]] = {}
    for number, row in enumerate(rows):
        found = row_words(row)
        expected = [tuple(found[start : start + size]) for start in range(len(found) - size + 1)] or [tuple(found)]
        mine = made.hashes[made.rows == number].tolist()
        assert len(mine) == (len(expected) if found else 0)
        for number_, run in zip(mine, expected, strict=False):
            assert named.setdefault(number_, run) == run
    assert len(named) == len(set(named.values()))


@given(st.lists(ROWS, min_size=1, max_size=8), st.data())
def test_similarity_is_exactly_that_of_the_sets(rows: list[RowText], data: st.DataObject) -> None:
    number = st.integers(0, len(rows) - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), min_size=1, max_size=10))
    left, right = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
    array = words_of_rows(rows)
    shared = shared_shingles(array, array, RowPairs(left, right))
    backwards = shared_shingles(array, array, RowPairs(right, left))
    assert shared.jaccard().tolist() == backwards.jaccard().tolist()
    for place, (one, other) in enumerate(pairs):
        assert shared.jaccard()[place] == pytest.approx(jaccard(rows[one], rows[other]), abs=1e-12)
        mine, others = shingle_set(rows[one]), shingle_set(rows[other])
        assert shared.contained()[place] == pytest.approx(len(mine & others) / max(1, len(mine)), abs=1e-12)


@given(st.lists(ROWS, min_size=2, max_size=8), st.data())
def test_no_row_that_is_contained_is_ruled_out(rows: list[RowText], data: st.DataObject) -> None:
    array = words_of_rows(rows)
    places = st.integers(0, len(rows) - 1)
    drawn = (data.draw(st.lists(places, min_size=5, max_size=5)) for _ in range(2))
    pairs = RowPairs(*(np.array(side, np.int64) for side in drawn))
    share = data.draw(st.sampled_from([0.5, 0.75, 0.9, 1.0]))
    contained = shared_shingles(array, array, pairs, size=2).contained() >= share
    assert may_be_contained(array, array, pairs, share, size=2)[contained].all()


def test_a_row_of_other_words_is_ruled_out() -> None:
    array = words_of_rows([RowText("", "one two three four five six"), RowText("", "a b c d e f g h i j k l")])
    pairs = RowPairs(np.array([0, 1]), np.array([1, 1]))
    assert may_be_contained(array, array, pairs, 0.9).tolist() == [False, True]


@given(st.lists(ROWS, min_size=1, max_size=9), st.integers(1, 4))
def test_rows_hashed_in_parts_are_the_rows_hashed_at_once(rows: list[RowText], size: int) -> None:
    whole = words_of_rows(rows)
    joined = join_rows(words_of_rows(rows[start : start + size]) for start in range(0, len(rows), size))
    chosen = choose_rows(whole, np.arange(0, len(rows), 2))
    every_second = words_of_rows(rows[::2])
    for one, other in ((whole, joined), (chosen, every_second)):
        for name in ("words", "starts", "answers", "exact", "prompt_hashes", "answer_hashes"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()


def test_shingles_made_in_chunks_are_those_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = words_of_rows([RowText("a b c d e f g h", f"{number} x y z") for number in range(50)])
    whole = shingles(rows.words, rows.starts)
    monkeypatch.setattr("finetune_exe.data.duplicates.shingles.CHUNK_WORDS", 40)
    chunks = list(each_chunk(rows))
    assert len(chunks) > 5
    assert np.concatenate([chunk.hashes for chunk in chunks]).tolist() == whole.hashes.tolist()
    assert np.concatenate([chunk.rows for chunk in chunks]).tolist() == whole.rows.tolist()


@given(FEW_WORDS, FEW_WORDS)
def test_common_order_is_the_longest_common_subsequence(one: str, other: str) -> None:
    left, right = (word_hashes(hash_words([text]).words) for text in (one, other))
    length = len(left) + len(right)
    expected = 2 * common_subsequence(left.tolist(), right.tolist()) / length if length else 1.0
    assert common_order(left, right) == pytest.approx(expected, abs=1e-12)


def test_overlaps_worked_out_in_parts_are_those_worked_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    array = hash_words([" ".join(f"w{number * step % 7}" for step in range(12)) for number in range(41)])
    sides = [Stretches(array.words, array.starts[at : at + 40], array.starts[at + 1 : at + 41]) for at in (0, 1)]
    whole = word_overlap(*sides)
    monkeypatch.setattr("finetune_exe.data.duplicates.shingles.PART_WORDS", 50)
    assert word_overlap(*sides).tolist() == whole.tolist()
    assert len(set(whole.tolist())) > 2


@given(FEW_WORDS, FEW_WORDS)
def test_word_overlap_counts_words_as_often_as_both_have_them(one: str, other: str) -> None:
    array = hash_words([one, other])
    ends = [np.array([place]) for place in array.starts]
    overlap = word_overlap(Stretches(array.words, ends[0], ends[1]), Stretches(array.words, ends[1], ends[2]))
    left, right = one.split(), other.split()
    both = sum(min(left.count(word), right.count(word)) for word in set(left))
    expected = 2 * both / (len(left) + len(right)) if left or right else 1.0
    assert overlap.tolist() == pytest.approx([expected], abs=1e-12)
