"""Free answers without a single right one: likeness to the reference."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean


class Prose:
    """Scores likeness by chrF, which knows every script."""

    name = "generation"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score chrF of each answer; tell its length against the reference."""
        from sacrebleu.metrics import CHRF

        metric = CHRF()
        return TaskScores(
            items={"chrf": [metric.sentence_score(item.answer, [item.reference]).score / 100 for item in items]},
            figures={"length_ratio": mean([len(i.answer) / max(1, len(i.reference)) for i in items])},
        )
