"""Histograms of lengths: nothing is lost, every bin holds what its borders say, and borders grow."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from finetune_exe.data.histogram import count_lengths
from finetune_exe.domain.dataset import Histogram


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_each_bin_counts_what_lies_between_its_borders(lengths: list[int]) -> None:
    histogram = count_lengths(np.array(lengths, np.int64))
    assert histogram is not None
    counted = [sum(low <= length < high for length in lengths) for low, high in pairwise(histogram.edges)]
    assert counted == list(histogram.counts)
    assert sum(histogram.counts) == len(lengths)
    assert histogram.counts[0]
    assert histogram.counts[-1]
    assert len(histogram.counts) <= 56


def test_borders_are_round() -> None:
    histogram = count_lengths(np.array([0, 9, 10, 14, 150], np.int64))
    assert histogram == Histogram(edges=(0, 10, 15, 20, 30, 50, 70, 100, 150, 200), counts=(2, 2, 0, 0, 0, 0, 0, 0, 1))


def test_no_lengths_make_no_histogram() -> None:
    assert count_lengths(np.array([], np.int64)) is None


@pytest.mark.parametrize(("edges", "counts"), [((1,), (1,)), ((1, 1), (1,)), ((2, 1), (1,)), ((), ())])
def test_borders_that_fit_no_counts_are_refused(edges: tuple[int, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="one ascending border more"):
        Histogram(edges=edges, counts=counts)
