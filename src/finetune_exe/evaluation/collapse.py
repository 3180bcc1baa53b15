"""Answers that repeat themselves or each other, measured at equal length.

Source: Shaib et al., Standardizing the Measurement of Text Diversity, arXiv 2403.00553 (2024): compression, repetition
of long runs of words and Self-BLEU say what the many other measures say.
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Sequence

from finetune_exe.domain.evaluation import CollapseCard

RUN = 3
"""Words of a run for `distinct`."""
SELF_BLEU_ANSWERS = 60
"""Answers of which each is compared with the others, for the work grows with the square."""
MORE_COMPRESSION = 1.3
"""Compression over that of the references that counts as collapsed."""
LEAST_DISTINCT = 0.6
"""Share of the references' distinct runs below which answers count as collapsed."""
MOST_LOOPS = 0.05
MOST_SAME_START = 0.3
"""Share of answers with the same first or last words, beyond that of the references, that counts as collapsed."""
LEAST_DIFFERENT = 1 / 3
"""Different answers, of as many as there are different references, below which answers count as collapsed."""
FEWEST = 8
"""Answers below which nothing is said."""


def collapse_card(baseline: Sequence[str], candidate: Sequence[str], references: Sequence[str]) -> CollapseCard | None:
    """Hold the diversity of answers against that of the base's answers and of the references; None of too few.

    Labels and other short answers repeat by nature: all sides are cut to the same number of words, and the references,
    which show how alike good answers are, decide.
    """
    if len(candidate) < FEWEST:
        return None
    before, after, wanted = _equal_length(baseline, candidate, references)
    figures = {
        name: (compression_ratio(texts), self_bleu(texts), distinct_runs(texts))
        for name, texts in (("before", before), ("after", after), ("wanted", wanted))
    }
    loops = [sum(map(loops_at_end, texts)) / len(texts) for texts in (baseline, candidate)]
    starts = [same_start(texts) for texts in (candidate, references)]
    reasons = []
    if figures["after"][0] > MORE_COMPRESSION * figures["wanted"][0] and figures["after"][1] > figures["wanted"][1]:
        reasons.append(f"answers compress {figures['after'][0] / figures['wanted'][0]:.1f} times as well as references")
    if figures["after"][2] < LEAST_DISTINCT * figures["wanted"][2]:
        reasons.append(
            f"{figures['after'][2]:.0%} of all runs of {RUN} words differ; of references {figures['wanted'][2]:.0%}"
        )
    if loops[1] > MOST_LOOPS and loops[1] > loops[0]:
        reasons.append(f"{loops[1]:.0%} of the answers end in a loop")
    if starts[0] - starts[1] > MOST_SAME_START:
        reasons.append(f"{starts[0]:.0%} of the answers begin alike; of references {starts[1]:.0%}")
    ends = [same_end(texts) for texts in (candidate, references)]
    if ends[0] - ends[1] > MOST_SAME_START:
        reasons.append(f"{ends[0]:.0%} of the answers end alike; of references {ends[1]:.0%}")
    different = [len(set(texts)) for texts in (candidate, references)]
    if different[0] < LEAST_DIFFERENT * different[1]:
        reasons.append(f"{different[0]} different answers; {different[1]} different references")
    return CollapseCard(
        num_answers=len(candidate),
        compression_baseline=figures["before"][0],
        compression_candidate=figures["after"][0],
        compression_reference=figures["wanted"][0],
        self_bleu_baseline=figures["before"][1],
        self_bleu_candidate=figures["after"][1],
        self_bleu_reference=figures["wanted"][1],
        distinct_baseline=figures["before"][2],
        distinct_candidate=figures["after"][2],
        distinct_reference=figures["wanted"][2],
        loop_rate_baseline=loops[0],
        loop_rate_candidate=loops[1],
        same_start_candidate=starts[0],
        same_start_reference=starts[1],
        collapsed=bool(reasons),
        reasons=tuple(reasons),
    )


def compression_ratio(texts: Sequence[str]) -> float:
    """Give the bytes of all texts over their bytes compressed together."""
    whole = "\n".join(texts).encode()
    return len(whole) / len(zlib.compress(whole, 9)) if whole else 1.0


def distinct_runs(texts: Sequence[str], *, length: int = RUN) -> float:
    """Give the share of runs of words that are different; 1 where there is no run."""
    runs = [run for text in texts for run in _runs(text.split(), length)]
    return len(set(runs)) / len(runs) if runs else 1.0


def self_bleu(texts: Sequence[str]) -> float:
    """Give the mean BLEU of each text against all others, 0 to 100, over a sample of them.

    Source: Zhu et al., Texygen, SIGIR 2018, arXiv 1802.01886.
    """
    from sacrebleu.metrics import BLEU

    chosen = list(texts)
    if len(chosen) > SELF_BLEU_ANSWERS:
        chosen = random.Random(7).sample(chosen, SELF_BLEU_ANSWERS)  # noqa: S311 - a sample, no secret
    bleu = BLEU(effective_order=True)
    scores = [
        bleu.sentence_score(text, [other for place, other in enumerate(chosen) if place != number]).score
        for number, text in enumerate(chosen)
        if text.strip()
    ]
    return float(sum(scores) / len(scores)) if scores else 0.0


def loops_at_end(text: str, *, times: int = 4) -> bool:
    """Say whether a text ends in something said so many times over: one to eight words, or up to twelve characters."""
    words = text.split()
    for length in range(1, 9):
        tail = words[-length * times :]
        if len(tail) == length * times and all(tail[i] == tail[i % length] for i in range(len(tail))):
            return True
    end = text.rstrip()
    for length in range(1, 13):
        tail_text = end[-length * 2 * times :]
        repeats = tail_text == tail_text[:length] * (2 * times)
        if len(tail_text) == length * 2 * times and repeats and tail_text.strip(" .-=_*#"):
            return True
    return False


def same_start(texts: Sequence[str], *, words: int = 5) -> float:
    """Give the share of texts that begin with the most frequent beginning."""
    starts = Counter(tuple(text.split()[:words]) for text in texts)
    return starts.most_common(1)[0][1] / len(texts) if texts else 0.0


def same_end(texts: Sequence[str], *, words: int = 5) -> float:
    """Give the share of texts that close with the most frequent ending."""
    return same_start([" ".join(reversed(text.split())) for text in texts], words=words)


def _equal_length(*sides: Sequence[str]) -> list[list[str]]:
    """Cut answers to one prompt to the words of the shortest of them that is not empty."""
    cut: list[list[str]] = [[] for _ in sides]
    for texts in zip(*sides, strict=True):
        most = min((len(text.split()) for text in texts if text.strip()), default=0)
        for side, text in zip(cut, texts, strict=True):
            side.append(" ".join(text.split()[:most]))
    return cut


def _runs(words: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return list(zip(*(words[start:] for start in range(length)), strict=False))
