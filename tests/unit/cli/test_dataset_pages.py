"""`dataset --html`: the page is there whole, is never written over unasked, and is the same each time."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.tiny import write_tokenizer
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl

from finetune_exe.cli.dataset import command
from finetune_exe.data.prepare import prepare
from finetune_exe.domain.dataset import CheckReport
from finetune_exe.domain.plan_yaml import read_plan, write_plan
from finetune_exe.prepared.store import load_dataset
from finetune_exe.report.html.check import check_page
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.workflow.pages import PAGE, ROWS_SHOWN, count_answers


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def classified(path: Path, num_rows: int = 30) -> Path:
    rows = [
        {"text": f"the {number}th text is of its kind", "label": ["yes", "no", "maybe"][number % 3]}
        for number in range(num_rows)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    return path


def test_the_page_shows_the_report_of_the_check(tmp_path: Path) -> None:
    rows, page = classified(tmp_path / "rows.jsonl"), tmp_path / "new" / "page.html"
    answer = run("--check", rows, "--html", page, "--json")
    assert answer.exit_code == 3  # a row is there twice
    report = json.loads(answer.stdout)
    del report["schema_version"]
    document = CheckReport.model_validate_json(json.dumps(report))
    assert page.read_bytes() == check_page(document)
    assert document.characters is not None
    assert sum(document.characters.counts) == 31
    assert [(entry.label, entry.count) for entry in document.labels] == [("yes", 11), ("maybe", 10), ("no", 10)]
    assert [path.name for path in page.parent.iterdir()] == ["page.html"]


def test_a_page_that_exists_is_not_touched(tmp_path: Path) -> None:
    rows, page = classified(tmp_path / "rows.jsonl"), tmp_path / "page.html"
    page.write_text("mine")
    answer = run("--check", rows, "--html", page)
    assert answer.exit_code != 0
    assert getattr(answer.exception, "code", None) == "O01"
    assert page.read_text() == "mine"
    run("--check", rows, "--html", page, "--overwrite")
    assert page.read_bytes().startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("words", [("--show", 2, "--model", "embedded"), ("alpaca",)], ids=["show", "convert"])
def test_a_page_goes_with_a_check_or_a_plan_only(tmp_path: Path, words: tuple[object, ...]) -> None:
    rows = classified(tmp_path / "rows.jsonl")
    head = [word for word in words if word == "alpaca"]
    answer = run(*head, rows, *(word for word in words if word not in head), "--html", tmp_path / "page.html")
    assert answer.exit_code == 2
    assert "--html goes with --check or --plan" in answer.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan for thirty rows, with a tokenizer that is at hand."""
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tokenizer"), chat_template=None)
    monkeypatch.setattr("finetune_exe.workflow.preparing.plan_tokenizer", lambda plan, note: tokenizer)
    rows = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    path = tmp_path / "plan.yaml"
    write_plan(plan_for(rows), path)
    monkeypatch.setattr("finetune_exe.workflow.plans.open_plan", lambda path, settings: read_plan(path))
    return path


def test_a_prepared_dataset_holds_its_page(tmp_path: Path, plan: Path) -> None:
    page, other = tmp_path / "dataset" / PAGE, tmp_path / "other.html"
    answer = run("--plan", plan)
    assert answer.exit_code == 0, answer.exception
    assert f"For a browser: {page}" in answer.stdout
    assert answer.stdout.endswith(f"Next: fine-tune train {plan}\n")
    first = page.read_bytes()
    dataset = load_dataset(tmp_path / "dataset")
    histogram = dataset.manifest.tokens.histogram if dataset.manifest.tokens else None
    assert histogram is not None
    lengths = [length for name in dataset.manifest.splits for length in dataset.split(name).lengths]
    counted = [sum(low <= length < high for length in lengths) for low, high in pairwise(histogram.edges)]
    assert counted == list(histogram.counts)
    assert b"30 rows seen = 30 kept + 0 dropped" in first
    assert first.count(b"token by token") == ROWS_SHOWN
    assert b"derivations_agree" in first

    assert run("--plan", plan).exit_code == 0  # the dataset is up to date, and its page written anew
    assert page.read_bytes() == first
    assert run("--plan", plan, "--html", other).exit_code == 0
    assert other.read_bytes() == first
    other.write_text("mine")
    answer = run("--plan", plan, "--html", other)
    assert getattr(answer.exception, "code", None) == "O01"
    assert other.read_text() == "mine"


def test_labels_of_the_kept_rows_are_counted(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tokenizer"), chat_template=None)
    prepare(plan_for(classified(tmp_path / "rows.jsonl")), tokenizer, tmp_path / "out")
    counted = count_answers(tmp_path / "out", ("yes", "no", "maybe", "never"))
    assert [(entry.label, entry.count) for entry in counted] == [("maybe", 10), ("no", 10), ("yes", 10)]
    assert count_answers(tmp_path / "out", ()) == ()
