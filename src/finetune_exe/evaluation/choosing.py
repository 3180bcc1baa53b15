"""What is judged by how likely given texts are: labels of a classification, and the better of two answers.

Generated answers say whether a label is right; likelihoods say how sure the model is, and whether rightly so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_exe.domain.evaluation import Comparison, TaskFigure
from finetune_exe.domain.plan import Plan
from finetune_exe.evaluation.questions import Questions, known_labels
from finetune_exe.evaluation.statistics import compare_means
from finetune_exe.evaluation.tasks.classification import brier, calibration_error
from finetune_exe.models.scoring import Alternatives, score_alternatives
from finetune_exe.prepared.store import SplitData
from finetune_exe.text.tokenizer import ChatTokenizer

MOST_LABELS, MOST_TOKENS = 60, 24_000
"""Labels, and tokens of all of them behind all questions asked, beyond which fewer questions are asked."""
FEWEST = 8
"""Questions, or pairs, below which nothing is said."""
MOST_PAIRS = 200
MARGIN = 0.01
"""Loss of sureness, or of pairs ranked rightly, that is still called harmless."""
Logs = list[list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Texts to choose between, each with what stands before them."""

    groups: tuple[Alternatives, ...] = ()
    rows: tuple[int, ...] = ()
    """Row of the test side that each is of."""
    right: tuple[int, ...] = ()
    """Which of the texts is right."""


def label_choices(plan: Plan, questions: Questions, tokenizer: ChatTokenizer) -> Choices:
    """Put every label of the data behind every question; nothing where there are none, or too many."""
    labels = known_labels(plan, questions.references)
    if plan.task.type != "classification" or not 2 <= len(labels) <= MOST_LABELS:
        return Choices()
    branches = [(*tokenizer.encode(label).ids, tokenizer.stop_token_ids[0]) for label in labels]
    count = min(len(questions.rows), max(FEWEST, MOST_TOKENS // sum(map(len, branches))))
    chosen = [number * len(questions.rows) // count for number in range(count)]
    return Choices(
        groups=tuple(
            Alternatives(prefix=questions.prompts[n], branches=tuple(branches), num_scored=tuple(map(len, branches)))
            for n in chosen
        ),
        rows=tuple(questions.rows[n] for n in chosen),
        right=tuple(labels.index(questions.references[n]) for n in chosen),
    )


def pair_choices(test: SplitData) -> Choices:
    """Put the better and the worse answer of each pair behind what they share; nothing where rows are no pairs."""
    if not test.paired:
        return Choices()
    groups, rows = [], []
    for index in range(min(MOST_PAIRS, len(test))):
        better, worse = (_up_to_learned(view.tokens.tolist(), view.learned) for view in test.members(index))
        most = min(len(better[0]) - better[1], len(worse[0]) - worse[1])
        shared = next((n for n in range(most) if better[0][n] != worse[0][n]), most)
        if shared:
            groups.append(Alternatives(
                prefix=better[0][:shared], branches=(better[0][shared:], worse[0][shared:]),
                num_scored=(better[1], worse[1]),
            ))  # fmt: skip
            rows.append(int(test.rows[index]))
    return Choices(groups=tuple(groups), rows=tuple(rows), right=(0,) * len(rows))


def choose(model: Any, choices: Choices, *, pad_token_id: int) -> Logs:
    """Give the log-likelihood of every text of every group."""
    scores = score_alternatives(model, choices.groups, pad_token_id=pad_token_id)
    return [[score.log_likelihood for score in group] for group in scores]


def sureness(
    choices: Choices, before: Logs, after: Logs, clusters: Sequence[str], *, level: float
) -> tuple[tuple[Comparison, ...], tuple[TaskFigure, ...]]:
    """Compare the Brier scores of labels, and say how far sureness is from being right."""
    if len(choices.rows) < FEWEST:
        return (), ()
    sides = [[_shares(logs) for logs in side] for side in (before, after)]
    briers = [[brier([row], [right]) for row, right in zip(side, choices.right, strict=True)] for side in sides]
    compared = compare_means(
        briers[0], briers[1], [clusters[row] for row in choices.rows], metric="brier", higher_is_better=False,
        margin=MARGIN, confidence_level=level,
    )  # fmt: skip
    errors = [
        calibration_error(
            [max(row) for row in side],
            [int(np.argmax(row)) == right for row, right in zip(side, choices.right, strict=True)],
        )
        for side in sides
    ]
    return (compared,), (TaskFigure(name="calibration_error", baseline=errors[0], candidate=errors[1]),)


def ranking(
    choices: Choices, before: Logs, after: Logs, clusters: Sequence[str], *, beta: float, level: float
) -> tuple[tuple[Comparison, ...], tuple[TaskFigure, ...]]:
    """Say how often the better answer is the likelier one, and what the better one gained over the worse one.

    Source: Rafailov et al., arXiv 2305.18290, section 4, for the implicit reward: beta times the gain over the base.
    """
    if len(choices.rows) < FEWEST:
        return (), ()
    leads = [np.array([better - worse for better, worse in side]) for side in (before, after)]
    ahead = [(lead > 0).astype(float).tolist() for lead in leads]
    compared = compare_means(
        ahead[0], ahead[1], [clusters[row] for row in choices.rows],
        metric="preference_accuracy", higher_is_better=True, margin=MARGIN, confidence_level=level,
    )  # fmt: skip
    gained = beta * (leads[1] - leads[0])
    return (compared,), (
        TaskFigure(name="reward_accuracy", baseline=0.5, candidate=float(np.mean(gained > 0))),
        TaskFigure(name="reward_margin", baseline=0.0, candidate=float(np.mean(gained))),
    )


def _shares(logs: Sequence[float]) -> list[float]:
    """Make probabilities of likelihoods, as if one of the texts must come."""
    most = max(logs)
    weights = [math.exp(value - most) for value in logs]
    return [weight / sum(weights) for weight in weights]


def _up_to_learned(tokens: Sequence[int], learned: Any) -> tuple[tuple[int, ...], int]:
    """Cut a sequence behind its last learned token; give how many at the end are learned without a gap."""
    places = np.flatnonzero(np.asarray(learned))
    end = int(places[-1]) + 1
    gap = next((n for n in range(end - 1, -1, -1) if not learned[n]), -1)
    return tuple(tokens[:end]), end - 1 - gap
