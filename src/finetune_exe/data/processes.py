"""How processes that share the work begin."""

from __future__ import annotations

import sys
import threading
from typing import Literal

THREADED_LIBRARIES = frozenset({"duckdb", "pyarrow", "ray", "torch"})


def start_method() -> Literal["fork", "spawn"]:
    """Choose how processes begin: as copies of this one, which have all modules at once, where that is safe.

    It is where no other thread of Python runs, and no library that keeps threads of its own at work is loaded.
    """
    busy = THREADED_LIBRARIES & sys.modules.keys()
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 and not busy else "spawn"
