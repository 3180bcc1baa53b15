"""Compare two files of per-item results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from finetune_exe.domain.comparison import LengthCorrected, PairedItem, PairedResult, PartComparison
from finetune_exe.domain.evaluation import FEWEST_FOR_VERDICT, Comparison, Verdict
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.cautions import cautions, cautions_of_parts
from finetune_exe.evaluation.corpus import CORPUS_METRICS, FEWEST_CLUSTERS, CorpusMetric, compare_corpora
from finetune_exe.evaluation.length_control import length_corrected
from finetune_exe.evaluation.multiplicity import holm
from finetune_exe.evaluation.pairing import Pair, Results, asked_otherwise, pair_items
from finetune_exe.evaluation.statistics import compare_means, judge

EXTREMES = 5
"""Items shown of those lost and of those won most."""
MOST_PARTS = 200
"""More values than this make no slices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of the two files."""

    margin: float | None = None
    """Loss that would be harmless; None takes one from the scale of the scores."""
    higher_is_better: bool = True
    confidence_level: float = 0.95
    slice_key: str | None = None
    corpus: CorpusMetric | None = None
    """Compare a metric of all answers together instead of the scores."""


def compare_results(name_a: str, name_b: str, a: Results, b: Results, question: Question) -> PairedResult:
    """Compare two models on the items that both files have.

    Args:
        name_a: The first model, or its file.
        name_b: The second.
        a: Its results.
        b: Those of the second.
        question: What is asked.

    Raises:
        FineTuneError: E03 where the files share no item, disagree about what an item is or belongs to, or seem to be of
            two scales.
    """
    a, b, unscored = _judged(name_a, name_b, a, b, question)
    pairs = pair_items(name_a, name_b, a, b)
    scored_by = _score_name(name_a, name_b, pairs, question)
    scales = _scales(name_a, name_b, pairs, question)
    margin, reason = (question.margin, "given") if question.margin is not None else _margin(pairs, question)
    overall = _compare(pairs, question, margin)
    left_out = len(a) - len(pairs), len(b) - len(pairs)
    suites = _parts(pairs, question, margin, lambda pair: pair.a.suite or pair.b.suite)
    slices = _slices(pairs, question, margin)
    return PairedResult(
        a=name_a,
        b=name_b,
        comparison=overall,
        margin_reason=reason,
        only_in_a=left_out[0],
        only_in_b=left_out[1],
        suites=suites,
        slices=slices,
        length=_length(pairs, question),
        items_needed=_items_needed(overall),
        worst=_extremes(pairs, question, losses=True),
        best=_extremes(pairs, question, losses=False),
        notes=(
            *scored_by,
            *unscored,
            *scales,
            *asked_otherwise(pairs),
            *_notes(overall, left_out),
            *cautions_of_parts((*suites, *slices)),
            *_unsliced(question, slices),
        ),
    )


def _judged(name_a: str, name_b: str, a: Results, b: Results, question: Question) -> tuple[Results, Results, list[str]]:
    """Leave out of both files the items that either has without a score, and say how many."""
    missing = [{item for item, result in side.items() if result.score is None} for side in (a, b)]
    if question.corpus is not None or not any(missing):
        return a, b, []
    without = missing[0] | missing[1]
    a, b = ({item: result for item, result in side.items() if item not in without} for side in (a, b))
    if not a or not b:
        raise FineTuneError(
            "E03",
            what="no item has a score",
            where=f"{name_a} and {name_b}",
            why=f"{len(missing[0])} items of the one and {len(missing[1])} of the other have none",
            fix="find out why the models were not judged; another field: --score KEY",
        )
    note = (
        f"{len(missing[0])} items of A and {len(missing[1])} of B have no score and were left out; if a model failed "
        "on them, give it the lowest score there instead"
    )
    return a, b, [note]


def _score_name(name_a: str, name_b: str, pairs: Sequence[Pair], question: Question) -> list[str]:
    """Say which field was taken for the score, where that is a guess, the same in both files, or what it is of."""
    names = pairs[0].a.score_name, pairs[0].b.score_name
    if question.corpus is not None:
        return []
    if names == ("score", "score"):
        suites = {pair.a.suite or pair.b.suite for pair in pairs}
        return [f"all scores are of one suite, {suite}" for suite in suites if suite and len(suites) == 1]
    if names[0] != names[1]:
        raise FineTuneError(
            "E03",
            what=f"the files are scored by different fields, {names[0]!r} and {names[1]!r}",
            where=f"{name_a} and {name_b}",
            why="two metrics cannot be compared with each other",
            fix="name one that both have: --score KEY",
        )
    return [f"the score is the field {names[0]!r}"]


def _scales(name_a: str, name_b: str, pairs: Sequence[Pair], question: Question) -> list[str]:
    """Refuse files of which one seems to hold shares and the other percentages; warn where a margin says the scale."""
    if question.corpus is not None:
        return []
    tops = [max(map(abs, scores)) for scores in zip(*(pair.scores for pair in pairs), strict=True)]
    if not (0 < min(tops) <= 1 and 10 < max(tops) <= 100):
        return []
    shares, percent = ("A", "B") if tops[0] < tops[1] else ("B", "A")
    seen = f"no score of {shares} exceeds {min(tops):g}, and one of {percent} is {max(tops):g}"
    why = "if one file holds shares and the other percentages, the difference is one of scales, not of models"
    if question.margin is None:
        raise FineTuneError(
            "E03",
            what=f"the files seem to be of two scales: {seen}",
            where=f"{name_a} and {name_b}",
            why=why,
            fix="bring both to one scale; if they are, say what loss on it would be harmless: --margin",
        )
    return [f"{seen}: {why}"]


def _margin(pairs: Sequence[Pair], question: Question) -> tuple[float, str]:
    """Call a hundredth of the scale harmless."""
    import numpy as np

    if question.corpus is not None:
        return 1.0, "one point of a hundred"
    scores = np.array([pair.scores for pair in pairs], dtype=np.float64)
    deviation = float(np.std(scores))
    least, most = float(scores.min()), float(scores.max())
    scale = 1 if least >= 0 and most <= 1 else 100 if least >= 0 and 50 < most <= 100 else None
    if scale is None or 0 < deviation < scale / 10:
        return 0.05 * deviation, "a twentieth of the scores' standard deviation"
    return scale / 100, f"a hundredth of the scale from 0 to {scale}"


def _compare(pairs: Sequence[Pair], question: Question, margin: float) -> Comparison:
    clusters = [pair.cluster for pair in pairs]
    if question.corpus is not None:
        return compare_corpora(
            question.corpus,
            [pair.a.texts["answer"] for pair in pairs],
            [pair.b.texts["answer"] for pair in pairs],
            [pair.a.texts["reference"] for pair in pairs],
            clusters,
            margin=margin,
            confidence_level=question.confidence_level,
        )
    return compare_means(
        [pair.scores[0] for pair in pairs],
        [pair.scores[1] for pair in pairs],
        clusters,
        metric="score",
        higher_is_better=question.higher_is_better,
        margin=margin,
        confidence_level=question.confidence_level,
    )


def _parts(
    pairs: Sequence[Pair], question: Question, margin: float, name: Callable[[Pair], str | None]
) -> tuple[PartComparison, ...]:
    """Compare part by part, raising p values for their number."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        part = name(pair)
        if part is not None:
            groups.setdefault(part, []).append(pair)
    if len(groups) < 2 or len(groups) > MOST_PARTS:
        return ()
    found = [_compare(group, question, margin) for group in groups.values()]
    adjusted = holm([comparison.p_value for comparison in found])
    return tuple(
        PartComparison(
            name=part, comparison=comparison, p_adjusted=p,
            verdict=adjusted_verdict(comparison, p),
        )
        for part, comparison, p in zip(groups, found, adjusted, strict=True)
    )  # fmt: skip


def adjusted_verdict(comparison: Comparison, p_adjusted: float | None) -> Verdict:
    """Judge a comparison again with a p value that was raised for the number of comparisons."""
    return judge(
        comparison.difference, comparison.ci_low, comparison.ci_high, higher_is_better=comparison.higher_is_better,
        p_value=p_adjusted, margin=comparison.margin, level=1 - comparison.confidence_level,
        clusters=comparison.clusters,
    )  # fmt: skip


def _slices(pairs: Sequence[Pair], question: Question, margin: float) -> tuple[PartComparison, ...]:
    key = question.slice_key
    if key is None:
        return ()
    if not any(key in pair.a.other or key in pair.b.other for pair in pairs):
        names = sorted({str(name) for pair in pairs[:50] for name in pair.a.other})
        raise FineTuneError(
            "E03",
            what=f"no line has the field {key!r}",
            where="--slice",
            why="the items cannot be divided by it",
            fix=f"fields there are: {', '.join(names)}",
        )
    return _parts(pairs, question, margin, lambda pair: _value(pair, key))


def _value(pair: Pair, key: str) -> str | None:
    value = pair.a.other.get(key, pair.b.other.get(key))
    return None if value is None or isinstance(value, dict | list) else str(value)


def _length(pairs: Sequence[Pair], question: Question) -> LengthCorrected | None:
    """Correct a win rate for length where both files tell the length of their answers."""
    if question.corpus is not None or any(None in (pair.a.length, pair.b.length) for pair in pairs):
        return None
    scores = [pair.scores for pair in pairs]
    preferences = all(a == 0.5 and 0 <= b <= 1 for a, b in scores)
    won = [b if preferences else 0.5 + 0.5 * ((b > a) - (b < a)) for a, b in scores]
    return length_corrected(
        [share if question.higher_is_better or preferences else 1 - share for share in won],
        [pair.a.length or 0.0 for pair in pairs],
        [pair.b.length or 0.0 for pair in pairs],
        [pair.cluster for pair in pairs],
        confidence_level=question.confidence_level,
    )


def _items_needed(comparison: Comparison) -> int | None:
    """Say how many items would find a difference of the margin, where these cannot."""
    smallest, margin = comparison.minimum_detectable_difference, comparison.margin
    if smallest is None or margin <= 0 or comparison.verdict != "inconclusive" or smallest <= margin:
        return None
    if comparison.clusters < FEWEST_FOR_VERDICT:
        return None
    return int(comparison.n * (smallest / margin) ** 2) + 1


def _extremes(pairs: Sequence[Pair], question: Question, *, losses: bool) -> tuple[PairedItem, ...]:
    if question.corpus is not None:
        return ()
    sign = (1 if question.higher_is_better else -1) * (1 if losses else -1)

    def change(pair: Pair) -> float:
        a, b = pair.scores
        return sign * (b - a)

    return tuple(
        PairedItem(
            item=pair.a.item,
            score_a=pair.scores[0],
            score_b=pair.scores[1],
            prompt=pair.a.texts.get("prompt", pair.b.texts.get("prompt")),
            reference=pair.a.texts.get("reference", pair.b.texts.get("reference")),
            answer_a=pair.a.texts.get("answer"),
            answer_b=pair.b.texts.get("answer"),
        )
        for pair in sorted(pairs, key=change)[:EXTREMES]
        if change(pair) < 0
    )


def _unsliced(question: Question, slices: Sequence[PartComparison]) -> list[str]:
    if question.slice_key is None or slices:
        return []
    return [f"{question.slice_key!r} has one value alone, or more than {MOST_PARTS}: no slices were compared"]


def _notes(comparison: Comparison, left_out: tuple[int, int]) -> list[str]:
    notes = []
    if any(left_out):
        notes.append(
            f"{left_out[0]} items of A and {left_out[1]} of B stand in one file only and were left out; if a model "
            "failed on them, give it the lowest score there instead"
        )
    if comparison.clusters < 2:
        notes.append("one item, or one cluster, shows no spread: nothing can be said about chance")
    elif comparison.ci_low is None and comparison.metric in CORPUS_METRICS and comparison.clusters < FEWEST_CLUSTERS:
        notes.append(
            f"{comparison.clusters} clusters are too few to be drawn again: nothing can be said about chance; divide "
            f"the items more finely, or add clusters until there are {FEWEST_CLUSTERS}"
        )
    elif comparison.ci_low is None:
        alike = (
            "no score differs between A and B" if comparison.difference == 0 else "all items gain, or lose, the same"
        )
        notes.append(f"{alike}: nothing can be said about chance")
    elif comparison.clusters < FEWEST_FOR_VERDICT:
        notes.append(
            f"{comparison.clusters} clusters decide nothing: test and interval hold only if their means are normal, "
            "which so few cannot show; divide the items more finely, or add clusters"
        )
    else:
        notes += cautions(comparison)
    return notes
