"""What `dataset --check` reports of whole files: the same for any number of processes, and nothing lost."""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from finetune_exe.cli.dataset import command
from finetune_exe.data import processes
from finetune_exe.data.check import check
from finetune_exe.data.checks import survey
from finetune_exe.domain.dataset import CheckReport
from finetune_exe.errors import FineTuneError
from finetune_exe.report.check import EXTRACTS_SHOWN, render_check
from finetune_exe.text.tokenizer import ChatTokenizer

SYLLABLES = ("ba", "ko", "ri", "mu", "te", "lo", "na", "si", "pe", "du", "fa", "go")


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def usual(number: int) -> list[dict[str, str]]:
    """Make rows that are all different and all in order."""
    chance = random.Random(7)  # noqa: S311
    rows = []
    for row in range(number):
        names = ["".join(chance.choices(SYLLABLES, k=3)) for _ in range(16)]
        said = f"They had {' '.join(names[:7])} and would {' '.join(names[7:13])}, which they said was {names[13]}."
        rows.append({"instruction": f"Tell me of {names[14]} {names[15]} {row}.", "input": "", "output": said})
    return rows


def found(report: CheckReport) -> dict[str, list[int | None]]:
    return {finding.code: [row.index for row in finding.rows] for finding in report.findings}


def test_rows_in_order_are_clean(tmp_path: Path) -> None:
    report = check([write(tmp_path / "rows.jsonl", usual(60))])
    assert found(report) == {}
    assert (report.records, report.kept) == (60, 60)
    quality = report.quality
    assert (quality.sound, quality.distinct, quality.unsuspicious, quality.score) == (1, 1, 1, 1)


def test_processes_begin_as_copies_only_where_nothing_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    for name in processes.THREADED_LIBRARIES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert processes.start_method() == "fork"
    monkeypatch.setitem(sys.modules, "duckdb", ModuleType("duckdb"))
    assert processes.start_method() == "spawn"
    monkeypatch.delitem(sys.modules, "duckdb")
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert processes.start_method() == "spawn"
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processes.start_method() == "spawn"


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_any_number_of_processes_reports_the_same(start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = usual(4500)
    for place in range(0, 4500, 90):
        rows[place] = {
            **rows[place],
            "output": ("", "caf\u00c3\u00a9 is here.", "It is <div>good</div>.")[place // 90 % 3],
        }
    rows[4000] = rows[17]
    path = write(tmp_path / "rows.jsonl", rows)
    one = check([path], workers=1)
    monkeypatch.setattr(survey, "start_method", lambda: start)
    assert one == check([path], workers=3)
    assert {code: len(rows) for code, rows in found(one).items()} == {
        "empty_output": 17, "mojibake": 17, "html_residue": 16, "exact_duplicate": 1, "same_answer": 16
    }  # fmt: skip


def test_quality_counts_rows_not_findings(tmp_path: Path) -> None:
    rows = usual(20)
    rows[0]["output"] = "caf\u00c3\u00a9 \x07 bell."
    rows[1]["output"] = "It is <div>good</div>."
    rows.append(rows[5])
    report = check([write(tmp_path / "rows.jsonl", rows)])
    assert found(report).keys() == {"mojibake", "control_characters", "html_residue", "exact_duplicate"}
    quality = report.quality
    assert quality.sound == pytest.approx(1 - 1 / 21)
    assert quality.unsuspicious == pytest.approx(1 - 1 / 21)
    assert quality.distinct == pytest.approx(1 - 1 / 21)
    assert quality.score == pytest.approx(18 / 21)
    assert report.kept == 19


def test_what_a_third_of_the_rows_has_is_how_the_data_is(tmp_path: Path) -> None:
    rows = usual(60)
    for row in rows[:3]:
        row["output"] = f"<p>{row['output']}</p>"
    few = check([write(tmp_path / "few.jsonl", rows)])
    for row in rows[3:40]:
        row["output"] = f"<p>{row['output']}</p>"
    many = check([write(tmp_path / "many.jsonl", rows)])
    assert [finding.severity for finding in few.findings] == ["warning"]
    assert [finding.severity for finding in many.findings] == ["info"]
    assert many.quality.score == 1


@pytest.mark.parametrize(
    "reached",
    ["Call me on 613-281-7748!", "Write to mara.holm@seaport.net.", "It was 130.73.146.79.", "Call +49 155 00709312."],
)
@pytest.mark.parametrize("proven", ["Charge it to card 4266 8414 4395 8705.", "Pay into DE31517995403437797951."])
def test_personal_data_is_an_error_where_digits_prove_it_and_likely_elsewhere(
    reached: str, proven: str, tmp_path: Path
) -> None:
    rows = usual(30)
    rows[3]["output"] += f" {reached}"
    rows[4]["output"] += f" {reached} {proven}"
    rows[5]["output"] += f" {proven}"
    report = check([write(tmp_path / "rows.jsonl", rows)])
    assert [(f.code, f.severity, [row.index for row in f.rows]) for f in report.findings] == [
        ("pii", "error", [4, 5]), ("pii", "warning", [3]),
    ]  # fmt: skip
    assert report.kept == 28
    assert report.quality.unsuspicious == pytest.approx(1 - 1 / 30)


def test_leaks_are_counted_in_the_file_they_leak_from(tmp_path: Path) -> None:
    rows = usual(60)
    train = write(tmp_path / "train.jsonl", rows[:40])
    held = [
        *rows[40:],
        rows[3],
        {**rows[5], "output": "Something else was said about it, at great length and with care."},
    ]
    report = check(
        [train], validation=[write(tmp_path / "held.jsonl", held)], test=[write(tmp_path / "test.jsonl", rows[7:8])]
    )
    places = {
        finding.code: [(row.split, row.index, row.line, row.of_index) for row in finding.rows]
        for finding in report.findings
    }
    assert places == {
        "leak_exact": [("test", 0, 1, 7), ("validation", 20, 21, 3)],
        "leak_prompt_only": [("validation", 21, 22, 5)],
    }  # fmt: skip
    assert (report.records, report.kept, report.quality.score) == (40, 40, 1)
    assert f"held.jsonl:21(with{train}:4)" in "".join(render_check(report).split())


def test_items_of_a_benchmark_are_named(tmp_path: Path) -> None:
    rows = usual(30)
    question = "If a train leaves the north station at nine and runs forty miles an hour, when does it reach the sea?"
    rows[9]["instruction"] = question
    (tmp_path / "benchmarks").mkdir()
    write(tmp_path / "benchmarks" / "trains.jsonl", [{"question": question, "answer": "At noon."}])
    report = check([write(tmp_path / "rows.jsonl", rows)], benchmarks=tmp_path / "benchmarks")
    assert found(report) == {"benchmark_contamination": [9]}
    assert "trains" in report.findings[0].rows[0].extract


def test_data_does_nothing_to_a_terminal(tmp_path: Path) -> None:
    rows = usual(20)
    for number, evil in enumerate(("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\u202eback", "\x9b2J")):
        rows[number]["output"] = f"{evil} {rows[number]['output']}"
    text = render_check(check([write(tmp_path / "rows.jsonl", rows)]))
    assert all(character.isprintable() or character == "\n" for character in text)
    assert text.count("such as:") <= 2 * EXTRACTS_SHOWN


def test_json_is_whole_and_the_status_says_whether_there_are_errors(tmp_path: Path) -> None:
    rows = usual(200)
    clean = write(tmp_path / "clean.jsonl", rows)
    for row in rows[:120]:
        row["output"] = ""
    broken = write(tmp_path / "broken.jsonl", rows)
    rows[:] = usual(30)
    rows[3]["output"] = "It is <div>good</div>."
    warned = write(tmp_path / "warned.jsonl", rows)
    answers = {path: CliRunner().invoke(command, ["--check", path, "--json"]) for path in (clean, broken, warned)}
    assert [answers[path].exit_code for path in (clean, broken, warned)] == [0, 3, 0]
    report = json.loads(answers[broken].stdout)
    assert (report["records"], report["kept"]) == (200, 80)
    [finding] = report["findings"]
    assert [(row["index"], row["line"]) for row in finding["rows"]] == [(row, row + 1) for row in range(120)]
    assert {"code", "severity", "rows", "message", "fix"} <= finding.keys()


@pytest.mark.parametrize("content", ["", "\n\n \n", "[]"])
def test_a_file_without_rows_is_a_finding(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.json").write_text(content)
    answer = CliRunner().invoke(command, ["--check", str(tmp_path / "rows.json"), "--json"])
    report = json.loads(answer.stdout)
    assert (answer.exit_code, report["records"], report["findings"][0]["code"]) == (3, 0, "empty_file")
    assert not report["findings"][0]["rows"]
    assert "no row" in render_check(check([str(tmp_path / "rows.json")]))


def test_held_out_rows_of_a_group_that_is_trained_on_are_leaks(tmp_path: Path) -> None:
    rows = [{**row, "thread_id": f"t{number // 3}"} for number, row in enumerate(usual(72))]
    train, held_out = rows[:60], [*rows[60:], {**rows[60], "instruction": "Another one entirely?", "thread_id": "t4"}]
    held_out[-1]["output"] = "Nobody has said so much before, and nobody wishes to."
    paths = [write(tmp_path / name, side) for name, side in (("train.jsonl", train), ("test.jsonl", held_out))]
    report = check(paths[:1], test=paths[1:])
    [leak] = [finding for finding in report.findings if finding.code == "leak_group"]
    assert leak.severity == "error"
    assert [(row.index, row.of_index, row.split, row.extract) for row in leak.rows] == [
        (12, 12, "test", "the same thread_id")
    ]


@pytest.mark.parametrize("values", [["web", "books"], ["web"] * 40 + [str(number) for number in range(20)]])
def test_a_column_that_sorts_rows_into_kinds_is_no_group(tmp_path: Path, values: list[str]) -> None:
    rows = [{**row, "source": values[number % len(values)]} for number, row in enumerate(usual(72))]
    paths = [write(tmp_path / "train.jsonl", rows[:60]), write(tmp_path / "test.jsonl", rows[60:])]
    assert "leak_group" not in found(check(paths[:1], test=paths[1:]))


def test_words_that_mark_turns_are_no_fault_of_texts_that_are_dialogues_from_their_beginning(tmp_path: Path) -> None:
    opening = "Below is an instruction that describes a task.\n\n"
    said = [(row["instruction"], row["output"]) for row in usual(60)]
    texts = [f"{opening}### Instruction:\n{asked}\n\n### Response:\n{answer}" for asked, answer in said[:30]]
    texts += [f"Human: {asked}\n\nAssistant: {answer}" for asked, answer in said[30:59]]
    texts.append(f"{said[59][1]}\n\nHuman: and then?\n\nAssistant:")
    report = check([write(tmp_path / "rows.jsonl", [{"text": text} for text in texts])])
    assert found(report)["special_token"] == [59]


def test_lines_that_repeat_in_dialogues_are_no_menus(tmp_path: Path) -> None:
    tables = [f"columns: harbour, name of the ship, year of number {number % 5}, flag" for number in range(60)]
    rows = [{"text": f"Q: How old is {name['instruction']}?\n{table}\nA: {name['output']}"}
            for name, table in zip(usual(60), tables, strict=True)]  # fmt: skip
    assert set(found(check([write(tmp_path / "rows.jsonl", rows)]))) == {"prompt_in_text"}
    prose = [{"text": row["text"].replace("Q: ", "").replace("A: ", "")} for row in rows]
    assert "boilerplate" in found(check([write(tmp_path / "prose.jsonl", prose)]))


def test_a_column_that_is_read_under_another_name_is_no_unknown_one(tmp_path: Path) -> None:
    rows = [
        {"id": str(number), "question": [[{"role": "user", "content": f"What is {number} plus {number}?"}]],
         "function": [{"name": "add", "parameters": {"type": "dict", "properties": {}}}]}
        for number in range(30)
    ]  # fmt: skip
    assert "unknown_key" not in found(check([write(tmp_path / "rows.jsonl", rows)]))
    rows[4]["functoin"] = 1
    assert found(check([write(tmp_path / "rows.jsonl", rows)]))["unknown_key"] == [4]


def test_the_format_of_many_files_is_said_to_be_seen_in_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.jsonl", usual(60)[20 * number : 20 * number + 20]) for number in range(3)]
    assert check(paths).format_evidence[-1] == "seen in the first of 3 files"
    assert not any("first of" in phrase for phrase in check(paths[:1]).format_evidence)


def test_special_tokens_of_the_very_model_are_found_wherever_they_stand(
    tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    assert {"<|endoftext|>", "<|head|>", "<|/head|>"} <= tokenizer.special_tokens
    rows = usual(30)
    rows[3]["instruction"] += " Is it <|endoftext|> or not?"
    rows[4]["output"] += "<|head|>"
    rows[5]["output"] = f"<|/head|> {rows[5]['output']}"
    report = check([write(tmp_path / "rows.jsonl", rows)], tokenizer=tokenizer)
    assert found(report)["special_token"] == [3, 4, 5]
    assert [finding.severity for finding in report.findings if finding.code == "special_token"] == ["error"]


@pytest.mark.parametrize("with_model", [False, True])
def test_a_mark_for_the_end_that_preparing_takes_off_is_no_error(
    with_model: bool, tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rows = usual(30)
    rows[3]["output"] += "<|endoftext|>"
    rows[4]["output"] += "</s>"  # which this model does not know
    rows[5]["output"] += "<|/head|>"  # which only this model has
    rows[6]["output"] = "Yes.<|endoftext|> Next: how are you?<|endoftext|>"
    rows[7]["output"] = "<|endoftext|>"
    report = check([write(tmp_path / "rows.jsonl", rows)], tokenizer=tokenizer if with_model else None)
    assert found(report)["special_token"] == [6, 7]
    assert found(report)["end_mark_written"] == ([3, 4, 5, 6] if with_model else [3, 4, 6])
    severities = {finding.code: finding.severity for finding in report.findings}
    assert (severities["special_token"], severities["end_mark_written"]) == ("error", "warning")


def test_turns_that_only_call_tools_hide_no_mark_for_the_end(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "How much is it?"}, {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "9", "tool_call_id": "1"}, {"role": "assistant", "content": "It is 9.</s>"},
    ]  # fmt: skip
    report = check([write(tmp_path / "rows.jsonl", [{"messages": turns}])])
    assert "end_mark_written" in found(report)
    assert "special_token" not in found(report)


def test_rows_that_all_end_in_a_mark_for_the_end_are_how_the_data_is(tmp_path: Path) -> None:
    rows = [{**row, "output": f"{row['output']}\n<|endoftext|>"} for row in usual(30)]
    report = check([write(tmp_path / "rows.jsonl", rows)])
    assert [(finding.code, finding.severity) for finding in report.findings] == [("end_mark_written", "info")]


@pytest.mark.parametrize(
    ("row", "target", "fix"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "chatml", "keep the row in preference"),
        ({"prompt": "a", "completion": "b", "label": True}, "alpaca", "keep the row in kto"),
        ({"text": "a b c"}, "alpaca", "convert to completion"),
        ({"instruction": "a", "output": "b"}, "completion", "convert to chatml"),
        ({"instruction": "a", "output": "b"}, "preference", "convert to chatml"),
    ],
)
def test_a_conversion_that_carries_no_row_leaves_no_file_and_names_a_format_that_does(
    row: dict[str, Any], target: str, fix: str, tmp_path: Path
) -> None:
    path, made = write(tmp_path / "rows.jsonl", [row] * 20), tmp_path / "made.jsonl"
    with pytest.raises(FineTuneError) as caught:
        command.main([target, path, "-o", str(made)], standalone_mode=False)
    assert (caught.value.code, caught.value.exit_status) == ("D04", 65)
    assert fix in caught.value.fix
    assert not made.exists()


def test_what_stands_before_an_end_mark_is_judged_as_it_will_be_trained(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"What is {n}?", "completion": f"It is the number of {n} ships. It is said.</s>"} for n in range(30)
    ]
    rows[8]["completion"] = "It is the number of ships in the harbour, and it is said that the</s>"
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {finding.code: [row.line for row in finding.rows] for finding in check([str(path)]).findings}
    assert found["truncated_output"] == [9]


def test_a_file_of_the_wrong_name_is_told_which_name_is_right(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}!"}) + "\n" for n in range(3)))
    [named] = [finding for finding in check([str(path)]).findings if finding.code == "wrong_extension"]
    assert named.fix == "let its name end with .jsonl"
