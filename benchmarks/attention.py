"""Attention of packed rows on a GPU: row by row beside all rows by one kernel, forward and backward.

    python benchmarks/attention.py

One layer of 32 query and 8 key heads of 64 in bfloat16; the median of ten. `together` is what this trainer does where
rows are short, `one by one` what it does where they are long.
"""

from __future__ import annotations

import statistics
import time

import torch

from finetune_exe.models import fused_attention
from finetune_exe.models.layout import Layout, Row

QUERY_HEADS, KEY_HEADS, WIDTH = 32, 8, 64
CASES = {
    "64 rows of 128": ([Row(128)] * 64, None),
    "16 rows of 512": ([Row(512)] * 16, None),
    "8 rows of 1,024": ([Row(1024)] * 8, None),
    "5 rows of 1,600": ([Row(1600)] * 5, None),
    "4 rows of 2,048": ([Row(2048)] * 4, None),
    "8 rows of 2,048": ([Row(2048)] * 8, None),
    "2 rows of 4,096": ([Row(4096)] * 2, None),
    "64 rows of 180 that share 100": ([Row(180)] + [Row(180, shared=100)] * 63, None),
    "32 rows of 1,100 that share 1,000": ([Row(1100)] + [Row(1100, shared=1000)] * 31, None),
    "8 rows of 1,024 under a window of 256": ([Row(1024)] * 8, 256),
}
WAYS = {"one by one": 0, "together": 1 << 30}
"""Queries from which on a row is taken by itself."""


def measure(layout: Layout, window: int) -> tuple[float, float]:
    """Give milliseconds and MiB of a pass forward and back."""
    shapes = [(1, heads, layout.starts[-1], WIDTH) for heads in (QUERY_HEADS, KEY_HEADS, KEY_HEADS)]
    inputs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
    upstream = torch.randn(1, layout.starts[-1], QUERY_HEADS, WIDTH, device="cuda", dtype=torch.bfloat16)
    seconds = []
    for _ in range(13):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, begun = torch.cuda.memory_allocated(), time.perf_counter()
        read = fused_attention.attend_by_kernels(*inputs, layout=layout, window=window, scale=WIDTH**-0.5)
        torch.autograd.grad(read, inputs, upstream)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(seconds[3:]), (torch.cuda.max_memory_allocated() - before) / 2**20


def main() -> None:
    """Print the table."""
    print("| | tokens | one by one | together |\n|---|---:|---:|---:|")
    for name, (rows, window) in CASES.items():
        layout = Layout(tuple(rows))
        found = []
        for fused_attention.LONG_ROW in WAYS.values():
            milliseconds, mebibytes = measure(layout, window or layout.starts[-1])
            found.append(f"{milliseconds:.2f} ms, {mebibytes:.0f} MiB")
        print(f"| {name} | {layout.starts[-1]:,} | {' | '.join(found)} |")


if __name__ == "__main__":
    main()
