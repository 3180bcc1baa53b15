"""Log-likelihoods of held-out rows: of what is learned, and of the whole text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_exe.domain.plan import Precision
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import LossFunction, batches_by_length, collate
from finetune_exe.prepared.store import SplitData
from finetune_exe.text.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class RowLikelihoods:
    """Negative log-likelihoods in nats of R rows, summed in float64."""

    learned_nll_R: np.ndarray
    learned_tokens_R: np.ndarray
    text_nll_R: np.ndarray
    """Of every token but the first of each sequence."""
    text_bytes_R: np.ndarray
    """UTF-8 bytes those tokens stand for."""


def measure_likelihoods(
    model: Any,
    split: SplitData,
    tokenizer: ChatTokenizer,
    precision: Precision,
    *,
    device: str,
    progress: Callable[[int], None] = lambda _: None,
) -> RowLikelihoods:
    """Measure a model on every row of a split, in one pass over batches of like length.

    The result does not depend on how rows are batched: padding stands where causal attention never looks.

    Args:
        model: Causal language model in evaluation mode.
        split: The rows.
        tokenizer: Turns tokens back into bytes.
        precision: As in training.
        device: Where the model is.
        progress: Told how many sequences are done.

    Raises:
        FineTuneError: E01 where the model's predictions are no numbers.
    """
    import torch

    losses = LossFunction(model, precision, device=device)
    num_rows = int(split.rows.max()) + 1
    learned_nll, text_nll = np.zeros(num_rows), np.zeros(num_rows)
    learned_tokens, text_bytes = np.zeros(num_rows, dtype=np.int64), np.zeros(num_rows, dtype=np.int64)
    done = 0
    with torch.no_grad():
        for indices in batches_by_length(split):
            sequences = [split.sequence(index) for index in indices]
            everything = [(tokens, np.ones(len(tokens), dtype=bool)) for tokens, _ in sequences]
            batch = collate(everything, pad_token_id=tokenizer.pad_token_id, device=device)
            measured = losses(batch)
            nll_N, where_N = measured.nll_N.double().cpu().numpy(), measured.row_N.cpu().numpy()
            for position, (index, (tokens, learned)) in enumerate(zip(indices, sequences, strict=True)):
                nll_T = nll_N[where_N == position]
                row = int(split.rows[index])
                text_nll[row] += nll_T.sum()
                text_bytes[row] += len(tokenizer.decode(tokens[1:].tolist()).encode())
                learned_nll[row] += nll_T[learned[1:]].sum()
                learned_tokens[row] += int(learned[1:].sum())
            if not np.isfinite(nll_N).all():
                raise _no_numbers()
            done += len(indices)
            progress(done)
    return RowLikelihoods(
        learned_nll_R=learned_nll, learned_tokens_R=learned_tokens, text_nll_R=text_nll, text_bytes_R=text_bytes
    )


def _no_numbers() -> FineTuneError:
    return FineTuneError(
        "E01",
        what="the model predicts no numbers",
        where="likelihoods of the test rows",
        why="some of its weights are infinite or not a number, as after training that diverged or a damaged file",
        fix="take an earlier checkpoint, or train again with a lower learning rate; fine-tune debug RUN says more",
    )
