"""Losses of pairs of answers: direct preference optimisation.

Shapes: P pairs, N learned tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe.models.forward import Losses, RowLosses, Rows
from finetune_exe.models.reading import reading

if TYPE_CHECKING:
    import torch


class Margins(NamedTuple):
    """How the model ranks pairs, held against the model as it was."""

    accuracy: float
    """Share of pairs whose better answer gained more."""
    margin: float
    """Mean gain of the better answer over the worse one, times beta, in nats."""


class PreferenceLoss:
    """Computes one loss for each pair of a batch, whose rows were given as better, worse, better, worse, ...

    The model as it was is the same model with its adapter switched off, so that no second one is held. Its own dropout,
    where it has any, is off too: it is what the pairs are held against, and the same in every step.

    Source: Rafailov et al. 2023, Direct Preference Optimization, arXiv 2305.18290, equation 7.
    """

    def __init__(self, losses: Losses, *, beta: float) -> None:
        self.losses = losses
        self.model: Any = losses.model
        self.device = losses.device
        self.ranks = losses.ranks
        self.beta = beta
        self._gains: list[torch.Tensor] = []

    def __call__(self, rows: Rows) -> RowLosses:
        """Compute the losses of the pairs."""
        import torch

        now_P = self._ahead(rows)  # first: FSDP takes over for good whether weights are learned at their first use
        with reading(self.model), self.model.disable_adapter():
            before_P = self._ahead(rows)
        gain_P = self.beta * (now_P - before_P)
        self._gains.append(gain_P.detach())
        nll_P = -torch.nn.functional.logsigmoid(gain_P)
        return RowLosses(nll_P, torch.arange(len(nll_P), device=nll_P.device))

    def weight(self, rows: Rows) -> int:
        """Count the pairs."""
        return rows.num_rows // 2

    def restart(self) -> None:
        """Forget the pairs computed so far."""
        self._gains = []

    def take_margins(self) -> Margins | None:
        """Sum up the pairs that all processes computed since the last call; None where there were none."""
        right = sum(float((gain_P > 0).sum()) for gain_P in self._gains)
        gain = sum(float(gain_P.double().sum()) for gain_P in self._gains)
        right, gain, count = self.ranks.totals(right, gain, sum(map(len, self._gains)))
        self._gains = []
        return Margins(right / count, gain / count) if count else None

    def _ahead(self, rows: Rows) -> torch.Tensor:
        """Compute by how much the better answer of each pair is likelier than the worse one, in nats."""
        nll_N, row_N = self.losses(rows)
        total_B = nll_N.new_zeros(rows.num_rows).index_add(0, row_N, nll_N)
        return total_B[1::2] - total_B[0::2]
