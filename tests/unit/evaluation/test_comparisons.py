"""What counts as a harmless loss in likelihood: a hundredth of the base's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.report import sample

from finetune_exe.evaluation.comparisons import likelihood_comparisons
from finetune_exe.evaluation.likelihood import RowLikelihoods


def likelihoods(nll: Any) -> RowLikelihoods:
    sizes = np.full(len(nll), 40)
    return RowLikelihoods(learned_nll_R=nll, learned_tokens_R=sizes, text_nll_R=nll, text_bytes_R=3 * sizes)


@pytest.mark.parametrize(("rise", "verdict"), [(0.004, "non_inferior"), (0.06, "regressed"), (-0.01, "improved")])
def test_a_loss_of_less_than_a_hundredth_is_harmless_whatever_the_scale(rise: float, verdict: str) -> None:
    rng = np.random.default_rng(1)
    before = 40 * rng.normal(3, 0.3, 300)
    after = before + 40 * (rise + rng.normal(0, 0.01, 300))
    plan = sample.plan()
    found = likelihood_comparisons(plan, likelihoods(before), likelihoods(after), [str(i) for i in range(300)])
    assert [comparison.metric for comparison in found] == ["perplexity", "bits_per_byte"]
    for comparison in found:
        assert comparison.margin == pytest.approx(comparison.baseline / 100)
        assert comparison.verdict == verdict
        assert comparison.p_value is not None
        assert comparison.p_value < 0.05
