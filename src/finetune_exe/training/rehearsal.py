"""Before the first step: everything the run will do, once, with its longest rows; then as if it had not been."""

from __future__ import annotations

import heapq
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune_exe.atomic import free_bytes
from finetune_exe.domain.plan import Full, Lora, Plan, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_lora_parameters
from finetune_exe.estimate.rows import PADDED_TO, padded_length
from finetune_exe.models.forward import batch_of, plan_reading
from finetune_exe.models.positions import position_limit, positions_before
from finetune_exe.models.reading import reading
from finetune_exe.prepared.store import SplitData
from finetune_exe.training.batches import Step
from finetune_exe.training.checkpoints import UNFINISHED, refusals, write_learned
from finetune_exe.training.guards import Guards
from finetune_exe.training.memory import is_out_of_memory, release_memory, words_of
from finetune_exe.training.setup import Setup
from finetune_exe.training.sharding import whole_state
from finetune_exe.training.state import FOLDER, restore_state
from finetune_exe.units import format_bytes

MOST_TRIED = 64
"""Passes that are put together to find the one that holds most."""
_BLOCK = 1 << 22


class CheckpointCost(NamedTuple):
    """What one checkpoint takes."""

    num_bytes: int
    model_bytes: int
    """Of it, the model as other programs load it."""
    seconds: float


def check_vocabulary(setup: Setup, splits: Mapping[str, SplitData]) -> None:
    """Make sure that every token of the rows is one of the model's.

    On a GPU one that is not would end the process without saying which.

    Raises:
        FineTuneError: M11 naming the largest token and the model's number of tokens.
    """
    head = setup.model.get_output_embeddings()
    known = setup.model.get_input_embeddings().weight.shape[0]
    known = known if head is None else min(known, head.weight.shape[0])
    for name, split in splits.items():
        for start in range(0, len(split.tokens), _BLOCK):
            largest = int(split.tokens[start : start + _BLOCK].max(initial=0))
            if largest >= known:
                raise FineTuneError(
                    "M11",
                    what=f"the rows hold token {largest:,}, and the model's go from 0 to {known - 1:,}",
                    where=f"the {name} rows; model.reference in the plan",
                    why="the tokenizer knows tokens that the model has no weights for: they were added to it alone",
                    fix="take the tokenizer that belongs to the model; or rows and a template without the added tokens",
                )


def check_positions(setup: Setup, splits: Mapping[str, SplitData]) -> None:
    """Make sure that the model has a position for every token of a row, and for what is learned to stand before it.

    Raises:
        FineTuneError: T02 where it has not.
    """
    limit = position_limit(setup.model)
    longest = max(int(np.diff(split.offsets).max(initial=0)) for split in splits.values())
    if limit is None or padded_length(longest) <= limit:
        return
    before = positions_before(setup.model)
    raise FineTuneError(
        "T02",
        what=f"rows go up to {longest:,} tokens, and the model has positions for {limit:,}"
        + (f" behind the {before} that are learned" if before else ""),
        where="data.max_length in the plan",
        why="it learned a vector for each position, and has none beyond",
        fix=f"--set data.max_length={limit // PADDED_TO * PADDED_TO}; or a model that reckons places, such as Llama",
    )


def run_rehearsal(
    setup: Setup,
    guards: Guards,
    epoch: Sequence[Step],
    validation: SplitData,
    *,
    pad: int,
    folder: Path,
    max_norm: float | None,
) -> CheckpointCost:
    """Save, learn from the longest rows, evaluate the longest, save again, and go back to what was saved first.

    What would fail after hours fails here: memory, a disk that is full or closed to us, weights that do not come back.
    Several processes do all of it together, each with the longest rows.

    Args:
        setup: Model and optimizer, as the first step will find them; they are left so to the last bit.
        guards: Shrinks the micro-batch where memory runs out.
        epoch: The steps of an epoch.
        validation: The validation rows.
        pad: Token that fills up shorter rows.
        folder: Where the run's checkpoints will lie.
        max_norm: Longest gradient.

    Raises:
        FineTuneError: T14 where one row is too much for the memory; I01 or I12 where nothing can be saved.
    """
    ranks, work = setup.ranks, folder / f"{UNFINISHED}rehearsal"
    before, after = work / "before", work / "after"
    try:
        _write_together(setup, before)
        longest = _longest([part for step in epoch for part in step], guards)
        while said := _out_of_memory(setup, guards, longest, validation, pad=pad, max_norm=max_norm):
            release_memory(setup.device)
            restore_state(setup, before / FOLDER)
            guards.shrink(said, [longest])
        started = time.monotonic()
        _write_together(setup, after)
        seconds = time.monotonic() - started
        restore_state(setup, before / FOLDER)
        whole = _size(after)
        cost = CheckpointCost(whole, whole - _size(after / FOLDER), seconds)
        ranks.any(False)  # all have read it
        return cost
    finally:
        if ranks.is_first:
            shutil.rmtree(work, ignore_errors=True)


def _longest(parts: Sequence[list[int]], guards: Guards) -> list[int]:
    """Find the pass that holds most.

    Where rows share their beginning, one with more tokens may hold less: some of the largest are put together to see.
    """
    lengths, arrangement = guards.split.lengths, guards.setup.arrangement
    if arrangement == "side by side":
        return max(parts, key=lambda part: _area(part, lengths))
    largest = heapq.nlargest(MOST_TRIED, parts, key=lambda part: sum(lengths[row] for row in part))
    if arrangement == "end to end":
        return largest[0]
    return max(largest, key=lambda part: guards.load(part).ids_BT.numel())


def _write_together(setup: Setup, folder: Path) -> None:
    """Write what a checkpoint holds; of several processes the first alone does, and the others wait for it."""
    with whole_state(setup):
        if setup.ranks.is_first:
            with refusals(folder.parent):
                folder.mkdir(parents=True)
                write_learned(setup, folder)
    setup.ranks.any(False)


def _out_of_memory(
    setup: Setup, guards: Guards, longest: Sequence[int], validation: SplitData, *, pad: int, max_norm: float | None
) -> str:
    """Make one step and look at validation rows; where memory runs out in any process say with what words, else ""."""
    said = ""
    try:
        _step_and_look(setup, guards, longest, validation, pad=pad, max_norm=max_norm)
    except (MemoryError, RuntimeError) as fault:
        if not is_out_of_memory(fault):
            raise
        said = words_of(fault) or "memory ran out"
        if setup.ranks.is_sharded:
            raise guards.cut_up(said) from fault
    elsewhere = setup.ranks.any(bool(said))
    return said or ("memory ran out in another process of this training" if elsewhere else "")


def _step_and_look(
    setup: Setup, guards: Guards, longest: Sequence[int], validation: SplitData, *, pad: int, max_norm: float | None
) -> None:
    """Make one step with the longest rows in every process, and measure the loss of the longest validation rows."""
    guards.attempt([list(longest)] * setup.ranks.count, max_norm=max_norm)
    setup.optimizer.step()
    lengths = validation.lengths
    batches, arrangement = plan_reading(validation, setup.arrangement, device=setup.device)
    widest = max(batches, key=lambda part: _area(part, lengths))
    with reading(setup.model):
        setup.losses(batch_of(validation, widest, pad_token_id=pad, device=setup.device, arrangement=arrangement))


def expected_cost(plan: Plan) -> CheckpointCost | None:
    """Reckon what a checkpoint will take before anything is loaded; None where the model's dimensions are not known.

    What is trained is written as other programs load it, and again to go on from; beside it, the optimizer's states.
    Where these are small they are left out, so that nothing is refused that would fit.
    """
    if plan.model.shape is None or plan.model.num_parameters is None:
        return None
    match plan.method:
        case Lora(lora_rank=rank) | Qlora(lora_rank=rank) if plan.method.target_modules == "all-linear":
            trained = count_lora_parameters(plan.model.shape, rank=rank)
        case Full():
            trained = plan.model.num_parameters
        case _:
            return None
    states = {"adamw": 8, "adamw_8bit": 2, "paged_adamw_8bit": 2}.get(plan.optimizer.kind, 0)
    weight = 2 if isinstance(plan.method, Full) and plan.method.masters != "float32" else 4
    return CheckpointCost(trained * (2 * weight + states), trained * weight, 0.0)


def require_room(cost: CheckpointCost, *, run: Path, keep_last: int, there: int) -> None:
    """Make sure that the disk holds all checkpoints that will lie there at the same time.

    Args:
        cost: What one takes.
        run: The run's folder.
        keep_last: Checkpoints kept besides the best.
        there: Checkpoints that lie there already.

    Raises:
        FineTuneError: I11 where it does not.
    """

    def needed(kept: int) -> int:
        return max(1, kept + 2 - there) * cost.num_bytes + cost.model_bytes

    free = free_bytes(run)
    if needed(keep_last) <= free:
        return
    less = f"--set checkpoints.keep_last=1 ({format_bytes(needed(1))}); or " if keep_last > 1 else ""
    raise FineTuneError(
        "I11",
        what=f"the run needs {format_bytes(needed(keep_last))}, and {format_bytes(free)} are free",
        where=str(run),
        why=f"up to {keep_last + 2} checkpoints of {format_bytes(cost.num_bytes)} each lie there at the same time, and "
        "the model beside them",
        fix=f"free some space; or {less}another disk with --run",
    )


def _area(part: Sequence[int], lengths: Sequence[int]) -> int:
    return len(part) * max(lengths[index] for index in part)


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
