"""How results and faults reach the user."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.report import sample

from finetune_exe.cli import main as edge
from finetune_exe.cli import surface
from finetune_exe.cli.surface import event_lines, remark, say, task_in_words, wished_hardware, write
from finetune_exe.domain.events import Noticed, encode_event
from finetune_exe.domain.json_text import json_line
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.errors import BUG, INTERRUPTED, IO, USAGE, FineTuneError, typed
from finetune_exe.training.resume import resume_command
from finetune_exe.workflow.reports import default_run, show_plan


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_json_is_one_line_that_steers_nothing_and_reads_back(value: object) -> None:
    line = json_line(value)
    assert json.loads(line) == value
    assert not [character for character in line if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0]


def test_no_number_of_any_command_is_none_or_endless() -> None:
    group = edge.cli
    context = click.Context(group)
    options = [
        (name, option)
        for name in group.list_commands(context)
        for command in [group.get_command(context, name)]
        if command is not None
        for option in command.params
        if isinstance(option.type, click.types.FloatParamType)
    ]
    assert len(options) > 5
    for name, option in options:
        for value in ("nan", "inf"):
            with pytest.raises(click.BadParameter):
                option.type.convert(value, option, context)
            assert CliRunner().invoke(group, [name, option.opts[0], value]).exit_code == USAGE


def test_hardware_is_named_in_one_way() -> None:
    assert wished_hardware(gpu=None, vram=None, cpu=False) is None
    assert wished_hardware(gpu="RTX 4090", vram=None, cpu=False) == "RTX 4090"
    assert wished_hardware(gpu=None, vram=8.5, cpu=False) == "8.5 GiB"
    assert wished_hardware(gpu=None, vram=None, cpu=True) == "cpu"
    with pytest.raises(click.UsageError, match="exclude each other"):
        wished_hardware(gpu="H100", vram=None, cpu=True)


def test_a_plan_knows_what_to_type_next() -> None:
    assert default_run(Path("there/my.yaml")) == Path("there/runs/my")
    assert "\nfine-tune train my.yaml\n" in show_plan(sample.plan(), Path("my.yaml"))
    assert "fine-tune eval 'runs/my; rm x'" in show_plan(sample.plan(), Path("my; rm x.yaml"))


@given(st.lists(st.text(), min_size=1))
def test_what_is_shown_to_be_typed_means_the_same_to_a_shell(words: list[str]) -> None:
    assert shlex.split(typed(*words)) == words


def test_what_to_type_next_can_be_pasted_whatever_the_names() -> None:
    text = show_plan(sample.plan(), Path("my plan's.yaml"), run=Path("r; rm x"))
    typed = [shlex.split(line) for line in text.splitlines() if line.startswith("fine-tune ")]
    assert ["fine-tune", "train", "my plan's.yaml", "--run", "r; rm x"] in typed
    assert resume_command(Path("my run")) == "fine-tune train 'my run/plan.yaml' --run 'my run' --resume"


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
    assert leave_with(BrokenPipeError(), monkeypatch) == IO


@pytest.mark.parametrize(
    ("redirected", "status", "said"),
    [
        (">&-", 0, ""), ("| true", IO, ""), ("2>&-", 0, ""), ("<&-", 0, ""),
        (">/dev/full", IO, "error[FT-I01]: cannot write: No space left on device\n  where: standard output"),
    ],
)  # fmt: skip
def test_whoever_listens_the_exit_status_is_kept(redirected: str, status: int, said: str, tmp_path: Path) -> None:
    line = f"set -o pipefail; {shlex.quote(sys.executable)} -m finetune_exe schema plan {redirected}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[: len(said)]) == (status, said)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "fault", [BrokenPipeError(), FineTuneError("I01", what="cannot write", where="here", why="no space", fix="")]
)
def test_a_run_goes_on_where_nobody_reads_its_events(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def gone(text: str) -> None:
        tried.append(text)
        raise fault

    monkeypatch.setattr(surface, "write", gone)
    notes: list[str] = []
    emit = event_lines(notes.append)
    for _ in range(3):
        emit(Noticed(seconds=0, message="x"))
    assert (len(tried), len(notes)) == (1, 1)
    assert "events.jsonl" in notes[0]


@pytest.mark.parametrize("arguments", [["compare", "none.jsonl"], ["nonsense"]])
def test_a_fault_that_nobody_hears_has_its_status_too(arguments: list[str]) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-m", "finetune_exe", *arguments], stderr=full, check=False)
    assert done.returncode == (65 if arguments[0] == "compare" else USAGE)


def test_an_argument_that_is_no_text_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "p\udcff.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    words = ["analyze", "answer mails", "--cpu", "--json", "--data", "p\udcff.jsonl"]
    done = subprocess.run(
        [sys.executable, "-m", "finetune_exe", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert "'p\\udcff.jsonl'" in done.stderr


def test_words_cannot_steer_the_terminal_and_results_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2Jb\u202e\n  c")
    write("a\u202eb", end="")
    remark("\x9b1mkey\x07: gone")
    event_lines(print)(Noticed(seconds=0, message="\x9b2J"))
    assert capsys.readouterr() == ("ab\n  c\na\u202eb" + event_line("\\u009b2J"), "1mkey: gone\n")


def event_line(message: str) -> str:
    return encode_event(Noticed(seconds=0, message="MESSAGE")).decode().replace("MESSAGE", message) + "\n"


def test_a_message_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = FineTuneError("D01", what="a\x1b[2Jb", where="f\x9b1m", why="c\x07", fix="d")
    assert leave_with(fault, monkeypatch) == 65
    assert capsys.readouterr().err.splitlines()[:2] == ["error[FT-D01]: ab", "  where: f1m"]


def test_the_first_screen_says_what_to_do_with_a_file_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert edge._run(["--help"], debug=False) == 0
    shown = capsys.readouterr().out.splitlines()
    steps = [line.split()[1] for line in shown if line.startswith("  fine-tune ")]
    assert steps == ["analyze", "train", "eval", "export", "debug"]
    assert next(number for number, line in enumerate(shown) if "rows.jsonl" in line) < 6
    assert all(len(line) <= 80 for line in shown)


def test_a_file_in_the_place_of_a_command_is_told_what_takes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "my rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    assert edge._run([str(rows)], debug=False) == USAGE
    advised = capsys.readouterr().err
    assert f"fine-tune dataset --check {shlex.quote(str(rows))}" in advised
    assert f"--data {shlex.quote(str(rows))}" in advised


@pytest.mark.parametrize("command", ["train", "tune", "analyze"])
def test_rows_in_the_place_of_a_plan_or_a_sentence_are_told_how_to_become_one(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "my rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n')
    assert edge._run([command, str(rows)], debug=False) == USAGE
    advised = capsys.readouterr().err
    assert f"fine-tune analyze 'what the model shall do' --data {shlex.quote(str(rows))}" in advised


def test_a_task_longer_than_any_name_of_a_file_is_a_task() -> None:
    task = "SQuAD-it is derived from SQuAD. Answer questions about a text. " * 9
    assert task_in_words(click.Context(click.Command("analyze")), click.Argument(["task"]), task) == task


def test_a_run_folder_stands_for_its_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, score in (("one", 0.2), ("two", 0.7)):
        folder = tmp_path / run / "evaluation"
        folder.mkdir(parents=True)
        lines = [json.dumps({"item": n, "score": score + n % 3 / 10}) for n in range(30)]
        (folder / "tuned.jsonl").write_text("\n".join(lines))
    assert edge._run(["compare", str(tmp_path / "one"), str(tmp_path / "two"), "--json"], debug=False) == 0
    assert json.loads(capsys.readouterr().out)["difference"] == pytest.approx(0.5)


def test_a_shell_completes_commands_as_the_readme_says(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    variable = re.search(r"\$\((_\w+)=bash_source fine-tune\)", readme)
    assert variable is not None
    environment = {variable[1]: "bash_complete", "COMP_WORDS": "fine-tune an", "COMP_CWORD": "1"}
    done = CliRunner().invoke(edge.cli, [], prog_name="fine-tune", env=environment)
    assert done.output == "plain,analyze\n"


def test_what_a_launch_would_run_is_one_json_object_too(tmp_path: Path) -> None:
    write_plan(sample.plan(), tmp_path / "plan.yaml")
    done = CliRunner().invoke(
        edge.cli, ["train", str(tmp_path / "plan.yaml"), "--launch", "slurm", "--dry-run", "--json"]
    )
    told = json.loads(done.stdout)
    assert told["launch"] == "slurm"
    assert told["script"].startswith("#!/bin/bash\n#SBATCH")
