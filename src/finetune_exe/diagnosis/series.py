"""Read the course of a run: losses, gradient norm and learning rate by step, from logs, trainer states and events."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from finetune_exe.diagnosis.read import Line, nothing_to_diagnose
from finetune_exe.diagnosis.sieve import Kind
from finetune_exe.domain.events import AnyEvent, Evaluated, GeneralTextMeasured, StepFinished

_MOST_POINTS = 2048

_NUMBER = r"[-+]?(?:\d+(?:,\d{3})*(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?nan\b|[-+]?inf(?:inity)?\b"
_METRIC = re.compile(
    r"(?<![A-Za-z0-9_/.])(?P<key>(?:train|eval|val|valid|validation)[ _/]loss|loss (?:train|val)|loss|grad[ _]norm"
    r"|learning[ _]rate|lr|epoch|(?:train_)?(?:tokens|samples|steps)_per_second(?:_per_gpu)?|tok(?:en)?s?/s|tgs"
    r"|train_speed\(iter/s\)|(?:peak_|max_)?memory(?:_\w+)?(?:\(gib\))?"
    r"|(?:global[_ ]|current[_ ])?steps?(?:/max_steps)?|iter(?:ation)?)"
    rf"[\"']?\s*[:=]?\s*[\"']?(?P<value>{_NUMBER})(?=[\s,;:|%\"'}}\])/]|$)",
    re.IGNORECASE,
)
_SUMMARY = re.compile(r"train_runtime|train_samples_per_second")
_REWARD = re.compile(r"reward|logps|kl\b", re.IGNORECASE)
_STEP = re.compile(r"step|iter")
_LOSSES = {"train_loss", "eval_loss"}
_LOGGED = ("loss", "eval_loss", "grad_norm", "learning_rate", "epoch", "step")
"""What transformers' Trainer keeps of each moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was logged at one moment; None for what was not."""

    step: float | None = None
    train_loss: float | None = None
    eval_loss: float | None = None
    general_loss: float | None = None
    """Of text that has nothing to do with the task."""
    grad_norm: float | None = None
    learning_rate: float | None = None
    epoch: float | None = None
    throughput: float | None = None
    """Steps, samples or tokens per second, whichever the tool logs."""
    memory: float | None = None
    """As logged, in whatever unit."""
    line: int | None = None
    """Line of the file it stands in."""

    @property
    def odd(self) -> bool:
        """Whether its loss is not a finite number."""
        return self.train_loss is not None and not math.isfinite(self.train_loss)


@dataclass(slots=True, kw_only=True)
class Series:
    """The points of one run in order."""

    points: list[Point] = field(default_factory=list)
    planned_epochs: float | None = None
    source: str = ""
    """Name of the file it was read from."""
    rewards: bool = False
    """Whether rewards or preference margins were logged: a loss then says little by itself."""

    def add(self, point: Point) -> None:
        """Append a point; where it lies before the last one, another run has begun and the earlier is forgotten."""
        if self.points and _restarts(self.points[-1], point):
            self.points.clear()
        self.points.append(point)

    @property
    def full(self) -> bool:
        """Whether there are more points than any judgement needs."""
        return len(self.points) > _MOST_POINTS

    def thin(self) -> None:
        """Drop every second point, so that memory stays bounded; validation losses and odd values stay."""
        self.points = [p for i, p in enumerate(self.points) if i % 2 or p.eval_loss is not None or p.odd]
        if len(self.points) > 2 * _MOST_POINTS:
            self.points = self.points[::2]

    @property
    def train(self) -> list[float]:
        """Training losses in order."""
        return [p.train_loss for p in self.points if p.train_loss is not None]

    @property
    def evaluation(self) -> list[float]:
        """Validation losses in order."""
        return [p.eval_loss for p in self.points if p.eval_loss is not None]

    @property
    def epochs(self) -> float | None:
        """Epochs run, where the log says it; the plan's number otherwise."""
        seen = [p.epoch for p in self.points if p.epoch is not None]
        return max(seen) if seen else self.planned_epochs

    @property
    def peak_learning_rate(self) -> float | None:
        """Largest learning rate seen."""
        return max((p.learning_rate for p in self.points if p.learning_rate is not None), default=None)


def _restarts(last: Point, new: Point) -> bool:
    """Say whether `new` belongs to another run: it lies before `last`, or is counted in other units."""
    pairs = [(last.step, new.step), (last.epoch, new.epoch)]
    shared = [(before, after) for before, after in pairs if before is not None and after is not None]
    if shared:
        return any(after < 0.9 * before for before, after in shared)
    counted = [any(pair[i] is not None for pair in pairs) for i in (0, 1)]
    return all(counted)


@dataclass(slots=True)
class SeriesFinder:
    """Collect metrics from a log read line by line."""

    series: Series = field(default_factory=Series)

    def feed(self, line: Line) -> Kind | None:
        """Take the next line; say of what kind it is where it was one of metrics."""
        if "loss" not in line.text and "Loss" not in line.text:
            return None
        values: dict[str, float] = {}
        for match in _METRIC.finditer(line.text):
            values.setdefault(_name(match["key"].lower()), float(match["value"].replace(",", "")))
        if not _LOSSES & values.keys():
            return None
        if _SUMMARY.search(line.text):
            return Kind.KEPT
        self.series.rewards |= bool(_REWARD.search(line.text))
        self.series.add(Point(line=line.number, **values))
        return Kind.METRIC if "eval_loss" not in values else Kind.KEPT


def _name(key: str) -> str:
    """Say which value of a point a key stands for."""
    if "loss" in key:
        return "eval_loss" if "val" in key else "train_loss"
    if key.startswith("grad"):
        return "grad_norm"
    if key.startswith("learning") or key == "lr":
        return "learning_rate"
    if "per_second" in key or key.endswith("/s") or key in ("tgs", "train_speed(iter/s)"):
        return "throughput"
    if "memory" in key:
        return "memory"
    return "step" if _STEP.search(key) else key


def read_trainer_state(path: Path, content: bytes) -> Series:
    """Read the `log_history` of a trainer_state.json.

    Raises:
        FineTuneError: L01 where it is no such file, or it holds no loss.
    """
    try:
        state = json.loads(content)
    except (ValueError, RecursionError) as fault:
        raise nothing_to_diagnose(f"it is no whole JSON: {fault}", where=str(path)) from fault
    history = state.get("log_history") if isinstance(state, dict) else None
    if not isinstance(history, list):
        raise nothing_to_diagnose("it has no log_history", where=str(path))
    series = Series(planned_epochs=_number(state.get("num_train_epochs")), source=path.name)
    for entry, line in zip_longest(history, _lines_of_entries(content, most=len(history))):
        if not isinstance(entry, dict):
            continue
        series.rewards |= any(_REWARD.search(str(key)) for key in entry)
        point = Point(line=line, **{_name(key): _number(entry.get(key)) for key in _LOGGED})
        if (point.train_loss, point.eval_loss) != (None, None) and "train_runtime" not in entry:
            series.points.append(point)
    if not series.points:
        raise nothing_to_diagnose("its log_history holds no loss", where=str(path))
    return series


def _lines_of_entries(content: bytes, *, most: int) -> Iterator[int]:
    """Give the line, from 1, in which each entry of the history begins, as far as that can be told."""
    text = content.decode("utf-8", "replace")
    decoder = json.JSONDecoder()
    place = text.index("[", text.index('"log_history"')) + 1
    line = text.count("\n", 0, place) + 1
    for _ in range(most):
        gap = re.compile(r"[\s,]*").match(text, place)
        begin = gap.end() if gap else place
        line += text.count("\n", place, begin)
        try:
            _, place = decoder.raw_decode(text, begin)
        except (ValueError, RecursionError):
            return  # the name stands in a text before the history
        yield line
        line += text.count("\n", begin, place)


def read_run_events(events: Sequence[AnyEvent]) -> Series:
    """Read the events of one of our own runs; what a resumed run did again replaces what it did before."""
    points: list[Point] = []
    for line, event in enumerate(events, 1):
        if not isinstance(event, StepFinished | Evaluated | GeneralTextMeasured):
            continue
        while points and (points[-1].step or 0) > event.step:
            points.pop()
        if isinstance(event, Evaluated):
            points.append(Point(line=line, step=event.step, epoch=event.epoch, eval_loss=event.validation_loss))
        elif isinstance(event, GeneralTextMeasured):
            points.append(Point(line=line, step=event.step, general_loss=event.loss))
        else:
            points.append(Point(line=line, step=event.step, epoch=event.epoch, train_loss=event.loss,
                                grad_norm=event.gradient_norm, learning_rate=event.learning_rate))  # fmt: skip
    return Series(points=points, source="events.jsonl")


def _number(value: object) -> float | None:
    """Read a number that may be written as a string, as "nan" is in strict JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
    except ValueError:
        return None
