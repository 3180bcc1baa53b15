"""Summaries: the longest common sentences, the length, and how much is copied."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean


class Summaries:
    """Scores summaries by ROUGE of rouge-score."""

    name = "summarization"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score ROUGE-Lsum and ROUGE-1; tell length against the reference and pairs of words not in the source."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeLsum", "rouge1"], use_stemmer=False)
        found = [scorer.score(_sentences(item.reference), _sentences(item.answer)) for item in items]
        return TaskScores(
            items={
                "rouge_lsum": [float(score["rougeLsum"].fmeasure) for score in found],
                "rouge_1": [float(score["rouge1"].fmeasure) for score in found],
            },
            figures={
                "length_ratio": mean([len(i.answer.split()) / max(1, len(i.reference.split())) for i in items]),
                "new_word_pairs": mean([_novelty(item.answer, item.prompt) for item in items]),
            },
        )


def _sentences(text: str) -> str:
    """Put each sentence on a line, as the metric wants it."""
    for end in (". ", "! ", "? "):
        text = text.replace(end, end.strip() + "\n")
    return text


def _novelty(answer: str, source: str) -> float:
    """Give the share of the answer's pairs of words that the source does not have."""
    ours, theirs = (text.casefold().split() for text in (answer, source))
    known = set(pairwise(theirs))
    pairs = list(pairwise(ours))
    return mean([float(pair not in known) for pair in pairs])
