"""Read a split's tokens so that a failing disk is an error that can be caught, tried again and named."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import SplitData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TRIES = 3
_PAUSE_SECONDS = 0.2
"""A slice is read again after 0.2 and 0.4 seconds: what a disk refuses for longer is no hiccup."""


class FileArray:
    """An array on the disk whose slices are read by system calls: a mapped one would end the process on an error."""

    def __init__(self, mapped: NDArray[Any], offsets: NDArray[np.int64], sleep: Callable[[float], None]) -> None:
        import numpy as np

        assert isinstance(mapped, np.memmap)
        assert mapped.filename is not None
        self.path = Path(mapped.filename)
        self.dtype = mapped.dtype
        self._start = mapped.offset
        self._length = len(mapped)
        self._offsets = offsets
        self._sleep = sleep
        self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def __len__(self) -> int:
        """Count the elements."""
        return self._length

    def __del__(self) -> None:
        """Close the file with the last use."""
        os.close(self._handle)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Read a slice, again where the disk gives an error.

        Raises:
            FineTuneError: I13 where it goes on giving it.
        """
        import numpy as np

        start, end, _ = part.indices(self._length)
        size = self.dtype.itemsize
        for number in range(1, TRIES + 1):
            try:
                content = os.pread(self._handle, (end - start) * size, self._start + start * size)
                if len(content) == (end - start) * size:
                    return np.frombuffer(content, dtype=self.dtype)
                why = f"the file ends {(end - start) * size - len(content)} bytes too early"
            except OSError as fault:
                why = fault.strerror or str(fault)
            if number < TRIES:
                self._sleep(_PAUSE_SECONDS * number)
        first, last = np.searchsorted(self._offsets, [start, max(start, end - 1)], side="right") - 1
        raise FineTuneError(
            "I13",
            what=f"the disk gave an error when rows were read: {why}",
            where=f"{self.path}, sequence{'s' if last > first else ''} {first}{f' to {last}' if last > first else ''}",
            why=f"it was tried {TRIES} times; training on other rows would be another run",
            fix="look at the disk; copy the run to another one; then go on with --resume",
        )


def read_by_calls(split: SplitData, *, sleep: Callable[[float], None] = time.sleep) -> SplitData:
    """Give the same split with its tokens read by system calls, and the small arrays in memory."""
    import numpy as np

    offsets = np.array(split.offsets)
    tokens, learned = (FileArray(array, offsets, sleep) for array in (split.tokens, split.learned))
    return dataclasses.replace(
        split, tokens=cast("NDArray[np.int32]", tokens), learned=cast("NDArray[np.bool_]", learned),
        offsets=offsets, rows=np.array(split.rows),
    )  # fmt: skip
