"""A Ray cluster for as long as work goes on: one that is there, or one of this machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune_exe.errors import missing_component


@contextmanager
def ray_cluster(*, needed_for: str) -> Iterator[Any]:
    """Give the module `ray`, connected: to what it is connected to already, to RAY_ADDRESS, or to a new cluster here.

    A cluster started here ends with the block, one that was there stays.

    Args:
        needed_for: What the user asked for, as in "searching on a cluster".

    Raises:
        FineTuneError: X01 where Ray is not installed.
    """
    try:
        import ray
    except ImportError as fault:
        raise missing_component("ray", extra="ray", needed_for=needed_for) from fault
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    ray.init(address, log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        yield ray
    finally:
        ray.shutdown()
