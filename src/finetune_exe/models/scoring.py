"""Log-likelihoods of alternative continuations, the beginning they share run through the model once.

Shapes: B rows of a batch, T positions of a row, K positions whose prediction is wanted, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe.text.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 2048
"""Positions of one batch, padding included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """Token sequences with a common beginning; of each, the last tokens are scored."""

    prefix: tuple[int, ...]
    """At least one token."""
    branches: tuple[tuple[int, ...], ...]
    """What follows it in each sequence; at least one token."""
    num_scored: tuple[int, ...]
    """How many tokens at the end of each branch are scored."""

    @property
    def num_positions(self) -> int:
        """Positions one row needs for all of them."""
        return len(self.prefix) + sum(map(len, self.branches))


class Likelihood(NamedTuple):
    """How likely a continuation is."""

    log_likelihood: float
    """In nats, summed over its tokens."""
    greedy: bool
    """Whether each of its tokens was the likeliest."""
    num_tokens: int


def encode_alternatives(
    contexts: Sequence[str], continuations: Sequence[str], tokenizer: ChatTokenizer, *, max_length: int
) -> list[Alternatives]:
    """Tokenise continuations behind their contexts as one text each, so that tokens may span the seam.

    White space at the end of a context is counted to the continuation. A context without text is the bos token, or the
    eos token where the model has none. What is too long loses its beginning.

    Args:
        contexts: One for each continuation; often all the same.
        continuations: What is scored.
        tokenizer: The model's.
        max_length: Longest sequence the model can take.

    Returns:
        One group of all; or, where the first tokens differ already, one for each continuation.

    Source: the convention of EleutherAI's lm-evaluation-harness, whose scores the tests compare with.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    sequences, scored = [], []
    for context, continuation in zip(contexts, continuations, strict=True):
        trimmed = context.rstrip()
        moved = context[len(trimmed) :] + continuation
        before = list(tokenizer.encode(trimmed).ids)
        whole = list(tokenizer.encode(trimmed + moved).ids) if trimmed else before
        after = whole[len(before) :] if trimmed else list(tokenizer.encode(moved).ids)
        sequences.append((before or [start]) + after)
        scored.append(len(after))
    cut = max(0, max(map(len, sequences)) - max_length)
    sequences = [tokens[min(cut, len(tokens) - 1) :] for tokens in sequences]
    scored = [min(count, len(tokens) - 1) for count, tokens in zip(scored, sequences, strict=True)]
    if len({tokens[0] for tokens in sequences}) > 1:
        return [_group([tokens], [count]) for tokens, count in zip(sequences, scored, strict=True)]
    return [_group(sequences, scored)]


def _group(sequences: list[list[int]], scored: list[int]) -> Alternatives:
    """Take out what the sequences share, up to what is scored."""
    free = min(len(tokens) - count for tokens, count in zip(sequences, scored, strict=True))
    shared = 1
    while shared < free and len({tokens[shared] for tokens in sequences}) == 1:
        shared += 1
    return Alternatives(
        prefix=tuple(sequences[0][:shared]),
        branches=tuple(tuple(tokens[shared:]) for tokens in sequences),
        num_scored=tuple(scored),
    )


def score_alternatives(
    model: Any,
    groups: Sequence[Alternatives],
    *,
    pad_token_id: int,
    bf16: bool = False,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[int], None] = lambda _: None,
) -> list[tuple[Likelihood, ...]]:
    """Score every branch of every group.

    A row holds the beginning once and all branches behind it; a mask keeps branches from seeing each other, and each
    counts its positions from the beginning's end. Rows of like length make a batch.

    Args:
        model: A causal language model in evaluation mode.
        groups: What is scored.
        pad_token_id: Fills rows.
        bf16: Compute matrix products in bfloat16.
        max_tokens: Positions of one batch, padding included.
        progress: Told how many groups are done.

    Returns:
        For each group the likelihoods of its branches, whatever the batches were.
    """
    import torch

    device = next(model.parameters()).device
    found: dict[int, tuple[Likelihood, ...]] = {}
    for batch in _batches([group.num_positions for group in groups], max_tokens):
        rows = [groups[index] for index in batch]
        inputs = _rows(rows, pad_token_id=pad_token_id, device=device, dtype=next(model.parameters()).dtype)
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits_BKV = model(**inputs.model_inputs, use_cache=False, logits_to_keep=inputs.columns_K).logits
        place = {int(column): number for number, column in enumerate(inputs.columns_K.tolist())}
        for row, index in enumerate(batch):
            found[index] = tuple(
                _likelihood(logits_BKV[row], [place[column] for column in columns], targets)
                for columns, targets in inputs.wanted[row]
            )
        progress(len(found))
    return [found[index] for index in range(len(groups))]


class _Rows(NamedTuple):
    model_inputs: dict[str, torch.Tensor]
    columns_K: torch.Tensor
    wanted: list[list[tuple[list[int], list[int]]]]
    """For each row and branch, the columns that predict and the tokens they should."""


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _rows(groups: Sequence[Alternatives], *, pad_token_id: int, device: Any, dtype: Any) -> _Rows:
    import torch

    width = max(group.num_positions for group in groups)
    ids_BT = torch.full((len(groups), width), pad_token_id)
    positions_BT = torch.zeros((len(groups), width), dtype=torch.long)
    sees_BTT = torch.eye(width, dtype=torch.bool).repeat(len(groups), 1, 1)
    wanted = []
    for row, group in enumerate(groups):
        start = len(group.prefix)
        ids_BT[row, :start] = torch.tensor(group.prefix)
        positions_BT[row, :start] = torch.arange(start)
        sees_BTT[row, :start, :start] = torch.ones((start, start), dtype=torch.bool).tril()
        of_row = []
        end = start
        for branch, num_scored in zip(group.branches, group.num_scored, strict=True):
            begin, end = end, end + len(branch)
            ids_BT[row, begin:end] = torch.tensor(branch, dtype=torch.long)
            positions_BT[row, begin:end] = torch.arange(start, start + len(branch))
            sees_BTT[row, begin:end, :start] = True
            sees_BTT[row, begin:end, begin:end] = torch.ones((len(branch), len(branch)), dtype=torch.bool).tril()
            columns = [start - 1, *range(begin, end - 1)][len(branch) - num_scored :] if num_scored else []
            of_row.append((columns, list(branch[len(branch) - num_scored :])))
        wanted.append(of_row)
    columns_K = torch.tensor(sorted({column for of_row in wanted for columns, _ in of_row for column in columns}))
    plain = all(len(group.branches) == 1 for group in groups)
    inputs = {"input_ids": ids_BT.to(device)}
    if not plain:
        hidden = torch.finfo(dtype).min
        mask_B1TT = torch.zeros(sees_BTT.shape, dtype=dtype).masked_fill(~sees_BTT, hidden).unsqueeze(1)
        inputs |= {"position_ids": positions_BT.to(device), "attention_mask": mask_B1TT.to(device)}
    return _Rows(inputs, columns_K.to(device), wanted)


def _likelihood(logits_KV: torch.Tensor, places: list[int], targets: list[int]) -> Likelihood:
    import torch

    if not places:
        return Likelihood(0.0, True, 0)
    logits_NV = logits_KV[torch.tensor(places, device=logits_KV.device)].float()
    targets_N = torch.tensor(targets, device=logits_KV.device)
    nll = float(torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none").double().sum())
    greedy = bool((logits_NV.argmax(dim=-1) == targets_N).all())
    return Likelihood(-nll if math.isfinite(nll) else -math.inf, greedy, len(targets))
