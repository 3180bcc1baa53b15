"""Many comparisons at once: how p values are raised so that false alarms stay as rare as with one."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Adjust p values by Holm's method; the chance of any false alarm among them stays below the level.

    A None was not tested and counts for nothing.

    Source: Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, place) in enumerate(tested):
        highest = max(highest, min(1.0, (len(tested) - rank) * p))
        adjusted[place] = highest
    return tuple(adjusted)
