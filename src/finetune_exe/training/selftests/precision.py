"""Number formats must be as exact as their bits allow, and no more rounded than that."""

from __future__ import annotations

from finetune_exe.domain.plan import Optimizer
from finetune_exe.models.forward import LossFunction
from finetune_exe.models.load import load_model
from finetune_exe.training.selftests.bench import NUM_ROWS, Bench
from finetune_exe.training.selftests.learning import BFLOAT16, FLOAT32
from finetune_exe.training.selftests.measure import Measured, distance
from finetune_exe.training.setup import set_up
from finetune_exe.training.step import learn


def float32_products(bench: Bench) -> Measured:
    """Compare a float32 matrix product with the same in float64: TF32 or bfloat16 in its place would show."""
    import torch

    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=generator, dtype=torch.float64) for _ in range(2))
    product = (left.float().to(bench.device) @ right.float().to(bench.device)).cpu()
    return Measured(distance([product], [left.float().double() @ right.float().double()]), "product, relative")


def bfloat16_losses(bench: Bench) -> Measured:
    """Compare the losses computed in bfloat16 with those in float32."""
    import torch

    found = []
    for precision in (BFLOAT16, FLOAT32):
        model = load_model(bench.base, dtype=precision.base_dtype, device=bench.device).eval()
        losses = LossFunction(model, precision, device=bench.device)
        with torch.no_grad():
            found.append(losses(bench.rows(range(NUM_ROWS))).nll_N)
    return Measured(distance(found[:1], found[1:]), "losses of all learned tokens, relative")


def small_updates(bench: Bench) -> Measured:
    """Count the weights that a small step of a full fine-tune in bfloat16 leaves where they were.

    Weights kept in bfloat16 would nearly all stay: their steps are a 256th of their size.
    """
    settings = Optimizer(learning_rate=1e-5)
    setup = set_up(bench.plan(precision=BFLOAT16, optimizer=settings), bench.base)
    before = [parameter.detach().clone() for parameter in setup.trainable]
    learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=None)
    setup.optimizer.step()
    pulled = stayed = 0
    for parameter, old in zip(setup.trainable, before, strict=True):
        assert parameter.grad is not None
        with_gradient = parameter.grad.abs() > 1e-6 * parameter.grad.abs().max()
        pulled += int(with_gradient.sum())
        stayed += int((with_gradient & (parameter.detach() == old)).sum())
    return Measured(stayed / max(1, pulled), f"share of {pulled:,} weights that did not move")


def same_seed(bench: Bench) -> Measured:
    """Compare the weights of two runs of two steps with one seed, adapters and dropout included."""
    from finetune_exe.domain.plan import Lora

    found = []
    for _ in range(2):
        plan = bench.plan("lora", precision=FLOAT32).model_copy(update={"method": Lora(lora_dropout=0.1)})
        setup = set_up(plan, bench.base)
        for _ in range(2):
            learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=1.0)
            setup.optimizer.step()
        found.append([parameter.detach() for parameter in setup.trainable])
    return Measured(distance(*found), "weights learned, relative")
