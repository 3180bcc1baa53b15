"""Hold a log, line by line, against the table of known failures."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from finetune_exe.diagnosis.exceptions import ExceptionFinder
from finetune_exe.diagnosis.read import Line
from finetune_exe.diagnosis.rules import DIAGNOSES
from finetune_exe.diagnosis.series import SeriesFinder

_REMEMBERED = 20_000
_MOST_HITS = 5_000
_LONGEST = 4_000
_PROSE_LINES = 60
_PROSE_CHARACTERS = 12_000
_BESIDE_EXCEPTION = 0.75
_SECOND_HIT = 0.3
_GIVEN_WAY = 0.35
_REPEATED = 4

_DIGITS = re.compile(r"\d+")
_UNIT_REPEATED = re.compile(r"(\S.{1,60}?)\1{4,}|(\S.{0,60}?\s+)\2{3,}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One piece of evidence for a label."""

    label: str
    strength: float
    text: str
    line: int | None
    raised: bool = False
    """Whether it stands in an exception that says why."""


@dataclass(slots=True)
class Scan:
    """What one reading of a log gathers, in bounded memory."""

    exceptions: ExceptionFinder = field(default_factory=ExceptionFinder)
    metrics: SeriesFinder = field(default_factory=SeriesFinder)
    hits: list[Hit] = field(default_factory=list)
    prose: list[str] | None = field(default_factory=list)
    """The whole text while it is short enough to be a description, else None."""
    num_lines: int = 0
    _seen: set[int] = field(default_factory=set)

    def feed(self, line: Line) -> None:
        """Take the next line."""
        self.num_lines += 1
        self._keep_prose(line.text)
        is_metric = self.metrics.feed(line)
        self.exceptions.feed(line)
        shape = hash(_DIGITS.sub("0", line.text[:400]))
        if shape in self._seen or (is_metric and not _odd_metric(line.text)):
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.add(shape)
        if len(self.hits) < _MOST_HITS:
            self.hits += signs_in(line.text[:_LONGEST], line=line.number)

    def evidence(self) -> list[Hit]:
        """Give the hits of single lines and of whole exceptions."""
        raised = [
            Hit(label=hit.label, strength=hit.strength, text=hit.text, line=hit.line, raised=True)
            for found in self.exceptions.decisive()
            for hit in signs_in(found.text, line=found.number, frames=found.frames)
        ]
        return [*raised, *self.hits]

    def _keep_prose(self, text: str) -> None:
        if self.prose is not None:
            self.prose.append(text)
            if len(self.prose) > _PROSE_LINES or sum(map(len, self.prose)) > _PROSE_CHARACTERS:
                self.prose = None


def signs_in(text: str, *, line: int | None, frames: tuple[str, ...] | None = None) -> list[Hit]:
    """List the failures whose signs stand in one line, or in one exception with the traceback above it."""
    return [
        Hit(label=cause.label, strength=sign.strength, text=text, line=line)
        for cause in DIAGNOSES
        for sign in cause.signs
        if sign.shows_in(text, frames=frames)
    ]


def tales_in(text: str) -> list[Hit]:
    """List the failures that a description tells of, each with the sentence that does."""
    hits = []
    for cause in DIAGNOSES:
        for tale in cause.tales:
            match = tale.told_in(text)
            if match:
                sentence = text[max(0, match.start() - 60) : match.end() + 100]
                hits.append(Hit(label=cause.label, strength=tale.strength, text=sentence, line=None))
    repeated = repeated_part(text)
    if repeated:
        hits.append(Hit(label="repetition", strength=0.8, text=f"repeated in the text: {repeated}", line=None))
    return hits


def repeated_part(text: str) -> str | None:
    """Find words that a quoted answer repeats: four times in a row, or a run of eight words four times anywhere."""
    for in_a_row in _UNIT_REPEATED.finditer(f"{text} "):
        unit = (in_a_row[1] or in_a_row[2]).strip()
        if re.search(r"[^\W\d_]", unit) and len(set(unit)) > 1 and not _looks_logged(unit):
            return unit
    words = text.split()
    counts: dict[tuple[str, ...], int] = {}
    for start in range(len(words) - 7):
        run = tuple(words[start : start + 8])
        counts[run] = counts.get(run, 0) + 1
        if counts[run] >= _REPEATED and not _looks_logged(" ".join(run)):
            return " ".join(run)
    return None


def weigh(hits: Iterable[Hit], *, failed: bool) -> dict[str, float]:
    """Turn hits into a confidence for each label, from 0 to 1.

    The strongest hit decides, a second one of another wording adds a little; what an exception says outweighs a
    line beside it; and what usually follows from other failures gives way to them.

    Args:
        hits: All evidence.
        failed: Whether there is an exception that says why.
    """
    strengths: dict[str, dict[str, float]] = {}
    for hit in hits:
        strength = hit.strength * (_BESIDE_EXCEPTION if failed and not hit.raised else 1.0)
        known = strengths.setdefault(hit.label, {})
        known[hit.text] = max(known.get(hit.text, 0.0), strength)
    weights = {}
    for label, known in strengths.items():
        best, *rest = sorted(known.values(), reverse=True)
        weights[label] = best + (1 - best) * _SECOND_HIT * (rest[0] if rest else 0.0)
    return _give_way(weights)


def _give_way(weights: dict[str, float]) -> dict[str, float]:
    consequences = {cause.label for cause in DIAGNOSES if cause.consequence}
    reasons = [weight for label, weight in weights.items() if label not in consequences]
    if not reasons or max(reasons) < 0.5:
        return weights
    return {label: weight * (_GIVEN_WAY if label in consequences else 1.0) for label, weight in weights.items()}


def _odd_metric(text: str) -> bool:
    return "nan" in text.lower() or "accumulation" in text


def _looks_logged(text: str) -> bool:
    return bool(re.search(r"\d+%|it/s|'loss'|[Ll]oss \d|/site-packages/|Assertion|\[INFO", text))
