"""What a self-test gives back, and how far apart two results are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Measured(NamedTuple):
    """How far from equal a comparison came out."""

    figure: float
    detail: str


class NotMeasuredError(Exception):
    """A test that cannot be made here, and why."""


def distance(found: Iterable[torch.Tensor], wanted: Iterable[torch.Tensor]) -> float:
    """Give the length of the difference of all tensors together over the length of the wanted ones."""
    difference = length = 0.0
    for one, other in zip(found, wanted, strict=True):
        difference += float((one.detach().double() - other.detach().double()).square().sum())
        length += float(other.detach().double().square().sum())
    return float((difference / length) ** 0.5) if length else float("inf")
