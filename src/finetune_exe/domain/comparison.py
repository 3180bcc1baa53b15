"""What a paired comparison of two files of per-item results found."""

from __future__ import annotations

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.evaluation import Comparison, Verdict


class PartComparison(Value):
    """A comparison of the items of one suite or one slice."""

    name: str
    comparison: Comparison
    p_adjusted: float | None
    """The p value after Holm's correction for the number of parts looked at."""
    verdict: Verdict
    """Of the part, where its adjusted p value decides whether a difference counts as found."""


class PairedItem(Value):
    """One item under both models, with what its lines held beside the score."""

    item: str
    score_a: float
    score_b: float
    prompt: str | None = None
    reference: str | None = None
    answer_a: str | None = None
    answer_b: str | None = None


class LengthCorrected(Value):
    """Share of items that B wins, and the share it would win with answers as long as A's."""

    win_rate: float
    corrected: float
    ci_low: float
    ci_high: float
    length_effect: float
    """Change of the log odds of a win with one standard deviation more length; 0 where length does not matter."""
    mean_length_a: float
    mean_length_b: float


class PairedResult(Document):
    """Two models on the same items."""

    a: str
    b: str
    comparison: Comparison
    margin_reason: str
    only_in_a: int
    """Items that the other file lacks; they are left out."""
    only_in_b: int
    suites: tuple[PartComparison, ...] = ()
    slices: tuple[PartComparison, ...] = ()
    length: LengthCorrected | None = None
    items_needed: int | None = None
    """Items, of as many clusters in proportion, that would find a difference of the margin; None where unknown."""
    worst: tuple[PairedItem, ...] = ()
    """Items on which B lost most, worst first."""
    best: tuple[PairedItem, ...] = ()
    notes: tuple[str, ...] = ()


FEWEST_KNOWN = 0.8
"""Share of known pairs a judge must get right to be believed."""


class JudgeQuality(Value):
    """How far a judge can be trusted, from pairs whose winner is known."""

    num_pairs: int
    right: dict[str, float]
    """Share judged right, by kind of known pair; ties are right where both answers are the same."""
    consistent: float
    """Share of pairs with the same verdict in both orders."""
    first_preferred: float
    """Share of single replies that prefer the answer shown first; one half is fair."""
    unreadable: float

    @property
    def trusted(self) -> bool:
        """Whether corrupted and begging answers were seen through, and replies could be read."""
        wanted = [self.right[kind] for kind in ("corrupted", "begging") if kind in self.right]
        return bool(wanted) and min(wanted) >= FEWEST_KNOWN and self.unreadable <= 1 - FEWEST_KNOWN


class Detectable(Value):
    """The smallest difference that would be found, under one assumption."""

    assumption: str
    difference: float | None


class ForeseenComparison(Document):
    """What a comparison on the items of one file could find, before the second model has been run."""

    a: str
    n: int
    clusters: int
    mean_a: float
    confidence_level: float = 0.95
    """Of the interval of that comparison."""
    detectable: tuple[Detectable, ...]
