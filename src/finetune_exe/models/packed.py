"""Modules with tensors in 4 bit, such as experts: packed, and whole only while they are computed with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

if TYPE_CHECKING:
    from finetune_exe.models.four_bit import Kept


class Added(NamedTuple):
    """A low-rank product that an adapter adds to a tensor: scale * first @ second."""

    first: torch.Tensor
    second: torch.Tensor
    scale: float


@dataclass(slots=True)
class Whole:
    """Makes a packed tensor whole, once, which lives as long as this does."""

    packed: torch.Tensor
    kept: Kept
    added: tuple[Added, ...] = ()
    made: torch.Tensor | None = None

    def make(self) -> torch.Tensor:
        """Give the whole tensor, with what adapters add."""
        if self.made is None:
            whole = self.kept.whole(self.packed)
            add = torch.baddbmm if whole.ndim == 3 else torch.addmm
            with torch.autocast(whole.device.type, enabled=False):
                for first, second, scale in self.added:
                    whole = add(whole, first, second, alpha=scale)
            self.made = whole
        return self.made

    def again(self) -> Whole:
        """Give what makes the same numbers, apart from their gradients."""
        added = tuple(Added(first.detach(), second.detach(), scale) for first, second, scale in self.added)
        return Whole(self.packed, self.kept, added)


class Packed(torch.nn.Module):
    """A module some of whose tensors are in 4 bit; under their names they are found whole.

    While the module computes, each is made once. It is not kept for the backward pass but made again, unless the layer
    around the module is computed again anyway.
    """

    packed: dict[str, Kept]
    """The packed tensors by name, with what makes them whole; they lie in the places of the whole ones."""
    added: dict[str, tuple[Added, ...]]
    """What active adapters add."""
    computed_again: bool
    """Whether the layer around the module is computed again in the backward pass."""
    in_use: dict[str, tuple[Whole, Whole]] | None
    """While the module computes, what makes its tensors: now, and in the backward pass."""

    def forward(self, *args: Any, **named: Any) -> Any:
        """Compute the module."""
        self.in_use = {}
        try:
            if self.computed_again:
                return super().forward(*args, **named)
            with saved_tensors_hooks(self._spare, _give):
                return super().forward(*args, **named)
        finally:
            self.in_use = None

    def whole(self, name: str) -> torch.Tensor:
        """Give a tensor whole, with what adapters add."""
        now = Whole(self.as_it_lies(name), self.packed[name], self.added.get(name, ()))
        if self.in_use is None:
            return now.make()
        now, _ = self.in_use.setdefault(name, (now, now.again()))
        return now.make()

    def as_it_lies(self, name: str) -> torch.nn.Parameter:
        """Give a packed tensor."""
        return self._parameters[name]  # type: ignore[return-value]  # it was set

    def _spare(self, tensor: torch.Tensor) -> torch.Tensor | _View:
        place = tensor.untyped_storage().data_ptr()
        for now, later in (self.in_use or {}).values():
            if now.made is not None and now.made.untyped_storage().data_ptr() == place:
                return _View(later, tensor.size(), tensor.stride(), tensor.storage_offset())
        return tensor


class _View(NamedTuple):
    """A part of a tensor that is not kept."""

    of: Whole
    size: torch.Size
    stride: tuple[int, ...]
    offset: Any


def _give(kept: torch.Tensor | _View) -> torch.Tensor:
    return kept if isinstance(kept, torch.Tensor) else kept.of.make().as_strided(*kept[1:])
