"""Every document has a schema, and what is written fits it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

import finetune_exe.domain
from finetune_exe.agents.schemas import DOCUMENTS, document_schema
from finetune_exe.cli.schema import command
from finetune_exe.domain.document import Document
from finetune_exe.domain.events import Noticed, encode_event

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
EXAMPLES = {"plan": "plan", "dataset": "prepared_dataset", "run": "training_run", "evaluation": "evaluation",
            "task": "task_spec", "diagnosis": "diagnosis"}  # fmt: skip


def test_no_document_is_left_out() -> None:
    for module in pkgutil.iter_modules(finetune_exe.domain.__path__):
        importlib.import_module(f"finetune_exe.domain.{module.name}")
    written = {kind for kind in Document.__subclasses__() if kind.__module__.startswith("finetune_exe.domain.")}
    assert written == set(DOCUMENTS.values())


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_is_a_schema(name: str) -> None:
    schema = json.loads(CliRunner().invoke(command, [name], catch_exceptions=False).output)
    Draft202012Validator.check_schema(schema)
    assert schema == document_schema(name)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(("name", "example"), EXAMPLES.items())
def test_documents_fit_their_schema(name: str, example: str) -> None:
    document = json.loads((GOLDEN / f"{example}.json").read_text())
    validator = Draft202012Validator(document_schema(name))
    validator.validate(document)
    assert not validator.is_valid(document | {"no_such_key": 1})


def test_the_list_names_them_all() -> None:
    lines = CliRunner().invoke(command, catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in lines] == [*DOCUMENTS, "event"]


def test_events_fit_their_schema() -> None:
    validator = Draft202012Validator(document_schema("event"))
    event = json.loads(encode_event(Noticed(seconds=1.5, message="x")))
    validator.validate(event)
    assert not validator.is_valid(event | {"seconds": "soon"})
    assert not validator.is_valid(event | {"event": "no such event"})


def test_an_unknown_name_is_refused() -> None:
    assert CliRunner().invoke(command, ["plam"]).exit_code == 2
