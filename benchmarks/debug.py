"""How fast a long log is read, and how often wordings of known failures are named; prints a table.

python benchmarks/debug.py [--megabytes 300]
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from finetune_exe.diagnosis.diagnose import diagnose

WORDINGS = Path(__file__).resolve().parents[1] / "tests" / "unit" / "diagnosis" / "wordings.toml"
END = 'Traceback (most recent call last):\n  File "x.py", line 1\ntorch.OutOfMemoryError: CUDA out of memory.\n'


def ordinary_log(size: int) -> Iterator[str]:
    """Write what a long run prints: metrics, progress bars drawn over each other, lines of a launcher."""
    rng, written, step, loss = random.Random(1), 0, 0, 2.1  # noqa: S311
    while written < size:
        step += 1
        loss = max(0.9, 0.99999 * loss + rng.gauss(0, 0.0004))
        clock = f"{step // 3600:02d}:{step % 60:02d}"
        bar = f"\r {step % 100:3d}%|{'#' * (step % 10):10}| {step}/4000000 [{clock}<01:12,  1.31s/it]"
        rest = f"'grad_norm': {abs(rng.gauss(0.6, 0.1)):.4f}, 'learning_rate': 0.0002, 'epoch': {step / 40000:.3f}"
        line = f"{bar}\n{{'loss': {loss:.4f}, {rest}}}\n"
        if step % 50 == 0:
            line += f"[2024-05-01 10:00:{step % 60:02d}] [INFO] [Rank 0] step={step}, skipped=0, lr=[0.0002]\n"
        written += len(line)
        yield line


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    size = parser.parse_args().megabytes * 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        with path.open("w") as file:
            file.writelines(ordinary_log(size))
            file.write(END)
        begun = time.process_time()
        with path.open("rb") as file:
            sum(1 for _ in file)
        bare = time.process_time() - begun
        begun = time.process_time()
        found = diagnose([path]).findings[0]
        seconds = time.process_time() - begun
    print(f"| counting its lines alone, `sum(1 for _ in file)` | {size / 1e6 / bare:.0f} MB/s |")
    print(f"| log of {size / 1e6:.0f} MB: {found.label} | {size / 1e6 / seconds:.0f} MB/s |")
    print(f"| memory of the process | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB |")
    for kind, labels in tomllib.loads(WORDINGS.read_text(encoding="utf-8")).items():
        said = [
            diagnose([Path("-")], stdin=io.BytesIO(text.encode())).findings[0].label in label.split("/")
            for label, texts in labels.items() for text in texts
        ]  # fmt: skip
        print(f"| {kind}, first label right | {sum(said)} of {len(said)} |")


if __name__ == "__main__":
    main()
