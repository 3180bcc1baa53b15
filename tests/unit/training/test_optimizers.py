"""Optimizers against their papers' formulas, and groups against transformers' and PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_exe.domain.plan import Full, Lora, Optimizer
from finetune_exe.domain.task import TaskSpec
from finetune_exe.estimate.planned import plan_workload
from finetune_exe.models.load import load_base
from finetune_exe.models.methods import training_method
from finetune_exe.planning.analyze import analyze
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.training.optimizers import (
    FROM_BITSANDBYTES,
    OPTIMIZERS,
    Group,
    make_optimizer,
    parameter_groups,
    set_learning_rate,
)

RATE, DECAY = 1e-2, 0.1


def adamw(weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Loshchilov and Hutter 2019, algorithm 2."""
    first = second = torch.zeros_like(weight)
    for step, gradient in enumerate(gradients, start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.99 * second + 0.01 * gradient**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.99**step)
        weight = weight * (1 - RATE * DECAY) - RATE * mean / (square.sqrt() + 1e-8)
    return weight


def lion(weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Chen et al. 2023, algorithm 2."""
    kept = torch.zeros_like(weight)
    for gradient in gradients:
        move = torch.sign(0.9 * kept + 0.1 * gradient)
        weight = weight * (1 - RATE * DECAY) - RATE * move
        kept = 0.99 * kept + 0.01 * gradient
    return weight


def adafactor(weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    """Shazeer and Stern 2018, algorithm 4, the step size given and not relative."""
    rows, columns = torch.zeros(weight.shape[0]), torch.zeros(weight.shape[1])
    for step, gradient in enumerate(gradients, start=1):
        keep = 1 - step**-0.8
        square = gradient**2 + 1e-30
        rows = keep * rows + (1 - keep) * square.mean(dim=1)
        columns = keep * columns + (1 - keep) * square.mean(dim=0)
        move = gradient / (torch.outer(rows, columns) / rows.mean()).sqrt()
        move = move / max(1.0, float(move.pow(2).mean().sqrt()))
        weight = weight - RATE * DECAY * weight - RATE * move
    return weight


FORMULAS = {"adamw": adamw, "lion": lion, "adafactor": adafactor}


def moved(kind: Any, weight: torch.Tensor, gradients: list[torch.Tensor]) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    settings = Optimizer(kind=kind, learning_rate=RATE, beta1=0.9, beta2=0.99)
    optimizer = make_optimizer(settings, [Group(params=[parameter], weight_decay=DECAY, lr_ratio=1.0)], Full())
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def example(shape: tuple[int, ...] = (12, 9)) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(shape, generator=generator), [torch.randn(shape, generator=generator) for _ in range(4)]


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_step_is_the_paper_s(kind: str) -> None:
    weight, gradients = example()
    torch.testing.assert_close(moved(kind, weight, gradients), FORMULAS[kind](weight, gradients), rtol=1e-5, atol=1e-6)


def test_estimates_know_that_the_kernels_are_fused() -> None:
    """They write no temporary as large as all that is trained, which the memory estimate would count."""
    (weight,) = (torch.nn.Parameter(torch.zeros(4)),)
    optimizer = make_optimizer(Optimizer(), [Group(params=[weight], weight_decay=0.0, lr_ratio=1.0)], Full())
    assert optimizer.defaults["fused"]
    plan = analyze(TaskSpec(description="answer", model="llama 3.2 1b", method="full"), profile=None,
                   hardware=parse_hardware("H100"))  # fmt: skip
    workload = plan_workload(plan)
    assert workload is not None
    assert not workload.optimizer.foreach


def test_states_in_8_bit_move_nearly_alike() -> None:
    weight, gradients = example((64, 128))
    exact, rough = moved("adamw", weight, gradients) - weight, moved("adamw_8bit", weight, gradients) - weight
    assert not torch.equal(exact, rough)
    assert torch.nn.functional.cosine_similarity(exact.flatten(), rough.flatten(), dim=0) > 0.99


def test_every_optimizer_is_held_against_something() -> None:
    assert set(OPTIMIZERS) == {*FORMULAS, "adamw_8bit", "paged_adamw_8bit"}
    assert set(OPTIMIZERS) >= FROM_BITSANDBYTES


def attached(base: Path, method: Any) -> Any:
    model = load_base(base, method, dtype="float32", device="cpu")
    return training_method(method).attach(model, method, base=base, base_name="x")


def test_weight_decay_spares_what_transformers_spares(base: Path) -> None:
    from transformers import Trainer

    model = attached(base, Full())
    groups = parameter_groups(model.named_parameters(), Full(), weight_decay=0.3)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    pulled = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert pulled == set(Trainer.get_decay_parameter_names(None, model)) & set(names.values())  # type: ignore[arg-type]
    assert sum(len(group["params"]) for group in groups) == len(names)


def test_the_second_factor_is_as_much_faster_as_in_peft(base: Path) -> None:
    from peft.optimizers import create_loraplus_optimizer

    method = Lora(lora_rank=4, lora_plus_ratio=16.0)
    model = attached(base, method)
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0)
    expected = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"]}
    ours = make_optimizer(Optimizer(), parameter_groups(model.named_parameters(), method, weight_decay=0.0), method)
    set_learning_rate(ours, RATE)
    assert {id(p): group["lr"] for group in ours.param_groups for p in group["params"]} == expected
    assert sorted(set(expected.values())) == [RATE, 16 * RATE]


@pytest.mark.parametrize("name", ["ia3", "tokens"])
def test_what_must_not_go_to_zero_is_not_pulled_there(name: str, base: Path) -> None:
    from finetune_exe.domain.plan import Ia3

    method = Ia3() if name == "ia3" else Lora(trained_tokens=("<|im_end|>",))
    model = attached(base, method)
    groups = parameter_groups(model.named_parameters(), method, weight_decay=0.3)
    names = {id(parameter): path for path, parameter in model.named_parameters()}
    spared = {names[id(p)] for group in groups if not group["weight_decay"] for p in group["params"]}
    assert spared
    assert all("ia3_l" in path or "trainable_tokens" in path for path in spared)
