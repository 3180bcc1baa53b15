"""Conversion goes row by row, loses nothing silently, and leaves a whole file or none."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.data.plans import plan_for

from finetune_exe.cli.dataset import command
from finetune_exe.data.convert import convert
from finetune_exe.data.ingest import open_sources
from finetune_exe.data.prepare import prepare
from finetune_exe.data.profile import profile_data
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.task import WRITTEN_FORMATS, FormatName
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.tokenizer import ChatTokenizer

ALPACA = [{"instruction": f"Say {n}", "input": "", "output": f"It is {n}"} for n in range(40)]
PAIRS = [{"prompt": f"Say {n}", "chosen": f"It is {n}", "rejected": f"No {n}"} for n in range(40)]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(*words: object) -> Any:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"instruction": "x" * 500, "output": "y" * 500}] * 20_000)
    count = 0

    def take(row: Any) -> None:
        nonlocal count
        count += 1

    tracemalloc.start()
    conversion = convert([path], target="chatml", write=take)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (conversion.seen, conversion.written, count) == (20_000, 20_000, 20_000)
    assert peak < 10 << 20 < Path(path).stat().st_size


@pytest.mark.parametrize(
    "target", [name for name in WRITTEN_FORMATS if name not in ("preference", "kto", "completion")]
)
def test_there_and_back_through_every_format(tmp_path: Path, target: FormatName) -> None:
    path = write(tmp_path / "rows.jsonl", ALPACA)
    there, back = tmp_path / "there.jsonl", tmp_path / "back.jsonl"
    done = run(target, path, "-o", there, "--json")
    counts = json.loads(done.stdout)
    assert (counts["seen"], counts["written"]) == (40, 40)
    run("alpaca", there, "-o", back)
    assert [json.loads(line) for line in back.read_text().splitlines()] == ALPACA


def test_an_output_that_exists_or_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ALPACA)
    output = tmp_path / "out.jsonl"
    output.write_text("mine")
    with pytest.raises(FineTuneError) as caught:
        run("chatml", path, "-o", output)
    assert caught.value.code == "O01"
    (tmp_path / "rows.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(FineTuneError):
        run("chatml", tmp_path / "rows.jsonl.gz", "-o", output, "--overwrite")
    assert output.read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl", "rows.jsonl.gz"]


def test_columns_that_nothing_tells_apart_are_named_by_the_user(tmp_path: Path) -> None:
    rows = [{"left": f"Text number {n}.", "right": f"Another text {n * 3}."} for n in range(12)]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(FineTuneError) as caught:
        run("prompt_completion", path)
    assert "--columns left,right" in caught.value.fix
    done = run("prompt_completion", path, "--columns", "right,left")
    assert json.loads(done.stdout.splitlines()[0]) == {"prompt": rows[0]["right"], "completion": rows[0]["left"]}


def test_pairs_are_trained_on_only_where_that_is_asked_for(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(FineTuneError) as caught:
        profile_data([path])
    assert caught.value.code == "D03"
    assert "data.format=preference" in caught.value.fix
    assert profile_data([path], format_name="preference").num_rows == 40
    plan = plan_for(path)
    plan = plan.model_copy(update={"data": plan.data.model_copy(update={"format": "preference"})})
    manifest = prepare(plan, tokenizer, tmp_path / "out")
    assert (manifest.kept, manifest.format) == (40, "preference")
    stored = [row.conversation for row in load_dataset(tmp_path / "out").split("train").read_rows()]
    assert {row["messages"][-1]["content"][:5] for row in stored} == {"It is"}


def test_a_row_of_another_layout_is_read_and_noted(tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(30)
    ]
    odd = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
    other = {"instruction": "q", "output": "a"}
    path = write(tmp_path / "rows.jsonl", [*chats, odd, other, {**chats[0], "lable": "x"}])
    from finetune_exe.data.ingest import ingest
    from finetune_exe.data.rows import KeptRow

    rows = list(ingest(open_sources(find_sources([path]), format_name=None), deduplicate=False))
    assert all(isinstance(row, KeptRow) for row in rows)
    notes = {
        n: row.conversation.notes for n, row in enumerate(rows) if isinstance(row, KeptRow) and row.conversation.notes
    }
    assert notes == {30: ("sharegpt_schema_in_messages_file",), 31: ("schema_mixed",), 32: ("unknown_key",)}


def test_a_dataset_of_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_exe.data.hub.find_spec", lambda name: None)
    with pytest.raises(FineTuneError) as caught:
        open_sources(find_sources(["hf://owner/name"]), format_name=None)
    assert caught.value.code == "X01"
    assert 'pip install "finetune-exe[hub]"' in caught.value.fix
    with pytest.raises(FineTuneError) as caught:
        open_sources(find_sources(["hf://a/b/c/d"]), format_name=None)
    assert caught.value.code == "D07"


def test_a_dataset_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    package, exceptions = ModuleType("datasets"), ModuleType("datasets.exceptions")
    exceptions.DatasetsError = type("DatasetsError", (Exception,), {})  # type: ignore[attr-defined]

    def load_dataset(*names: Any, **options: Any) -> Iterator[dict[str, str]]:
        asked.append((*names, options))
        yield {"instruction": "a", "output": "b"}
        raise exceptions.DatasetsError("the connection broke off")

    package.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setattr("finetune_exe.data.hub.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "datasets", package)
    monkeypatch.setitem(sys.modules, "datasets.exceptions", exceptions)
    [source] = find_sources(["hf://owner/name/main:test"])
    rows = source.rows()
    assert next(rows).row == {"instruction": "a", "output": "b"}  # type: ignore[union-attr]
    assert asked == [("owner/name", "main", {"split": "test", "streaming": True})]
    with pytest.raises(FineTuneError, match="broke off") as caught:
        next(rows)
    assert (caught.value.code, caught.value.where) == ("D01", "hf://owner/name/main:test")
