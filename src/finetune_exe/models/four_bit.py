"""Weights in 4 bit: 16 values for each block of them, those of NormalFloat or of a grid that files are published on."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch

from finetune_exe.domain.plan import Grid

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState

BLOCK = 32
"""Weights of a block on a grid."""
_AT_ONCE, _AT_ONCE_ON_GPU = 1 << 12, 1 << 18
"""Blocks worked on together. Of the first, the numbers in float32 take 512 KiB and stay near a processor; of the second
they take 32 MiB, so that a GPU has more to do than to be told."""


class Kept(Protocol):
    """What makes a packed tensor whole."""

    @property
    def shape(self) -> torch.Size:
        """Form of the whole tensor."""

    @property
    def dtype(self) -> torch.dtype:
        """Format of the whole tensor."""

    def whole(self, packed: torch.Tensor) -> torch.Tensor:
        """Give the whole tensor."""


@dataclass(slots=True)
class NormalFloat:
    """A tensor in 4-bit NormalFloat."""

    state: QuantState

    @property
    def shape(self) -> torch.Size:
        """Form of the whole tensor."""
        return torch.Size(self.state.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Format of the whole tensor."""
        dtype: torch.dtype = self.state.dtype
        return dtype

    def whole(self, packed: torch.Tensor) -> torch.Tensor:
        """Give the whole tensor."""
        from bitsandbytes.functional import dequantize_4bit

        whole: torch.Tensor = dequantize_4bit(packed, self.state)
        return whole


def whole_weight(layer: Any) -> torch.Tensor:
    """Give the weights of a linear layer in 4 bit, whether it is bitsandbytes' own or holds a packed tensor."""
    weight: torch.Tensor = layer.weight
    state = getattr(weight, "quant_state", None)
    return weight if state is None else NormalFloat(state).whole(weight.data)


_CODES: dict[Grid, tuple[float, ...]] = {
    "q4_0": tuple(range(-8, 8)),
    "q4_1": tuple(range(16)),
    "mxfp4": (0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6),
}
"""The values that the weights of a block can have before they are scaled, in the order of their 4 bits.

Source: llama.cpp, ggml-quants.c, dequantize_row_q4_0 and dequantize_row_q4_1; OCP Microscaling Formats (MX)
Specification 1.0 (2023), section 5.3.3: FP4, with a sign, two bits of exponent and one of mantissa."""
_LARGEST_EXPONENT = 2
"""Of FP4: its largest value is 1.5 * 2 ** 2."""
_BIAS, _MANTISSA = 127, 23
"""A scale in E8M0 is the exponent of a power of two, which in float32 has the same bias and stands before so many bits.

Source: the same specification, section 5.4.1; IEEE 754."""


@dataclass(slots=True, kw_only=True)
class OnGrid:
    """A tensor on a grid, in blocks along the rows or the columns of its matrices.

    Packed, it has the shape (..., rows, blocks, 16): the upper 4 bits of a byte are the first of two weights.
    """

    grid: Grid
    shape: torch.Size
    dtype: torch.dtype
    turned: bool
    """Whether blocks run along the columns."""
    scale: torch.Tensor
    """Of each block: float16, or the exponent of two with a bias."""
    least: torch.Tensor | None
    """What is added to the values of each block, in float16; None for nothing."""

    def whole(self, packed: torch.Tensor) -> torch.Tensor:
        """Give the whole tensor: product and sum in float32, rounded once."""
        pairs = _pairs(self.grid, packed.device)
        whole = torch.empty(self.shape, dtype=self.dtype, device=packed.device)
        blocks = _blocks(whole, turned=self.turned)
        for part in _parts(blocks):
            values = torch.nn.functional.embedding(packed[part].int(), pairs).flatten(-2)
            values.mul_(_scale(self.scale[part]))
            blocks[part] = values if self.least is None else values.add_(self.least[part].unsqueeze(-1))
        return whole


def found_on_grid(grid: Grid, tensor: torch.Tensor, *, dtype: torch.dtype) -> tuple[torch.Tensor, OnGrid] | None:
    """Put a tensor on the grid that all its numbers lie on.

    Args:
        grid: Which.
        tensor: A matrix or several, in any format.
        dtype: Format in which it is to be made whole.

    Returns:
        The packed tensor and what makes it whole; None where rounding to the grid would change a number.
    """
    for turned in (False, True):
        if tensor.shape[-2 if turned else -1] % BLOCK:
            continue
        packed, kept = _rounded(grid, tensor, turned=turned)
        if torch.equal(kept.whole(packed), tensor.float()):
            return packed, dataclasses.replace(kept, dtype=dtype)
    return None


def _rounded(grid: Grid, tensor: torch.Tensor, *, turned: bool) -> tuple[torch.Tensor, OnGrid]:
    blocks = _blocks(tensor.detach(), turned=turned)
    packed = blocks.new_empty(*blocks.shape[:-1], BLOCK // 2, dtype=torch.uint8)
    scale = blocks.new_empty(blocks.shape[:-1], dtype=torch.uint8 if grid == "mxfp4" else torch.float16)
    least = torch.empty_like(scale) if grid == "q4_1" else None
    for part in _parts(blocks):
        values = blocks[part].float().contiguous()
        scale[part] = _fitted_scale(grid, values)
        if least is not None:
            least[part] = values.amin(-1)
            values = values - least[part].unsqueeze(-1)
        codes = _nearest_codes(grid, values, _scale(scale[part]))
        packed[part] = codes[..., ::2] * 16 + codes[..., 1::2]
    return packed, OnGrid(grid=grid, shape=tensor.shape, dtype=torch.float32, turned=turned, scale=scale, least=least)


def _blocks(tensor: torch.Tensor, *, turned: bool) -> torch.Tensor:
    """Look at matrices as (..., rows, blocks, 32)."""
    return (tensor.mT if turned else tensor).unflatten(-1, (-1, BLOCK))


def _parts(blocks: torch.Tensor) -> Iterator[tuple[int | slice, ...]]:
    """Give the rows that are worked on together, matrix by matrix."""
    *stack, rows, num_blocks, _ = blocks.shape
    at_once = max(1, (_AT_ONCE if blocks.device.type == "cpu" else _AT_ONCE_ON_GPU) // num_blocks)
    for matrix in itertools.product(*map(range, stack)):
        for start in range(0, rows, at_once):
            yield (*matrix, slice(start, start + at_once))


def _fitted_scale(grid: Grid, values: torch.Tensor) -> torch.Tensor:
    """Give the scale of each block, as it is kept, by the rule that the grid's files are written with.

    Source: llama.cpp, ggml-quants.c, quantize_row_q4_0_ref and quantize_row_q4_1_ref; OCP Microscaling Formats 1.0,
    section 6.3.
    """
    most, least = values.amax(-1), values.amin(-1)
    if grid == "q4_1":
        return (most - least) / 15
    furthest = torch.where(most > -least, most, least)
    if grid == "q4_0":
        return furthest / -8
    exponent = torch.frexp(furthest.abs()).exponent - 1 - _LARGEST_EXPONENT
    return (exponent + _BIAS).clamp(1, 254)


def _scale(kept: torch.Tensor) -> torch.Tensor:
    """Give the scales of blocks as numbers, for each of a block's."""
    if kept.dtype == torch.uint8:
        return (kept.int() << _MANTISSA).view(torch.float32).unsqueeze(-1)
    return kept.float().unsqueeze(-1)


def _nearest_codes(grid: Grid, values: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    codes, order = torch.tensor(_CODES[grid], dtype=torch.float32, device=values.device).sort()
    middles = (codes[1:] + codes[:-1]) / 2
    return order.to(torch.uint8)[torch.bucketize(values / torch.where(scale == 0, 1.0, scale), middles)]


@cache
def _pairs(grid: Grid, device: torch.device) -> torch.Tensor:
    """Give the two codes that each byte stands for."""
    codes = torch.tensor(_CODES[grid], dtype=torch.float32, device=device)
    return torch.cartesian_prod(codes, codes)
