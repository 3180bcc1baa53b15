"""`fine-tune analyze`: what stands in the sentence and what is given by itself."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finetune_exe.cli.analyze import command


def analyze(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_kind_of_task_can_be_said() -> None:
    read, said = (
        json.loads(analyze("sort poems", "--json", *more).stdout)["plan"] for more in ((), ("--task-type", "rewriting"))
    )
    assert (read["task"]["type"], said["task"]["type"]) == ("generation", "rewriting")
    assert said["decisions"]["task.type"]["source"] == "you"
    assert analyze("sort poems", "--task-type", "other").exit_code == 2


def test_rows_that_will_be_are_for_plans_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hundred, thousand = (
        json.loads(analyze("write poems", "--json", "--rows", rows).stdout) for rows in ("100", "1000")
    )
    times = [plan["plan"]["estimates"]["duration"]["value"]["mid"] for plan in (hundred, thousand)]
    assert times[0] < times[1]
    refused = analyze("write poems", "--rows", "100", "--data", "rows.jsonl")
    assert refused.exit_code == 2
    assert "--rows is for plans without --data" in refused.output
    assert not Path("plan.yaml").exists()


def test_the_sentence_names_the_model_and_an_option_overrules_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "fine-tune gpt2 to rhyme"
    named, overruled = (
        json.loads(analyze(words, "--json", *more).stdout)["plan"] for more in ((), ("--model", "embedded"))
    )
    assert (named["model"]["reference"], overruled["model"]["reference"]) == ("openai-community/gpt2", "embedded")
    assert "Read in your words: 'gpt2' as --model openai-community/gpt2" in " ".join(analyze(words).stdout.split())


def test_a_sentence_without_quotes_and_files_without_an_option_are_told_how_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.jsonl").write_text("{}\n")
    bare = analyze("sort", "support", "mails", "--rows", "100")
    assert "fine-tune analyze 'sort support mails'" in bare.output
    globbed = analyze("sort mails", "--data", "a.jsonl", "b.jsonl")
    assert "fine-tune analyze 'sort mails' --data b.jsonl" in globbed.output
    assert "a pattern in quotes" in " ".join(globbed.output.split())
    assert bare.exit_code == globbed.exit_code == 2
    assert not Path("plan.yaml").exists()
