"""When a run is called stale."""

from __future__ import annotations

import pytest

from finetune_exe.domain.run import EvaluationPoint
from finetune_exe.training.tally import Tally


@pytest.mark.parametrize(("patience", "stale"), [(2, True), (3, False), (None, False)])
def test_patience_counts_evaluations_since_the_best(patience: int | None, stale: bool) -> None:
    tally = Tally(patience=patience)
    better = [
        tally.judge(EvaluationPoint(step=step, epoch=0.1, validation_loss=loss))
        for step, loss in enumerate((2.0, 1.5, 1.6, 1.5), start=1)
    ]
    assert better == [True, True, False, False]
    assert (tally.best_step, tally.best_loss) == (2, 1.5)
    assert tally.is_stale is stale
