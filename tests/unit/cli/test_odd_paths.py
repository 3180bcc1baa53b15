"""Paths that the operating system refuses, given to every command that takes one."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import click
import pytest

from finetune_exe.cli import main as edge
from finetune_exe.errors import BUG, IO, OK

LONG = "a" * 300
HERE = "{}"
LINES = [
    ["analyze", "answer mails", "--cpu", "--data", HERE],
    ["analyze", "answer mails", "--cpu", "-o", HERE],
    ["dataset", "--check", HERE],
    ["dataset", "--check", "rows.jsonl", "--validation", HERE],
    ["dataset", "--check", "rows.jsonl", "--test", HERE],
    ["dataset", "--check", "rows.jsonl", "--benchmarks", HERE],
    ["dataset", "--check", "rows.jsonl", "--html", HERE],
    ["dataset", "--plan", HERE, "-o", "there"],
    ["dataset", "alpaca", "rows.jsonl", "-o", HERE],
    ["config", "--plan", HERE],
    ["config", "--from", HERE],
    ["config", "meta-llama/Llama-3.1-8B", "--cpu", "-o", HERE],
    ["review", HERE],
    ["openai", "check", HERE],
    ["openai", "start", HERE],
    ["estimate", "--runs", HERE],
    ["estimate", "--plan", HERE],
    ["train", HERE],
    ["tune", HERE],
    ["eval", HERE],
    ["export", HERE],
    ["export", HERE, "-o", "there"],
    ["compare", HERE],
    ["compare", "scores.jsonl", HERE],
    ["forecast", HERE, HERE, HERE, "--more-rows", "9"],
    ["debug", HERE],
    ["debug", "rows.jsonl", "--apply", HERE],
    ["doctor", HERE],
    ["agent", "run", HERE],
    ["mcp", "--root", HERE],
    ["demo", "--run", HERE],
]


def commands_with_paths(group: click.Group, before: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Name the commands that take a path, those of a group with its name."""
    found = set()
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            found |= commands_with_paths(command, (*before, name))
        elif command and any(isinstance(parameter.type, click.Path) for parameter in command.params):
            found.add((*before, name))
    return found


def test_every_command_that_takes_a_path_is_tried() -> None:
    tried = {tuple(line[:length]) for line in LINES for length in (1, 2)}
    assert commands_with_paths(edge.cli) <= tried


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_path_that_is_too_long_is_no_mistake_of_the_program(
    line: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"How is {n}?", "completion": f"Well, {n}."} for n in range(9)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("scores.jsonl").write_text("".join(f'{{"item": {n}, "score": 1}}\n' for n in range(9)))
    status = edge._run([LONG if word is HERE else word for word in line], debug=False)
    said = capsys.readouterr().err
    assert status not in (OK, BUG), said
    assert "File name too long" in said or "does not exist" in said
    assert LONG in said


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "it"), "shorter"),
        (OSError(errno.ELOOP, os.strerror(errno.ELOOP), b"it"), "link"),
        (NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "it"), "folder"),
        (IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), "it"), "in that folder"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "it"), "whether you may"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "it"), "ulimit -n"),
    ],
    ids=lambda part: getattr(part, "strerror", ""),
)
def test_a_refusal_says_path_reason_and_what_mends_it(
    fault: OSError, advice: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(edge.cli, "main", refuse)
    assert edge._run([], debug=False) == IO
    said = capsys.readouterr().err.splitlines()
    assert said[:3] == ["error[FT-I02]: a path cannot be used", "  where: it", f"  why:   {fault.strerror}"]
    assert advice in said[3]


def test_a_zero_byte_in_a_path_is_the_paths_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(edge.cli, "main", lambda *_, **__: open("a\0b", encoding="utf-8"))  # noqa: SIM115
    assert edge._run([], debug=False) == IO
    assert "why:   it holds a zero byte" in capsys.readouterr().err


def test_a_fault_of_a_network_is_no_paths_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no such host")

    monkeypatch.setattr(edge.cli, "main", fail)
    assert edge._run([], debug=False) == BUG
