"""AdamW with 8-bit states that move out of a GPU that is full, also after they were loaded."""

from __future__ import annotations

from typing import Any

import torch
from bitsandbytes.optim import PagedAdamW8bit


class PagedAdamW(PagedAdamW8bit):  # type: ignore[misc]  # bitsandbytes has no types
    """bitsandbytes' own, whose states are paged again where a run goes on: loading by itself puts them on the GPU.

    Source: bitsandbytes 0.50.2, Optimizer8bit.load_state_dict.
    """

    def load_state_dict(self, state_dict: dict[str, Any], move_to_device: bool = True) -> None:
        """Take states back one after another, so that they are never on the GPU together."""
        before = {parameter: dict(state) for parameter, state in self.state.items()}
        super().load_state_dict(state_dict, move_to_device=False)
        for parameter, state in self.state.items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    old = before.get(parameter, {}).get(name)
                    state[name] = self._placed(value.to(parameter.device), old, paged=name in ("state1", "state2"))

    def _placed(self, value: torch.Tensor, old: torch.Tensor | None, *, paged: bool) -> torch.Tensor:
        """Put a state where it belongs: into the pages that it had, for these are never given back."""
        if not paged:
            return value
        if old is not None and getattr(old, "is_paged", False) and old.shape == value.shape:
            return old.copy_(value)
        pages: torch.Tensor = self.get_state_buffer(value, dtype=value.dtype)
        return pages.copy_(value)
