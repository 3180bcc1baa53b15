"""Kill a small run at random moments, take it up again each time, and compare it with one that was never killed.

    python benchmarks/kills.py --kills 50 --write benchmarks/kills.md

The processes are copies of this one, so that each start takes milliseconds and not the seconds of an import; they share
nothing with it but the disk.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

import accelerate  # noqa: F401
import peft  # noqa: F401
import torch
import transformers

from finetune_exe.domain.events import StepFinished, read_events
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan, write_plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.workflow.plans import make_plan
from finetune_exe.workflow.runs import train_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.tiny import write_model, write_rows

SETTINGS = (
    "data.group_by=topic", "precision.base_dtype=float32", "batch.micro_batch_size=4",
    "batch.gradient_accumulation_steps=2", "schedule.epochs=4", "optimizer.learning_rate=1e-3",
    "checkpoints.evaluations_per_epoch=2", "checkpoints.save_every_steps=1",
    "checkpoints.early_stopping_patience=null",
)  # fmt: skip


KINDS: dict[str, tuple[str, ...]] = {
    "LoRA": (),
    "LoRA, packed": ("batch.packing=true",),
    "full": ("method.kind=full",),
    "full, packed": ("method.kind=full", "batch.packing=true"),
}
"""Kinds of runs that are killed, where none is given."""


def in_a_copy(work: Callable[[], object]) -> int:
    """Do the work in a copy of this process, and give its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        work()
        status = 0
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """Give the exit status of a copy, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def prepare(folder: Path, settings: tuple[str, ...]) -> None:
    """Write a tiny model, rows and a plan."""
    model = write_model(folder / "model")
    rows = write_rows(folder / "rows.jsonl")
    lora = not any(setting.startswith("method.kind=") for setting in settings)
    dropout = ("method.lora_dropout=0.1",) if lora else ()
    spec = TaskSpec(description="answer", data_paths=(str(rows),), model=str(model))
    hardware = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)
    write_plan(make_plan(spec, hardware=hardware, settings=(*SETTINGS, *dropout, *settings)), folder / "plan.yaml")


def train(plan: Plan, run: Path) -> None:
    """Train, or go on."""
    train_plan(plan, run, resume=True, emit=lambda _: None, progress=lambda *_: None, note=lambda _: None)


def losses(run: Path) -> dict[int, float]:
    """Give the loss of each step; the last where a step was made again."""
    return {event.step: event.loss for event in read_events(run / "events.jsonl") if isinstance(event, StepFinished)}


def changed_again(run: Path) -> int:
    """Count steps that were made again and came out otherwise than the first time."""
    seen: dict[int, set[float]] = {}
    for event in read_events(run / "events.jsonl"):
        if isinstance(event, StepFinished):
            seen.setdefault(event.step, set()).add(event.loss)
    return sum(len(found) > 1 for found in seen.values())


def kill_and_resume(plan: Plan, run: Path, rng: random.Random, *, longest: float, most: int) -> int:
    """Train with kills at random moments, up to so many, until the run is finished; count the kills."""
    kills = 0
    while True:
        child = in_a_copy(lambda: train(plan, run))
        if kills < most:
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
        status = wait(child)
        if status == 0:
            return kills
        assert status == -signal.SIGKILL, f"the run ended with {status}"
        kills += 1


def differences(whole: Path, killed: Path) -> list[str]:
    """Name what a killed run has otherwise than the whole one."""
    steps = TrainingRun.read(whole / "run.json").num_steps
    last = f"checkpoints/step-{steps}/state"
    files = [file.relative_to(whole) for folder in ("model", last) for file in (whole / folder).iterdir()]
    found = [str(file) for file in files if (whole / file).read_bytes() != (killed / file).read_bytes()]
    if losses(whole) != losses(killed):
        found.append("losses")
    return found + ["steps made again"] * (changed_again(killed) > 0)


class Result(NamedTuple):
    """What came of the kills of one kind of run."""

    name: str
    num_steps: int
    kills: int
    resumed: int
    """Times that a checkpoint was there to go on from."""
    runs: int
    differ: int


def kill_one_kind(name: str, settings: tuple[str, ...], rng: random.Random, *, most: int) -> Result:
    """Kill runs of one kind until there were so many kills, and compare each with the uninterrupted run."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["FINETUNE_EXE_LEDGER"] = str(folder / "ledger.jsonl")
        assert wait(in_a_copy(lambda: prepare(folder, settings))) == 0
        plan, whole = read_plan(folder / "plan.yaml"), folder / "whole"
        started = time.monotonic()
        assert wait(in_a_copy(lambda: train(plan, whole))) == 0
        needed = time.monotonic() - started
        num_steps = TrainingRun.read(whole / "run.json").num_steps
        print(f"{name}: a run of {num_steps} steps takes {needed:.1f} s", flush=True)
        kills = resumed = differ = runs = 0
        while kills < most:
            runs += 1
            killed = folder / f"killed-{runs}"
            mine = kill_and_resume(plan, killed, rng, longest=0.8 * needed, most=most - kills)
            kills += mine
            other, summary = differences(whole, killed), TrainingRun.read(killed / "run.json")
            resumed += summary.resumed
            differ += bool(other)
            print(
                f"{name}, run {runs}: {mine} kills, taken up from a checkpoint {summary.resumed} times, "
                f"{summary.lost_seconds:.1f} s of work made again; {', '.join(other) or 'bit for bit the same'}",
                flush=True,
            )
    return Result(name, num_steps, kills, resumed, runs, differ)


def table(results: Sequence[Result]) -> str:
    """Write the results as a page."""
    rows = "".join(f"| {' | '.join(map(str, result))} |\n" for result in results)
    return f"""# Runs that are killed at random moments

A small random model learns 60 short rows on one thread, with a checkpoint at every step. The process is killed
(SIGKILL) at a random moment of its start, its training or its saving, and taken up again, over and over, until the run
is done. Then the model, the whole state of the last checkpoint (weights, optimizer, random numbers) and the loss of
every step are held against those of a run that was never killed, byte for byte.

| run | steps | kills | went on from a checkpoint | runs finished | runs that differ |
|---|---:|---:|---:|---:|---:|
{rows}
A kill before the first checkpoint begins the run anew, which is why not all go on from one. LoRA has dropout.

    python benchmarks/kills.py --kills {max(result.kills for result in results)} --write benchmarks/kills.md

torch {torch.__version__}, transformers {transformers.__version__}, {date.today().isoformat()}.
"""


def main() -> None:
    """Run the comparison and print what came of it; leave with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="kills of each kind of run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311 - moments, not secrets
    kinds = {"as given": ()} if given.settings else KINDS
    results = [kill_one_kind(name, (*settings, *given.settings), rng, most=given.kills)
               for name, settings in kinds.items()]  # fmt: skip
    wrong = sum(result.differ for result in results)
    print(f"{sum(result.kills for result in results)} kills; {wrong} runs differ from the uninterrupted one")
    if given.write:
        given.write.write_text(table(results))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
