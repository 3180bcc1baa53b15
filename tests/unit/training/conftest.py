"""A tiny model and prepared rows for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny import write_model, write_rows

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training import course
from finetune_exe.workflow.plans import make_plan

SMALL = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)
MakePlan = Callable[..., Plan]


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no checkpoint be left out because a busy machine took long to write one."""
    monkeypatch.setattr(course, "QUICK_SECONDS", math.inf)


@pytest.fixture(scope="package")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="package")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="package")
def make(base: Path, rows_file: Path) -> MakePlan:
    def made(*settings: str) -> Plan:
        spec = TaskSpec(description="answer", data_paths=(str(rows_file),), model=str(base))
        kind = next((value[12:] for value in settings if value.startswith("method.kind=")), "lora")
        low_rank = kind in ("lora", "qlora")
        usual = ("data.group_by=topic", "precision.base_dtype=float32", "batch.packing=false",
                 "checkpoints.samples_per_evaluation=0",
                 *["method.lora_dropout=0.0"] * low_rank)  # fmt: skip
        return make_plan(spec, hardware=SMALL, settings=(*usual, *settings))

    return made


@pytest.fixture(scope="package")
def data(make: MakePlan, base: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    prepare(make(), load_tokenizer(base, chat_template=None), folder)
    return load_dataset(folder)
