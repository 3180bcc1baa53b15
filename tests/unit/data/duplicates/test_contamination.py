"""Benchmark items found among rows, in every way they were planted, and no others."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from tests.unit.data.duplicates.oracle import seeded

from finetune_exe.data.duplicates.benchmark_items import BenchmarkItem, question_texts, read_benchmarks
from finetune_exe.data.duplicates.contamination import BenchmarkIndex, Contamination, ContaminationMode
from finetune_exe.data.duplicates.rows import RowText, words_of_rows
from finetune_exe.errors import FineTuneError

NAMES = ("Anna", "Boris", "Chen", "Dora", "Emil", "Fatima")
THINGS = ("apples", "bricks", "candles", "drums", "eggs", "flutes", "grapes", "hammers", "icons", "jars")


def problem(rng: random.Random) -> str:
    """A sum in words, unlike the others in what it tells."""
    first, second = rng.sample(THINGS, 2)
    verbs = rng.sample(["sells", "paints", "finds", "borrows", "carries", "breaks", "counts", "hides"], 3)
    extra = " ".join(rng.sample(["before lunch", "near the river", "for a friend", "on the roof", "in the rain"], 2))
    return (
        f"{rng.choice(NAMES)} {verbs[0]} {rng.randint(3, 90)} {first} {extra} and then {verbs[1]} {rng.randint(3, 90)} "
        f"{second}, but a neighbour {verbs[2]} half of the {first}. How many {second} are left for the market?"
    )


def planted(text: str, mode: ContaminationMode) -> str:
    match mode:
        case "exact":
            return text
        case "case_ws":
            return text.lower().replace(" ", "  ")
        case "wrapped":
            return f"Please answer the following question carefully.\n\n{text}\n\nThink step by step."
        case "partial":
            found = text.split()
            return " ".join(found[: len(found) * 2 // 3])
        case "renamed":
            for number, name in enumerate(NAMES):
                text = text.replace(name, ("Greta", "Hugo", "Ines", "Jan", "Kira", "Li")[number])
            return "".join(str((int(sign) + 3) % 10) if sign.isdigit() else sign for sign in text)


MODES: tuple[ContaminationMode, ...] = ("exact", "case_ws", "wrapped", "partial", "renamed")


@pytest.mark.parametrize("seed", range(3))
def test_every_planted_item_is_found_with_its_file_line_and_mode(seed: int) -> None:
    rng = seeded(seed)
    texts = list(dict.fromkeys(problem(rng) for _ in range(60)))
    items = [BenchmarkItem(benchmark="sums", line=line, text=text) for line, text in enumerate(texts, start=1)]
    rows, expected = [], []
    for number in range(50):
        mode = MODES[number % len(MODES)]
        rows += [RowText(problem(rng), "no idea"), RowText(planted(texts[number], mode), "no idea")]
        expected.append(Contamination(2 * number + 1, "sums", number + 1, mode))
    assert BenchmarkIndex(items).find(words_of_rows(rows)) == tuple(expected)


def test_an_item_is_found_in_an_answer_and_in_a_text_without_prompt() -> None:
    text = problem(seeded(1))
    index = BenchmarkIndex([BenchmarkItem(benchmark="sums", line=4, text=text)])
    rows = [RowText("Invent a sum", f"Here is one. {text} Good luck!"), RowText("", f"Page 3.\n{text}\nPage 4.")]
    found = index.find(words_of_rows(rows))
    assert found == (Contamination(0, "sums", 4, "wrapped"), Contamination(1, "sums", 4, "wrapped"))


@pytest.mark.parametrize(
    ("item", "row"),
    [
        ("Predators eat", "Predators eat"),
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("How do birds find their way south?", "Tell me, how do birds find their way south? I want to know."),
        ("25 - 759 =", "25 - 759 ="),
    ],
)
def test_short_items_are_not_found_by_chance(item: str, row: str) -> None:
    index = BenchmarkIndex([BenchmarkItem(benchmark="short", line=1, text=item)])
    assert index.find(words_of_rows([RowText(row, "yes")])) == ()


def test_the_wording_all_items_share_contaminates_nothing() -> None:
    rng = seeded(2)
    head = "The following are multiple choice questions with answers about the history of everything."
    items = [BenchmarkItem(benchmark="b", line=line, text=f"{head} {problem(rng)}") for line in range(1, 21)]
    rows = [RowText(head, "yes"), RowText(f"{head} {problem(rng)}", "no")]
    assert BenchmarkIndex(items).find(words_of_rows(rows)) == ()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "Who built it?", "answer": "Nobody built it at all"}, ["Who built it?"]),
        ({"Type": "Adversarial", "Question": "Who built it?", "Best Answer": "Nobody did"}, ["Who built it?"]),
        ({"choices": ["one of them", "the other of them"], "query": "Which is it?", "gold": 1}, ["Which is it?"]),
        ({"context_options": ["Paul called George, but Paul", "Paul called George, but George"], "continuation": "left"},
         ["Paul called George, but Paul", "Paul called George, but George"]),
        ({"question_id": 1, "category": "generic", "turns": ["First of all questions", "And the second one"]},
         ["First of all questions", "And the second one"]),
        ({"task_id": "x/1", "prompt": "def add(a, b):", "canonical_solution": "    return a + b"}, ["def add(a, b):"]),
        ({"messages": [{"role": "user", "content": "What is this thing?"}]}, ["What is this thing?"]),
        ({"question": {"stem": "Which one is it?", "choices": [{"text": "the first of them", "label": "A"}]}},
         ["Which one is it?"]),
        ({"riddle": "What walks on four legs?", "answer": "A cat does that"}, ["What walks on four legs?"]),
        ({"completion": "An answer to something else", "label": "good"}, []),
        ("A line of text", ["A line of text"]),
        (7, []),
    ],
)  # fmt: skip
def test_what_a_row_of_a_benchmark_asks(row: object, expected: list[str]) -> None:
    assert question_texts(row) == expected


def test_benchmarks_are_read_from_folders_in_every_layout(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_text('{"question": "Who is the first?"}\n\n{"question": "Who is the second?"}\n')
    (tmp_path / "deep" / "b.json").write_text(json.dumps({"canary": "x", "examples": [{"input": "Who is third?"}] * 2}))
    (tmp_path / "c.csv").write_text("id,prompt,label\n1,Who is the fourth?,safe\n2,Who is fifth?,unsafe\n")
    (tmp_path / "d.txt").write_text("Who is the sixth?\n\nWho is the seventh?\n")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "notes.bin").write_bytes(b"\0\1")
    found = [(item.benchmark, item.line, item.text) for item in read_benchmarks([tmp_path])]
    assert [(name, line) for name, line, _ in found if name != "b"] == [
        ("a", 1), ("a", 3), ("c", 2), ("c", 3), ("d", 1), ("d", 3),
    ]  # fmt: skip
    assert [text for name, _, text in found if name == "b"] == ["Who is third?"] * 2


@pytest.mark.parametrize("name", ["nowhere", ""])
def test_a_folder_without_items_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FineTuneError) as caught:
        BenchmarkIndex.read([tmp_path / name])
    assert caught.value.code == "D07"
