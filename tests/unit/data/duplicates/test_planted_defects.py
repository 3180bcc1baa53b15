"""The planted repeats, leaks and benchmark items of the shared dirty files, where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.duplicates.oracle import jaccard, row_words

from finetune_exe.data.duplicates.contamination import BenchmarkIndex
from finetune_exe.data.duplicates.find import find_duplicates
from finetune_exe.data.duplicates.leaks import find_leaks
from finetune_exe.data.duplicates.rows import RowText, RowWords, words_of_rows

SHARED = Path(__file__).resolve().parents[4] / ".." / "shared"


def texts_of(path: Path) -> list[RowText]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        said = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items() if value}
        prompt = "\n".join(said.get(name, "") for name in ("instruction", "input"))
        rows.append(RowText(prompt, said.get("output", "") or said.get("text", "")))
    return rows


def rows_of(path: Path) -> RowWords:
    return words_of_rows(texts_of(path))


def truth(path: Path, *kinds: str) -> tuple[list[dict[str, Any]], set[int]]:
    """Give the defects of these kinds, and every row that has any defect or is the model of one."""
    defects = json.loads(path.with_name(path.name + ".truth.json").read_text(encoding="utf-8"))["defects"]
    touched = {defect["index"] for defect in defects}
    touched |= {defect["detail"]["of_index"] for defect in defects if "of_index" in (defect.get("detail") or {})}
    return [defect for defect in defects if defect["type"] in kinds], touched


@pytest.mark.parametrize("name", ["alpaca_mixed.jsonl", "completion_mixed.jsonl"])
def test_all_planted_repeats_are_found_and_no_clean_row_is_called_one(dirty: Path, name: str) -> None:
    found = find_duplicates(rows_of(dirty / name))
    lists = {
        "exact_duplicate": found.exact, "normalised_duplicate": found.normalised,
        "near_duplicate": (*found.near, *found.edited), "contained_duplicate": found.contained,
        "conflicting_answer": found.conflicting,
    }  # fmt: skip
    planted, touched = truth(dirty / name, *lists)
    assert planted
    missed = [
        defect for defect in planted
        if not any({defect["index"], defect["detail"]["of_index"]} <= {pair.index, pair.of_index} for pair in lists[defect["type"]])
    ]  # fmt: skip
    assert missed == []
    assert [pair for pairs in lists.values() for pair in pairs if not touched & {pair.index, pair.of_index}] == []
    texts, num_without_signs = texts_of(dirty / name), 0
    for defect in planted:
        if defect["type"] == "near_duplicate":
            pair = next(p for p in lists["near_duplicate"] if defect["index"] in (p.index, p.of_index))
            one, other = texts[pair.index], texts[pair.of_index]
            if "".join((*one, *other)).isascii():
                assert pair.similarity == pytest.approx(jaccard(one, other))
            if all(word.isalnum() for row in (one, other) for word in row_words(row)):  # the truth knows no signs
                num_without_signs += 1
                assert pair.similarity == pytest.approx(defect["detail"]["word5_jaccard"], abs=0.02)
    assert num_without_signs


def test_all_planted_leaks_are_found_by_kind_and_row(dirty: Path) -> None:
    planted, _ = truth(
        dirty / "leak_val.jsonl",
        *(f"leak_{kind}" for kind in ("exact", "normalised", "near_light", "near_heavy", "prompt_only", "output_only")),
    )
    found = find_leaks(rows_of(dirty / "leak_train.jsonl"), rows_of(dirty / "leak_val.jsonl"))
    expected = {(defect["index"], defect["detail"]["train_index"], defect["type"]) for defect in planted}
    assert {(leak.index, leak.of_index, f"leak_{leak.kind}") for leak in found} == expected


def test_all_planted_benchmark_items_are_found_and_no_other(dirty: Path) -> None:
    index = BenchmarkIndex.read([SHARED / "data" / "eval"])
    planted, _ = truth(dirty / "alpaca_mixed.jsonl", "benchmark_contamination")
    found = {(hit.index, hit.line) for hit in index.find(rows_of(dirty / "alpaca_mixed.jsonl"))}
    assert found == {(defect["index"], defect["detail"]["item_line"]) for defect in planted}
    assert len(found) > 20
    assert index.find(rows_of(dirty / "alpaca_clean.jsonl")) == ()
