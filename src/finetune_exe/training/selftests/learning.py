"""Ways to compute the same gradient must give the same gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.domain.plan import Optimizer, Precision
from finetune_exe.models.forward import LossFunction, pack
from finetune_exe.models.load import load_model
from finetune_exe.models.packing import use_row_attention
from finetune_exe.training.selftests.bench import NUM_ROWS, Bench
from finetune_exe.training.selftests.measure import Measured, NotMeasuredError, distance
from finetune_exe.training.setup import Setup, set_up
from finetune_exe.training.step import learn

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from finetune_exe.domain.plan import Plan

OURS = "ours, row by row"
FLOAT32, BFLOAT16 = (Precision(base_dtype=dtype, tf32=False) for dtype in ("float32", "bfloat16"))
"""Exact to what their bits allow: in TF32 the ways below differ by more than float32 rounds."""


class Gradient(NamedTuple):
    """Loss and gradient of one step."""

    loss: float
    tensors: list[torch.Tensor]


def gradient(bench: Bench, plan: Plan, *, micro_batch: int) -> Gradient:
    """Set up a plan and compute one step over all rows, so many of them at a time."""
    setup = set_up(plan, bench.base)
    batches = [bench.rows(range(start, start + micro_batch)) for start in range(0, NUM_ROWS, micro_batch)]
    loss = learn(setup, batches, max_norm=None).loss
    return Gradient(loss, gradients(setup))


def gradients(setup: Setup) -> list[torch.Tensor]:
    """List the gradients of all trained weights; one that got none counts as zero."""
    return [p.detach() * 0 if p.grad is None else p.grad for p in setup.trainable]


def accumulation(bench: Bench) -> Measured:
    """Compare the gradient of eight passes of one row with that of one pass of eight rows."""
    plan = bench.plan(precision=FLOAT32)
    whole, parts = gradient(bench, plan, micro_batch=NUM_ROWS), gradient(bench, plan, micro_batch=1)
    apart = distance(parts.tensors, whole.tensors)
    return Measured(max(apart, abs(parts.loss / whole.loss - 1)), "gradient and loss, relative")


def padding(bench: Bench) -> Measured:
    """Compare the losses of rows in one padded batch with those of each row alone."""
    import torch

    setup = set_up(bench.plan(precision=FLOAT32), bench.base)
    with torch.no_grad():
        together = setup.losses(bench.rows(range(NUM_ROWS))).nll_N
        alone = torch.cat([setup.losses(bench.rows([index])).nll_N for index in range(NUM_ROWS)])
    return Measured(distance([together], [alone]), "losses of all learned tokens, relative")


def packing(bench: Bench) -> Measured:
    """Compare the losses of rows that lie end to end with those of each row alone, under each kind of attention.

    Those that this installation and this model do not have are left out, and the worst of the others counts.
    """
    import torch

    found: dict[str, float] = {}
    model = load_model(bench.base, dtype=bench.dtype, device=bench.device).eval()
    rows = sorted(range(len(bench.sequences)), key=lambda index: bench.sequences[index].tokens.tolist())
    ordered = [bench.sequences[index] for index in rows]
    packed, once = (
        pack(ordered, pad_token_id=bench.tokenizer.pad_token_id, device=bench.device, beginning_once=beginning_once)
        for beginning_once in (False, True)
    )
    precision = FLOAT32 if bench.dtype == "float32" else BFLOAT16
    for kind in _attentions(model, bench.device):
        losses = LossFunction(model, precision, device=bench.device)
        with torch.no_grad():
            alone = torch.cat([losses(bench.rows([index])).nll_N for index in rows])
            found[kind] = distance([losses(packed).nll_N], [alone])
            if kind == OURS:
                found[f"{kind}, their beginning once"] = distance([losses(once).nll_N], [alone])
    worst = max(found, key=lambda kind: found[kind])
    return Measured(found[worst], f"losses of all learned tokens, relative; worst of {', '.join(found)}: {worst}")


def _attentions(model: PreTrainedModel, device: str) -> Iterator[str]:
    """Switch a model to each kind of attention that it can have here, one after the other, and name it."""
    from transformers.utils import is_flash_attn_2_available

    kinds = ["eager", "sdpa", *(["flash_attention_2"] if device == "cuda" and is_flash_attn_2_available() else [])]
    for kind in kinds:
        try:
            model.set_attn_implementation(kind)
        except (ValueError, ImportError):
            continue  # the architecture has no such attention
        yield kind
    if use_row_attention(model):
        yield OURS


def recomputing(bench: Bench) -> Measured:
    """Compare the gradient with activations computed again in the backward pass with that of stored ones."""
    stored = gradient(bench, bench.plan(precision=FLOAT32), micro_batch=NUM_ROWS)
    anew = FLOAT32.model_copy(update={"gradient_checkpointing": True})
    again = gradient(bench, bench.plan(precision=anew), micro_batch=NUM_ROWS)
    return Measured(distance(again.tensors, stored.tensors), "gradient, relative")


def attention(bench: Bench) -> Measured:
    """Compare the losses under PyTorch's fused attention with those under attention written out."""
    import torch

    found = []
    for kind in ("sdpa", "eager"):
        model = load_model(bench.base, dtype="float32", device=bench.device).eval()
        model.set_attn_implementation(kind)
        with torch.no_grad():
            found.append(LossFunction(model, FLOAT32, device=bench.device)(bench.rows(range(NUM_ROWS))).nll_N)
    return Measured(distance(found[:1], found[1:]), "losses of all learned tokens, relative")


def optimizer(bench: Bench) -> Measured:
    """Compare the first step of AdamW with its formula, computed in float64.

    After one step both running means are the gradient and its square, so a weight moves by
    rate x (gradient / (|gradient| + 1e-8) + decay x weight).

    Source: Loshchilov and Hutter, arXiv 1711.05101, algorithm 2.
    """
    settings = Optimizer(learning_rate=1e-3, weight_decay=0.1)
    setup = set_up(bench.plan(precision=FLOAT32, optimizer=settings), bench.base)
    learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=None)
    weights = [(weight, group["weight_decay"]) for group in setup.optimizer.param_groups for weight in group["params"]]
    before = [weight.detach().double().clone() for weight, _ in weights]
    slopes = [weight.grad.double().clone() for weight, _ in weights]
    setup.optimizer.step()
    moved = [weight.detach().double() - old for (weight, _), old in zip(weights, before, strict=True)]
    formula = [
        -settings.learning_rate * (slope / (slope.abs() + 1e-8) + decay * old)
        for slope, old, (_, decay) in zip(slopes, before, weights, strict=True)
    ]
    return Measured(distance(moved, formula), "movement of the weights, relative")


def four_bit(bench: Bench) -> Measured:
    """Compare the gradient of adapters on 4-bit weights with that on the same weights written out."""
    from importlib.util import find_spec

    import torch

    if find_spec("bitsandbytes") is None:
        raise NotMeasuredError("bitsandbytes is not installed")
    from bitsandbytes.nn import Linear4bit

    from finetune_exe.models.four_bit import whole_weight

    quantised = set_up(bench.plan("qlora", precision=BFLOAT16), bench.base)
    plain = set_up(bench.plan("lora", precision=BFLOAT16), bench.base)
    written_out = dict(plain.model.named_modules())
    with torch.no_grad():
        for name, layer in quantised.model.named_modules():
            if isinstance(layer, Linear4bit):
                written_out[name].weight.copy_(whole_weight(layer))
        for one, other in zip(plain.trainable, quantised.trainable, strict=True):
            one.copy_(other)
            one.add_(0.01)
            other.add_(0.01)
        quantised.losses(bench.rows([0]))  # a pass without gradients may change how weights are kept
    for setup in (quantised, plain):
        learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=None)
    return Measured(distance(gradients(quantised), gradients(plain)), "gradient of the adapters, relative")
