"""Where adapters go in models with experts or state-space blocks, and that a plan counts them as PEFT makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft.tuners.lora.layer import ParamWrapper
from tests.unit.models.test_architectures import MODELS, UNSHAPED, attached, base_of, rows_of, same
from transformers import AutoModelForCausalLM

from finetune_exe.domain.plan import Lora, Method, Precision, Prefix, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import ALL_LINEAR, count_lora_parameters
from finetune_exe.estimate.targets import read_targets
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.load import load_base
from finetune_exe.models.merge import merge_checkpoint, merged
from finetune_exe.models.methods import training_method
from finetune_exe.planning.model_config import config_shape

EXPERTS = ["mixtral", "qwen2_moe", "qwen3_moe", "phimoe", "granitemoe", "deepseek_v2", "deepseek_v3", "gpt_oss",
           "llama4_text", "glm4_moe"]  # fmt: skip
STATE_SPACE = ["mamba", "mamba2", "falcon_h1", "nemotron_h", "jamba", "granitemoehybrid"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def trained(model: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def planned(base: Path, method: Lora | Qlora) -> int:
    """Count as a plan does, from the configuration file alone."""
    shape = config_shape(json.loads((base / "config.json").read_bytes()))
    assert shape is not None
    named = None if method.target_modules == "all-linear" else read_targets(" ".join(method.target_modules))
    return count_lora_parameters(shape, rank=method.lora_rank, targets=named or ALL_LINEAR)


@pytest.mark.parametrize("name", sorted(set(MODELS) - UNSHAPED))
def test_a_plan_counts_the_adapters_that_peft_makes(name: str, folder: Path) -> None:
    base, method = base_of(folder, name), Lora(lora_rank=4, lora_dropout=0.0)
    assert planned(base, method) == sum(map(torch.Tensor.numel, trained(attached(base, method)).values()))


@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize(
    "method",
    [
        Qlora(lora_rank=4, lora_dropout=0.0),
        Lora(lora_rank=3, lora_dropout=0.0, target_modules=("o_proj", "gate_proj", "up_proj", "down_proj")),
        Qlora(lora_rank=3, lora_dropout=0.0, target_modules=("o_proj", "gate_proj", "up_proj", "down_proj")),
        Qlora(lora_rank=3, target_modules=("o_proj",)),
    ],
)
def test_every_expert_that_is_meant_learns_and_no_other(name: str, method: Lora | Qlora, folder: Path) -> None:
    base = base_of(folder, name)
    model = attached(base, method)
    found = trained(model)
    assert planned(base, method) == sum(map(torch.Tensor.numel, found.values()))
    assert any("experts" in path for path in found) == (method.target_modules != ("o_proj",))
    rows = collate(rows_of((200,)), pad_token_id=0, device="cpu")
    LossFunction(model, Precision(), device="cpu")(rows).nll_N.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in found.values())
    assert not any("router" in path or path.endswith("mlp.gate.lora_A.default.weight") for path in found)


@pytest.mark.parametrize("name", EXPERTS)
def test_an_adapter_on_experts_in_4_bit_is_read_and_folded_by_peft(name: str, folder: Path, tmp_path: Path) -> None:
    base, method = base_of(folder, name), Qlora(lora_rank=4, lora_dropout=0.0)
    model = attached(base, method)
    training_method(method).save(model, tmp_path / "tuned")
    ours = training_method(method).load(tmp_path / "tuned", base, method, dtype="float32", device="cpu")
    theirs = merge_checkpoint(tmp_path / "tuned", base, method, dtype="float32", device="cpu")
    ids = torch.from_numpy(rows_of((25,))[0][0])[None]
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        assert same(ours(input_ids=ids).logits, logits)
        assert same(merged(ours)(input_ids=ids).logits, logits)
        assert same(theirs(input_ids=ids).logits, logits)
        assert not any(isinstance(module, ParamWrapper) for module in theirs.modules())
        bare = AutoModelForCausalLM.from_pretrained(base).eval()
        assert not same(bare(input_ids=ids).logits, logits)


@pytest.mark.parametrize("name", STATE_SPACE)
@pytest.mark.parametrize("method", [Lora(lora_dropout=0.0), Qlora(lora_dropout=0.0)])
def test_state_space_layers_that_are_not_called_stay_as_they_are(name: str, method: Method, folder: Path) -> None:
    model = attached(base_of(folder, name), method)
    uncalled = [module for path, module in model.named_modules() if path.endswith(("mixer.dt_proj", "mamba.dt_proj"))]
    assert all(type(module) is torch.nn.Linear for module in uncalled)
    assert bool(uncalled) == (name in {"mamba", "jamba"})
    assert any(isinstance(module, Linear4bit) for module in model.modules()) == isinstance(method, Qlora)
    rows = collate(rows_of((25,)), pad_token_id=0, device="cpu")
    LossFunction(model, Precision(), device="cpu")(rows).nll_N.sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in trained(model).values())


@pytest.mark.parametrize("name", STATE_SPACE)
def test_a_prefix_for_layers_without_keys_is_refused_before_weights_are_read(
    name: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_bytes((base_of(folder, name) / "config.json").read_bytes())
    with pytest.raises(FineTuneError, match="keep no keys and values") as raised:
        load_base(tmp_path, Prefix(), dtype="float32", device="cpu")
    assert raised.value.code == "T02"
