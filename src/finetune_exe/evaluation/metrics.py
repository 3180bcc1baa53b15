"""Scores of one generated answer against its reference, 0 to 1 as all scores of tasks are, higher is better."""

from __future__ import annotations

from typing import Protocol


class AnswerMetric(Protocol):
    """An entry of `METRICS`."""

    name: str

    def scores(self, answers: list[str], references: list[str]) -> list[float]:
        """Score each answer against the reference in the same place."""


class Chrf:
    """chrF (character n-gram F2) of each answer, by sacrebleu with its defaults, over 100.

    Source: Popovic, WMT 2015, W15-3049.
    """

    name = "chrf"

    def scores(self, answers: list[str], references: list[str]) -> list[float]:
        """Score each answer by itself; the corpus figure reported is their mean."""
        from sacrebleu.metrics import CHRF

        metric = CHRF()
        return [
            float(metric.sentence_score(answer, [reference]).score) / 100
            for answer, reference in zip(answers, references, strict=True)
        ]


class RougeL:
    """ROUGE-L F1 (longest common subsequence of words) of each answer, by rouge-score, without stemming.

    Words are runs of Latin letters and digits, so it says little about other scripts; chrF does.

    Source: Lin, 2004, W04-1013.
    """

    name = "rouge_l"

    def scores(self, answers: list[str], references: list[str]) -> list[float]:
        """Score each answer by itself."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], use_stemmer=False)
        return [
            float(scorer.score(reference, answer)["rougeL"].fmeasure)
            for answer, reference in zip(answers, references, strict=True)
        ]


class ExactMatch:
    """Whether the answer is the reference, white space and case at its ends and inside aside."""

    name = "exact_match"

    def scores(self, answers: list[str], references: list[str]) -> list[float]:
        """Give 1 for a match, 0 otherwise."""
        return [
            float(_normalised(answer) == _normalised(reference))
            for answer, reference in zip(answers, references, strict=True)
        ]


METRICS: dict[str, AnswerMetric] = {metric.name: metric for metric in (Chrf(), RougeL(), ExactMatch())}


def _normalised(text: str) -> str:
    return " ".join(text.split()).casefold()
