"""The fast adapter layer over weights in 4 bit: against PEFT's own, and what it keeps in memory."""

from __future__ import annotations

import copy
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.bnb import Linear4bit as PeftLinear4bit
from tests.tiny import VOCABULARY, write_model, write_tokenizer

from finetune_exe.domain.plan import Lora, Method, Precision, Qlora
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.load import load_base
from finetune_exe.models.low_rank_4_bit import Fast4bit, compute_4_bit_adapters_fast
from finetune_exe.models.methods import training_method
from finetune_exe.models.passes import compute_in_fewer_passes
from finetune_exe.training.memory import STATUS, peak_memory_bytes, start_measuring

WIDE, DEEP = 1024, 6


class Two(torch.nn.Module):
    """Two layers in 4 bit."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.up = Linear4bit(64, 128, quant_type="nf4", compute_dtype=dtype)
        self.down = Linear4bit(128, 64, bias=False, quant_type="nf4", compute_dtype=dtype)
        for layer in (self.up, self.down):
            layer.to(dtype)
            layer.support_avx512bf16_for_cpu = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.silu(self.up(x)))


def pair(dtype: torch.dtype, **settings: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Give the same network with PEFT's layers and with ours, adapters away from zero."""
    torch.manual_seed(0)
    network = Two(dtype).to("cpu")
    network.is_loaded_in_4bit = True  # as transformers marks a model, by which PEFT chooses its layer
    given = {"r": 4, "lora_alpha": 12, "target_modules": ["up", "down"], "init_lora_weights": False, **settings}
    theirs = get_peft_model(copy.deepcopy(network), LoraConfig(**given))
    ours = get_peft_model(network, compute_4_bit_adapters_fast(LoraConfig(**given)))
    adapters = {name: value for name, value in theirs.state_dict().items() if "lora" in name}
    ours.load_state_dict(adapters, strict=False)
    return theirs, ours


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_its_mlps_and_norms_are_computed_in_fewer_passes(dtype: Any, tmp_path: Path) -> None:
    """The loss is the same to the bit, and its gradients up to rounding."""
    base = write_model(tmp_path / "base")
    method, precision = Qlora(lora_rank=4, lora_alpha=8, use_rslora=False), Precision(base_dtype=dtype)
    rows = collate([(np.arange(1, 12), np.ones(11, bool))], pad_token_id=0, device="cpu")
    found = []
    for count in (0, 7):
        torch.manual_seed(0)
        model = training_method(method).attach(
            load_base(base, method, dtype=dtype, device="cpu"), method, base=base, base_name="base"
        )
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.05)
        assert count == 0 or compute_in_fewer_passes(model) == count
        losses = LossFunction(model, precision, device="cpu")(rows).nll_N
        losses.sum().backward()
        found.append((losses.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])))
    assert torch.equal(found[0][0], found[1][0])
    near = 2e-2 if dtype == "bfloat16" else 1e-5
    assert (found[0][1] - found[1][1]).norm() <= near * found[0][1].norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_outputs_and_gradients_are_pefts(dtype: torch.dtype, settings: dict[str, object]) -> None:
    found = []
    for network in pair(dtype, **settings):
        torch.manual_seed(1)
        x = torch.randn(2, 5, 64, dtype=dtype, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            out = network(x)
        out.float().square().sum().backward()
        gradients = [p.grad.float() for _, p in sorted(network.named_parameters()) if p.requires_grad]
        assert all(p.dtype == torch.float32 for p in network.parameters() if p.requires_grad)
        found.append([out.detach().float(), x.grad.float(), *gradients])
    for their, our in zip(*found, strict=True):
        assert (their - our).norm() <= (2e-2 if dtype == torch.bfloat16 else 1e-5) * their.norm()


def test_only_layers_in_4_bit_get_the_layer() -> None:
    kinds = [{type(m) for m in network.modules() if isinstance(m, PeftLinear4bit)} for network in pair(torch.float32)]
    assert kinds == [{PeftLinear4bit}, {Fast4bit}]


def write_wide_model(folder: Path) -> Path:
    """Few tokens' worth of activations beside many weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDE, intermediate_size=3 * WIDE, num_hidden_layers=DEEP,
        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=64,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def peak_of_a_step(base: Path, method: Method) -> int:
    """Most memory of the process while a step is computed, in bytes."""
    model: Any = load_base(base, method, dtype="bfloat16", device="cpu")
    model = training_method(method).attach(model, method, base=base, base_name="wide")
    losses = LossFunction(model, Precision(base_dtype="bfloat16"), device="cpu")
    ids = torch.arange(6, 38).numpy()
    rows = collate([(ids, ids > 0)], pad_token_id=0, device="cpu")
    start_measuring("cpu")
    for _ in range(2):
        losses(rows).nll_N.mean().backward()
    return peak_memory_bytes("cpu")


def peaks_of_a_step(base: Path) -> tuple[int, int]:
    """Measure QLoRA and LoRA, after one that loads what is loaded once."""
    torch.set_num_threads(1)
    _, four, whole = (
        peak_of_a_step(base, method) for method in (Qlora(lora_rank=4), Qlora(lora_rank=4), Lora(lora_rank=4))
    )
    return four, whole


@pytest.mark.skipif(not STATUS.exists(), reason="what a process has mapped is read from /proc")
def test_the_file_of_the_base_does_not_stay_in_memory(tmp_path: Path) -> None:
    """Weights that stay whole, such as the embeddings, are no views of it."""
    base = write_model(tmp_path / "tiny")
    model = load_base(base, Qlora(lora_rank=4), dtype="float32", device="cpu")
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if str(base) in line]
    assert model.get_input_embeddings().weight.isfinite().all()


@pytest.mark.skipif(not STATUS.exists(), reason="the peak of a process is read from /proc")
def test_a_step_over_4_bit_needs_less_memory(tmp_path: Path) -> None:
    """The weights take 4.127 bit instead of 16; matrices that are whole for a moment take some of it back."""
    base = write_wide_model(tmp_path / "wide")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:  # a heap that other tests have not filled
        four, whole = fresh.submit(peaks_of_a_step, base).result()
    weights = DEEP * (4 * WIDE * WIDE + 3 * 3 * WIDE * WIDE)
    saved = weights * (2 - (0.5 + 1 / 64 + 4 / (64 * 256)))
    assert saved / 3 < whole - four < 1.2 * saved
