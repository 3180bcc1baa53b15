"""Metrics of all answers together (chrF, BLEU), compared by resampling the clusters of the items.

Such a metric is no mean over items: it is computed from counts summed over them. What each item counts is taken once;
then clusters are drawn again and again, which gives the interval, and the answers of whole clusters are exchanged
between the models at random, which gives the p value. Clusters drawn again vary too little where they are few, so the
interval is stretched as Student's t stretches that of a mean.

Source: Koehn, EMNLP 2004, W04-3250, for the paired bootstrap; Riezler and Maxwell, 2005, W05-0908, for exchanging.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, get_args

from finetune_exe.domain.evaluation import Comparison
from finetune_exe.evaluation import student_t
from finetune_exe.evaluation.spread import POWER, Spread, counted_parts, number_clusters, weighed_clusters
from finetune_exe.evaluation.statistics import judge, weighed_down

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]
    Counts = NDArray[int64]

CorpusMetric = Literal["chrf", "bleu"]
CORPUS_METRICS = get_args(CorpusMetric)
DRAWS = 2_000
DRAWN_AGAIN = "clusters drawn again"
"""How the test of these metrics begins to be named."""
FEWEST_CLUSTERS = 5
"""Clusters below which resampling says nothing."""
_MOST_CELLS = 2_000_000
"""Draws times clusters that are held at once: some tens of megabytes."""
_CHARACTERS, _WORDS, _BETA = 6, 2, 2.0
_BLEU_ORDER = 4


def compare_corpora(
    metric: CorpusMetric,
    baseline: Sequence[str],
    candidate: Sequence[str],
    references: Sequence[str],
    clusters: Sequence[Hashable],
    *,
    margin: float,
    confidence_level: float = 0.95,
    draws: int = DRAWS,
) -> Comparison:
    """Compare two models' answers by a metric of the whole corpus, 0 to 100.

    Args:
        metric: chrF++ or BLEU.
        baseline: Answers of the first model.
        candidate: Answers of the second, to the same items.
        references: What the answers should be.
        clusters: What each item belongs to.
        margin: Loss in points that would be harmless.
        confidence_level: Of the interval.
        draws: Resamples.
    """
    import numpy as np

    grouped = number_clusters(clusters)
    counts_2CK = np.stack([
        _cluster_sums(item_counts(metric, answers, references), grouped.index, grouped.count)
        for answers in (baseline, candidate)
    ])  # fmt: skip
    before, after = (float(score) for score in corpus_scores(metric, counts_2CK.sum(axis=1)))
    difference = centre = after - before
    parts_C = counted_parts(np.bincount(grouped.index).astype(np.float64))
    if parts_C.min() < 1:
        counts_2CK = parts_C[:, None] * counts_2CK
        centre = float(np.diff(corpus_scores(metric, counts_2CK.sum(axis=1)))[0])
    spread = _resample(metric, counts_2CK, centre, alpha=1 - confidence_level, draws=draws)
    return Comparison(
        metric=metric,
        higher_is_better=True,
        baseline=before,
        candidate=after,
        difference=difference,
        standard_error=spread.standard_error,
        ci_low=spread.low,
        ci_high=spread.high,
        confidence_level=confidence_level,
        p_value=spread.p_value,
        test=f"{DRAWN_AGAIN} ({draws} times) and exchanged",
        n=len(references),
        clusters=grouped.count,
        minimum_detectable_difference=spread.detectable,
        verdict=judge(
            difference,
            spread.low,
            spread.high,
            higher_is_better=True,
            p_value=spread.p_value,
            margin=margin,
            level=1 - confidence_level,
            clusters=grouped.count,
        ),
        margin=margin,
        weighed_down=weighed_down(
            weighed_clusters(np.arange(grouped.count), parts_C * np.bincount(grouped.index), parts_C, centre), clusters
        ),
    )


def _resample(metric: CorpusMetric, counts_2CK: Numbers, centre: float, *, alpha: float, draws: int) -> Spread:
    """Draw C clusters again and again for the interval, and exchange answers of whole clusters for the p value."""
    import numpy as np

    count = counts_2CK.shape[1]
    if count < FEWEST_CLUSTERS:
        return Spread(standard_error=None, low=None, high=None, p_value=None, detectable=None)
    rng, block = np.random.default_rng(20_040), max(1, _MOST_CELLS // count)
    sizes = [min(block, draws - done) for done in range(0, draws, block)]
    shifts_D = np.concatenate([
        _differences(metric, rng.multinomial(count, np.full(count, 1 / count), size=size) @ counts_2CK)
        for size in sizes
    ])  # fmt: skip
    few = math.sqrt(count / (count - 1))
    error = few * float(np.std(shifts_D, ddof=1))
    if error == 0:
        return Spread(standard_error=error, low=None, high=None, p_value=None, detectable=None)
    critical = student_t.quantile(1 - alpha / 2, df=count - 1)
    stretch = few * critical / NormalDist().inv_cdf(1 - alpha / 2)
    low, high = (centre + stretch * (float(end) - centre) for end in np.quantile(shifts_D, [alpha / 2, 1 - alpha / 2]))
    total_21K, gain_CK = counts_2CK.sum(axis=1, keepdims=True), counts_2CK[1] - counts_2CK[0]
    sign_211 = np.array([1.0, -1.0])[:, None, None]
    chance_D = np.abs(np.concatenate([
        _differences(metric, total_21K + sign_211 * (rng.integers(0, 2, (size, count)) @ gain_CK)) for size in sizes
    ]))  # fmt: skip
    return Spread(
        standard_error=error, low=low, high=high,
        p_value=(1 + int(np.sum(chance_D >= abs(centre) - 1e-12))) / (draws + 1),
        detectable=(critical + student_t.quantile(POWER, df=count - 1)) * error,
    )  # fmt: skip


def item_counts(metric: CorpusMetric, answers: Sequence[str], references: Sequence[str]) -> Numbers:
    """Count what each item adds to the metric: K counts for each of N items."""
    import numpy as np

    if metric == "chrf":
        return np.array([_chrf_counts(a, r) for a, r in zip(answers, references, strict=True)], dtype=np.float64)
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    rows = []
    for answer, reference in zip(answers, references, strict=True):
        score = bleu.sentence_score(answer, [reference])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, dtype=np.float64)


def corpus_scores(metric: CorpusMetric, sums: Numbers) -> Numbers:
    """Compute the metric from summed counts, for each row of the sums."""
    return _chrf_scores(sums) if metric == "chrf" else _bleu_scores(sums)


def _cluster_sums(counts_NK: Numbers, index: Counts, count: int) -> Numbers:
    import numpy as np

    sums_CK = np.zeros((count, counts_NK.shape[1]))
    np.add.at(sums_CK, index, counts_NK)
    return sums_CK


def _differences(metric: CorpusMetric, sums_2DK: Numbers) -> Numbers:
    """Compute the second model's metric less the first's, for D sums of counts of each."""
    return corpus_scores(metric, sums_2DK[1]) - corpus_scores(metric, sums_2DK[0])


def _chrf_counts(answer: str, reference: str) -> list[float]:
    """Count n-grams of characters (white space left out) and of words (punctuation apart) of answer and reference.

    Source: Popovic, chrF++, WMT 2017, W17-4770; counts agree with sacrebleu's, as the tests show.
    """
    counts: list[float] = []
    sides = [(list("".join(text.split())), _words(text)) for text in (answer, reference)]
    for order in range(_CHARACTERS + _WORDS):
        kind, length = (0, order + 1) if order < _CHARACTERS else (1, order + 1 - _CHARACTERS)
        ours, theirs = (_ngrams(side[kind], length) for side in sides)
        counts += [float(sum(ours.values())), float(sum(theirs.values())), float(sum((ours & theirs).values()))]
    return counts


def _words(text: str) -> list[str]:
    import string

    words: list[str] = []
    for word in text.split():
        if len(word) == 1:
            words.append(word)
        elif word[-1] in string.punctuation:
            words += [word[:-1], word[-1]]
        elif word[0] in string.punctuation:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _ngrams(parts: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(parts[start:] for start in range(length)), strict=False))


def _chrf_scores(sums: Numbers) -> Numbers:
    import numpy as np

    parts = sums.reshape(*sums.shape[:-1], _CHARACTERS + _WORDS, 3)
    ours, theirs, same = parts[..., 0], parts[..., 1], parts[..., 2]
    counted = (ours > 0) & (theirs > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(counted, same / ours, 0.0).sum(axis=-1) / np.maximum(1, counted.sum(axis=-1))
        recall = np.where(counted, same / theirs, 0.0).sum(axis=-1) / np.maximum(1, counted.sum(axis=-1))
        factor = _BETA**2
        score = (1 + factor) * precision * recall / (factor * precision + recall)
    return 100 * np.where(precision + recall > 0, np.nan_to_num(score), 0.0)


def _bleu_scores(sums: Numbers) -> Numbers:
    import numpy as np

    same, totals = sums[..., :_BLEU_ORDER], sums[..., _BLEU_ORDER : 2 * _BLEU_ORDER]
    ours, theirs = sums[..., -2], sums[..., -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        misses = np.cumsum((same == 0) & (totals > 0), axis=-1)
        precision = np.where(same > 0, same, 1 / 2.0**misses) / totals
        logs = np.where(totals > 0, np.log(precision), -math.inf).mean(axis=-1)
        brevity = np.where(ours < theirs, np.exp(1 - theirs / ours), 1.0)
    return 100 * np.nan_to_num(np.where(ours > 0, np.exp(logs) * brevity, 0.0))
