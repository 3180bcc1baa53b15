"""A run is taken up on the rows, the template and the tokenizer that it was begun with, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import TEMPLATES, write_rows, write_tokenizer
from tests.unit.data.plans import plan_for

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.plan import Plan
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training.resume import ALLOW_DATA_CHANGE
from finetune_exe.workflow.resuming import data_changes


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "tiny", template=TEMPLATES["chatml"])


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_for(write_rows(tmp_path / "rows.jsonl", count=20))


@pytest.fixture
def data(plan: Plan, base: Path, tmp_path: Path) -> PreparedFolder:
    prepare(plan, load_tokenizer(base, chat_template=None), tmp_path / "dataset")
    return load_dataset(tmp_path / "dataset")


def test_what_is_as_it_was_is_no_change(plan: Plan, data: PreparedFolder, base: Path) -> None:
    assert not list(data_changes(plan, data.manifest, load_tokenizer(base, chat_template=None)))


def test_other_rows_may_be_allowed_for_those_that_were_prepared_are_learned(
    plan: Plan, data: PreparedFolder, base: Path
) -> None:
    rows = Path(plan.data.paths[0])
    rows.write_text(rows.read_text() + "\n")
    (change,) = data_changes(plan, data.manifest, load_tokenizer(base, chat_template=None))
    assert (change.name, change.flag) == (str(rows), ALLOW_DATA_CHANGE)
    rows.unlink()
    (gone,) = data_changes(plan, data.manifest, load_tokenizer(base, chat_template=None))
    assert (gone.now, gone.flag) == ("not there", ALLOW_DATA_CHANGE)


def test_another_template_gives_other_tokens_and_is_never_allowed(
    plan: Plan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    """The plan names a file, whose name stays while its content changes."""
    (tmp_path / "own.jinja").write_text(TEMPLATES["chatml"] + "{# changed #}")
    (change,) = data_changes(plan, data.manifest, load_tokenizer(base, chat_template=str(tmp_path / "own.jinja")))
    assert (change.name, change.flag) == ("the chat template", None)


def test_another_tokenizer_gives_other_tokens_and_is_never_allowed(
    plan: Plan, data: PreparedFolder, base: Path
) -> None:
    content = json.loads((base / "tokenizer.json").read_text())
    content["model"]["merges"] = content["model"]["merges"][:-1]
    (base / "tokenizer.json").write_text(json.dumps(content))
    (change,) = data_changes(plan, data.manifest, load_tokenizer(base, chat_template=None))
    assert (change.name, change.flag) == ("the tokenizer", None)
