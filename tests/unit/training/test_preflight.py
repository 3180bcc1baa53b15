"""What the trainer cannot do is refused before anything is loaded."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tests.unit.training.conftest import MakePlan

from finetune_exe.errors import FineTuneError
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training import preflight
from finetune_exe.training.loop import train
from finetune_exe.training.preflight import check_trainable


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (("parallelism.kind=ddp", "parallelism.num_gpus=4"), "4 processes"),
        (("parallelism.kind=fsdp", "parallelism.num_gpus=2"), "parallelism.kind=fsdp"),
        (("parallelism.kind=deepspeed_zero2", "parallelism.num_gpus=2"), "parallelism.kind=deepspeed_zero2"),
        (("method.kind=prefix", "precision.gradient_checkpointing=true"), "prefix"),
    ],
)
def test_settings_that_would_not_be_in_force_are_refused(
    settings: tuple[str, ...], named: str, make: MakePlan, data: PreparedFolder, tmp_path: Path
) -> None:
    events: list[object] = []
    with pytest.raises(FineTuneError, match=r"error\[FT-T02\]") as caught:
        train(make(*settings), data, base=tmp_path / "no model", run=tmp_path / "run", emit=events.append)
    assert named in caught.value.what
    assert not events
    assert not (tmp_path / "run").exists()
    if settings[0].startswith("parallelism"):
        way = "--set parallelism.kind=fsdp" if "deepspeed" in named else "--launch torchrun --processes"
        assert way in caught.value.fix


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        (("method.kind=full", "method.masters=split", "precision.base_dtype=bfloat16"), "method.masters=float32"),
        (("optimizer.kind=adamw_8bit",), "optimizer.kind=adamw"),
        (("method.kind=qlora",), "method.kind=lora"),
    ],
)
def test_what_would_not_stay_exact_is_not_cut_up(
    settings: tuple[str, ...], way: str, make: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "current_ranks", lambda: Ranks(count=2))
    with pytest.raises(FineTuneError, match=r"error\[FT-T02\]: .* cannot be cut up") as caught:
        check_trainable(make("parallelism.kind=fsdp", "parallelism.num_gpus=2", *settings))
    assert way in caught.value.fix


@pytest.mark.parametrize("setting", ["method.kind=qlora", "optimizer.kind=adamw_8bit"])
def test_a_missing_bitsandbytes_is_named_with_its_command(
    setting: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, find_spec = make(setting), importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest)
    )
    with pytest.raises(FineTuneError, match=r"error\[FT-X01\].*'bitsandbytes'"):
        train(plan, data, base=base, run=tmp_path, emit=lambda _: None)
