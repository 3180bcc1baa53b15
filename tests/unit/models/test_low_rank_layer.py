"""The fast adapter layer against PEFT's own."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear

from finetune_exe.models.low_rank_layer import FastLinear, compute_adapters_fast


class Two(torch.nn.Module):
    """Two layers and a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(12, 20)
        self.down = torch.nn.Linear(20, 12, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.silu(self.up(x)))


def pair(**settings: object) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Give the same network with PEFT's layers and with ours, adapters away from zero."""
    torch.manual_seed(0)
    network = Two()
    given = {"r": 4, "lora_alpha": 12, "target_modules": ["up", "down"], "init_lora_weights": False, **settings}
    theirs = get_peft_model(copy.deepcopy(network), LoraConfig(**given))
    ours = get_peft_model(network, compute_adapters_fast(LoraConfig(**given)))
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def kinds(network: torch.nn.Module) -> set[type]:
    return {type(module) for module in network.modules() if isinstance(module, Linear)}


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(
    "settings", [{}, {"use_rslora": True}, {"use_dora": True}, {"lora_bias": True, "target_modules": ["up"]}]
)
def test_outputs_and_gradients_are_pefts(bf16: bool, settings: dict[str, object]) -> None:
    theirs, ours = pair(**settings)
    assert kinds(theirs) == {Linear}
    assert kinds(ours) == {FastLinear}
    tolerance = 2e-2 if bf16 else 1e-5
    found = []
    for network in (theirs, ours):
        if bf16:
            for name, parameter in network.named_parameters():
                parameter.data = parameter.data if "lora" in name else parameter.data.bfloat16()
        torch.manual_seed(1)
        x = torch.randn(2, 5, 12, dtype=torch.bfloat16 if bf16 else torch.float32, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            out = network(x)
        out.float().square().sum().backward()
        assert out.dtype == x.dtype
        gradients = [p.grad.float() for _, p in sorted(network.named_parameters()) if p.requires_grad]
        found.append([out.detach().float(), x.grad.float(), *gradients])
        assert all(p.dtype == torch.float32 for p in network.parameters() if p.requires_grad)
    for their, our in zip(*found, strict=True):
        assert (their - our).norm() <= tolerance * their.norm()


def test_switched_off_merged_and_thinned_adapters_are_pefts() -> None:
    theirs, ours = pair(lora_dropout=0.5)
    x = torch.randn(3, 12)
    for network in (theirs, ours):
        network.train()
    outputs = []
    for network in (theirs, ours):
        torch.manual_seed(2)
        outputs.append(network(x))
        with network.disable_adapter():
            outputs.append(network(x))
        network.merge_adapter()
        outputs.append(network.eval()(x))
    for their, our in zip(outputs[:3], outputs[3:], strict=True):
        torch.testing.assert_close(their, our)
    assert not torch.allclose(outputs[0], outputs[1])


def test_layers_in_four_bit_are_left_to_peft() -> None:
    from bitsandbytes.nn import Linear4bit

    class Quantised(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = Linear4bit(64, 64, quant_type="nf4")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(x)

    tuned = get_peft_model(Quantised(), compute_adapters_fast(LoraConfig(r=4, target_modules=["up"])))
    assert FastLinear not in {type(module) for module in tuned.modules()}
