"""How results and faults reach the user."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.report import sample

from finetune_exe.cli import main as edge
from finetune_exe.cli.surface import wished_hardware
from finetune_exe.domain.json_text import json_line
from finetune_exe.errors import BUG, INTERRUPTED, IO, FineTuneError
from finetune_exe.workflow.reports import default_run, show_plan


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_json_is_one_line_that_steers_nothing_and_reads_back(value: object) -> None:
    line = json_line(value)
    assert json.loads(line) == value
    assert not [character for character in line if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]


def test_hardware_is_named_in_one_way() -> None:
    assert wished_hardware(gpu=None, vram=None, cpu=False) is None
    assert wished_hardware(gpu="RTX 4090", vram=None, cpu=False) == "RTX 4090"
    assert wished_hardware(gpu=None, vram=8.5, cpu=False) == "8.5 GiB"
    assert wished_hardware(gpu=None, vram=None, cpu=True) == "cpu"
    with pytest.raises(click.UsageError, match="exclude each other"):
        wished_hardware(gpu="H100", vram=None, cpu=True)


def test_a_plan_knows_what_to_type_next() -> None:
    assert default_run(Path("there/my.yaml")) == Path("there/runs/my")
    assert "fine-tune train my.yaml --run runs/my" in show_plan(sample.plan(), Path("my.yaml"))


def leave_with(fault: BaseException, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Let the command line meet a fault, and give the exit status."""

    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(edge.cli, "main", fail)
    monkeypatch.setattr(sys, "argv", ["fine-tune", *arguments])
    with pytest.raises(SystemExit) as left:
        edge.main()
    assert isinstance(left.value.code, int)
    return left.value.code


def test_a_bug_is_owned_and_its_traceback_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leave_with(ZeroDivisionError("oops"), monkeypatch) == BUG
    first = capsys.readouterr().err
    assert first.startswith("error[FT-B01]: ZeroDivisionError: oops")
    assert "Traceback" not in first
    assert leave_with(ZeroDivisionError("oops"), monkeypatch, "--debug") == BUG
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave_with(KeyboardInterrupt(), monkeypatch) == INTERRUPTED
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_has_gone_ends_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    assert leave_with(BrokenPipeError(), monkeypatch) == IO
    sys.stdout.close()


def test_a_message_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FineTuneError("D01", what="a\x1b[2Jb", where="f\x9b1m", why="c\x07", fix="d")
    assert leave_with(fault, monkeypatch) == 65
    assert capsys.readouterr().err.splitlines()[:2] == ["error[FT-D01]: ab", "  where: f1m"]
