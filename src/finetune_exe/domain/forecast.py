"""What more rows would bring."""

from __future__ import annotations

from pydantic import Field

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.values import Interval


class CurvePoint(Value):
    """The loss that one run reached."""

    rows: int = Field(ge=1)
    """Rows it was trained on."""
    loss: float = Field(gt=0)
    """Best validation loss, in nats a token."""
    error: float = Field(default=0.005, gt=0)
    """Usual error of the loss, as a share of it: another seed, other validation rows."""


class LossForecast(Document):
    """The validation loss expected with more rows; the intervals are meant to hold nine times in ten."""

    points: tuple[CurvePoint, ...]
    """What it rests on, fewest rows first."""
    rows: int
    """Most rows of any point."""
    more_rows: int
    change: Interval
    """What the loss changes by, from `rows` to `rows + more_rows`; less is better."""
    loss: Interval
    """The loss expected there."""
    exponent: Interval
    """b in L = A * D^-b + E: how fast more rows help."""
    floor: Interval
    """E: the loss that no number of such rows goes below."""
    source: str
