"""What was learned must come back as it was, and mean the same folded into the weights."""

from __future__ import annotations

from importlib.util import find_spec

from finetune_exe.domain.plan import Lora, Optimizer
from finetune_exe.models.forward import LossFunction
from finetune_exe.models.load import choose_attention
from finetune_exe.models.merge import merged
from finetune_exe.models.methods import METHODS, training_method
from finetune_exe.training.selftests.bench import NUM_ROWS, Bench
from finetune_exe.training.selftests.learning import FLOAT32
from finetune_exe.training.selftests.measure import Measured, distance
from finetune_exe.training.setup import Setup, set_up
from finetune_exe.training.state import restore_state, save_state
from finetune_exe.training.step import learn

FAST = Optimizer(learning_rate=1e-2)
NEEDS = {"qlora": "bitsandbytes"}


def trained(bench: Bench, method: str) -> Setup:
    """Train two steps of a method, fast enough that what was learned shows."""
    setup = set_up(bench.plan(method, precision=FLOAT32, optimizer=FAST), bench.base)
    for _ in range(2):
        learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=None)
        setup.optimizer.step()
    setup.model.eval()
    return setup


def saved_is_loaded(bench: Bench) -> Measured:
    """Compare, for every method, the losses before saving with those of what was saved and loaded."""
    import torch

    rows, found = bench.rows(range(NUM_ROWS)), {}
    for name in METHODS:
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            continue
        setup = trained(bench, name)
        folder = bench.folder / f"saved-{name}"
        folder.mkdir()
        setup.method.save(setup.model, folder)
        plan = bench.plan(name)
        model = training_method(plan.method).load(folder, bench.base, plan.method, dtype="float32", device=bench.device)
        choose_attention(model)
        with torch.no_grad():
            before = setup.losses(rows).nll_N
            after = LossFunction(model, FLOAT32, device=bench.device)(rows).nll_N
        found[name] = distance([after], [before])
    worst = max(found, key=lambda name: found[name])
    return Measured(found[worst], f"losses, relative; {', '.join(found)}, the largest of {worst}")


def resumed(bench: Bench) -> Measured:
    """Compare the weights of four steps with those of two steps, a saved and restored state, and two more."""
    found, folder = [], bench.folder / "resumed"
    folder.mkdir()
    plan = bench.plan(precision=FLOAT32, optimizer=FAST).model_copy(update={"method": Lora(lora_dropout=0.1)})

    def steps(setup: Setup) -> None:
        for _ in range(2):
            learn(setup, [bench.rows(range(NUM_ROWS))], max_norm=1.0)
            setup.optimizer.step()

    setup = set_up(plan, bench.base)
    steps(setup)
    save_state(setup, folder)
    steps(setup)
    found.append([parameter.detach() for parameter in setup.trainable])
    again = set_up(plan, bench.base)
    restore_state(again, folder)
    steps(again)
    found.append([parameter.detach() for parameter in again.trainable])
    return Measured(distance(*found), "weights learned, relative")


def merged_is_adapter(bench: Bench) -> Measured:
    """Compare the losses with low-rank adapters beside the weights with those of adapters folded into them."""
    import torch

    setup = trained(bench, "lora")
    rows = bench.rows(range(NUM_ROWS))
    with torch.no_grad():
        beside = setup.losses(rows).nll_N
        model = merged(setup.model)
        folded = LossFunction(model, FLOAT32, device=bench.device)(rows).nll_N
    return Measured(distance([folded], [beside]), "losses of all learned tokens, relative")
