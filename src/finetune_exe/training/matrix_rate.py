"""What the processor here really multiplies, measured in two seconds."""

from __future__ import annotations

import statistics
import time
from typing import Literal

SECONDS = 2.0
_ROWS, _HIDDEN, _INNER = 2048, 1024, 2048


def measure_matrix_rate(dtype: Literal["float32", "bfloat16"], *, seconds: float = SECONDS) -> float:
    """Measure the rate of a matrix product as large as those of a small model's layer, on all cores.

    Args:
        dtype: Number format of the factors.
        seconds: How long to measure.

    Returns:
        Floating-point operations a second, the median of all products but the first.
    """
    import torch

    from finetune_exe.models.load import settle_libraries, torch_dtype

    settle_libraries()
    left = torch.randn(_ROWS, _HIDDEN).to(torch_dtype(dtype))
    right = torch.randn(_HIDDEN, _INNER).to(torch_dtype(dtype))
    times: list[float] = []
    started = time.monotonic()
    with torch.inference_mode():
        torch.mm(left, right)
        while time.monotonic() - started < seconds or not times:
            begun = time.perf_counter()
            torch.mm(left, right)
            times.append(time.perf_counter() - begun)
    return 2 * _ROWS * _HIDDEN * _INNER / statistics.median(times)
