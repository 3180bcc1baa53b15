"""Predicted against measured memory, speed and duration on this machine: LoRA and full training at three lengths.

    python benchmarks/predictions.py ROWS.json [--rows 80] [--write benchmarks/predictions.md]

Each run is planned (`--probe`, no ledger) and trained by the command line in a process of its own, one after the other
on all cores; nothing else should compute meanwhile. Rows longer than the length are dropped, as always.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LENGTHS = (128, 256, 512)
METHODS = ("lora", "full")
UNITS = {"memory": (2**30, "GiB"), "speed": (1.0, "tokens/s"), "duration": (1.0, "s")}


def run(rows_file: Path, method: str, length: int, rows: int, folder: Path) -> dict[str, Any]:
    """Plan and train once; give the document of the run, its scored predictions among the rest."""
    plan = folder / f"{method}-{length}.yaml"
    command = [sys.executable, "-m", "finetune_exe"]
    settings = {
        "data.max_length": length, "data.max_rows": rows, "schedule.epochs": 1, "batch.micro_batch_size": 8,
        "batch.gradient_accumulation_steps": 1, "checkpoints.evaluations_per_epoch": 1,
    }  # fmt: skip
    wishes = [word for path, value in settings.items() for word in ("--set", f"{path}={value}")]
    subprocess.run(
        [*command, "analyze", "follow instructions", "--data", str(rows_file), "--model", "embedded", "--cpu",
         "--probe", "--method", method, *wishes, "-o", str(plan)], check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    where = folder / f"run-{method}-{length}"
    subprocess.run([*command, "train", str(plan), "--run", str(where)], check=True, stdout=subprocess.DEVNULL)
    document: dict[str, Any] = json.loads((where / "run.json").read_text())
    return document


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, default=80)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    lines, errors = [], {name: list[float]() for name in UNITS}
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS:
            for length in LENGTHS:
                document = run(args.rows_file, method, length, args.rows, Path(folder))
                for score in document["scores"]:
                    scale, unit = UNITS[score["name"]]
                    low, mid, high = (score["predicted"][key] / scale for key in ("low", "mid", "high"))
                    measured = score["measured"] / scale
                    error = mid / measured - 1
                    errors[score["name"]].append(abs(error))
                    lines.append(
                        f"| {method} | {length} | {score['name']} | {mid:.3g} ({low:.3g} to {high:.3g}) {unit} "
                        f"| {measured:.3g} {unit} | {100 * error:+.0f} % | {'yes' if score['inside'] else 'NO'} |"
                    )
                    print(lines[-1], file=sys.stderr, flush=True)
    medians = ", ".join(f"{name} {100 * statistics.median(found):.0f} %" for name, found in errors.items())
    hardware = document["hardware"]
    machine = f"{hardware['num_cores']} cores of {hardware['cpu']} ({', '.join(hardware['cpu_features'])})"
    machine += f", Python {platform.python_version()}, {datetime.date.today():%d %B %Y}"
    head = [
        "# Predictions against measurements on one machine", "",
        f"SmolLM2-135M-Instruct, {args.rows} rows of {args.rows_file.name}, 8 a pass, one epoch; {machine}.", "",
        f"Median error: {medians}.",
        "", "| method | length | quantity | predicted | measured | error | inside |",
        "|---|---:|---|---:|---:|---:|---|",
    ]  # fmt: skip
    text = "\n".join([*head, *lines, ""])
    if args.write:
        args.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
