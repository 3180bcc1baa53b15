"""Nothing put into a frame breaks it, and nothing from the data reaches the terminal as control."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.report import boxes

ANY_TEXT = st.text(
    st.characters() | st.sampled_from("\x1b\r\n\t\x9b\u202e\u2066\u0301\u200d界한😀é|`") | st.sampled_from("abc  def"),
    max_size=80,
)


@given(ANY_TEXT)
def test_clean_text_has_no_control_direction_or_surrogate_character(text: str) -> None:
    cleaned = boxes.clean(text)
    kinds = {unicodedata.category(character) for character in cleaned if character not in "\u200c\u200d"}
    assert not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert cleaned.encode() is not None
    assert boxes.clean(cleaned) == cleaned


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bP1;2|payload\x1b\\after", "after"),
        ("a\rb\x08c\x9b31m", "abc31m"),
        ("left \u202eright", "left right"),
        ("two\n\tlines", "two lines"),
        ("nul\0l", "null"),
    ],
)
def test_escape_sequences_are_taken_out_whole(hostile: str, shown: str) -> None:
    assert boxes.clean(hostile) == shown


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("世界", 4), ("e\u0301", 1), ("한글", 4), ("█░", 2), ("a\u200db", 2), ("ＡＢ", 4), ("", 0)],
)
def test_width_is_what_a_terminal_shows(text: str, columns: int) -> None:
    assert boxes.display_width(text) == columns


@given(ANY_TEXT, st.integers(2, 60))
def test_wrapping_fits_and_loses_nothing(text: str, width: int) -> None:
    line = boxes.clean(text)
    parts = boxes.wrap(line, width)
    assert all(boxes.display_width(part) <= width for part in parts)
    assert "".join(parts).replace(" ", "") == line.replace(" ", "")


@given(ANY_TEXT, ANY_TEXT)
def test_a_box_is_a_rectangle_whatever_is_in_it(label: str, value: str) -> None:
    drawn = boxes.box(boxes.hang(f"{boxes.clean(label)}: ", value, boxes.BOX_WIDTH))
    assert {boxes.display_width(line) for line in drawn} == {39}
    assert all(line[0] + line[-1] in ("┌┐", "││", "└┘") for line in drawn)


def test_a_long_value_goes_on_under_itself() -> None:
    assert boxes.hang("Task: ", "one two three four five", 17) == ["Task: one two", "      three four", "      five"]


def test_words_joined_by_a_no_break_space_stay_together() -> None:
    assert boxes.wrap(f"takes 4{boxes.NO_BREAK}min", 9) == ["takes", f"4{boxes.NO_BREAK}min"]


@pytest.mark.parametrize(
    ("share", "bar"),
    [
        (0.8, "████████░░ 80%"),
        (1.0, "██████████ 100%"),
        (0.0, "░░░░░░░░░░ 0%"),
        (0.999, "█████████░ 99%"),
        (0.29, "██░░░░░░░░ 29%"),
    ],
)
def test_the_bar_is_full_only_when_all_is_done(share: float, bar: str) -> None:
    assert boxes.progress_bar(share) == bar


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 80))
def test_a_sparkline_has_a_block_for_each_value_up_to_its_width(values: list[float], width: int) -> None:
    line = boxes.sparkline(values, width=width)
    assert len(line) == min(len(values), width)
    assert set(line) <= set("▁▂▃▄▅▆▇█")


def test_a_sparkline_falls_where_the_values_fall() -> None:
    assert boxes.sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"
    assert boxes.sparkline([]) == ""
    assert set(boxes.sparkline([2.0, 2.0])) == {"▄"}


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT, ANY_TEXT), min_size=1, max_size=5))
def test_an_aligned_table_fits_the_page_and_keeps_its_columns(rows: list[tuple[str, str, str]]) -> None:
    lines = boxes.aligned_table(("Name", "Value", "Reason"), rows)
    assert len({boxes.display_width(line) for line in lines}) == 1
    assert boxes.display_width(lines[0]) <= boxes.PAGE_WIDTH


def test_the_plan_table_is_the_literal_markdown_of_the_form() -> None:
    lines = boxes.spec_table(("Aspect", "Value"), [("Type", "chat")])
    assert lines == ["| Aspect | Value |", "|--------|-------|", "| Type | chat |"]


def test_a_long_name_is_broken_where_its_parts_meet() -> None:
    assert boxes.wrap("Qwen3-4B-Instruct-2507", 21) == ["Qwen3-4B-Instruct-", "2507"]
    assert boxes.wrap("Llama-3.1-70B-Instruct", 21) == ["Llama-3.1-70B-", "Instruct"]
    assert boxes.wrap("a" * 25, 21) == ["a" * 21, "a" * 4]


def test_a_long_text_does_not_stand_in_a_narrow_strip_beside_its_label() -> None:
    text = "the divergence is larger than that of a smaller model"
    assert boxes.hang("close to the base model on texts: ", text, 50) == [
        "close to the base model on texts:",
        "  the divergence is larger than that of a smaller",
        "  model",
    ]
    assert boxes.hang("close to the base model on texts: ", "yes", 50) == ["close to the base model on texts: yes"]


def test_a_narrow_table_breaks_names_rather_than_numbers() -> None:
    rows = [("bits_per_byte", "[-1.884e+06, -5.656e+05]", "no worse than that")]
    text = "\n".join(boxes.aligned_table(("Metric", "Difference", "Verdict"), rows, width=44))
    assert "[-1.884e+06," in text
    assert "bits_per_ " in text
