"""How fast this machine trains, reads and answers with this model: measured, not looked up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune_exe.domain.plan import Plan
from finetune_exe.models.forward import collate
from finetune_exe.models.generate import generate
from finetune_exe.text.encode import Sequence as TokenSequence
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.training.setup import set_up

WARM_UP_STEPS = 2
ANSWER_TOKENS = 8


class MachineSpeed(NamedTuple):
    """What was measured; tokens are counted without padding."""

    load_seconds: float
    training_tokens_per_second: float
    slowest_step_ratio: float
    """Slowest over median step: how unsteady the machine is."""
    reading_tokens_per_second: float
    answer_start_seconds: float
    """For a batch of answers, up to the first token."""
    answer_seconds_per_token: float
    """For a batch of answers, each further token."""


def probe(
    plan: Plan,
    base: Path,
    sequences: Sequence[TokenSequence],
    tokenizer: ChatTokenizer,
    *,
    num_steps: int = 3,
    answers: int = 16,
) -> MachineSpeed:
    """Train a few real steps on real rows, read them without gradients, answer with them, and time each.

    Args:
        plan: Model, method, batch and precision.
        base: Folder of the base model.
        sequences: Rows like those to come; they are used in turn.
        tokenizer: The model's.
        num_steps: Steps timed, after two to warm up.
        answers: Answers generated together.
    """
    import torch

    started = time.monotonic()
    setup = set_up(plan, base)
    load_seconds = time.monotonic() - started
    size = plan.batch.micro_batch_size
    rows = sorted(((np.array(s.tokens), np.array(s.learned)) for s in sequences), key=lambda row: len(row[0]))
    batches = [
        collate(rows[start : start + size], pad_token_id=tokenizer.pad_token_id, device=setup.device)
        for start in range(0, max(1, len(rows) - size + 1), size)
    ]
    train_seconds = []
    for step in range(WARM_UP_STEPS + num_steps):
        batch = batches[step * len(batches) // (WARM_UP_STEPS + num_steps)]
        begun = time.monotonic()
        setup.accelerator.backward(setup.losses(batch).nll_N.mean())
        setup.optimizer.step()
        setup.optimizer.zero_grad(set_to_none=True)
        if step >= WARM_UP_STEPS:
            train_seconds.append((time.monotonic() - begun) / batch.num_tokens)
    setup.model.eval()
    longest = batches[len(batches) // 2]
    with torch.no_grad():
        begun = time.monotonic()
        setup.losses(longest)
        reading = time.monotonic() - begun
    if plan.precision.base_dtype == "bfloat16":
        setup.model.to(torch.bfloat16)  # as a tuned model is loaded to be evaluated
    asked = [rows[index * len(rows) // answers] for index in range(min(answers, len(rows)))]
    prompts = [tuple(tokens[: learned.argmax()].tolist()) for tokens, learned in asked]
    times = []
    for length in (1, 1 + ANSWER_TOKENS):
        begun = time.monotonic()
        generate(setup.model, prompts, tokenizer, max_new_tokens=length, batch_size=answers,
                 bf16=plan.precision.base_dtype == "bfloat16")  # fmt: skip
        times.append(time.monotonic() - begun)
    middle = statistics.median(train_seconds)
    return MachineSpeed(
        load_seconds=load_seconds,
        training_tokens_per_second=1 / middle,
        slowest_step_ratio=max(train_seconds) / middle,
        reading_tokens_per_second=longest.num_tokens / reading,
        answer_start_seconds=times[0],
        answer_seconds_per_token=max(0.0, times[1] - times[0]) / ANSWER_TOKENS,
    )
