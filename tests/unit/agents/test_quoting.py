"""Answers fit, show every character, and cannot be closed from within."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_exe.agents.quoting import fit_json, fit_text, quote

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSON)
def test_what_fits_is_told_whole_and_can_be_seen(value: Any) -> None:
    fitted = fit_json(value)
    assert json.loads(fitted.text) == value
    assert fitted.text.isprintable()
    assert not fitted.shortened


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(JSON, st.integers(200, 2_000))
def test_an_answer_is_never_larger_than_it_may_be(value: Any, most: int) -> None:
    fitted = fit_json([value] * 40, most_bytes=most)
    assert len(fitted.text.encode()) <= most
    json.loads(fitted.text)


@pytest.mark.parametrize("value", [["x" * 9_000] * 900, {str(n): "\u00e9" * 900 for n in range(9_000)}, "\u00e9" * 99_000,
                                   {"x" * 99_000: 1}])  # fmt: skip
def test_long_answers_are_shortened_and_say_so(value: Any) -> None:
    fitted = fit_json(value)
    assert fitted.shortened
    assert len(fitted.text.encode()) <= 24_000
    assert "left out" in fitted.text


@given(st.text(), st.integers(100, 400))
def test_a_text_is_cut_in_the_middle(text: str, most: int) -> None:
    cut = fit_text(text * 30, most_bytes=most)
    assert len(cut.encode()) <= most + 60
    assert cut.replace("\n", "").isprintable()


def test_marks_are_drawn_anew_each_time() -> None:
    marks = {re.match(r"<untrusted-([0-9a-f]{16})>", quote("x"))[1] for _ in range(50)}  # type: ignore[index]
    assert len(marks) == 50
