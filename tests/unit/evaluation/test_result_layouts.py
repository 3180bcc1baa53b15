"""Every layout of results gives the same scores, and what is no layout is said to be none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluation.result_rows import write

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.result_files import Keys, read_results

SCORED = [{"item": f"12e{i}", "score": i / 8} for i in range(9)]


def layouts(folder: Path) -> dict[str, Path]:
    """Write the same nine items in every layout."""
    lines = "".join(json.dumps(row) + "\n" for row in SCORED)
    header, cells = "item,score,note\n", "".join(f'{row["item"]},{row["score"]:.3f},"a, b"\n' for row in SCORED)
    harness = [
        {"doc_id": row["item"], "doc": {"subject": "law"}, "target": "A", "filter": "none", "metrics": ["acc"],
         "filtered_resps": ["A"], "acc": row["score"]} for row in SCORED
    ]  # fmt: skip
    contents: dict[str, bytes] = {
        "lines.jsonl": lines.encode(),
        "packed.jsonl.gz": gzip.compress(lines.encode()),
        "list.json": json.dumps(SCORED, indent=1).encode(),
        "held.json": json.dumps({"model": "m", "config": {"k": 1}, "results": SCORED}).encode(),
        "numbers.json": json.dumps({str(row["item"]): row["score"] for row in SCORED}).encode(),
        "cells.csv": (header + cells).encode("utf-8-sig"),
        "cells.tsv": (header + cells).replace('"a, b"', "a").replace(",", "\t").encode(),
        "packed.csv.gz": gzip.compress((header + cells).encode()),
        "named.jsonl": "".join(
            json.dumps({"id": row["item"], "correct": row["score"]}) + "\n" for row in SCORED
        ).encode(),
        "samples_law.jsonl": "".join(json.dumps(row) + "\n" for row in harness).encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in contents}


def test_every_layout_gives_the_same_scores(tmp_path: Path) -> None:
    for name, path in layouts(tmp_path).items():
        read = {item: result.score for item, result in read_results(path, Keys()).items()}
        assert read == {row["item"]: row["score"] for row in SCORED}, name


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.csv", b"item,score\nq1,NaN\n", "not a finite number"),
        ("a.csv", b"item,score\nq1,\n", "null, not a number"),
        ("a.csv", b"item,score\nq1,1,2\n", "more cells"),
        ("a.csv", b'item,score\n"q1,1\n', "no line of a table"),
        ("a.json", b'[{"item": "q1", "score": Infinity}]', "not a finite number"),
        ("a.json", b'[{"item": "q1", "score": 1}, 3]', "it is 3, not an object"),
        ("a.jsonl.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "damaged"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(name: str, content: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FineTuneError, match=why):
        read_results(tmp_path / name, Keys())


def test_a_file_of_one_item_with_numbers_alone_is_one_item(tmp_path: Path) -> None:
    (only,) = read_results(write(tmp_path / "a", [{"id": 3, "correct": 1}]), Keys()).values()
    assert (only.item, only.score, only.score_name) == ("3", 1.0, "correct")


def test_a_table_with_semicolons_has_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("item;score;prompt;length\n12e5;0,5;a, b;1,25\nq2;1;c;2\nq3;0.25;d;3\n")
    read = read_results(path, Keys())
    assert {item: result.score for item, result in read.items()} == {"12e5": 0.5, "q2": 1.0, "q3": 0.25}
    assert (read["12e5"].texts["prompt"], read["12e5"].length) == ("a, b", 1.25)
    path.write_text('item,score\nq1,"1,000"\n')
    with pytest.raises(FineTuneError, match="not a number"):
        read_results(path, Keys())


def test_percentages_of_a_table_are_numbers_from_0_to_100(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("item,score\nq1,85%\nq2,12.5 %\n")
    assert [result.score for result in read_results(tmp_path / "a.csv", Keys()).values()] == [85.0, 12.5]


def test_a_whole_number_written_with_a_point_names_the_same_item(tmp_path: Path) -> None:
    read = read_results(write(tmp_path / "a", [{"item": 3.0, "score": 1}, {"item": 1e15, "score": 0}]), Keys())
    assert list(read) == ["3", "1000000000000000"]
    with pytest.raises(FineTuneError, match="neither a text nor a whole number"):
        read_results(write(tmp_path / "b", [{"item": 3.5, "score": 1}]), Keys())


@pytest.mark.parametrize("field", ["metrics", "scores"])
def test_metrics_in_an_object_of_their_own_are_read_unless_a_score_stands_beside_them(
    field: str, tmp_path: Path
) -> None:
    rows: list[dict[str, Any]] = [{"doc_id": i, field: {"acc_norm": i / 5, "bits": 2.5}} for i in range(5)]
    read = read_results(write(tmp_path / "a", rows), Keys())
    assert [(result.score_name, result.score) for result in read.values()] == [("acc_norm", i / 5) for i in range(5)]
    named = read_results(tmp_path / "a", Keys(score="bits"))
    assert {result.score for result in named.values()} == {2.5}
    beside = read_results(write(tmp_path / "b", [{**row, "score": 1} for row in rows]), Keys())
    assert {(result.score_name, result.score) for result in beside.values()} == {("score", 1.0)}
