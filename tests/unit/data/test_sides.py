"""Families, strata, and the sides of rows whose files are meant for one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.data.duplicates.oracle import seeded
from tests.unit.data.duplicates.test_find_duplicates import edited, text
from tests.unit.data.plans import plan_for

from finetune_exe.data import intake, spool
from finetune_exe.data.duplicates.rows import RowText, words_of_rows
from finetune_exe.data.families import families, find_strata
from finetune_exe.data.manifest import dataset_key
from finetune_exe.data.prepare import prepare
from finetune_exe.data.sides import leaking_rows, plan_sources
from finetune_exe.data.spool import SpooledRow, read_spooled
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.plan import DataChoice
from finetune_exe.estimate.rows import test_share as share_of_test
from finetune_exe.knowledge.rules import rule
from finetune_exe.prepared.store import load_dataset
from finetune_exe.report.dataset import render_dataset
from finetune_exe.text.tokenizer import ChatTokenizer


def told(made: PreparedDataset) -> list[str]:
    """Give the notes about the rows, without the one on the tokenizer's padding."""
    return [note for note in made.notes if "pads shorter rows" not in note]


def test_a_family_is_a_group_with_its_copies_and_whatever_shares_a_prompt() -> None:
    rng = seeded(1)
    rows = [RowText(text(rng, 8), text(rng, 40)) for _ in range(30)]
    rows[1] = RowText(rows[0].prompt, edited(rng, rows[0].answer, 1))
    rows[2] = RowText(rows[3].prompt, text(rng, 40))
    groups = [f"g{number:02}" for number in range(30)]
    groups[4] = groups[3]
    found, one_mould = families(words_of_rows(rows), groups)
    assert one_mould == 0
    together = {frozenset(row for row in range(30) if found[row] == name) for name in found}
    assert {members for members in together if len(members) > 1} == {frozenset({0, 1}), frozenset({2, 3, 4})}
    assert found[0] == found[1] == "g00"


def test_rows_of_one_mould_are_no_family() -> None:
    rng = seeded(2)
    mould = text(rng, 90)
    rows = [RowText("", f"{mould} {text(rng, 3)}") for _ in range(40)]
    assert families(words_of_rows(rows), [str(n) for n in range(40)]) == ([str(n) for n in range(40)], 40)


def test_an_instruction_many_rows_share_makes_no_family() -> None:
    rng = seeded(3)
    rows = [RowText("Write something nice", text(rng, 30)) for _ in range(40)]
    assert families(words_of_rows(rows), [str(n) for n in range(40)]) == ([str(n) for n in range(40)], 0)


def test_strata_are_labels_where_answers_are_labels_and_lengths_where_those_vary() -> None:
    rng = seeded(4)
    labelled = words_of_rows([RowText(text(rng, 20), ("good", "bad", "so so")[n % 3]) for n in range(60)])
    strata = find_strata(labelled, "auto")
    assert strata is not None
    assert (strata.kind, strata.num_strata) == ("label", 3)
    assert all((strata.numbers[n] == strata.numbers[m]) == (n % 3 == m % 3) for n in range(60) for m in range(60))
    varied = words_of_rows([RowText("", text(rng, 10 + 3 * n)) for n in range(60)])
    strata = find_strata(varied, "auto")
    assert strata is not None
    assert (strata.kind, Counter(strata.numbers)) == ("length", Counter({0: 15, 1: 15, 2: 15, 3: 15}))
    assert strata.numbers == sorted(strata.numbers)
    even = words_of_rows([RowText("", text(rng, 50)) for n in range(60)])
    assert find_strata(even, "auto") is None
    assert find_strata(varied, None) is None


@pytest.mark.parametrize("wanted", [0.5, 0.2])
def test_the_test_is_as_large_as_the_wanted_difference_asks(wanted: float) -> None:
    data = DataChoice(detectable_difference=wanted)
    rows = 10_000
    assert share_of_test(data, rows) * rows == pytest.approx(
        (rule("detectable_difference")["factor"] / wanted) ** 2, abs=1
    )
    assert share_of_test(data, 20) == 0.4
    assert share_of_test(DataChoice(test_fraction=0.3), rows) == 0.3
    assert share_of_test(DataChoice(detectable_difference=wanted, test_paths=("x",)), rows) == 0.0


def chat(question: str, answer: str, **columns: Any) -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages, **columns})


def write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """Forty rows to share out, and a validation file that five of them give away."""
    questions = [f"{'say ' * (n % 3)}the user {n} jumped over {n * 7} dogs" for n in range(40)]
    rows = [chat(question, f"said {n} quick {n * 3} brown {n * 5}") for n, question in enumerate(questions)]
    held_out = [
        rows[0],
        chat(questions[1].upper(), "said 1 quick 3 brown 5"),
        chat(questions[2], "the lazy end"),
        chat("quick over dog", "jumped over the end"),
    ]
    rows.append(chat(questions[2], "once more another one"))
    return write(tmp_path / "rows.jsonl", rows), write(tmp_path / "validation.jsonl", held_out)


def test_a_file_for_validation_is_validation_and_what_gives_it_away_is_not_learned(
    files: tuple[str, str], tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rows, validation = files
    plan = plan_for(rows, validation_paths=(validation,), stratify_by=None)
    made = prepare(plan, tokenizer, tmp_path / "made")
    assert made.splits["validation"].num_rows == 4
    assert made.splits["train"].num_rows + made.splits["test"].num_rows == 37
    dropped = {drop.code: drop for drop in made.dropped}
    assert {code: drop.count for code, drop in dropped.items()} == {
        "exact_duplicate": 1, "leak_normalised": 1, "leak_prompt_only": 2,
    }  # fmt: skip
    assert "validation.jsonl:3" in dropped["leak_prompt_only"].message
    assert made.seen == made.kept + sum(drop.count for drop in made.dropped) == 45
    rejected = [json.loads(line) for line in (tmp_path / "made" / "rejected.jsonl").read_text().splitlines()]
    assert Counter(entry["code"] for entry in rejected) == Counter(
        {"exact_duplicate": 1, "leak_normalised": 1, "leak_prompt_only": 2}
    )
    learned = {row.source for row in load_dataset(tmp_path / "made").split("train").read_rows()}
    assert not learned & {f"{rows}:{line}" for line in (1, 2, 3, 41)}


def test_leaks_are_learned_all_the_same_where_the_plan_says_so_and_it_is_told(
    files: tuple[str, str], tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rows, validation = files
    plan = plan_for(rows, validation_paths=(validation,), on_leak="keep")
    made = prepare(plan, tokenizer, tmp_path / "made")
    assert {drop.code for drop in made.dropped} == {"exact_duplicate"}
    assert "2 training rows give away held-out ones (leak_prompt_only)" in made.split_evidence


def test_files_for_both_leave_every_other_row_to_training(
    files: tuple[str, str], tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rows, validation = files
    test = write(tmp_path / "test.jsonl", [chat("end of the lazy dog", "over and over")])
    plan = plan_for(rows, validation_paths=(validation,), test_paths=(test,))
    made = prepare(plan, tokenizer, tmp_path / "made")
    assert {name: split.num_rows for name, split in made.splits.items()} == {"train": 37, "validation": 4, "test": 1}


def test_a_file_named_for_a_side_is_learned_by_no_other(files: tuple[str, str]) -> None:
    rows, validation = files
    planned = plan_sources(DataChoice(paths=(str(Path(rows).parent),), validation_paths=(validation,)))
    assert [(Path(entry.source.name).name, entry.side) for entry in planned] == [
        ("validation.jsonl", "validation"), ("rows.jsonl", None),
    ]  # fmt: skip


def test_the_key_follows_which_file_is_held_out(files: tuple[str, str], tokenizer: ChatTokenizer) -> None:
    rows, validation = files
    keys = {
        dataset_key(plan_for(rows, **data), tokenizer)
        for data in ({}, {"validation_paths": (validation,)}, {"test_paths": (validation,)})
    }
    assert len(keys) == 3


def test_rows_of_a_held_out_group_leak() -> None:
    words = words_of_rows([RowText(f"{word} one two", f"{word} three") for word in ("a", "b", "c")])
    found = leaking_rows(words, ["anna", "anna", None], ["test", None, None])
    assert [(leak.row, leak.of_row, leak.kind) for leak in found] == [(1, 0, "group")]


def test_the_digest_of_a_side_follows_its_rows_and_a_changed_test_is_told(
    tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rng = seeded(9)
    lines = [chat(text(rng, 12), text(rng, 20)) for _ in range(60)]
    made = tmp_path / "made"
    first = prepare(plan_for(write(tmp_path / "rows.jsonl", lines)), tokenizer, made)
    assert told(first) == []
    again = prepare(
        plan_for(write(tmp_path / "rows.jsonl", lines[::-1]), max_length=200), tokenizer, made, overwrite=True
    )
    assert {name: split.members for name, split in again.splits.items()} == {
        name: split.members for name, split in first.splits.items()
    }
    assert told(again) == []
    before = Counter(row.conversation["messages"][1]["content"] for row in load_dataset(made).split("test").read_rows())
    lines += [chat(text(rng, 12), text(rng, 20)) for _ in range(40)]
    grown = prepare(plan_for(write(tmp_path / "rows.jsonl", lines)), tokenizer, made, overwrite=True)
    after = Counter(row.conversation["messages"][1]["content"] for row in load_dataset(made).split("test").read_rows())
    gone, added = sum((before - after).values()), sum((after - before).values())
    assert added
    assert grown.splits["test"].members != first.splits["test"].members
    [note] = [note for note in grown.notes if note.startswith("the test set")]
    assert f"{gone:,} of its {sum(before.values()):,} rows are gone and {added:,} are new" in note


def test_the_user_is_told_where_rows_of_one_mould_were_not_kept_together(
    tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    rng = seeded(10)
    mould = text(rng, 60)
    lines = [json.dumps({"text": f"{mould} {text(rng, 3)}"}) for _ in range(40)]
    rows = write(tmp_path / "rows.jsonl", lines)
    made = prepare(plan_for(rows), tokenizer, tmp_path / "made")
    assert [note for note in made.notes if "40 of 40 rows hang together by likeness" in note]
    assert made.split_evidence[0] == "40 groups of 40 rows; likeness plays no part"
    assert "note: data.keep_similar_together was not followed" in render_dataset(made)
    without = prepare(plan_for(rows, keep_similar_together=False), tokenizer, tmp_path / "without")
    assert told(without) == []


def test_rows_that_leak_are_written_down_with_each_shard_read_once(
    tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = seeded(11)
    lines = [chat(text(rng, 12), text(rng, 20)) for _ in range(40)]
    rows = write(tmp_path / "rows.jsonl", lines)
    leaking = (3, 4, 5, 21, 39)
    held_out = write(tmp_path / "test.jsonl", [chat(json.loads(lines[n])["messages"][0]["content"], text(rng, 20))
                                              for n in leaking])  # fmt: skip
    read: Counter[Path] = Counter()

    def counted(path: Path) -> Iterator[SpooledRow]:
        read[path] += 1
        return read_spooled(path)

    monkeypatch.setattr(spool, "SHARD_ROWS", 8)
    monkeypatch.setattr(intake, "read_spooled", counted)
    made = prepare(plan_for(rows, test_paths=(held_out,)), tokenizer, tmp_path / "made", num_workers=1)
    assert {drop.code: drop.count for drop in made.dropped} == {"leak_prompt_only": 5}
    rejected = [json.loads(line) for line in (tmp_path / "made" / "rejected.jsonl").read_text().splitlines()]
    assert [entry["source"] for entry in rejected] == [f"{rows}:{number + 1}" for number in leaking]
    messages = [json.loads(lines[number])["messages"] for number in leaking]
    assert [entry["row"]["messages"] for entry in rejected] == messages
    assert set(read.values()) == {1}
