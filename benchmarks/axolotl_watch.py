"""What Axolotl loads by name: `training_peers.py` sees its steps, and it trains where there is no GPU too."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from axolotl.integrations.base import BasePlugin


class WatchPlugin(BasePlugin):  # type: ignore[misc]  # no types here
    """Adds the callback that was put into `watch`."""

    watch: ClassVar[Any] = None

    def get_training_args(self, cfg: Any) -> dict[str, Any]:
        """Say that there may be no GPU; Axolotl has no setting for that."""
        return {"use_cpu": not torch.cuda.is_available()}

    def add_callbacks_post_trainer(self, cfg: Any, trainer: Any) -> list[Any]:
        """Give the callback."""
        return [self.watch]
