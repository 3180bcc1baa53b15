"""Estimates of memory and speed against published measurements, source by source, and what they owe to each source.

    python benchmarks/estimates.py MEASUREMENTS.csv [--write benchmarks/estimates.md]

MEASUREMENTS has the columns that docs/guides/estimate.md lists, and beside them `source`, `confidence`,
`peak_mem_gib` with `mem_kind`, and `tokens_per_s_per_gpu`. For the last column of the second table, the constants of
the speed estimate are fitted again without the rows of that source, from a neutral start: an estimate that had learned
rows would fall apart there. Those of memory are counted from tensors and have nothing to fit.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.values import Interval
from finetune_exe.estimate import throughput as speed
from finetune_exe.estimate.footprint import footprint
from finetune_exe.estimate.recorded import RecordedRun, read_workload
from finetune_exe.estimate.workload import Workload
from finetune_exe.units import GIB

NEUTRAL = {
    "ATTENTION_SHARE": 0.5, "NARROW_WIDTH": 200.0, "BLOCK_TRAFFIC": 4.0, "LOGIT_TRAFFIC": 2.0, "DEQUANTISE_BYTES": 8.0,
    "BLOCK_LAUNCH_SECONDS": 0.5e-3, "ADAPTER_LAUNCH_SECONDS": 0.1e-3, "LINK_SHARE": 0.33,
    "FOREACH_TOUCHES": 4.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measured run."""

    source: str
    workload: Workload
    memory: tuple[str, float] | None
    """Which of allocated, reserved and device was measured, and the bytes."""
    tokens_per_second: float | None


def read_cases(path: Path) -> list[Case]:
    """Read the rows whose inputs are published well enough to be scored."""
    cases = []
    for row in csv.DictReader(path.read_text().splitlines()):
        columns = {name: row[name] or None for name in RecordedRun.__struct_fields__}
        workload = read_workload(RecordedRun(**columns))
        if workload is None or row["confidence"] == "low":
            continue
        kind = row["mem_kind"].split(";")[0]
        name = next((name for name in ("allocated", "reserved") if name in kind), "reserved")
        peak = float(row["peak_mem_gib"]) * GIB if row["single_gpu_mem_high"] == "1" else None
        rate = row["tokens_per_s_per_gpu"]
        cases.append(
            Case(source=row["source"], workload=workload, memory=(name, peak) if peak else None,
                 tokens_per_second=float(rate) if rate else None)
        )  # fmt: skip
    return cases


def memory_interval(case: Case) -> Interval:
    """Estimate what was measured of a case's memory."""
    assert case.memory is not None
    estimate = footprint(case.workload)
    return {"allocated": estimate.allocated, "reserved": estimate.reserved}[case.memory[0]]


def speed_interval(case: Case) -> Interval | None:
    """Estimate a case's speed, where that can be said."""
    answer = speed.throughput(case.workload)
    return answer.tokens_per_second if isinstance(answer, speed.Throughput) else None


def line(source: str, guesses: Sequence[Interval], truths: Sequence[float], *more: str) -> str:
    """Write one source's errors as a row of a table."""
    errors = [guess.mid / truth - 1 for guess, truth in zip(guesses, truths, strict=True)]
    inside = sum(guess.contains(truth) for guess, truth in zip(guesses, truths, strict=True))
    cells = (source, str(len(errors)), f"{100 * statistics.median(map(abs, errors)):.1f} %",
             f"{100 * statistics.median(errors):+.1f} %", f"{100 * inside / len(errors):.0f} %", *more)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def misfit(cases: Sequence[Case]) -> float:
    """Score the present constants: mean of bounded logarithmic errors, sources weighing alike."""
    by_source: dict[str, list[float]] = {}
    for case in cases:
        guess = speed_interval(case)
        if guess is not None and case.tokens_per_second:
            error = abs(math.log(guess.mid / case.tokens_per_second))
            by_source.setdefault(case.source, []).append(min(error, 0.7))
    return statistics.mean(map(statistics.mean, by_source.values()))


def fit(cases: Sequence[Case], rounds: int = 4) -> None:
    """Set the constants of the speed estimate by coordinate descent from the neutral start."""
    values = vars(speed)
    values.update(NEUTRAL)
    best, steps = misfit(cases), dict.fromkeys(NEUTRAL, 0.5)
    for _ in range(rounds):
        for name, step in steps.items():
            before = values[name]
            for factor in (1 + step, 1 / (1 + step)):
                values[name] = before * factor
                if (now := misfit(cases)) < best:
                    best = now
                    break
            else:
                values[name] = before
                steps[name] = step / 2


def without(source: str, cases: Sequence[Case]) -> Sequence[Interval]:
    """Estimate the speeds of a source by constants fitted to all others."""
    shipped = {name: vars(speed)[name] for name in NEUTRAL}
    fit([case for case in cases if case.source != source])
    guesses = [speed_interval(case) for case in cases if case.source == source]
    vars(speed).update(shipped)
    return [guess for guess in guesses if guess is not None]


def table(cases: Sequence[Case]) -> list[str]:
    """Write both tables as Markdown."""
    peaks = [case for case in cases if case.memory]
    rates = [case for case in cases if case.tokens_per_second and speed_interval(case)]
    lines = ["## Peak memory on one GPU", ""]
    lines += ["| source | runs | median error | bias | inside |", "|---|--:|--:|--:|--:|"]
    for source in [*sorted({case.source for case in peaks}), "all"]:
        some = [case for case in peaks if source in (case.source, "all")]
        truths = [case.memory[1] for case in some if case.memory]
        lines.append(line(source, [memory_interval(case) for case in some], truths))
    lines += ["", "## Tokens a second on each GPU", "",
              "| source | runs | median error | bias | inside | median error, fitted without it |",
              "|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for source in sorted({case.source for case in rates}):
        some = [case for case in rates if case.source == source]
        truths = [case.tokens_per_second or 0.0 for case in some]
        shipped = [guess for case in some if (guess := speed_interval(case)) is not None]
        errors = [abs(guess.mid / truth - 1) for guess, truth in zip(without(source, rates), truths, strict=True)]
        lines.append(line(source, shipped, truths, f"{100 * statistics.median(errors):.1f} %"))
    shipped = [guess for case in rates if (guess := speed_interval(case)) is not None]
    lines.append(line("all", shipped, [case.tokens_per_second or 0.0 for case in rates], ""))
    return lines


def main() -> None:
    """Print the tables, and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measurements", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    text = "\n".join(table(read_cases(options.measurements)))
    print(text)
    if options.write:
        head = "# Estimates against published measurements\n\n"
        head += "Written by `benchmarks/estimates.py`; it says what the columns mean.\n\n"
        options.write.write_text(head + text + "\n")


if __name__ == "__main__":
    main()
