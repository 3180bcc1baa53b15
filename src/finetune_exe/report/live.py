"""Show a run while it runs: a progress line on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol, TextIO, assert_never, cast

from finetune_exe.domain.events import (
    AnyEvent,
    BatchShrunk,
    CheckpointSaved,
    Diagnosed,
    Evaluated,
    GeneralTextMeasured,
    LossSpiked,
    Noticed,
    PairsJudged,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    Sample,
    Sampled,
    StepFinished,
    StepSkipped,
)
from finetune_exe.report.boxes import clean
from finetune_exe.units import format_bytes, format_count, format_duration, format_parameters

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_SECONDS = 5.0
SHOWN_ROWS = 4
SHOWN_CHARACTERS = 60
"""Of each part of a sample."""
_ASKED, _ANSWERS = re.compile(r"(?:^|\n)(?:user|human)\n"), re.compile(r"\n(?:assistant|model)$")
"""What is left of the marks of turns where a prompt is read without its special tokens."""
_SMOOTHING = 0.9


class _Surface(Protocol):
    """Where a view writes: whole lines, and the state of what is under way."""

    def line(self, text: str) -> None:
        """Write one line that stays."""

    def state(self, label: str, done: int, total: int, detail: str) -> None:
        """Show how far the work called `label` is."""


class LiveView:
    """Turn a run's events into what a person wants to see; give it to the loop as its `emit`.

    Nothing reaches the surface that was not cleaned of control characters.
    """

    def __init__(self, surface: _Surface, *, clock: Callable[[], float]) -> None:
        self._surface = surface
        self._clock = clock
        self._phase: tuple[str, float, int] | None = None
        self._loss = _Smoothed()
        self._tokens = _Smoothed()
        self._step_seconds = _Smoothed()
        self._training_since: tuple[float, int] | None = None
        self._validation: float | None = None

    def __call__(self, event: AnyEvent) -> None:
        """Show one event."""
        if isinstance(event, StepFinished):
            self._step(event)
        elif isinstance(event, Evaluated):
            self._validation = event.validation_loss
        for line in _lines(event):
            self.note(line)

    def note(self, text: str) -> None:
        """Show one line of text."""
        self._surface.line(clean(text))

    def progress(self, label: str, done: int, total: int) -> None:
        """Show how far a long step is, with the time it will still take, judged by its own pace.

        A total of 0 is one that is not known yet.
        """
        now = self._clock()
        if self._phase is None or self._phase[0] != label or done <= self._phase[2]:
            self._phase = (label, now, done)
        _, start, first = self._phase
        detail = (
            f"ETA {format_duration((now - start) / (done - first) * (total - done))}" if first < done < total else ""
        )
        self._surface.state(clean(label), done, total, detail)

    def _step(self, event: StepFinished) -> None:
        if self._training_since is None:
            self._training_since = (event.seconds - event.step_seconds, event.step - 1)
        start, first = self._training_since
        remaining = (event.seconds - start) / (event.step - first) * (event.num_steps - event.step)
        loss = self._loss.add(event.loss)
        speed = self._tokens.add(event.learned_tokens) / max(self._step_seconds.add(event.step_seconds), 1e-9)
        words = [f"ETA {format_duration(remaining)}", f"loss {loss:.3f}"]
        words += [f"validation {self._validation:.3f}"] if self._validation is not None else []
        words += [f"{format_count(speed)} learned tokens/s"]
        words += [format_bytes(event.memory_bytes)] if event.memory_bytes else []
        self._surface.state("step", event.step, event.num_steps, ", ".join(words))


def _lines(event: AnyEvent) -> Iterator[str]:
    """Say in a line each what an event tells; nothing for the ordinary course, which the progress line shows."""
    match event:
        case RunStarted():
            trained, sequences = format_parameters(event.num_trainable_parameters), format_count(event.num_sequences)
            yield f"training {trained} parameters on {event.device}: {event.num_steps} steps, {sequences} sequences"
        case RunResumed():
            lost = f"; {format_duration(event.lost_seconds)} of work come again" if event.lost_seconds >= 1 else ""
            yield f"going on after step {event.step} of {event.num_steps}, from {event.checkpoint}{lost}"
        case Evaluated():
            best = ", the best so far" if event.best else ""
            yield f"step {event.step}: validation loss {event.validation_loss:.4f}{best}"
        case PairsJudged(split="validation"):
            right = f"{event.accuracy:.0%} of the validation pairs ranked right"
            yield f"step {event.step}: {right}, margin {event.margin:.3f}"
        case StepFinished() | PairsJudged() | GeneralTextMeasured():
            pass
        case Sampled():
            yield from (f"step {event.step}: {_sample(sample)}" for sample in event.samples)
        case CheckpointSaved():
            yield f"step {event.step}: checkpoint {event.path}"
        case Noticed():
            yield f"note: {event.message}"
        case StepSkipped():
            yield f"step {event.step} is left out: {event.reason} ({_places(event.rows)})"
        case LossSpiked():
            back = "" if event.back_to is None else f"; the weights went back to those of step {event.back_to}"
            loss = f"loss {event.loss:.3f}, usual was {event.usual:.3f}"
            yield f"step {event.step}: {loss}{back} ({_places(event.rows)})"
        case BatchShrunk():
            rows = f"{event.micro_batch_size} rows at a time, {event.gradient_accumulation_steps} times a step"
            yield f"step {event.step}: memory ran out; from here on {rows}"
        case Diagnosed():
            settings = " ".join(f"--set {path}={value}" for path, value in event.patch.items())
            yield f"step {event.step}: {event.title} ({'; '.join(event.evidence)}). {event.fix} {settings}".rstrip()
        case RunStopped():
            yield f"stopped by {event.reason} after step {event.step}"
        case RunFinished():
            best = f"best validation loss {event.best_validation_loss:.4f} at step {event.best_step}"
            yield f"training is over ({event.stop_reason}) after {format_duration(event.seconds)}: {best}"
        case _:
            assert_never(event)


def _sample(sample: Sample) -> str:
    """Put question, answer and what the row says on one line; of the question the end is what was asked last."""
    asked = _ASKED.split(_ANSWERS.sub("", sample.prompt.rstrip()))[-1]
    asked = " ".join(asked.split())[-SHOWN_CHARACTERS:]
    answer, reference = (" ".join(text.split())[:SHOWN_CHARACTERS] for text in (sample.answer, sample.reference))
    return f'"{asked}" is answered "{answer}" (the row says "{reference}")'


def _places(rows: Sequence[str]) -> str:
    """Name the first few rows."""
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return f"rows {', '.join(rows[:SHOWN_ROWS])}{more}"


class _Smoothed:
    """Exponential average without the pull towards zero at its beginning."""

    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float) -> float:
        self._sum = _SMOOTHING * self._sum + (1 - _SMOOTHING) * value
        self._weight = _SMOOTHING * self._weight + 1 - _SMOOTHING
        return self._sum / self._weight


class _PlainLines:
    """Lines without control codes; states at most every five seconds, the last one of a piece of work always, once."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float]) -> None:
        self._stream = stream
        self._clock = clock
        self._next = 0.0
        self._label = ""
        self._said = ""

    def line(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def state(self, label: str, done: int, total: int, detail: str) -> None:
        now = self._clock()
        if now < self._next and (done < total or not total) and label == self._label:
            return
        self._next, self._label = now + PLAIN_INTERVAL_SECONDS, label
        text = f"{label} {_counted(done, total)}{': ' + detail if detail else ''}"
        if text != self._said:
            self._said = text
            self.line(text)


def _counted(done: int, total: int) -> str:
    return f"{format_count(done)}/{format_count(total)}" if total else format_count(done)


class _Bar:
    """One progress line that is drawn over and over, with lines that stay above it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._label = ""
        self._task: TaskID | None = None
        self._full = False

    def line(self, text: str) -> None:
        if self._task is not None and self._full:  # what is said now is about what comes next
            self._progress.remove_task(self._task)
            self._progress.refresh()
            self._task = None
        self._progress.console.print(text, markup=False, highlight=False, emoji=False)

    def state(self, label: str, done: int, total: int, detail: str) -> None:
        detail = f"{_counted(done, total)} {detail}"
        if self._task is None or label != self._label:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._label, self._task = label, self._progress.add_task(label, total=total or None, detail=detail)
        self._progress.update(self._task, completed=done, total=total or None, detail=detail)
        self._full = bool(total) and done >= total
        if self._full:
            self._progress.refresh()


class _Unheard:
    """A stream that may close while a run goes on, as a terminal does: what it does not take is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def live_view(stream: TextIO, *, plain: bool, clock: Callable[[], float] = time.monotonic) -> Iterator[LiveView]:
    """Open a view on `stream` for as long as the block runs.

    Args:
        stream: Where to write; stderr, so that stdout stays data. Where it closes, the work goes on unseen.
        plain: Write plain lines even on a terminal. Anything that is no terminal, and TERM=dumb, gets them anyway;
            with NO_COLOR the progress line has no colours.
        clock: Seconds that only go forward.
    """
    stream = cast(TextIO, _Unheard(stream))
    if plain or not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield LiveView(_PlainLines(stream, clock=clock), clock=clock)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    columns = (
        BarColumn(bar_width=10),
        TextColumn("{task.description} {task.fields[detail]}", markup=False, table_column=Column(no_wrap=True)),
    )
    console = Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress:
        yield LiveView(_Bar(progress), clock=clock)
