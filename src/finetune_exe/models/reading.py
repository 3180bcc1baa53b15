"""Let a model read without learning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def reading(model: Any) -> Iterator[None]:
    """Switch dropout and gradients off while the block runs; afterwards the model is as it was."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
