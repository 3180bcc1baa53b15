"""Experts in 4 bit: what they stand for, that nothing of them is kept whole, and how they learn."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from bitsandbytes.nn import Params4bit
from peft import PeftModel
from tests.unit.models.test_architectures import attached, base_of, rows_of
from tests.unit.models.test_places import EXPERTS
from transformers import AutoModelForCausalLM

from finetune_exe.domain.plan import Precision, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.load import load_base
from finetune_exe.models.methods import training_method
from finetune_exe.models.packed import Packed
from finetune_exe.training.setup import recompute

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def packed_tensors(model: Any) -> dict[str, torch.Tensor]:
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, Packed))
    return {f"{name}.{tensor}": module.whole(tensor) for name, module in found for tensor in module.packed}


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("targets", ["all-linear", ATTENTION])
@pytest.mark.parametrize("name", EXPERTS)
def test_every_expert_lies_in_4_bit(name: str, targets: Any, twice: bool, folder: Path) -> None:
    """Embeddings, output matrix, what chooses experts, norms and biases alone stay whole."""
    base, method = base_of(folder, name), Qlora(lora_rank=4, target_modules=targets, double_quantization=twice)
    model = load_base(base, method, dtype="float32", device="cpu")
    plain = AutoModelForCausalLM.from_pretrained(base)
    found = packed_tensors(model)
    assert any("experts" in path for path in found)
    for path, whole in found.items():
        expected = dequantize_4bit(
            *quantize_4bit(plain.get_parameter(path).data, quant_type="nf4", compress_statistics=twice)
        )
        assert torch.equal(whole, expected)
    kept = {path for path, value in model.named_parameters() if not isinstance(value, Params4bit)} - found.keys()
    experts = {path for path, value in plain.named_parameters() if value.ndim == 3 and path in kept}
    assert not {path for path in experts if "conv" not in path}
    assert {path for path in kept if path.endswith("proj.weight")} == set()


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("targets", ["all-linear", ATTENTION])
@pytest.mark.parametrize("name", EXPERTS)
def test_losses_and_gradients_are_those_over_the_weights_that_4_bit_stands_for(
    name: str, targets: Any, checkpointing: bool, folder: Path, tmp_path: Path
) -> None:
    base, method = base_of(folder, name), Qlora(lora_rank=4, lora_dropout=0.0, target_modules=targets)
    model = attached(base, method)
    training_method(method).save(model, tmp_path)
    plain: Any = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        for path, module in load_base(base, method, dtype="float32", device="cpu").named_modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Params4bit):
                plain.get_parameter(f"{path}.weight").copy_(dequantize_4bit(weight.data, weight.quant_state))
            if isinstance(module, Packed):
                for tensor in module.packed:
                    plain.get_parameter(f"{path}.{tensor}").copy_(module.whole(tensor))
    theirs = PeftModel.from_pretrained(plain, tmp_path, is_trainable=True)
    if checkpointing:
        recompute(model, every=2)
    rows = collate(rows_of((200,)), pad_token_id=0, device="cpu")
    found = []
    for one in (model.train(), theirs.train()):
        torch.manual_seed(1)  # some routers try experts at random
        losses = LossFunction(one, Precision(), device="cpu")(rows).nll_N
        losses.sum().backward()
        found.append((losses.detach(), {n: p.grad for n, p in one.named_parameters() if p.grad is not None}))
    (ours, our_slopes), (others, their_slopes) = found
    assert torch.allclose(ours, others, rtol=1e-4, atol=1e-5)
    assert our_slopes.keys() == their_slopes.keys()
    for path, slope in their_slopes.items():
        assert (our_slopes[path] - slope).norm() <= 1e-3 * slope.norm(), path


def test_weights_that_are_quantised_in_another_form_are_no_base_for_qlora(folder: Path, tmp_path: Path) -> None:
    """As gpt-oss is published."""
    shutil.copytree(base_of(folder, "gpt_oss"), tmp_path / "gpt")
    file = tmp_path / "gpt" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": {"quant_method": "mxfp4"}}))
    with pytest.raises(FineTuneError, match="stored quantised already, as mxfp4") as raised:
        load_base(tmp_path / "gpt", Qlora(), dtype="float32", device="cpu")
    assert raised.value.code == "M03"
    assert "in bfloat16" in raised.value.fix
