"""What PEFT cannot put into a model is said in words before training begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune_exe.errors import FineTuneError


@contextmanager
def told_in_words(model: Any, *, fix: str) -> Iterator[None]:
    """Turn what PEFT, or a trial of what it made, raises into a refusal.

    Args:
        model: The base model.
        fix: What to set instead.

    Raises:
        FineTuneError: T02 with PEFT's own reason.
    """
    try:
        yield
    except (AttributeError, RuntimeError, TypeError, ValueError) as fault:
        raise FineTuneError(
            "T02",
            what=f"this method cannot be put into models of type {model.config.model_type}",
            where="method in the plan",
            why=" ".join(str(fault).split())[:300],
            fix=fix,
        ) from fault
