"""`fine-tune dataset` shows rows token by token, and writes prepared rows for other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.tiny import write_model, write_rows
from tests.unit.data.plans import plan_for

from finetune_exe.cli.main import cli
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import load_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    model = write_model(folder / "model")
    rows = write_rows(folder / "rows.jsonl")
    plan = plan_for(rows)
    decision = plan.decisions["model.reference"].model_copy(update={"value": str(model)})
    reference = plan.model.model_copy(update={"reference": str(model)})
    plan = plan.model_copy(update={"model": reference, "decisions": {**plan.decisions, "model.reference": decision}})
    write_plan(plan, folder / "plan.yaml")
    return folder


def run(*words: str | Path) -> str:
    result = CliRunner().invoke(cli, ["dataset", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_rows_are_shown_with_what_is_learned(folder: Path) -> None:
    shown = run("--plan", folder / "plan.yaml", "--show", 2)
    data = load_dataset(folder / "dataset").split("train")
    tokens, learned = data.sequence(0)
    assert f"{len(tokens)} tokens, {int(learned.sum())} learned" in shown
    assert shown.count("[") == int(learned.sum()) + int(data.sequence(1).learned.sum()) + 1, "and once in the legend"
    assert "\x1b" not in shown
    from_file = json.loads(run(folder / "rows.jsonl", "--show", 1, "--model", folder / "model", "--json"))
    [row] = from_file["rows"]
    assert row["source"].endswith("rows.jsonl:1")
    assert "".join(token["text"] for token in row["tokens"] if token["learned"]) == "the fox said 0<|im_end|>"


def test_rows_of_which_none_can_be_shown_are_refused_with_the_reason(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"messages": [{"role": "user", "content": f"{n}?"}]}) + "\n" for n in range(3)))
    answer = CliRunner().invoke(cli, ["dataset", str(rows), "--show", "2", "--model", str(folder / "model")])
    assert isinstance(answer.exception, FineTuneError)
    assert (answer.exception.code, answer.exception.where) == ("D04", f"first at {rows}:1")
    assert "no assistant turn" in answer.exception.why


def test_prepared_rows_are_written_as_parquet(folder: Path) -> None:
    import duckdb

    run("--plan", folder / "plan.yaml", "--export", "parquet", "-o", folder / "it's parquet")
    prepared = load_dataset(folder / "dataset")
    for name in ("train", "validation", "test"):
        data = prepared.split(name)
        stored = data.read_rows()
        path = folder / "it's parquet" / f"{name}.parquet"
        with duckdb.connect() as connection:
            table = connection.read_parquet(str(path)).fetchall()
        assert len(table) == len(data)
        for index, (ids, labels, source, group, conversation) in enumerate(table):
            tokens, learned = data.sequence(index)
            assert ids == tokens.tolist()
            assert labels == np.where(learned, tokens, -100).tolist()
            row = stored[data.rows[index]]
            assert (source, group, json.loads(conversation)) == (row.source, row.group, row.conversation)
    assert sorted(path.name for path in (folder / "it's parquet").iterdir()) == [
        "test.parquet", "train.parquet", "validation.parquet",
    ]  # fmt: skip


def test_prepared_rows_are_written_for_the_datasets_library(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    run("--plan", folder / "plan.yaml", "--export", "datasets", "-o", folder / "hf")
    loaded = datasets.load_from_disk(str(folder / "hf"))
    data = load_dataset(folder / "dataset").split("test")
    assert [row["input_ids"] for row in loaded["test"]] == [data.sequence(i).tokens.tolist() for i in range(len(data))]


def test_without_the_datasets_library_the_way_to_get_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    words = ["dataset", "--plan", str(folder / "plan.yaml"), "--export", "datasets", "-o", str(folder / "none")]
    result = CliRunner().invoke(cli, words)
    assert "FT-X01" in str(result.exception)
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("trainer", "validation"), [("llamafactory", "validation.jsonl"), ("mlx", "valid.jsonl"), ("litgpt", "val.jsonl")]
)
def test_prepared_rows_are_written_for_a_trainer(folder: Path, trainer: str, validation: str) -> None:
    said = run("--plan", folder / "plan.yaml", "--export", trainer, "-o", folder / trainer)
    prepared = load_dataset(folder / "dataset")
    assert sorted(path.name for path in (folder / trainer).iterdir()) == sorted(
        ["test.jsonl", "train.jsonl", validation]
    )
    for side, file in (("train", "train.jsonl"), ("validation", validation)):
        rows = [json.loads(line) for line in (folder / trainer / file).read_text(encoding="utf-8").splitlines()]
        conversations = [row.conversation for row in prepared.split(side).read_rows()]  # type: ignore[arg-type]
        assert f"{len(rows):,} in {file}" in said
        answers = [conversation["messages"][-1]["content"] for conversation in conversations]
        if trainer == "litgpt":
            assert [row["output"] for row in rows] == answers
        else:
            assert [row["messages"][-1]["content"] for row in rows] == answers


def test_rows_that_a_trainer_cannot_be_given_end_the_export(folder: Path, tmp_path: Path) -> None:
    """Texts without turns: whoever trains conversations alone gets none of them, and is told."""
    lines = [json.dumps({"text": f"the fox number {number} jumps over the dog"}) for number in range(30)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    plan = (folder / "plan.yaml").read_text(encoding="utf-8")
    plan = plan.replace(str(folder / "rows.jsonl"), str(tmp_path / "texts.jsonl"))
    (tmp_path / "plan.yaml").write_text(plan, encoding="utf-8")
    words = ["dataset", "--plan", str(tmp_path / "plan.yaml"), "--export", "axolotl", "-o", str(tmp_path / "data")]
    with pytest.raises(
        FineTuneError, match=r"(?s)FT-O04.*no row of the train side.*texts.jsonl:.*a text without turns"
    ):
        CliRunner().invoke(cli, words, catch_exceptions=False)
    assert not (tmp_path / "data").exists()
