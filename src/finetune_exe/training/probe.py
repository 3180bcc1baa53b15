"""How fast this machine trains, reads and answers with this model: measured, not looked up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune_exe.domain.plan import Plan
from finetune_exe.estimate.rows import arrange_passes, is_paired
from finetune_exe.models.forward import Rows, arrange
from finetune_exe.models.generate import generate
from finetune_exe.models.load import torch_dtype
from finetune_exe.models.merge import merged
from finetune_exe.text.encode import Sequence as TokenSequence
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.training.setup import Setup, set_up
from finetune_exe.training.step import learn

ANSWER_TOKENS = 8
MAX_SECONDS = 40.0
"""Timing steps ends after so long, however few they are."""


class TrainingPace(NamedTuple):
    """What timed steps showed; tokens are counted without the padding that the plan's batches are expected to have."""

    tokens_per_second: float
    slowest_step_ratio: float
    """Slowest time a token over the mean: how unsteady the machine is."""
    num_steps: int


class MachineSpeed(NamedTuple):
    """What was measured; tokens are counted without padding."""

    load_seconds: float
    training_tokens_per_second: float
    slowest_step_ratio: float
    """Slowest time a token over the mean: how unsteady the machine is."""
    reading_tokens_per_second: float
    answer_start_seconds: float
    """For a batch of answers, up to the first token."""
    answer_seconds_per_token: float
    """For a batch of answers, each further token."""


def time_steps(
    plan: Plan, base: Path, sequences: Sequence[TokenSequence], tokenizer: ChatTokenizer, *, num_steps: int = 6
) -> TrainingPace:
    """Train a few real steps of a plan on its own rows and time them; nothing is kept of them.

    Args:
        plan: Model, method, batch and precision.
        base: Folder of the base model.
        sequences: An even sample of the rows; of pairs, both of each in turn.
        tokenizer: The model's.
        num_steps: Steps timed, after two to warm up.
    """
    setup = set_up(plan, base)
    return _pace(setup, _batches(sequences, plan, tokenizer, setup), num_steps, plan)


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
    load_seconds = _time_when_done() - started
    batches = _batches(sequences, plan, tokenizer, setup)
    pace = _pace(setup, batches, num_steps, plan)
    model = setup.model.eval()
    middle = batches[len(batches) // 2]
    with torch.no_grad():
        begun = _time_when_done()
        setup.losses(middle)
        reading = _time_when_done() - begun
    if plan.precision.base_dtype != "float32":
        model.to(torch_dtype(plan.precision.base_dtype))  # as a model is loaded to be evaluated
    model = merged(model)
    rows = sorted(sequences, key=lambda row: len(row.tokens))
    asked = [rows[index * len(rows) // answers] for index in range(min(answers, len(rows)))]
    prompts = [row.tokens[: row.learned.index(True)] for row in asked]
    times = []
    for length in (1, 1 + ANSWER_TOKENS):
        begun = _time_when_done()
        generate(model, prompts, tokenizer, max_new_tokens=length, batch_size=answers,
                 dtype=plan.precision.base_dtype)  # fmt: skip
        times.append(_time_when_done() - begun)
    return MachineSpeed(
        load_seconds=load_seconds,
        training_tokens_per_second=pace.tokens_per_second,
        slowest_step_ratio=pace.slowest_step_ratio,
        reading_tokens_per_second=middle.num_tokens / reading,
        answer_start_seconds=times[0],
        answer_seconds_per_token=max(0.0, times[1] - times[0]) / ANSWER_TOKENS,
    )


def _batches(sequences: Sequence[TokenSequence], plan: Plan, tokenizer: ChatTokenizer, setup: Setup) -> list[Rows]:
    """Put rows of like length together from the shortest to the longest, padded or packed as in training."""
    size, arrays = plan.batch.micro_batch_size, [(np.array(s.tokens), np.array(s.learned)) for s in sequences]
    rows = sorted(zip(arrays[::2], arrays[1::2], strict=False) if is_paired(plan) else zip(arrays), key=_longest)
    return [
        arrange([sequence for row in rows[start : start + size] for sequence in row], setup.arrangement,
                pad_token_id=tokenizer.pad_token_id, device=setup.device)
        for start in range(0, max(1, len(rows) - size + 1), size)
    ]  # fmt: skip


def _longest(row: Sequence[tuple[np.ndarray, np.ndarray]]) -> int:
    return max(len(tokens) for tokens, _ in row)


def _time_when_done() -> float:
    """Read the clock once a GPU has done all that it was given; it goes on by itself."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.monotonic()


def _learn_once(setup: Setup, batch: Rows, max_norm: float | None) -> None:
    learn(setup, [batch], max_norm=max_norm)
    setup.optimizer.step()


def _pace(setup: Setup, batches: Sequence[Rows], num_steps: int, plan: Plan) -> TrainingPace:
    """Time steps on batches spread evenly over the lengths there are, and allow for the padding there will be.

    Two steps warm up: the first is of the longest rows, as in the rehearsal before a run, so that the heap has grown.
    Timed are rows of middle length first, so that an early end leaves no bias.
    """
    max_norm = plan.optimizer.max_grad_norm
    seconds, tokens, timed_batches = [], [], []
    spread = [min(len(batches) - 1, int((step + 0.5) * len(batches) / num_steps)) for step in range(num_steps)]
    from_the_middle = sorted(range(num_steps), key=lambda step: abs(step - (num_steps - 1) / 2))
    for position in (len(batches) - 1, spread[num_steps // 2]):
        _learn_once(setup, batches[position], max_norm)
    started = _time_when_done()
    for step in from_the_middle:
        batch = batches[spread[step]]
        begun = _time_when_done()
        _learn_once(setup, batch, max_norm)
        seconds.append(_time_when_done() - begun)
        timed_batches.append(batch)
        tokens.append(batch.ids_BT.numel() + batch.num_shared)
        if time.monotonic() - started > MAX_SECONDS:
            break
    rate = sum(tokens) / sum(seconds)
    slowest = max(spent / count for spent, count in zip(seconds, tokens, strict=True))
    passes = arrange_passes(plan)
    padding = passes.padded_share if passes else sum(tokens) / sum(batch.num_tokens for batch in timed_batches) - 1
    return TrainingPace(rate / (1 + padding), slowest * rate, len(seconds))
