"""The item files of a run hold what is compared: what answers say, not what they think before."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_exe.evaluation.item_files import write_items
from finetune_exe.evaluation.questions import Questions
from finetune_exe.evaluation.tasks.answered import TaskScores
from finetune_exe.models.generate import Answer
from finetune_exe.text.conversation import Conversation, Message


def test_items_hold_what_is_said_behind_the_thinking(tmp_path: Path) -> None:
    turns = (Message(role="user", content="2 + 2?"), Message(role="assistant", content="4"))
    questions = Questions(
        rows=[0, 1], prompts=[(1,), (2,)], references=["4", "4"],
        conversations=[Conversation(kind="chat", messages=turns)] * 2, opened=[True, False],
    )  # fmt: skip
    said = [Answer("two and two\n</think>\n\n4", True, 9), Answer("4, as `</think>` shows", True, 9)]
    side: Any = SimpleNamespace(answers=said, suites={})
    rows: Any = [SimpleNamespace(group="g")] * 2
    write_items(tmp_path, rows, questions, (), side, side, (TaskScores(items={"m": [1.0, 0.0]}),) * 2)
    lines = (tmp_path / "evaluation" / "tuned.jsonl").read_text().splitlines()
    assert [(json.loads(line)["answer"], json.loads(line)["length"]) for line in lines] == [
        ("4", 1),
        ("4, as `</think>` shows", 22),
    ]
