"""The task type, from words and data."""

import json
from pathlib import Path

import pytest
from tests.unit.planning.planned import make_profile

from finetune_exe.planning.task import classify_task

TRUTH = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth" / "taskdesc.jsonl"


@pytest.mark.parametrize(
    ("description", "type"),
    [
        ("write the one-line docstring of a Python function", "code"),
        ("classify support tickets by urgency", "classification"),
        ("translate legal contracts into German", "translation"),
        ("summarize news articles", "summarization"),
        ("extract names and dates from invoices", "extraction"),
        ("make my emails more formal", "rewriting"),
        ("answer customer questions about our bank", "qa"),
        ("solve grade school math problems", "reasoning"),
        ("a chatbot for my shop", "chat"),
        ("write product descriptions", "generation"),
        ("continue novels in the style of Dickens", "completion"),
        ("detect cats in images", "other"),
        ("forecast next month's sales", "other"),
        ("train embeddings for semantic search", "other"),
    ],
)
def test_plain_requests_are_understood(description: str, type: str) -> None:
    task = classify_task(description, None)
    assert task.type == type
    assert task.evidence


def test_data_decide_where_words_do_not() -> None:
    assert classify_task("handle mail", None).type == "generation"
    assert classify_task("handle mail", make_profile(labels=("a", "b"))).type == "classification"
    assert classify_task("handle mail", make_profile(format="completion")).type == "completion"
    assert classify_task("handle mail", make_profile(num_turns_mean=6.0)).type == "chat"


def test_published_descriptions_are_mostly_understood() -> None:
    if not TRUTH.exists():
        pytest.skip("the labelled task descriptions are not on this machine")
    rows = [json.loads(line) for line in TRUTH.read_text().splitlines()]
    right = sum(classify_task(row["definition"], None).type in (row["our_type"], *row["also_ok"]) for row in rows)
    assert right / len(rows) >= 0.8
