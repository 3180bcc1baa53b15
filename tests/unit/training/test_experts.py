"""A run over a model with experts: counted as planned, resumed to the bit, and said what stays as it is."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan
from tests.unit.training.processes import together
from tests.unit.training.test_ranks import learn_share, weights
from tests.unit.training.test_resume import COMMON, Run
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from finetune_exe.domain.events import Noticed, RunStarted
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.models.forward import LossFunction, mean_loss
from finetune_exe.models.methods import training_method
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training.preflight import check_trainable


@pytest.fixture(scope="module")
def experts(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-MoE whose first layer has an MLP in the experts' place, with the tiny model's tokenizer."""
    folder = tmp_path_factory.mktemp("experts") / "tiny"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, num_experts=4, num_experts_per_tok=2,
        mlp_only_layers=[0], max_position_embeddings=256, initializer_range=0.2,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_resumed_run_over_experts_is_the_uninterrupted_one(
    method: str, make: MakePlan, data: PreparedFolder, experts: Path, tmp_path: Path
) -> None:
    plan = make(f"model.reference={experts}", f"method.kind={method}", *COMMON)
    whole, parted = Run(plan, data, experts, tmp_path / "whole"), Run(plan, data, experts, tmp_path / "parted")
    summary = whole.start()
    parted.stop(4)
    assert parted.start().best_validation_loss == summary.best_validation_loss
    file = f"{summary.checkpoint}/adapter_model.safetensors"
    one, other = load_file(tmp_path / "whole" / file), load_file(tmp_path / "parted" / file)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any("experts" in name for name in one)
    assert any("layers.0.mlp.gate_proj" in name for name in one)
    workload = plan_workload(plan)
    assert workload is not None
    started = next(event for event in whole.events if isinstance(event, RunStarted))
    assert started.num_trainable_parameters == workload.num_trained == sum(map(torch.Tensor.numel, one.values()))
    loaded = training_method(plan.method).load(
        tmp_path / "whole" / summary.checkpoint, experts, plan.method, dtype="float32", device="cpu"
    )
    losses = LossFunction(loaded, plan.precision, device="cpu")
    again = mean_loss(losses, data.split("validation"), pad_token_id=data.manifest.pad_token_id)
    assert again == pytest.approx(summary.best_validation_loss, rel=1e-5)


@pytest.mark.parametrize("setting", ["method.use_dora=true", "method.lora_dropout=0.1"])
def test_what_experts_do_not_take_is_refused_before_anything_is_loaded(
    setting: str, make: MakePlan, experts: Path
) -> None:
    plan = make(f"model.reference={experts}", "method.kind=lora", setting)
    with pytest.raises(FineTuneError, match="adapters of experts") as raised:
        check_trainable(plan)
    assert raised.value.code == "T02"
    assert setting.partition("=")[0] in raised.value.fix
    check_trainable(make(f"model.reference={experts}", setting, "method.target_modules=[q_proj]"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("method.kind=lora",), []),
        (("method.kind=lora", "method.target_modules=[q_proj]"), ["stay as they are"]),
        (("method.kind=qlora",), []),
        (("method.kind=qlora", "method.target_modules=[q_proj]"), ["stay as they are"]),
    ],
)
def test_a_run_says_what_it_leaves_of_the_experts(
    settings: tuple[str, ...], said: list[str], make: MakePlan, data: PreparedFolder, experts: Path, tmp_path: Path
) -> None:
    run = Run(make(f"model.reference={experts}", *settings, "schedule.max_steps=1"), data, experts, tmp_path / "run")
    summary = run.start()
    noticed = [event.message for event in run.events if isinstance(event, Noticed)]
    share = 4 * 3 * 32 * 16 / Qwen3MoeForCausalLM.from_pretrained(experts).num_parameters()
    for remarks in (noticed, summary.remarks):
        about = [remark for remark in remarks if "experts" in remark]
        assert len(about) == len(said)
        assert all(words in remark for words, remark in zip(said, about, strict=True))
        assert all(f"{share:.0%} of the weights" in remark for remark in about)


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_processes_train_experts_together_as_one_does_alone(
    kind: str, make: MakePlan, data: PreparedFolder, experts: Path, tmp_path: Path
) -> None:
    settings = (f"model.reference={experts}", "method.kind=lora", "schedule.max_steps=3", "batch.micro_batch_size=2",
                "optimizer.learning_rate=1e-3")  # fmt: skip
    alone = Run(make(*settings, "batch.gradient_accumulation_steps=2"), data, experts, tmp_path / "alone")
    summary = alone.start()
    spread = make(*settings, "batch.gradient_accumulation_steps=1", f"parallelism.kind={kind}",
                  "parallelism.num_gpus=2")  # fmt: skip
    found = together(
        learn_share, tmp_path / "told", count=2, plan=spread.model_dump_json(by_alias=True), data=str(data.path),
        base=str(experts), run=str(tmp_path / "together"),
    )  # fmt: skip
    assert found[0]["losses"] == pytest.approx(list(alone.losses.values()), rel=1e-5)
    one, many = weights(tmp_path / "alone", summary.checkpoint), weights(tmp_path / "together", found[0]["checkpoint"])
    assert (one - many).norm() <= 1e-5 * one.norm()
