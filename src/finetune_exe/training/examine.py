"""Look into a run with its model and data, in less than a minute: what is learned, and whether anything moves."""

from __future__ import annotations

import gc
import math
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.plan import Parallelism, Plan
from finetune_exe.models.forward import Rows, batch_of
from finetune_exe.models.load import choose_attention, load_base, pick_device
from finetune_exe.models.methods import training_method
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.encode import encode
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.training.optimizers import set_learning_rate
from finetune_exe.training.setup import Setup, set_up
from finetune_exe.training.step import learn

STEPS = 12
_ROWS = 4
_SHOWN_CHARACTERS = 600
_RENDERED_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a look into a run showed."""

    num_sequences: int
    learned_share: float
    """Tokens that are learned, of all in the training split."""
    num_unlearned: int
    """Sequences without a learned token."""
    decoded: str
    """A training sequence as text, what is learned between guillemets."""
    num_rendered: int
    num_rendered_alike: int
    """Rows whose rendering now gives the very tokens that were prepared."""
    losses: tuple[float, ...]
    """Of a few steps over and over on one batch, at the plan's learning rate, from the untrained start."""
    num_trainable: int
    still: tuple[str, ...]
    """Trainable tensors that got no gradient in any of these steps."""
    adapter_effect: float | None
    """Largest difference the trained model makes to a logit of the base; None where there is no trained model."""

    @property
    def learns(self) -> bool:
        """Whether the loss of the one batch went down, and stayed a number."""
        return all(map(math.isfinite, self.losses)) and min(self.losses[-3:]) < 0.97 * self.losses[0]


def examine(
    plan: Plan, data: PreparedFolder, *, base: Path, tokenizer: ChatTokenizer, trained: Path | None
) -> Examination:
    """Count what is learned, decode a row, render rows again, train on one batch, and compare trained with base.

    Args:
        plan: The run's plan.
        data: Its prepared dataset.
        base: Folder of the base model.
        tokenizer: The base model's.
        trained: What the run left; None where it left nothing.
    """
    split = data.split("train")
    learned = [split.sequence(i) for i in range(len(split))]
    tokens, counted = sum(len(view.tokens) for view in learned), sum(int(view.learned.sum()) for view in learned)
    with_targets = [i for i, view in enumerate(learned) if view.learned.any()]
    shortest = sorted(with_targets, key=lambda i: len(learned[i].tokens))[:_ROWS]
    rendered = [row for row, _ in zip(split.stream_rows(), range(_RENDERED_ROWS), strict=False)]
    known = {tuple(map(int, view.tokens)) for view in learned}
    alike = 0
    for row in rendered:
        made = encode(from_json(row.conversation), tokenizer, max_length=plan.data.max_length)
        alike += isinstance(made, tuple) and all(sequence.tokens in known for sequence in made)
    setup = set_up(plan.model_copy(update={"parallelism": Parallelism()}), base)  # this process looks alone
    batch = batch_of(split, shortest or [0], pad_token_id=tokenizer.pad_token_id, device=setup.device)
    losses, still = _train_on(setup, batch, plan) if shortest else ((), ())
    num_trainable = len(setup.trainable)
    del setup
    gc.collect()
    return Examination(
        num_sequences=len(split),
        learned_share=counted / max(1, tokens),
        num_unlearned=len(split) - len(with_targets),
        decoded=_decoded(learned[0].tokens, learned[0].learned, tokenizer)[:_SHOWN_CHARACTERS],
        num_rendered=len(rendered),
        num_rendered_alike=alike,
        losses=losses,
        num_trainable=num_trainable,
        still=still,
        adapter_effect=None if trained is None else _effect(plan, batch, base=base, trained=trained),
    )


def _train_on(setup: Setup, batch: Rows, plan: Plan) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """Step on one batch over and over; collect its losses and the tensors that no gradient reached."""
    import torch

    names = {id(parameter): name for name, parameter in setup.model.named_parameters()}
    moved: set[int] = set()
    losses = []
    set_learning_rate(setup.optimizer, plan.optimizer.learning_rate)
    for _ in range(STEPS):
        losses.append(learn(setup, [batch], max_norm=plan.optimizer.max_grad_norm).loss)
        moved |= {id(p) for p in setup.trainable if p.grad is not None and bool(torch.any(p.grad != 0))}
        setup.optimizer.step()
    return tuple(losses), tuple(names[id(p)] for p in setup.trainable if id(p) not in moved)


def _effect(plan: Plan, batch: Rows, *, base: Path, trained: Path) -> float:
    import torch

    device = pick_device()
    dtype = plan.precision.base_dtype
    outputs = []
    for make in (
        lambda: load_base(base, plan.method, dtype=dtype, device=device).eval(),
        lambda: training_method(plan.method).load(trained, base, plan.method, dtype=dtype, device=device),
    ):
        model = choose_attention(make())
        with torch.no_grad():
            outputs.append(model(input_ids=batch.ids_BT[:1]).logits.float())
        del model
        gc.collect()
    return float((outputs[0] - outputs[1]).abs().max())


def _decoded(tokens: object, learned: object, tokenizer: ChatTokenizer) -> str:
    """Write a sequence as text with marks around what is learned."""
    ids, flags = list(tokens), list(learned)  # type: ignore[call-overload]
    text, start = "", 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or flags[i] != flags[start]:
            piece = tokenizer.decode([int(token) for token in ids[start:i]])
            text += f"\u00ab{piece}\u00bb" if flags[start] else piece
            start = i
    return text
