"""Losses of rows under a model, computing the vocabulary's logits only where a token is learned.

Shapes: B rows, T tokens, H hidden size, N learned tokens of the batch, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from finetune_exe.domain.plan import Precision
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.planned import VALIDATION_TOKENS
from finetune_exe.estimate.rows import Placed, is_worth_sharing, order_by_beginning, padded_length
from finetune_exe.models.decoder import decoder_of
from finetune_exe.models.head import head_is_plain
from finetune_exe.models.layout import Layout, Row
from finetune_exe.models.load import torch_dtype
from finetune_exe.models.packing import Arrangement, packing_inputs
from finetune_exe.models.positions import positions_before
from finetune_exe.models.ranks import ALONE, Ranks
from finetune_exe.models.reading import beneath_adapter, reading
from finetune_exe.prepared.store import SplitData

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A batch, padded on the right: causal attention never looks there, so no attention mask is needed.

    Packed, it is one row of the model's (B = 1) in which the rows lie end to end, the padding a row of its own.
    """

    ids_BT: torch.Tensor
    learned_BT: torch.Tensor
    num_tokens: int
    """Tokens of the rows, without padding."""
    layout: Layout | None = None
    """How packed rows lie; None where each row is one of the batch."""
    given: tuple[int, ...] = ()
    """Which of the rows that were given each packed one is."""

    @property
    def num_rows(self) -> int:
        """Rows of the batch, however they lie."""
        return len(self.ids_BT) if self.layout is None else len(self.layout.rows)

    @property
    def num_learned(self) -> int:
        """Tokens that carry a loss."""
        return int(self.learned_BT.sum())

    @property
    def num_shared(self) -> int:
        """Tokens of the rows that are not computed, because an earlier row begins with them."""
        return self.layout.num_shared if self.layout is not None else 0


class RowLosses(NamedTuple):
    """Negative log-likelihoods in nats."""

    nll_N: torch.Tensor
    """One for each learned token, rows one after the other as they lie, in float32."""
    row_N: torch.Tensor
    """Which row of the batch each belongs to, in the order in which they were given."""


def collate(sequences: Sequence[tuple[np.ndarray, np.ndarray]], *, pad_token_id: int, device: str) -> Rows:
    """Put sequences of (token ids, learned flags) into one batch, padded to a length that few batches differ in."""
    import torch

    longest = padded_length(max(len(tokens) for tokens, _ in sequences))
    ids = np.full((len(sequences), longest), pad_token_id, dtype=np.int64)
    learned = np.zeros((len(sequences), longest), dtype=bool)
    for row, (tokens, flags) in enumerate(sequences):
        ids[row, : len(tokens)] = tokens
        learned[row, : len(flags)] = flags
    learned[:, 0] = False
    return Rows(
        ids_BT=torch.from_numpy(ids).to(device),
        learned_BT=torch.from_numpy(learned).to(device),
        num_tokens=sum(len(tokens) for tokens, _ in sequences),
    )


def pack(
    sequences: Sequence[tuple[np.ndarray, np.ndarray]], *, pad_token_id: int, device: str, beginning_once: bool = False
) -> Rows:
    """Put sequences of (token ids, learned flags) end to end, padded to a length that few batches differ in.

    Args:
        sequences: The rows.
        pad_token_id: What stands behind them.
        device: Where they are needed.
        beginning_once: Put rows that begin alike next to each other, and leave out of each what it begins with as the
            one before it, where that saves enough.
    """
    import torch

    placed = [Placed(row, 0) for row in range(len(sequences))]
    if beginning_once:
        placed = _by_beginning(sequences, device=device) or placed
    sequences = [sequences[place.row] for place in placed]
    layout = Layout(tuple(Row(len(tokens), p.shared) for (tokens, _), p in zip(sequences, placed, strict=True)))
    layout = layout._replace(padding=padded_length(layout.starts[-1]) - layout.starts[-1])
    ids = np.full((1, layout.starts[-1]), pad_token_id, dtype=np.int64)
    learned = np.zeros((1, layout.starts[-1]), dtype=bool)
    places = itertools.pairwise(layout.starts)
    for (tokens, flags), row, (start, stop) in zip(sequences, layout.rows, places, strict=False):
        ids[0, start:stop], learned[0, start:stop] = tokens[row.shared :], flags[row.shared :]
        learned[0, start] = False
    return Rows(
        ids_BT=torch.from_numpy(ids).to(device),
        learned_BT=torch.from_numpy(learned).to(device),
        num_tokens=sum(row.length for row in layout.rows),
        layout=layout,
        given=tuple(place.row for place in placed),
    )


def _by_beginning(sequences: Sequence[tuple[np.ndarray, np.ndarray]], *, device: str) -> list[Placed] | None:
    """Order rows so that those that begin alike follow each other; None where leaving it out saves too little."""
    placed = order_by_beginning([(tokens.tolist(), flags.tolist()) for tokens, flags in sequences])
    shared, tokens = sum(place.shared for place in placed), sum(len(tokens) for tokens, _ in sequences)
    return placed if is_worth_sharing(shared, tokens, gpu=device != "cpu") else None


def require_finite(model: Any, precision: Precision, *, device: str) -> None:
    """Make sure that the base model's numbers fit float16, where the plan wants it, by trying it on a few tokens.

    Raises:
        FineTuneError: T01 where they do not.
    """
    import torch

    if precision.base_dtype != "float16":  # bfloat16 reaches as far as float32
        return
    ids_BT = torch.arange(1, 9, device=device).unsqueeze(0)
    with torch.no_grad(), torch.autocast(device, dtype=torch.float16):
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
    if not bool(torch.isfinite(logits_BTV).all()):
        raise FineTuneError(
            "T01",
            what="the base model's own answers are not finite in float16, before any step",
            where="precision.base_dtype in the plan",
            why="some of its numbers are beyond 65,504, the largest of this format; tried on eight tokens",
            fix="--set precision.base_dtype=bfloat16, or float32 where the processor has no bfloat16",
        )


class LossFunction:
    """Computes row losses of one model.

    Where the model's logits are its output matrix times its last hidden state, and nothing else, only the hidden
    states at learned positions are multiplied. Whether that is so is measured on a small batch, not looked up:
    models that scale or cap their logits get the model's own head.
    """

    def __init__(self, model: Any, precision: Precision, *, device: str, ranks: Ranks = ALONE) -> None:
        from peft import LoraConfig, PeftModel, PromptTuningConfig

        self.model = model
        self.device = device
        self.ranks = ranks
        self.half = None if precision.base_dtype == "float32" else torch_dtype(precision.base_dtype)
        self._inner = beneath_adapter(model)
        self._decoder = decoder_of(self._inner)
        adapter = model.active_peft_config if isinstance(model, PeftModel) else None
        learned = positions_before(model)
        self._before = learned if isinstance(adapter, PromptTuningConfig) else 0
        self._has_prefix = learned > 0
        plain = isinstance(adapter, LoraConfig) and not (adapter.use_dora or adapter.trainable_token_indices)
        self._casts_needlessly = self.half is not None and plain
        self._plain_head = head_is_plain(model, self._autocast())

    def __call__(self, rows: Rows) -> RowLosses:
        """Compute the losses of the learned tokens."""
        import torch

        from finetune_exe.models.cross_entropy import token_losses

        predicts_BT = rows.learned_BT[:, 1:]
        before = self._before
        targets_N = rows.ids_BT[:, 1:][predicts_BT]
        with self._without_detours(), self._autocast():
            inputs = self._inputs(rows)
            if self._plain_head:
                hidden_BTH = self._decoder(**inputs).last_hidden_state[:, before:]
                nll_N = token_losses(hidden_BTH[:, :-1][predicts_BT], self._inner.get_output_embeddings(), targets_N)
            else:
                columns = predicts_BT.any(dim=0).nonzero().squeeze(1)
                logits_BKV = self._inner(**inputs, logits_to_keep=columns + before).logits
                logits_NV = logits_BKV[predicts_BT[:, columns]].float()
                nll_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none")
        row_N, position_N = predicts_BT.nonzero().unbind(1)
        if rows.layout is not None:
            ends = torch.tensor(rows.layout.starts[1:], device=position_N.device)
            given_B = torch.tensor(rows.given, device=position_N.device)
            row_N = given_B[torch.searchsorted(ends, position_N, right=True)]
        return RowLosses(nll_N, row_N)

    def weight(self, rows: Rows) -> int:
        """Count what the loss of a batch is a sum over."""
        return rows.num_learned

    def restart(self) -> None:
        """Forget what was kept of earlier batches: nothing is."""

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        """Give the rows with what is learned to stand before them: keys and values, or embeddings."""
        import torch

        if not self._has_prefix:
            packed = {} if rows.layout is None else packing_inputs(rows.layout, self._inner)
            return {"input_ids": rows.ids_BT, "use_cache": False, **packed}
        learned = self.model.get_prompt(len(rows.ids_BT))
        if not self._before:
            return {"input_ids": rows.ids_BT, "past_key_values": learned, "use_cache": False}
        embedded_BTH = self._inner.get_input_embeddings()(rows.ids_BT)
        return {"inputs_embeds": torch.cat([learned.to(embedded_BTH.dtype), embedded_BTH], dim=1), "use_cache": False}

    def _autocast(self) -> AbstractContextManager[Any]:
        """Compute matrix products in the plan's 16-bit format, where it has one."""
        import torch

        return torch.autocast(self.device, dtype=self.half, enabled=self.half is not None)

    def _without_detours(self) -> AbstractContextManager[None]:
        """Keep inputs of adapters in 16 bit, where autocast takes them anyway, instead of by way of float32.

        DoRA's lengths need the way by float32, and PEFT's layers of trained tokens do not know the switch.
        """
        from peft.helpers import disable_input_dtype_casting

        return disable_input_dtype_casting(self.model) if self._casts_needlessly else nullcontext()


def batch_of(
    split: SplitData,
    indices: Sequence[int],
    *,
    pad_token_id: int,
    device: str,
    arrangement: Arrangement = "side by side",
) -> Rows:
    """Put sequences of a split into one batch, as arranged; the two of a pair follow each other."""
    sequences = [sequence for index in indices for sequence in split.members(index)]
    return arrange(sequences, arrangement, pad_token_id=pad_token_id, device=device)


def arrange(
    sequences: Sequence[tuple[np.ndarray, np.ndarray]], arrangement: Arrangement, *, pad_token_id: int, device: str
) -> Rows:
    """Put sequences of (token ids, learned flags) into one batch, as arranged."""
    if arrangement == "side by side":
        return collate(sequences, pad_token_id=pad_token_id, device=device)
    once = arrangement == "beginning once"
    return pack(sequences, pad_token_id=pad_token_id, device=device, beginning_once=once)


def batches_by_length(split: SplitData, *, shared: int = 0, max_tokens: int = VALIDATION_TOKENS) -> Iterator[list[int]]:
    """Group a split's sequences by length so that no batch, padded, exceeds `max_tokens` (one sequence may).

    Of each but the first of a batch so many tokens are not computed as all of them share.
    """
    batch: list[int] = []
    lengths = split.lengths
    for index in np.argsort(lengths, kind="stable").tolist():
        if batch and shared + (lengths[index] - shared) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


class Reading(NamedTuple):
    """How the rows of a split are read without learning from them."""

    batches: list[list[int]]
    arrangement: Arrangement


def plan_reading(split: SplitData, arrangement: Arrangement, *, device: str) -> Reading:
    """Share a split out to batches: side by side, unless its rows begin alike and that may be computed once."""
    if arrangement == "beginning once":
        sequences = [sequence for index in range(len(split)) for sequence in split.members(index)]
        placed = _by_beginning(sequences, device=device)
        if placed:
            by_all = min(place.shared for place in placed[1:])
            return Reading(list(batches_by_length(split, shared=by_all)), arrangement)
    return Reading(list(batches_by_length(split)), "side by side")


def idle_rows(device: str) -> Rows:
    """Make a batch that a process computes, and whose loss it forgets, while others have more to do than it."""
    import torch

    learned_BT = torch.tensor([[False, True]], device=device)
    return Rows(ids_BT=torch.zeros_like(learned_BT, dtype=torch.long), learned_BT=learned_BT, num_tokens=0)


class Losses(Protocol):
    """Losses of batches, each a sum over what `weight` counts, under a model that is whole or cut up."""

    model: Any
    device: str
    ranks: Ranks

    def __call__(self, rows: Rows) -> RowLosses:
        """Compute the losses of a batch."""

    def weight(self, rows: Rows) -> int:
        """Count what the loss of a batch is a sum over."""

    def restart(self) -> None:
        """Forget what was kept of earlier batches."""


def mean_loss(
    losses: Losses, split: SplitData, *, pad_token_id: int, arrangement: Arrangement = "side by side"
) -> float:
    """Measure the mean loss of a split, of its learned tokens or pairs, in nats, leaving the model as it was.

    Several processes share the batches out; the sums are those of all.
    """
    losses.restart()
    total, count = 0.0, 0.0
    batches, arrangement = plan_reading(split, arrangement, device=losses.device)
    with reading(losses.model):
        for indices in losses.ranks.share(batches):
            rows = batch_of(split, indices, pad_token_id=pad_token_id, device=losses.device, arrangement=arrangement)
            nll_N = losses(rows).nll_N
            total += float(nll_N.double().sum())
            count += len(nll_N)
        for _ in range(losses.ranks.idle_passes(len(batches))):
            losses(idle_rows(losses.device))
    total, count = losses.ranks.totals(total, count)
    return total / count
