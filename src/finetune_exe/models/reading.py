"""Look into a model: let it read without learning, and see what lies beneath its adapter."""

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


def beneath_adapter(model: Any) -> Any:
    """Give the base model that PEFT's model wraps, its layers adapted all the same; any other model as it is."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
