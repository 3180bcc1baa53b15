"""The written form of documents: a change of it is seen, and needs a new schema number."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report import sample
from tests.unit.report.golden import GOLDEN, assert_golden

from finetune_exe.domain.document import Document
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import FineTuneError

SPEC = TaskSpec(description="write docstrings", data_paths=("rows.jsonl",), model="embedded", preset="balanced")


@pytest.mark.parametrize(("name", "document"), [("task_spec.json", SPEC), ("training_run.json", sample.run())])
def test_documents_are_written_as_they_were(name: str, document: Document) -> None:
    assert_golden(name, document.pretty_json())
    again = type(document).read(GOLDEN / name)
    assert again == document
    assert again.digest() == document.digest()


def test_equal_content_has_an_equal_digest_and_any_change_another() -> None:
    same = TaskSpec.model_validate_json(SPEC.canonical_json())
    assert same.digest() == SPEC.digest()
    assert SPEC.model_copy(update={"description": "write docstring"}).digest() != SPEC.digest()


@pytest.mark.parametrize(
    ("change", "code"),
    [(('"schema": 1', '"schema": 2'), "C06"), (('"num_steps"', '"num_stepz"'), "C07"), (("{", ""), "C07")],
)
def test_documents_of_another_make_or_damaged_are_refused(change: tuple[str, str], code: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(sample.run().pretty_json().replace(*change, 1))
    with pytest.raises(FineTuneError, match=rf"error\[FT-{code}\]"):
        TrainingRun.read(path)
    with pytest.raises(FineTuneError, match=r"error\[FT-C07\]"):
        TrainingRun.read(tmp_path / "gone.json")
