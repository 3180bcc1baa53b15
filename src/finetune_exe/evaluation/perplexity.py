"""How well a model predicts whole documents, with the windows, the stride and the first token stated.

All figures rest on one sum of negative log-likelihoods, taken in float64, over the tokens, words or bytes of all
documents; a mean of perplexities is never taken. Bits per byte alone compares models with different tokenizers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_exe.domain.evaluation import Perplexity, WindowPolicy
from finetune_exe.models.scoring import Alternatives, score_alternatives
from finetune_exe.text.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentLoss:
    """One document under one model."""

    nll: float
    """In nats, summed."""
    num_tokens: int
    """Tokens predicted."""
    num_words: int
    """Pieces between white space."""
    num_bytes: int
    """Of its UTF-8 form."""


def windows(
    tokens: Sequence[int], *, context: int, stride: int, start: int | None
) -> Iterator[tuple[tuple[int, ...], int]]:
    """Cut a document so that each token is predicted once, behind as many tokens as the window allows.

    The first window predicts up to `context` tokens; each further one moves on by `stride`, and the last keeps a full
    window before the tokens that are left.

    Args:
        tokens: The document.
        context: Tokens the model is given at once.
        stride: New tokens of each further window, at most `context`.
        start: Token put before the document; without one the first token is not predicted.

    Yields:
        The tokens given with those predicted behind them, and how many at the end are predicted.
    """
    sequence = tuple(tokens) if start is None else (start, *tokens)
    end = min(context + 1, len(sequence))
    if end < 2:
        return
    yield sequence[:end], end - 1
    while end < len(sequence):
        before, end = end, min(end + stride, len(sequence))
        yield sequence[max(0, end - context - 1) : end], end - before


def measure_documents(
    model: Any,
    texts: Sequence[str],
    tokenizer: ChatTokenizer,
    policy: WindowPolicy,
    *,
    bf16: bool = False,
    max_tokens: int = 2048,
    progress: Callable[[int], None] = lambda _: None,
) -> list[DocumentLoss]:
    """Measure each document.

    Args:
        model: A causal language model in evaluation mode.
        texts: The documents.
        tokenizer: The model's.
        policy: Windows, stride and first token.
        bf16: Compute matrix products in bfloat16.
        max_tokens: Tokens of one batch.
        progress: Told how many windows are done.
    """
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    start = begin if policy.begins_with_bos else None
    groups, owners = [], []
    for number, text in enumerate(texts):
        for sequence, scored in windows(
            tokenizer.encode(text).ids, context=policy.context, stride=policy.stride, start=start
        ):
            groups.append(Alternatives(prefix=sequence[:1], branches=(sequence[1:],), num_scored=(scored,)))
            owners.append(number)
    scores = score_alternatives(
        model, groups, pad_token_id=tokenizer.pad_token_id, bf16=bf16, max_tokens=max_tokens, progress=progress
    )
    nll, counts = [0.0] * len(texts), [0] * len(texts)
    for owner, (score,) in zip(owners, scores, strict=True):
        nll[owner] -= score.log_likelihood
        counts[owner] += score.num_tokens
    return [
        DocumentLoss(
            nll=nll[number], num_tokens=counts[number], num_words=len(re.split(r"\s+", text)),
            num_bytes=len(text.encode()),
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def perplexity_of(losses: Sequence[DocumentLoss], policy: WindowPolicy) -> Perplexity | None:
    """Sum documents up; None where nothing was predicted."""
    nll = math.fsum(loss.nll for loss in losses)
    tokens, words, size = (
        sum(getattr(loss, name) for loss in losses) for name in ("num_tokens", "num_words", "num_bytes")
    )
    if not tokens or not size or nll / tokens > 700 or nll / words > 700:
        return None
    return Perplexity(
        policy=policy,
        num_documents=len(losses),
        num_tokens=tokens,
        num_words=words,
        num_bytes=size,
        token_perplexity=math.exp(nll / tokens),
        word_perplexity=math.exp(nll / words),
        bits_per_byte=nll / math.log(2) / size,
    )
