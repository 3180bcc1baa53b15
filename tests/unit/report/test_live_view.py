"""What a person sees while a run goes on, on a terminal and off it."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from finetune_exe.domain.events import (
    AnyEvent,
    CheckpointSaved,
    Evaluated,
    Noticed,
    RunFinished,
    RunStarted,
    Sample,
    Sampled,
    StepFinished,
)
from finetune_exe.report.live import PLAIN_INTERVAL_SECONDS, live_view

ROOT = Path(__file__).resolve().parents[3]


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Closed(Terminal):
    """A terminal that is no longer there."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def step(number: int, *, loss: float = 2.0, total: int = 100) -> StepFinished:
    return StepFinished(
        seconds=10.0 + number,
        step=number,
        num_steps=total,
        epoch=0.1,
        loss=loss,
        learning_rate=1e-4,
        gradient_norm=1.0,
        learned_tokens=300,
        processed_tokens=900,
        padded_tokens=950,
        step_seconds=1.0,
    )


def course() -> Iterator[AnyEvent]:
    yield RunStarted(seconds=9.0, num_steps=100, num_sequences=400, num_trainable_parameters=4_884_480, device="cpu")
    for number in range(1, 101):
        yield step(number)
        if number % 50 == 0:
            yield Evaluated(seconds=10.0 + number, step=number, epoch=1.0, validation_loss=1.5, best=number == 50)
    yield CheckpointSaved(seconds=111.0, step=100, path="checkpoints/step-100")
    yield Noticed(seconds=111.0, message="\x1b[31mlook\x1b[0m")
    yield RunFinished(seconds=112.0, stop_reason="finished", best_step=50, best_validation_loss=1.5)


def test_plain_lines_come_at_most_every_five_seconds_plus_the_evaluations() -> None:
    stream, clock = io.StringIO(), Clock()
    with live_view(stream, plain=True, clock=clock) as view:
        for event in course():
            clock.now = 100.0 + event.seconds
            view(event)
    lines = stream.getvalue().splitlines()
    steps = [int(line.split("/")[0].removeprefix("step ")) for line in lines if "/100:" in line]
    assert steps == [1, 6, 11, 16, 21, 26, 31, 36, 41, 46, 51, 56, 61, 66, 71, 76, 81, 86, 91, 96, 100]
    assert sum("validation loss 1.5000" in line and line.startswith("step") for line in lines) == 2
    assert sum("the best so far" in line for line in lines) == 1
    assert lines[-1].startswith("training is over (finished)")
    assert PLAIN_INTERVAL_SECONDS == 5.0


def test_plain_lines_hold_no_control_codes() -> None:
    stream = io.StringIO()
    with live_view(stream, plain=False) as view:
        for event in course():
            view(event)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", stream.getvalue())
    assert "note: look" in stream.getvalue()


def test_the_eta_speed_and_smoothed_loss_are_right() -> None:
    stream = io.StringIO()
    with live_view(stream, plain=True, clock=Clock()) as view:
        view(step(1, loss=4.0, total=2))
        view(step(2, loss=1.0, total=2))
    first, second = stream.getvalue().splitlines()
    assert "ETA 1.0 s" in first
    assert "300 learned tokens/s" in first
    assert "loss 4.000" in first
    assert f"loss {(0.9 * 4 + 1) / 1.9:.3f}" in second


def test_a_resumed_run_judges_its_pace_by_its_own_steps() -> None:
    stream = io.StringIO()
    with live_view(stream, plain=True) as view:
        view(StepFinished(
            seconds=5.0, step=91, num_steps=100, epoch=0.9, loss=1.0, learning_rate=1e-4, gradient_norm=1.0,
            learned_tokens=10, processed_tokens=10, padded_tokens=10, step_seconds=2.0,
        ))  # fmt: skip
    assert "ETA 18 s" in stream.getvalue()


def test_memory_and_answers_are_shown() -> None:
    stream = io.StringIO()
    sample = Sample(
        prompt="system\nBe brief.\nuser\nsay fox 3\n\nassistant",
        answer="the \x1b[31mfox" + " said" * 40,
        reference="the fox",
        stopped=False,
    )
    with live_view(stream, plain=True, clock=Clock()) as view:
        view(msgspec.structs.replace(step(1), memory_bytes=3 << 29))
        view(Sampled(seconds=1.0, step=1, samples=(sample, sample)))
    state, *lines = stream.getvalue().splitlines()
    assert state.endswith("300 learned tokens/s, 1.50 GiB")
    assert len(lines) == 2
    assert lines[0].startswith('step 1: "say fox 3" is answered "the ')
    assert lines[0].endswith('(the row says "the fox")')
    assert "\x1b" not in lines[0]
    assert len(lines[0]) < 160


def test_a_long_step_has_an_eta() -> None:
    stream, clock = io.StringIO(), Clock()
    with live_view(stream, plain=True, clock=clock) as view:
        for done in range(0, 11):
            view.progress("reading rows", done, 10)
            clock.now += 6
    lines = stream.getvalue().splitlines()
    assert lines[0] == "reading rows 0/10"
    assert lines[1] == "reading rows 1/10: ETA 54 s"
    assert lines[-1] == "reading rows 10/10"


def test_the_end_of_a_piece_of_work_is_said_once() -> None:
    stream = io.StringIO()
    with live_view(stream, plain=True, clock=Clock()) as view:
        for done in (0, 99, 99):
            view.progress("write", done, 99)
        view.progress("write", 50, 50)
    assert stream.getvalue().splitlines() == ["write 0/99", "write 99/99", "write 50/50"]


@pytest.mark.parametrize("plain", [False, True])
def test_a_run_goes_on_where_its_terminal_has_gone(plain: bool) -> None:
    with live_view(Closed(), plain=plain) as view:
        for event in course():
            view(event)


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with live_view(stream, plain=False) as view:
        view(step(1))
    assert "\x1b" not in stream.getvalue()


def on_a_terminal(**environment: str) -> str:
    """Run the course in a process whose stderr is a real pseudo-terminal of 80 columns, and give what it wrote."""
    code = (
        "import sys; from finetune_exe.report.live import live_view\n"
        "from tests.unit.report.test_live_view import course\n"
        "with live_view(sys.stderr, plain=False) as view:\n"
        "    for event in course(): view(event)\n"
    )
    master, slave = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    env = clean | {"TERM": "xterm-256color", "COLUMNS": "80", **environment}
    process = subprocess.Popen([sys.executable, "-c", code], stderr=slave, env=env, cwd=ROOT)
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait() == 0
    return written.decode()


def test_a_terminal_gets_a_bar_with_colours_and_no_color_takes_only_the_colours() -> None:
    coloured, plain = on_a_terminal(), on_a_terminal(NO_COLOR="1")
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9]")
    for text in (coloured, plain):
        assert "\x1b[?25l" in text
        assert "100/100" in text
        assert "\x1b[31mlook" not in text
        assert "training is over (finished)" in text
    assert colour.search(coloured)
    assert not colour.search(plain)


def test_a_narrow_terminal_loses_the_bar_and_the_end_of_the_line_not_what_is_counted() -> None:
    narrow = on_a_terminal(COLUMNS="36")
    assert "step 100/100 ETA 0.0 s" in narrow
    assert "learned tokens/s" not in narrow


def test_the_package_loads_rich_only_for_a_terminal() -> None:
    code = (
        "import sys, io; from finetune_exe.report import live, plan, run, dataset, evaluation, diagnosis\n"
        "with live.live_view(io.StringIO(), plain=False) as view: view.note('x')\n"
        "heavy = {'rich', 'torch', 'transformers', 'peft', 'accelerate', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_bar_that_is_full_goes_when_something_else_is_said() -> None:
    stream = Terminal()
    with live_view(stream, plain=False, clock=Clock()) as view:
        view.progress("write", 60, 60)
        view.note("loading the model")
        view.note("this takes a minute")
    written = stream.getvalue()
    assert "60/60" in written
    assert "60/60" not in written[written.index("loading the model") :]
