"""`rejected.jsonl` can be mended and read as data, whatever the rows were rejected for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.plans import plan_for

from finetune_exe.data.ingest import ingest, open_sources
from finetune_exe.data.prepare import REJECTED, prepare
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.data.sources import find_sources
from finetune_exe.text.tokenizer import ChatTokenizer

GOOD = [{"instruction": f"Say {n}", "output": f"It is {n}"} for n in range(30)]
BROKEN = {
    '{"instruction": "Say a", "output": "It is a"': '{"instruction": "Say a", "output": "It is a"}',
    "{'instruction': 'Say b', 'output': 'It is b'}": '{"instruction": "Say b", "output": "It is b"}',
    '{"instruction": "Say c", "output": "It\nis c"}': '{"instruction": "Say c", "output": "It\\nis c"}',
    '{"instruction": "Say d", "output": "It is d",}': '{"instruction": "Say d", "output": "It is d"}',
}


def rejected_by(path: Path, tokenizer: ChatTokenizer) -> list[dict[str, Any]]:
    out = path.parent / "out"
    prepare(plan_for(path), tokenizer, out)
    return [json.loads(line) for line in (out / REJECTED).read_text().splitlines()]


def test_lines_mended_in_place_are_rows_again(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(row) for row in GOOD]
    path.write_text("\n".join([*lines[:5], *BROKEN, *lines[5:]]) + "\n")
    rejected = rejected_by(path, tokenizer)
    assert [line["row"] for line in rejected] == list(BROKEN)

    again = tmp_path / "again.jsonl"
    again.write_text("".join(json.dumps(line) + "\n" for line in rejected))
    assert [entry.code for entry in read_rows(again) if isinstance(entry, BadLine)] == [
        line["code"] if line["code"] != "truncated_line" else "truncated_last_line" for line in rejected
    ]

    mended = [{**line, "row": BROKEN[line["row"]]} for line in rejected]
    again.write_text("".join(json.dumps(line) + "\n" for line in mended))
    entries = list(read_rows(again))
    assert [entry.row for entry in entries if isinstance(entry, RawRow)] == [
        json.loads(text) for text in BROKEN.values()
    ]
    opened = open_sources(find_sources([str(again)]), format_name=None)
    assert opened[0].detection.format.name == "alpaca"
    assert len(list(ingest(opened, deduplicate=True))) == len(BROKEN)


def test_rows_mended_as_objects_are_rows_again(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*GOOD, {"instruction": "Say x"}, GOOD[3]]))
    lines = rejected_by(path, tokenizer)
    assert [line["code"] for line in lines] == ["missing_key", "exact_duplicate"]
    lines[0]["row"]["output"] = "It is x"
    again = tmp_path / "again.jsonl"
    again.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [entry.row for entry in read_rows(again) if isinstance(entry, RawRow)] == [
        {"instruction": "Say x", "output": "It is x"}, GOOD[3],
    ]  # fmt: skip


def test_records_of_a_table_keep_their_columns(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "instruction,output\n" + "".join(f"Say {n},It is {n}\n" for n in range(30)) + "Say x,It, is x\nSay y\n"
    )
    lines = rejected_by(path, tokenizer)
    assert [(line["code"], line["row"]) for line in lines] == [
        ("ragged_row", {"instruction": "Say x", "output": "It", "fields_too_many": [" is x"]}),
        ("ragged_row", {"instruction": "Say y"}),
    ]


@pytest.mark.parametrize("code", ["bare_string", "empty_text"])
def test_texts_stay_texts(tmp_path: Path, code: str) -> None:
    path = tmp_path / "rejected.jsonl"
    path.write_text(json.dumps({"source": "a:1", "code": code, "message": "m", "row": "some text"}) + "\n")
    assert [entry.row for entry in read_rows(path) if isinstance(entry, RawRow)] == ["some text"]
