"""What a run does about memory that runs out, numbers that are not finite, and losses out of the ordinary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from finetune_exe.domain.events import SPIKE
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import Rows, batch_of
from finetune_exe.models.reading import reading
from finetune_exe.prepared.store import SplitData
from finetune_exe.training.batches import Step
from finetune_exe.training.memory import is_out_of_memory, release_memory, words_of
from finetune_exe.training.setup import Setup
from finetune_exe.training.state import random_state, restore_random_state
from finetune_exe.training.step import Learned, learn

MOST_SKIPPED_IN_A_ROW = 5
"""Steps in a row with numbers that are not finite after which the weights themselves are taken to be beyond help."""
FEWEST_LOSSES = 10
"""Losses without which what is usual cannot be said."""


class Attempt(NamedTuple):
    """What came of a step before the optimizer moves."""

    rows: tuple[Rows, ...]
    """This process's micro-batches with something to learn."""
    num_empty: int
    """Micro-batches of all processes without."""
    learned: Learned | None
    """None where no token was to be learned."""

    @property
    def is_finite(self) -> bool:
        """Whether the optimizer may use the gradient."""
        return self.learned is not None and all(map(math.isfinite, self.learned))


@dataclass(slots=True, kw_only=True)
class Guards:
    """Watches the steps of a run."""

    setup: Setup
    split: SplitData
    pad: int
    planned_size: int
    """Rows of one pass in the plan."""
    micro_batch_size: int
    """Rows of one pass; the plan's until memory runs out."""
    shrunk: Callable[[int, str], None]
    """Told the new size and what the allocator said."""

    def attempt(self, micro_batches: Step, *, max_norm: float | None) -> Attempt:
        """Leave the gradient of one step to the optimizer, with fewer rows at a time where memory runs out.

        The rows of the step and what is learned from them stay the same. Of several processes, all take fewer rows
        where it runs out in one of them.

        Raises:
            FineTuneError: T14 where memory runs out with one row at a time, or among processes that hold parts of one
                model.
        """
        random = random_state(self.setup.device)
        while True:
            passes = [self.load(part) for part in self.passes(self.setup.ranks.share(micro_batches))]
            rows = tuple(batch for batch in passes if batch.num_learned)
            num_learning, num_empty = map(round, self.setup.ranks.totals(len(rows), len(passes) - len(rows)))
            if not num_learning:
                return Attempt(rows, num_empty, None)
            try:
                return Attempt(rows, num_empty, learn(self.setup, rows, max_norm=max_norm))
            except (MemoryError, RuntimeError) as fault:
                if not is_out_of_memory(fault):
                    raise
                said = words_of(fault)
                if self.setup.ranks.is_sharded:
                    raise self.cut_up(said) from fault
            self.setup.optimizer.zero_grad(set_to_none=True)
            release_memory(self.setup.device)
            restore_random_state(random)
            self.shrink(said, micro_batches)

    def passes(self, micro_batches: Step) -> Step:
        """Give the plan's micro-batches, each cut into as many as memory demands; packed ones may hold more rows."""
        pieces = -(-self.planned_size // self.micro_batch_size)
        if pieces == 1:
            return micro_batches
        sizes = [1 if self.micro_batch_size == 1 else -(-len(part) // pieces) for part in micro_batches]
        return [
            part[start : start + size]
            for part, size in zip(micro_batches, sizes, strict=True)
            for start in range(0, len(part), size)
        ]

    def shrink(self, said: str, micro_batches: Step) -> None:
        """Halve the rows of a pass.

        Raises:
            FineTuneError: T14 where there is one only.
        """
        if self.micro_batch_size == 1:
            longest = max((index for part in micro_batches for index in part), key=self._length)
            raise FineTuneError(
                "T14",
                what=f"memory runs out with one row of {self._length(longest):,} tokens in a pass",
                where=f"row {self.name([[longest]])[0]}",
                why=said,
                fix="--set precision.gradient_checkpointing=true; or a smaller data.max_length; or method.kind=qlora",
            )
        self.micro_batch_size //= 2
        self.shrunk(self.micro_batch_size, said)

    def cut_up(self, said: str) -> FineTuneError:
        """Say that processes that wait for each other within a pass cannot go back to its beginning."""
        return FineTuneError(
            "T14",
            what=f"memory runs out with {self.micro_batch_size} rows in a pass",
            where=f"process {self.setup.ranks.index} of {self.setup.ranks.count}",
            why=f"with parallelism.kind=fsdp the others wait within the pass and cannot begin it again: {said}",
            fix="go on with --resume --allow-plan-change and half the batch.micro_batch_size, twice the "
            "batch.gradient_accumulation_steps",
        )

    def name(self, micro_batches: Step) -> tuple[str, ...]:
        """Say where the rows of a step stand: file:line."""
        wanted = sorted({int(self.split.rows[index]) for part in micro_batches for index in part})
        places = dict.fromkeys(wanted, "")
        for number, row in enumerate(self.split.stream_rows()):
            if number in places:
                places[number] = row.source
            if number >= wanted[-1]:
                break
        return tuple(places.values())

    def suspects(self, micro_batches: Step) -> tuple[str, ...]:
        """Name the rows whose own loss is not finite; all rows of the step where each for itself is."""
        with reading(self.setup.model):
            bad = [index for part in micro_batches for index in part
                   if not math.isfinite(float(self.setup.losses(self.load([index])).nll_N.sum()))]  # fmt: skip
        return self.name([bad] if bad else micro_batches)

    def load(self, indices: Sequence[int]) -> Rows:
        """Put rows into one batch as those of a pass are."""
        return batch_of(self.split, indices, pad_token_id=self.pad, device=self.setup.device,
                        arrangement=self.setup.arrangement)  # fmt: skip

    def _length(self, index: int) -> int:
        return sum(len(sequence.tokens) for sequence in self.split.members(index))


def refuse_many_skips(skipped_in_a_row: int, *, reason: str, step: int, rows: Sequence[str]) -> None:
    """Stop where step after step is not finite.

    Raises:
        FineTuneError: T01 naming the rows of the last of them.
    """
    if skipped_in_a_row < MOST_SKIPPED_IN_A_ROW:
        return
    raise FineTuneError(
        "T01",
        what=f"{reason} at step {step}, the {skipped_in_a_row}th in a row that is not finite",
        where=f"rows {', '.join(rows[:8])}" + (f" and {len(rows) - 8} more" if len(rows) > 8 else ""),
        why="such a step would destroy the weights and was left out, but so many in a row mean that the weights "
        "themselves have grown too large; the last checkpoint is intact",
        fix="look at those rows; lower optimizer.learning_rate; or --set precision.base_dtype=float32",
    )


def usual_loss(recent: Sequence[float], *, initial: float) -> float | None:
    """Give the loss above which a step's is a spike, over `SPIKE`; None where too few steps were made to say.

    Where little is left of the loss, small scatter is no spike: at least a quarter of the initial one counts as usual.
    """
    return None if len(recent) < FEWEST_LOSSES else max(median(recent), 0.25 * initial)


def is_spike(loss: float, usual: float | None) -> bool:
    """Say whether a loss is far above what is usual."""
    return usual is not None and loss > SPIKE * usual
