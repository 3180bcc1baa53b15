"""What a run does about numbers that are not finite."""

from __future__ import annotations

import math

from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import SplitData
from finetune_exe.training.batches import Step


class Guards:
    """Watches the steps of a run."""

    def __init__(self, split: SplitData) -> None:
        self._split = split

    def refuse_non_finite(self, loss: float, norm: float, step: int, micro_batches: Step) -> None:
        """Stop where loss or gradient is not finite.

        Raises:
            FineTuneError: T01 naming the rows.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            return
        rows = self._split.read_rows()
        sources = sorted({rows[self._split.rows[index]].source for batch in micro_batches for index in batch})
        raise FineTuneError(
            "T01",
            what=f"the loss is {loss} and the gradient norm {norm} at step {step}",
            where=f"rows {', '.join(sources[:8])}" + (f" and {len(sources) - 8} more" if len(sources) > 8 else ""),
            why="a step with such numbers would destroy the weights; the last checkpoint is intact",
            fix="look at those rows; lower optimizer.learning_rate; or --set precision.base_dtype=float32",
        )
