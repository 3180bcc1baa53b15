"""Hold a log, line by line, against the table of known failures."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

from finetune_exe.diagnosis.anchors import anchors
from finetune_exe.diagnosis.exceptions import ExceptionFinder
from finetune_exe.diagnosis.read import Line
from finetune_exe.diagnosis.sayings import likest
from finetune_exe.diagnosis.series import SeriesFinder
from finetune_exe.diagnosis.sieve import Kind, Sieve
from finetune_exe.diagnosis.table import Sign, causes, compiled
from finetune_exe.diagnosis.tools import tool_of_text, tools

_REMEMBERED = 20_000
_MOST_HITS = 5_000
_LONGEST = 4_000
_PROSE_LINES = 60
_PROSE_CHARACTERS = 12_000
_BESIDE_EXCEPTION = 0.75
_SECOND_HIT = 0.3
_GIVEN_WAY = 0.35
_REPEATED = 4
_GUESS, _LEAST_GUESSED, _MOST_GUESSED, _NEAR = 0.8, 0.32, 0.4, 0.22
_LIKELY, _SHARPER, _MOST_CERTAIN, _GUESSED = 0.5, 1.4, 0.98, 1.15

_REPORTED = re.compile(r"error|exception|fail|fatal|abort|assert|killed|cannot|can't|could ?n.t|unable|critical|panic")
_MILD = re.compile(r"\b(warn(ing)?|info|debug)\b|warning:")
_VERSION = re.compile(
    r"\b(transformers|torch|pytorch|trl|peft|deepspeed|accelerate|bitsandbytes|axolotl|llamafactory|unsloth|datasets"
    r"|flash[-_]attn|ms[-_]swift|torchtune|litgpt|python|cuda)"
    r"[ `'\"]*(?:version)?[ `'\"]*[:=v ]=? *v?(\d+\.\d+(?:\.\w+)*)",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(r"(?<![\w.])(?:--)?['\"]?([a-z]\w+)['\"]?(?:\s*[=:]\s*|\s+(?=[\w./]))['\"]?([^\s,;)}'\"]+)")
_OTHER_KEYS = {"fp16", "packing", "sample_packing", "template", "pad_token", "load_in_4bit", "load_in_8bit",
               "torch_dtype", "per_device_eval_batch_size", "attn_implementation", "flash_attn",
               "use_peft"}  # fmt: skip
_MOST_ASSIGNED = 200
_RECORD = re.compile(r"\s*(?:\{['\"]|\d+%\||step \d+[:,])")
_PROGRESS = re.compile(r"\d%\|.*\d+/\d+|\[\d+:\d\d(?::\d\d)?[,<][^]]*(?:/s|s/\w+)\]")
_ONLY_METRICS = re.compile(r"\s*\{.*\}\s*$")
_DIGITS = re.compile(r"\d+")
_WRITTEN = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "*": " ", "`": " ", "\uff0c": ","}
)
_SOLVED = re.compile(
    r"[^.;,\n]{1,60}\b(?:is|are|was|were|been|has) (?:now )?(?:gone|solved|resolved|fixed)\b"
    r"|\b(?:nans?|errors?|ooms?|hangs?|crash\w*|problems?|issues?|spikes?|warnings?)\b[^.;,\n]{0,12}"
    r"\b(?:disappeared|vanished|went away)\b"
    r"|\b(?:solved|fixed|resolved) (?:my|the|our|that|this) [^.;,\n]{1,60}",
    re.IGNORECASE,
)
_UNIT_REPEATED = re.compile(r"(\S.{1,60}?)\1{4,}|(\S.{0,60}?\s+)\2{3,}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One piece of evidence for a label."""

    label: str
    strength: float
    text: str
    line: int | None = None
    place: str | None = None
    """Which of the cause's places it speaks of."""
    beside: str | None = None
    """Words without which, in some other line, it does not count."""
    source: str | None = None
    """Which of several processes wrote it."""
    raised: bool = False
    """Whether it stands in an exception that says why."""
    setting: str | None = None
    """The setting that makes it likely, where that is all that speaks for it."""


@dataclass(slots=True)
class Scan:
    """What one reading of a log gathers, in bounded memory."""

    exceptions: ExceptionFinder = field(default_factory=ExceptionFinder)
    metrics: SeriesFinder = field(default_factory=SeriesFinder)
    hits: list[Hit] = field(default_factory=list)
    prose: list[str] | None = field(default_factory=list)
    """The whole text while it is short enough to be a description, else None."""
    num_lines: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    """Of libraries, as the log names them."""
    assigned: dict[str, str] = field(default_factory=dict)
    """Settings of training programs, as the log repeats them."""
    tool: str | None = None
    stood: set[str] = field(default_factory=set)
    """Patterns that signs need beside them, of which a line was found."""
    _seen: set[int] = field(default_factory=set)

    def feed(self, line: Line) -> Kind:
        """Take the next line; say what kind it is."""
        self.num_lines = max(self.num_lines, line.number)
        kind = self.metrics.feed(line)
        is_record = kind is not None and (_RECORD.match(line.text) or _ONLY_METRICS.match(line.text))
        self._keep_prose("" if is_record else line.text)
        raised = self.exceptions.feed(line)
        shape = hash(_DIGITS.sub("0", line.text[:400]))
        if shape not in self._seen and (kind is None or _odd_metric(line.text)):
            if len(self._seen) >= _REMEMBERED:
                self._seen.clear()
            self._seen.add(shape)
            self._note(line.text[:_LONGEST])
            if len(self.hits) < _MOST_HITS:
                self.hits += signs_in(line.text[:_LONGEST], line=line.number, source=line.source)
        if kind is not None:
            return kind
        return Kind.KEPT if raised else Kind.REPEATED

    def read(self, lines: Iterator[Line], sieve: Sieve) -> None:
        """Take all lines, telling the sieve that chooses them what they were."""
        for line in lines:
            sieve.settle(self.feed(line))
            sieve.everything = self.prose is not None or self.exceptions.active
            if self.metrics.series.full:
                self.metrics.series.thin()
                sieve.stride *= 2

    def _note(self, text: str) -> None:
        """Pick up which program and libraries these are, and the settings it repeats."""
        if self.tool is None or self.tool == "transformers":
            self.tool = tool_of_text(text) or self.tool
        self.stood |= {pattern for pattern in _beside() - self.stood if compiled(pattern).search(text)}
        for match in _VERSION.finditer(text):
            self.versions.setdefault(match[1].lower(), match[2])
        if len(self.assigned) < _MOST_ASSIGNED and ("=" in text or ":" in text or "--" in text):
            for match in _ASSIGNED.finditer(text):
                if match[1] in _known_keys():
                    self.assigned.setdefault(match[1], match[2])

    def evidence(self) -> list[Hit]:
        """Give the hits of single lines and of whole exceptions."""
        raised = [
            replace(hit, raised=True)
            for found in self.exceptions.decisive()
            for hit in signs_in(found.text, line=found.number, frames=found.frames, source=found.source)
        ]
        return [hit for hit in (*raised, *self.hits) if hit.beside is None or hit.beside in self.stood]

    def _keep_prose(self, text: str) -> None:
        if self.prose is not None:
            self.prose.append(text)
            if len(self.prose) > _PROSE_LINES or sum(map(len, self.prose)) > _PROSE_CHARACTERS:
                self.prose = None


def signs_in(
    text: str, *, line: int | None, frames: tuple[str, ...] | None = None, source: str | None = None
) -> list[Hit]:
    """List the failures whose signs stand in one line, or in one exception with the traceback above it."""
    if frames is None and _PROGRESS.search(text):
        return []
    lowered = text.lower()
    index = _index()
    near = {place for anchor in set(index.gate.findall(lowered)) for place in index.signs_by_anchor[anchor]}
    if not near:
        return []
    reported = frames is not None or bool(_REPORTED.search(lowered) and not _MILD.search(lowered))
    return [
        Hit(label=label, strength=sign.strength, text=text, line=line, place=sign.place, source=source,
            beside=sign.beside)
        for label, sign in (index.signs[place] for place in sorted(near))
        if (reported or not sign.loose) and sign.shows_in(text, frames=frames)
    ]  # fmt: skip


class _Index(NamedTuple):
    """All signs, and a fast way to those that a line could show."""

    signs: tuple[tuple[str, Sign], ...]
    gate: re.Pattern[str]
    """Finds at each place of a line the shortest anchor that begins there."""
    signs_by_anchor: Mapping[str, Collection[int]]


@cache
def _beside() -> frozenset[str]:
    return frozenset(sign.beside for cause in causes() for sign in cause.signs if sign.beside)


@cache
def _known_keys() -> frozenset[str]:
    return frozenset({key.name for tool in tools().values() for key in tool.keys.values()} | _OTHER_KEYS)


@cache
def _index() -> _Index:
    signs = tuple((cause.label, sign) for cause in causes() for sign in cause.signs)
    places: dict[str, list[int]] = {}
    for place, (_, sign) in enumerate(signs):
        for anchor in anchors(sign.pattern):
            places.setdefault(anchor, []).append(place)
    shortest = {anchor: min((other for other in places if anchor.startswith(other)), key=len) for anchor in places}
    found: dict[str, set[int]] = {}
    for anchor, its in places.items():
        found.setdefault(shortest[anchor], set()).update(its)
    return _Index(signs=signs, gate=re.compile(f"(?=({_tree(found)}))"), signs_by_anchor=found)


def _tree(words: Collection[str]) -> str:
    """Write the words as one pattern in which a common beginning stands once; that is many times faster to search."""
    if "" in words:
        return ""
    branches = {first: {word[1:] for word in words if word[0] == first} for first in sorted({w[0] for w in words})}
    written = [re.escape(first) + _tree(rest) for first, rest in branches.items()]
    return written[0] if len(written) == 1 else f"(?:{'|'.join(written)})"


def tales_in(text: str) -> list[Hit]:
    """List the failures that a description tells of, each with the sentence that does."""
    hits, text = [], _plain(text)
    for cause in causes():
        for tale in cause.tales:
            match = tale.told_in(text)
            if match:
                sentence = text[max(0, match.start() - 60) : match.end() + 100]
                hits.append(Hit(label=cause.label, strength=tale.strength, text=sentence, place=tale.place))
    repeated = repeated_part(text)
    if repeated:
        hits.append(Hit(label="repetition", strength=0.8, text=f"repeated in the text: {repeated}"))
    return hits


def _plain(text: str) -> str:
    """Write quotes and emphasis in one way, and leave out what is said to be solved."""
    return _SOLVED.sub(" ", text.translate(_WRITTEN))


def content(text: str) -> bool:
    """Say whether a description speaks of success, and of nothing that went wrong."""
    return bool(compiled("{well}").search(text)) and not compiled("{trouble}").search(text)


def plain_question(text: str) -> bool:
    """Say whether a description asks for advice, and tells of nothing that went wrong."""
    return bool(compiled("{question}").search(text)) and not compiled("{trouble}|{complaint}").search(text)


def guessed_in(text: str) -> list[Hit]:
    """List the failures that a description sounds like; guesses, and weak as such."""
    hits = []
    for place, like in enumerate(likest(_plain(text))):
        least = _LEAST_GUESSED if place == 0 and like.nearness > _NEAR else 0.0
        strength = max(least, min(_MOST_GUESSED, _GUESS * like.share))
        hits.append(Hit(label=like.label, strength=strength, text=f"sounds like: {like.saying}"))
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


def calibrate(weights: Mapping[str, float]) -> dict[str, float]:
    """Turn weights into chances of being the cause.

    The weights are shares estimated by hand, and too low: one exponent for all causes corrects that above one half,
    one factor below.
    Where several causes are found their odds share what is left. benchmarks/debug.md says how the chances held on
    threads that were not looked at before.
    """
    sure = {
        label: _MOST_CERTAIN * (1 - (1 - weight) ** _SHARPER) if weight >= _LIKELY else _GUESSED * weight
        for label, weight in weights.items()
    }
    odds = {label: chance / (1 - chance) for label, chance in sure.items()}
    whole = sum(odds.values())
    return {label: min(chance, _total(sure.values()) * odds[label] / whole) for label, chance in sure.items()}


def _total(chances: Iterable[float]) -> float:
    """Give the chance that at least one of them is right."""
    return 1 - math.prod(1 - chance for chance in chances)


def _give_way(weights: dict[str, float]) -> dict[str, float]:
    consequences = {cause.label for cause in causes() if cause.consequence}
    reasons = [weight for label, weight in weights.items() if label not in consequences]
    if not reasons or max(reasons) < 0.7:
        return weights
    return {label: weight * (_GIVEN_WAY if label in consequences else 1.0) for label, weight in weights.items()}


def _odd_metric(text: str) -> bool:
    return "nan" in text.lower() or "accumulation" in text


def _looks_logged(text: str) -> bool:
    return bool(re.search(r"\d+%|it/s|'loss'|[Ll]oss \d|/site-packages/|Assertion|\[INFO", text))
