"""Pairs of settings that exclude each other are refused, each with both names and the reason."""

import pytest
from tests.unit.planning.planned import CPU, make_profile

from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import FineTuneError
from finetune_exe.planning.analyze import analyze
from finetune_exe.planning.contradictions import CONTRADICTIONS

CASES = {
    "_gpus": ("parallelism.kind=ddp", "parallelism.num_gpus"),
    "_packing": ("batch.packing=true", "method.kind", "method.kind=prefix"),
    "_warmup": ("schedule.warmup.steps=100000", "schedule.epochs"),
    "_stopping": ("checkpoints.early_stopping_patience=50", "checkpoints.evaluations_per_epoch"),
    "_pairs": ("objective.kind=dpo", "data.format"),
    "_masters": ("method.masters=split", "precision.base_dtype", "method.kind=full", "precision.base_dtype=float32"),
    "_answers": ("evaluation.max_generations=0", "evaluation.metrics"),
    "_steps": ("schedule.max_steps=1000000", "schedule.epochs"),
}


def plan(*settings: str) -> None:
    spec = TaskSpec(description="write a docstring", data_paths=("rows.jsonl",))
    analyze(spec, profile=make_profile(), hardware=CPU, settings=settings)


def test_every_rule_has_a_case() -> None:
    assert {rule.__name__ for rule in CONTRADICTIONS} == set(CASES)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_both_settings_are_named(case: tuple[str, ...]) -> None:
    setting, other, *beside = case
    with pytest.raises(FineTuneError) as caught:
        plan(*beside, setting)
    assert caught.value.code == "C11"
    assert setting.split("=", maxsplit=1)[0] in caught.value.where
    assert other in caught.value.where


def test_weights_in_4_bit_are_not_cut_up() -> None:
    pair = ("parallelism.num_gpus=4", "method.kind=qlora")
    with pytest.raises(FineTuneError, match="deepspeed_zero2 leaves them so"):
        plan("parallelism.kind=deepspeed_zero3", *pair)
    plan("parallelism.kind=deepspeed_zero2", *pair)


def test_settings_that_agree_are_taken() -> None:
    plan("schedule.warmup.steps=10", "checkpoints.early_stopping_patience=2", "schedule.max_steps=50")
