"""Bad input gets a right answer: what is wrong and where, the right exit status, and nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import Done, FineTune, contents
from tests.tiny import write_tokenizer

from finetune_exe.errors import BAD_DATA, EXISTS, GATE, IO, MISSING, OK, USAGE

Row = dict[str, Any] | str | bytes


def good(number: int) -> dict[str, str]:
    return {"instruction": f"say the number {number}", "output": f"the number is {number}"}


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def with_bad_row(bad: Row) -> list[Row]:
    """Twelve rows, the seventh of them bad."""
    return [good(number) if number != 7 else bad for number in range(1, 13)]


@pytest.fixture
def plan_of(fine_tune: FineTune, tiny_model: Path) -> Callable[..., Path]:
    """Write the plan for a file; the rows are few, so it is small."""

    def made(data: Path | str, *settings: str) -> Path:
        options = [option for setting in settings for option in ("--set", setting)]
        done = fine_tune("analyze", "answer", "--data", data, "--model", tiny_model, "--overwrite", *options)
        assert done.status == OK, done.err
        return Path("plan.yaml")

    return made


def refused(done: Done, *, status: int, code: str) -> str:
    """Check that a command refused with one message of four parts, and give it."""
    assert done.status == status, done.err
    assert done.out == ""
    error = done.err[done.err.index("error[") :]
    assert error.startswith(f"error[FT-{code}]: ")
    assert [line.split(":")[0].strip() for line in error.splitlines() if line[:2] == "  " and line[2] != " "] == [
        "where", "why", "fix", "more",
    ]  # fmt: skip
    assert len(error.splitlines()) < 20
    assert "Traceback" not in done.err
    return error


BAD_ROWS: dict[str, tuple[Row, str, str]] = {
    "a: a truncated line": ('{"instruction": "say", "outp', "truncated_line", "column"),
    "b: an empty answer": ({"instruction": "say", "output": ""}, "empty_output", "empty"),
    "b: an answer of blanks": ({"instruction": "say", "output": " \n"}, "whitespace_output", "white space"),
    "c: a missing key": ({"instruction": "say"}, "missing_key", "output"),
    "c2: a null answer": ({"instruction": "say", "output": None}, "", "output"),
    "e: not UTF-8": (b'{"instruction": "caf\xe9", "output": "x"}', "invalid_utf8", "0xe9"),
    "no object": ("7", "not_a_row", "int"),
    "the same again": (good(6), "exact_duplicate", "rows.jsonl:6"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_one_bad_row_is_named_and_counted(
    case: str, fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path
) -> None:
    bad, code, words = BAD_ROWS[case]
    write_rows(tmp_path / "rows.jsonl", with_bad_row(bad))
    before = contents(tmp_path)
    checked = fine_tune("dataset", "rows.jsonl", "--check", "--json")
    assert checked.status == GATE
    (finding,) = checked.json["findings"]
    assert [(row["index"], row["line"]) for row in finding["rows"]] == [(6, 7)]
    assert (checked.json["records"], checked.json["kept"]) == (12, 11)
    assert code in finding["code"]
    assert words in finding["message"] + finding["rows"][0]["extract"] or finding["rows"][0]["of_index"] == 5
    shown = fine_tune("dataset", "rows.jsonl", "--check")
    assert shown.status == GATE
    assert "rows.jsonl:7" in shown.out
    assert contents(tmp_path) == before

    prepared = fine_tune("dataset", "--plan", plan_of("rows.jsonl"), "--json")
    assert prepared.status == OK, prepared.err
    manifest = prepared.json["dataset"]
    assert (manifest["seen"], manifest["kept"]) == (12, 11)
    (drop,) = manifest["dropped"]
    assert (drop["code"], drop["count"], drop["first"]) == (finding["code"], 1, "rows.jsonl:7")
    rejected = (tmp_path / "dataset" / "rejected.jsonl").read_text(encoding="utf-8")
    assert "rows.jsonl:7" in rejected


def test_not_a_number_is_a_warning(fine_tune: FineTune, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", with_bad_row('{"instruction": "say", "output": NaN}'))
    checked = fine_tune("dataset", "rows.jsonl", "--check", "--json")
    assert checked.status == OK
    found = {finding["code"]: [row["index"] for row in finding["rows"]] for finding in checked.json["findings"]}
    assert found == {"nan_literal": [6]}


def test_b2_no_answer_anywhere_trains_nothing(
    fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", [{**good(number), "output": ""} for number in range(12)])
    plan = plan_of("rows.jsonl")
    before = contents(tmp_path)
    for command in (("dataset", "--plan", plan), ("train", plan)):
        error = refused(fine_tune(*command), status=BAD_DATA, code="D04")
        assert "0 of 12 rows" in error
        assert "rows.jsonl:1" in error
        assert "empty_output" in error
        assert contents(tmp_path) == before


def test_d_a_csv_called_json_is_read_as_what_it_is(fine_tune: FineTune, tmp_path: Path) -> None:
    lines = ["instruction,output", *(f'"say, please, {number}",it is {number}' for number in range(12))]
    (tmp_path / "rows.json").write_text("\n".join(lines) + "\n")
    done = fine_tune("dataset", "rows.json", "--check", "--json")
    assert done.status == OK
    assert (done.json["format"], done.json["kept"]) == ("alpaca", 12)


def test_f_rows_longer_than_allowed_are_counted_and_leave_nothing(
    fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", [{**good(number), "instruction": "word " * 200} for number in range(12)])
    plan = plan_of("rows.jsonl", "data.max_length=64")
    before = contents(tmp_path)
    error = refused(fine_tune("train", plan), status=BAD_DATA, code="D04")
    assert "0 of 12 rows" in error
    assert "max_length 64" in error
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "instead", "words"),
    [
        pytest.param("  learning_rate: ", "  learning_rat: 1e-3\n  learning_rate: ", "did you mean learning_rate?", id="g"),
        pytest.param("  learning_rate: ", '  learning_rate: "2e-4"  # ', 'expected a number, found "2e-4"', id="h"),
        pytest.param("  learning_rate: ", "  learning_rate: fast  # ", "expected a number", id="h: a word"),
        pytest.param("  epochs: ", "  epochs: -1  # ", "greater than 0", id="below its range"),
        pytest.param("  lora_rank: ", "  lora_rank: sixteen  # ", "expected a whole number", id="no number"),
        pytest.param("optimizer:\n", "optimiser:\n", "did you mean optimizer?", id="a group misspelt"),
    ],
)  # fmt: skip
def test_a_wrong_plan_says_line_column_and_what_was_meant(
    line: str, instead: str, words: str, fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    plan = plan_of("rows.jsonl", "schedule.epochs=2")
    text = plan.read_text(encoding="utf-8").replace(line, instead, 1)
    plan.write_text(text, encoding="utf-8")
    number = text[: text.index(instead)].count("\n") + 1
    before = contents(tmp_path)
    for command in (("train", plan), ("dataset", "--plan", plan), ("config", "--plan", plan)):
        error = refused(fine_tune(*command), status=USAGE, code="C02")
        assert f"plan.yaml:{number}:" in error
        assert words in error
        assert contents(tmp_path) == before


def test_h_a_bare_exponent_is_a_number(fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    plan = plan_of("rows.jsonl")
    text = plan.read_text(encoding="utf-8").replace("  learning_rate: ", "  learning_rate: 2e-4  # ", 1)
    plan.write_text(text, encoding="utf-8")
    done = fine_tune("config", "--plan", plan, "--json")
    assert done.json["plan"]["optimizer"]["learning_rate"] == 0.0002


def test_broken_yaml_is_named_by_line(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("schema: 1\ntask:\n  description: [a, b\n")
    error = refused(fine_tune("train", "plan.yaml"), status=USAGE, code="C01")
    assert "plan.yaml" in error
    assert ":3" in error or ":4" in error
    error = refused(fine_tune("train", "nowhere.yaml"), status=USAGE, code="C01")
    assert "nowhere.yaml" in error


def test_j_a_run_folder_that_cannot_be_made(fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    plan = plan_of("rows.jsonl")
    (tmp_path / "file").write_text("in the way")
    before = contents(tmp_path)
    for place in (Path("/proc/x"), Path("file/run")):
        error = refused(fine_tune("train", plan, "--run", place), status=IO, code="I01")
        assert str(place) in error
        error = refused(fine_tune("dataset", "--plan", plan, "-o", place), status=IO, code="I01")
        assert "where: " in error
    assert contents(tmp_path) == before


def test_an_empty_file(fine_tune: FineTune, tmp_path: Path) -> None:
    for name, content in (("rows.jsonl", b""), ("blank.jsonl", b"\n \n\n"), ("header.csv", b"prompt,completion\n")):
        (tmp_path / name).write_bytes(content)
        before = contents(tmp_path)
        checked = fine_tune("dataset", name, "--check", "--json")
        assert (checked.status, checked.json["records"]) == (GATE, 0)
        assert [finding["code"] for finding in checked.json["findings"]] == ["empty_file"]
        for command in (
            ("analyze", "answer", "--data", name),
            ("dataset", "alpaca", name),
        ):
            assert name in refused(fine_tune(*command), status=BAD_DATA, code="D02")
        assert contents(tmp_path) == before


def test_no_assistant_turn(fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    turns = [
        [{"role": "user", "content": f"say {number}"}, {"role": "assistant", "content": f"it is {number}"}]
        for number in range(12)
    ]
    turns[4].pop()
    write_rows(tmp_path / "rows.jsonl", [{"messages": messages} for messages in turns])
    done = fine_tune("dataset", "rows.jsonl", "--check", "--json")
    assert done.status == GATE
    assert [(finding["code"], finding["rows"][0]["line"]) for finding in done.json["findings"]] == [("no_assistant", 5)]
    write_rows(tmp_path / "rows.jsonl", [{"messages": messages[:1]} for messages in turns])
    before = contents(tmp_path)
    checked = fine_tune("dataset", "rows.jsonl", "--check", "--json")
    assert (checked.status, checked.json["kept"]) == (GATE, 0)
    plan = plan_of("rows.jsonl")
    assert "no_assistant" in refused(fine_tune("train", plan), status=BAD_DATA, code="D04")
    assert contents(tmp_path).keys() == before.keys() | {"plan.yaml"}


def test_a_missing_extra_says_what_to_type(
    fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    plan = plan_of("rows.jsonl")
    before = contents(tmp_path)
    find = importlib.util.find_spec

    def without_peft(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "peft" else find(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_peft)
    error = refused(fine_tune("train", plan), status=MISSING, code="X01")
    assert 'pip install "finetune-exe[train]"' in error
    assert "peft" in error
    assert contents(tmp_path) == before


def test_a_model_without_tokenizer_or_weights(
    fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path, tiny_model: Path
) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    for removed, code in (("tokenizer.json", "M02"), ("tokenizer_config.json", "M02"), ("model.safetensors", "M03")):
        shutil.copytree(tiny_model, tmp_path / removed)
        (tmp_path / removed / removed).unlink()
        plan = plan_of("rows.jsonl", f"model.reference={tmp_path / removed}")
        before = contents(tmp_path)
        error = refused(fine_tune("train", plan), status=BAD_DATA, code=code)
        assert removed.removeprefix("model") in error
        assert contents(tmp_path) == before


def test_a_model_that_is_not_there(fine_tune: FineTune, tmp_path: Path) -> None:
    error = refused(fine_tune("analyze", "answer", "--model", "./nowhere"), status=USAGE, code="M01")
    assert "./nowhere" in error
    assert contents(tmp_path) == {}


def test_what_is_there_is_not_overwritten(fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(12)])
    plan = plan_of("rows.jsonl")
    for folder in ("dataset", "runs/plan"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "precious.txt").write_text("years of work")
    (tmp_path / "out.jsonl").write_text("precious too")
    before = contents(tmp_path)
    for command in (
        ("train", plan),
        ("dataset", "--plan", plan),
        ("analyze", "answer"),
        ("dataset", "chatml", "rows.jsonl", "-o", "out.jsonl"),
        ("config", "--plan", plan, "-o", "out.jsonl"),
    ):
        assert "--overwrite" in refused(fine_tune(*command), status=EXISTS, code="O01")
        assert contents(tmp_path) == before


def test_data_that_is_not_there(fine_tune: FineTune, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(1)])
    error = refused(fine_tune("dataset", "row.jsonl", "--check"), status=BAD_DATA, code="D07")
    assert "rows.jsonl" in error
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(fine_tune("dataset", "empty", "--check"), status=BAD_DATA, code="D07")
    assert fine_tune("dataset", "/dev/null", "--check").status == GATE


def test_a_task_pasted_as_a_list_item_is_words(fine_tune: FineTune, tiny_model: Path) -> None:
    done = fine_tune("analyze", "- sort mails into folders", "--model", tiny_model)
    assert done.status == OK
    assert "Task: sort mails into folders" in done.out
    elsewhere = ("--data", "- rows.jsonl", "--model", tiny_model, "-o", "b.yaml")
    refused(fine_tune("analyze", "sort mails", *elsewhere), status=BAD_DATA, code="D07")
    assert fine_tune("analyze", "sort mails", "-x").status == USAGE


def test_no_data_at_all(fine_tune: FineTune, tiny_model: Path, tmp_path: Path) -> None:
    assert fine_tune("analyze", "answer", "--model", tiny_model).status == OK
    before = contents(tmp_path)
    for command in (("train", "plan.yaml"), ("dataset", "--plan", "plan.yaml")):
        assert "data.paths" in refused(fine_tune(*command), status=USAGE, code="C05")
    assert contents(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(fine_tune: FineTune, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(1)]).chmod(0)
    assert "rows.jsonl" in refused(fine_tune("dataset", "rows.jsonl", "--check"), status=BAD_DATA, code="D01")


@pytest.mark.parametrize(
    "name", ["with space.jsonl", "line\nbreak.jsonl", "ünïcødé 世界.jsonl", "--looks-like-option.jsonl"]
)
def test_odd_file_names(name: str, fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / name, with_bad_row("{"))
    done = fine_tune("dataset", "--check", "--json", "--", name)
    assert done.status == GATE
    assert done.json["findings"][0]["rows"][0]["source"] == f"{name}:7"
    plan = plan_of(Path("./") / name if not name.startswith("-") else tmp_path / name)
    prepared = fine_tune("dataset", "--plan", plan, "--json")
    assert prepared.status == OK, prepared.err
    assert Path(prepared.json["dataset"]["sources"][0]["path"]).name == name


STEERING = "\x1b[2J\x1b]0;owned\x07\x9b31m\x7f"


def test_no_data_steers_the_terminal(fine_tune: FineTune, plan_of: Callable[..., Path], tmp_path: Path) -> None:
    """Escape sequences in keys, rows, labels, broken lines and plans come out harmless, whatever is shown."""
    nasty = f"say{STEERING}"
    rows = [
        {"instruction": f"{nasty} {number}", "output": f"{nasty} it is {number}", nasty: "group"}
        for number in range(12)
    ]
    write_rows(tmp_path / "rows.jsonl", [*rows, f'{STEERING}{{"instruction"'])
    write_rows(tmp_path / "unknown.jsonl", [{nasty: "1", f"{nasty}2": 2}] * 3)
    (tmp_path / "bad.yaml").write_text('task:\n  description: a\n"\\e[2J": 1\n')
    (tmp_path / "log.txt").write_bytes(b"\x1b[31mValueError: \x9b31mloss is nan\x1b[0m\n")
    plan = plan_of("rows.jsonl", "data.group_by=null")
    runs = [
        fine_tune("dataset", "rows.jsonl", "--check"),
        fine_tune("dataset", "rows.jsonl", "--check", "--json"),
        fine_tune("dataset", "chatml", "rows.jsonl"),
        fine_tune("dataset", "unknown.jsonl", "--check"),
        fine_tune("dataset", "--plan", plan),
        fine_tune("dataset", "--plan", plan, "-o", "again", "--json"),
        fine_tune("dataset", "--plan", plan, "-o", "other", "--set", "data.group_by=nothing"),
        fine_tune("analyze", f"answer {STEERING}", "--data", "rows.jsonl", "--overwrite"),
        fine_tune("config", "--plan", plan, "--to", "python"),
        fine_tune("train", "bad.yaml"),
        fine_tune("debug", "log.txt"),
        fine_tune("debug", "log.txt", "--json"),
    ]
    for done in runs:
        assert done.out + done.err
        assert not set(STEERING) - set("[2J]0;owned31m") & set(done.out + done.err)


def test_a_very_long_line(fine_tune: FineTune, tmp_path: Path) -> None:
    rows: list[Row] = [*(good(number) for number in range(12)), {"instruction": "x" * 10_000_000, "output": "y"}]
    write_rows(tmp_path / "rows.jsonl", [*rows, '{"instruction": "' + "z" * 10_000_000])
    done = fine_tune("dataset", "rows.jsonl", "--check")
    assert done.status == GATE
    assert "rows.jsonl:14" in done.out
    assert len(done.out) < 5000


def test_zero_bytes(fine_tune: FineTune, tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "escaped.jsonl", [{**good(number), "instruction": f"a\0b {number}"} for number in range(12)])
    done = fine_tune("dataset", "escaped.jsonl", "--check", "--model", tiny_model)
    assert done.status == GATE
    assert "control_characters" in done.out
    assert "U+0000" in done.out
    write_rows(tmp_path / "raw.jsonl", with_bad_row(b'{"instruction": "a\0b", "output": "c"}'))
    done = fine_tune("dataset", "raw.jsonl", "--check")
    assert done.status == GATE
    assert "unescaped_control" in done.out
    assert "raw.jsonl:7" in done.out


def test_a_task_for_another_program(fine_tune: FineTune, tmp_path: Path) -> None:
    refused(fine_tune("analyze", "detect cats in images"), status=GATE, code="C08")
    assert contents(tmp_path) == {}
    said = fine_tune("analyze", "detect cats in images", "--json")
    assert said.status == GATE
    assert "error[FT-C08]" in said.err
    answer = json.loads(said.out)
    assert answer["plan"]["task"]["type"] == "other"
    assert "images" in answer["declined"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["anlyze", "x"], "Did you mean 'analyze'?"),
        (["dataset"], "PATH"),
        (["train"], "PLAN"),
        (["analyze", "x", "--cpu", "--vram", "8"], "exclude each other"),
        (["dataset", "rows.jsonl", "--set", "seed=1"], "--plan"),
        (["dataset", "rows.jsonl", "--plan", "plan.yaml"], "--plan"),
        (["config", "embedded", "--plan", "plan.yaml"], "--plan"),
        (["debug"], "PATH"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str, fine_tune: FineTune, tmp_path: Path) -> None:
    done = fine_tune(*arguments)
    assert done.status == USAGE
    assert words in done.err
    assert done.out == ""
    assert contents(tmp_path) == {}


def test_a_trainer_of_several_files_gets_a_folder_and_none_is_replaced(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    order = ("config", "embedded", "--to", "llamafactory", "-o", "there")
    assert fine_tune(*order).status == OK
    before = contents(tmp_path)
    assert set(before) == {"there/llamafactory.yaml", "there/dataset_info.json"}
    refused(fine_tune(*order), status=EXISTS, code="O01")
    assert contents(tmp_path) == before
    assert fine_tune(*order, "--overwrite").status == OK


def test_a_setting_misspelt(fine_tune: FineTune, tmp_path: Path) -> None:
    error = refused(fine_tune("analyze", "answer", "--set", "optimizer.lerning_rate=1"), status=USAGE, code="C04")
    assert "optimizer.learning_rate" in error
    assert "--to trl" in refused(fine_tune("config", "embedded", "--to", "tlr"), status=USAGE, code="O03")
    assert contents(tmp_path) == {}


def test_a_format_misspelt_is_no_file_that_is_missing(fine_tune: FineTune, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(9)])
    done = fine_tune("dataset", "chatmll", "rows.jsonl", "-o", "out.jsonl")
    assert done.status == USAGE
    assert "did you mean chatml?" in done.err
    assert contents(tmp_path).keys() == {"rows.jsonl"}
    refused(fine_tune("dataset", "missing.jsonl"), status=BAD_DATA, code="D07")


def test_a_reader_that_leaves_early_is_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [good(number) for number in range(20_000)])
    order = [sys.executable, "-m", "finetune_exe", "dataset", "chatml", "rows.jsonl"]
    with subprocess.Popen(order, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
        assert process.wait() == IO


def test_a_run_that_has_not_ended_is_told_how_to_go_on(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "my run").mkdir()
    for name in ("plan.yaml", "events.jsonl"):
        (tmp_path / "my run" / name).write_text("")
    error = refused(fine_tune("eval", "my run"), status=BAD_DATA, code="E01")
    assert "fine-tune train 'my run/plan.yaml' --run 'my run' --resume" in error


def test_a_task_that_says_nothing_is_asked_for(fine_tune: FineTune, tmp_path: Path) -> None:
    for order in (("analyze", " "), ("config", "gpt2", "--task", "")):
        done = fine_tune(*order)
        assert done.status == USAGE
        assert "say in a sentence what the model shall do" in done.err
    assert contents(tmp_path) == {}


def test_runs_nearby_are_named_where_none_is(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "run.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("")
    for wrong in ("runs", "runs/mini", "mine.yaml"):
        assert "such as runs/mine" in refused(fine_tune("eval", wrong), status=BAD_DATA, code="E01")
    (tmp_path / "runs" / "mine" / "plan.yaml").write_text("")
    assert "runs/mine/plan.yaml" in refused(fine_tune("train", "runs/mine"), status=USAGE, code="C01")


def test_there_is_nothing_to_evaluate_or_diagnose(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_tokenizer(tmp_path / "run")
    assert "run.json" in refused(fine_tune("eval", "run"), status=BAD_DATA, code="E01")
    refused(fine_tune("eval", "nowhere"), status=BAD_DATA, code="E01")
    refused(fine_tune("debug", "nowhere"), status=BAD_DATA, code="L01")
