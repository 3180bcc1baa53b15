"""Log-likelihoods of alternative continuations, the beginning they share run through the model once.

Shapes: B rows of a batch, T positions of a row, N positions whose prediction is wanted, H hidden size, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe.models.decoder import decoder_of
from finetune_exe.models.head import head_is_plain
from finetune_exe.models.positions import positions_before
from finetune_exe.models.reading import beneath_adapter
from finetune_exe.text.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    import torch

MAX_TOKENS = 2048
"""Positions of one batch, padding included."""
ROW_TOKENS = 384
"""Groups share a row up to so many positions: longer rows pay more for attention than they save in padding."""


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

    Of each group the beginning stands once, and all branches behind it; several groups share a row, so that little is
    padding. A mask keeps branches and groups from seeing each other; positions are counted within each sequence.

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

    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    scorer = _Scorer.of(model, bf16=bf16)
    if scorer.prefix is not None:
        return _one_by_one(scorer, groups, pad_token_id=pad_token_id, max_tokens=max_tokens, progress=progress)
    sizes = [group.num_positions for group in groups]
    shelves = _shelves(sizes, min(ROW_TOKENS, max_tokens))
    found: dict[int, tuple[Likelihood, ...]] = {}
    for batch in _batches([sum(sizes[index] for index in shelf) for shelf in shelves], max_tokens):
        held = [[groups[index] for index in shelves[row]] for row in batch]
        scored = iter(scorer.score(_rows(held, pad_token_id=pad_token_id, device=device, dtype=dtype)))
        for row in batch:
            found |= {index: next(scored) for index in shelves[row]}
        progress(len(found))
    return [found[index] for index in range(len(groups))]


def _shelves(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Put groups into rows of so much room, the largest first, each where it fits first; a larger one stands alone."""
    shelves: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        place = next((place for place, free in enumerate(left) if free >= sizes[index]), None)
        if place is None:
            shelves.append([])
            left.append(room)
            place = len(shelves) - 1
        shelves[place].append(index)
        left[place] -= sizes[index]
    return shelves


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scorer:
    """Runs one model; computes the vocabulary's logits only at wanted positions where its head is its output matrix."""

    inner: Any
    decoder: Any
    """None where the head does more, as where logits are capped: the model's own is used."""
    prefix: Callable[[int], Any] | None
    """Gives a learned prefix for so many rows, where the model has one."""
    bf16: bool

    @classmethod
    def of(cls, model: Any, *, bf16: bool) -> _Scorer:
        """Find out what the model's head is, by a small batch."""
        import torch

        inner = beneath_adapter(model)
        device = next(inner.parameters()).device
        plain = head_is_plain(model, torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16))
        return cls(
            inner=inner, decoder=decoder_of(inner) if plain else None,
            prefix=model.get_prompt if positions_before(model) else None, bf16=bf16,
        )  # fmt: skip

    def score(self, rows: _Rows) -> list[tuple[Likelihood, ...]]:
        """Score the branches of each group of a batch."""
        import torch

        ids_BT = rows.inputs["input_ids"]
        past = None if self.prefix is None else self.prefix(len(ids_BT))
        places = [(group.row, column) for group in rows.wanted for columns, _ in group.branches for column in columns]
        at_N = torch.tensor([row for row, _ in places], dtype=torch.long, device=ids_BT.device)
        column_N = torch.tensor([column for _, column in places], dtype=torch.long, device=ids_BT.device)
        with torch.inference_mode(), torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            if self.decoder is not None:
                hidden_BTH = self.decoder(**rows.inputs, past_key_values=past, use_cache=False).last_hidden_state
                logits_NV = self.inner.get_output_embeddings()(hidden_BTH[at_N, column_N])
            else:
                logits_NV = self.inner(**rows.inputs, past_key_values=past, use_cache=False).logits[at_N, column_N]
        found, start = [], 0
        for group in rows.wanted:
            scores = []
            for columns, targets in group.branches:
                scores.append(_likelihood(logits_NV[start : start + len(columns)], targets))
                start += len(columns)
            found.append(tuple(scores))
        return found


def _one_by_one(
    scorer: _Scorer,
    groups: Sequence[Alternatives],
    *,
    pad_token_id: int,
    max_tokens: int,
    progress: Callable[[int], None],
) -> list[tuple[Likelihood, ...]]:
    """Score each branch in a row of its own, for models whose learned prefix stands before every row."""
    import torch

    single = [
        (number, Alternatives(prefix=group.prefix, branches=(branch,), num_scored=(scored,)))
        for number, group in enumerate(groups)
        for branch, scored in zip(group.branches, group.num_scored, strict=True)
    ]
    device = next(scorer.inner.parameters()).device
    found: dict[int, Likelihood] = {}
    for batch in _batches([group.num_positions for _, group in single], max_tokens):
        alone = [[single[index][1]] for index in batch]
        rows = _rows(alone, pad_token_id=pad_token_id, device=device, dtype=torch.float32)
        found |= {index: scores[0] for index, scores in zip(batch, scorer.score(rows), strict=True)}
        progress(len(found) * len(groups) // len(single))
    scores: list[list[Likelihood]] = [[] for _ in groups]
    for index, (number, _) in enumerate(single):
        scores[number].append(found[index])
    return [tuple(of_group) for of_group in scores]


class _Wanted(NamedTuple):
    row: int
    branches: list[tuple[list[int], list[int]]]
    """For each branch, the columns that predict and the tokens they should."""


class _Rows(NamedTuple):
    inputs: dict[str, torch.Tensor]
    wanted: list[_Wanted]


def _batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _rows(shelves: Sequence[Sequence[Alternatives]], *, pad_token_id: int, device: Any, dtype: Any) -> _Rows:
    import torch

    width = max(sum(group.num_positions for group in shelf) for shelf in shelves)
    ids_BT = torch.full((len(shelves), width), pad_token_id)
    positions_BT = torch.zeros((len(shelves), width), dtype=torch.long)
    sees_BTT = torch.eye(width, dtype=torch.bool).repeat(len(shelves), 1, 1)
    triangle_TT = torch.ones((width, width), dtype=torch.bool).tril()
    wanted = []
    for row, shelf in enumerate(shelves):
        end = 0
        for group in shelf:
            first, start = end, end + len(group.prefix)
            end = start
            ids_BT[row, first:start] = torch.tensor(group.prefix)
            positions_BT[row, first:start] = torch.arange(start - first)
            sees_BTT[row, first:start, first:start] = triangle_TT[: start - first, : start - first]
            branches = []
            for branch, num_scored in zip(group.branches, group.num_scored, strict=True):
                begin, end, size = end, end + len(branch), len(branch)
                ids_BT[row, begin:end] = torch.tensor(branch, dtype=torch.long)
                positions_BT[row, begin:end] = torch.arange(start - first, start - first + size)
                sees_BTT[row, begin:end, first:start] = True
                sees_BTT[row, begin:end, begin:end] = triangle_TT[:size, :size]
                columns = [start - 1, *range(begin, end - 1)][size - num_scored :] if num_scored else []
                branches.append((columns, list(branch[size - num_scored :])))
            wanted.append(_Wanted(row, branches))
    inputs = {"input_ids": ids_BT.to(device)}
    if any(len(shelf) > 1 or len(shelf[0].branches) > 1 for shelf in shelves):
        hidden = torch.finfo(dtype).min
        mask_B1TT = torch.zeros(sees_BTT.shape, dtype=dtype).masked_fill(~sees_BTT, hidden).unsqueeze(1)
        inputs |= {"position_ids": positions_BT.to(device), "attention_mask": mask_B1TT.to(device)}
    return _Rows(inputs, wanted)


def _likelihood(logits_NV: torch.Tensor, targets: list[int]) -> Likelihood:
    import torch

    if not targets:
        return Likelihood(0.0, True, 0)
    targets_N = torch.tensor(targets, device=logits_NV.device)
    nll = float(torch.nn.functional.cross_entropy(logits_NV.float(), targets_N, reduction="none").double().sum())
    greedy = bool((logits_NV.argmax(dim=-1) == targets_N).all())
    return Likelihood(-nll if math.isfinite(nll) else -math.inf, greedy, len(targets))
