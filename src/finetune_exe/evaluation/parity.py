"""How far one form of a model predicts otherwise than another, on the task's prompts and on general text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finetune_exe.domain.shipment import Parity
from finetune_exe.evaluation.forgetting import Moved, Predictions, hold_against
from finetune_exe.evaluation.readiness import MERGE_DIVERGENCE
from finetune_exe.prepared.store import SplitData
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import ChatTokenizer

PROBED_ROWS = 16
"""Rows of the test side that are compared."""
MOST_DIVERGENCE = {"float32": MERGE_DIVERGENCE, "f32": MERGE_DIVERGENCE, "float16": MERGE_DIVERGENCE,
                   "f16": MERGE_DIVERGENCE, "bfloat16": 1e-2, "bf16": 1e-2}  # fmt: skip
"""Mean divergence, in nats a token, that rounding to a format may bring. bfloat16 moved SmolLM2-135M by 2.0e-3."""
MOST_QUANTISED = 0.06
"""The same of weights in eight bits and fewer.

Source: files called Q4_K_M of one model, by different people, lie between 0.010 and 0.052 (banandre.com, 2026)."""


def probe_sequences(test: SplitData, tokenizer: ChatTokenizer, *, max_length: int) -> list[tuple[int, ...]]:
    """Choose what is compared: whole test rows, and general text."""
    rows = [tuple(test.sequence(index).tokens.tolist()) for index in range(min(PROBED_ROWS, len(test)))]
    general = [tuple(tokenizer.encode(text).ids) for text in GENERIC_TEXTS]
    return [tokens[:max_length] for tokens in (*rows, *general) if len(tokens) > 1]


def parity(name: str, model: Any, sequences: Sequence[tuple[int, ...]], like: Predictions, *, most: float) -> Parity:
    """Hold a model against what another predicted.

    Args:
        name: What is compared with what.
        model: The model.
        sequences: What both are given.
        like: The other's predictions.
        most: Mean divergence that is still the same model.
    """
    moved: Moved = hold_against(model, sequences, like)
    return Parity(
        name=name,
        num_tokens=len(moved.divergence_N),
        divergence=_number(float(moved.divergence_N.mean())),
        divergence_p999=_number(float(np.quantile(moved.divergence_N, 0.999))),
        top1_agreement=float(moved.agrees_N.mean()),
        most_divergence=most,
    )


def most_divergence(number_format: str) -> float:
    """Give what a number format may move."""
    return MOST_DIVERGENCE.get(number_format, MOST_QUANTISED)


def _number(value: float) -> float:
    """Take what is no number for a divergence beyond any bound."""
    return value if np.isfinite(value) else 1e9
