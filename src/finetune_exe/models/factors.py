"""What a linear layer computes, with a low-rank adapter or none, and its gradients, in as few passes as there can be.

Shapes: N tokens, I inputs, O outputs, R rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch

NUM_TENSORS = 4
"""Parts of `Factors` that may need a gradient, the first ones."""


class Factors(NamedTuple):
    """What a linear layer computes: x W' + b + scale (x A') B'."""

    weight_OI: torch.Tensor
    bias_O: torch.Tensor | None = None
    first_RI: torch.Tensor | None = None
    """A; None, like B, where there is no adapter."""
    second_OR: torch.Tensor | None = None
    """B."""
    scale: float = 1.0
    unpack: Callable[[torch.Tensor], torch.Tensor] | None = None
    """Makes the weights that are multiplied of those that are kept; they are there only meanwhile."""

    def output(self, x_NI: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Compute the output, and the input's product with A, which the gradients need."""
        y_NO = torch.nn.functional.linear(x_NI, self._whole_OI(), self.bias_O)
        if self.first_RI is None or self.second_OR is None:
            return y_NO, None
        narrow_NR = x_NI @ self.first_RI.T
        return y_NO.addmm_(narrow_NR, self.second_OR.T, alpha=self.scale), narrow_NR

    def gradients(
        self,
        grad_NO: torch.Tensor,
        x_NI: torch.Tensor,
        narrow_NR: torch.Tensor | None,
        wanted: Sequence[bool],
        *,
        onto_NI: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor | None, ...]:
        """Compute gradients from that of the output.

        Args:
            grad_NO: Gradient of the output.
            x_NI: The input; where neither weight nor adapter needs a gradient, anything.
            narrow_NR: Its product with A.
            wanted: Which of input, weight, bias, A and B need a gradient.
            onto_NI: Gradient of the input by other ways, to which this one is added.

        Returns:
            The gradients of input, weight, bias, A and B.
        """
        error_NR = None if self.second_OR is None else (grad_NO @ self.second_OR).mul_(self.scale)
        return (
            self._for_input(grad_NO, error_NR, onto_NI) if wanted[0] else None,
            grad_NO.T @ x_NI if wanted[1] else None,
            grad_NO.sum(0) if wanted[2] else None,
            error_NR.T @ x_NI if error_NR is not None and wanted[3] else None,
            (grad_NO.T @ narrow_NR).mul_(self.scale) if narrow_NR is not None and wanted[4] else None,
        )

    def _for_input(
        self, grad_NO: torch.Tensor, error_NR: torch.Tensor | None, onto_NI: torch.Tensor | None
    ) -> torch.Tensor:
        whole_OI = self._whole_OI()
        for_x_NI = grad_NO @ whole_OI if onto_NI is None else onto_NI.addmm_(grad_NO, whole_OI)
        if error_NR is not None and self.first_RI is not None:
            for_x_NI.addmm_(error_NR, self.first_RI)
        return for_x_NI

    def _whole_OI(self) -> torch.Tensor:  # noqa: N802  # letters of its shape
        return self.weight_OI if self.unpack is None else self.unpack(self.weight_OI)


@runtime_checkable
class Factored(Protocol):
    """A layer that may compute just that."""

    def factors(self, x: torch.Tensor) -> Factors | None:
        """Give what is computed of `x`; None where it is more."""


def factors_of(layer: object, x: torch.Tensor) -> Factors | None:
    """Give what a layer computes of `x`; None where it is not linear or computes more."""
    if isinstance(layer, Factored):
        return layer.factors(x)
    if type(layer) is not torch.nn.Linear:
        return None
    dtype = computed_in(x)
    return Factors(layer.weight.to(dtype), None if layer.bias is None else layer.bias.to(dtype))


def computed_in(x: torch.Tensor) -> torch.dtype:
    """Name the number format that matrix products of `x` are computed in here."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
