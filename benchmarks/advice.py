"""The plan's own hyperparameters against presets, other trainers' defaults and a sweep of the learning rate.

    python benchmarks/advice.py run FOLDER --task "Classify the bank customer's question" rows.csv [--rows 240]
    python benchmarks/advice.py table FOLDER... --write benchmarks/advice.md

`run` trains SmolLM2-135M-Instruct once for each contender on the very same rows, for the same number of passes over
them and so the same tokens, and appends a line to FOLDER/results.jsonl; started again it goes on where it stopped.
ROWS may be "stdlib", the functions of this Python. Only what a contender sets differs: learning rate and its
schedule, rank, alpha, dropout and targets of the adapter, rows a step. `auto` runs with three seeds: their spread is
the noise that a difference must exceed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

PASSES = 3
FACTORS = (0.25, 0.5, 0.125, 2.0, 4.0)
PRESETS = ("conservative", "balanced", "aggressive")
Q_AND_V = "method.target_modules=[q_proj, v_proj]"
PEERS = {
    "TRL 1.16": (
        "optimizer.learning_rate=2e-5", "method.lora_rank=16", "method.lora_alpha=32", "method.lora_dropout=0.05",
        Q_AND_V, "batch.micro_batch_size=8", "schedule.kind=linear", "schedule.warmup.fraction=0",
    ),
    "LLaMA-Factory": (
        "optimizer.learning_rate=1e-4", "method.lora_rank=8", "method.lora_alpha=16", "method.lora_dropout=0.0",
        "batch.micro_batch_size=8", "schedule.kind=cosine", "schedule.warmup.fraction=0.1",
    ),
    "Axolotl": (
        "optimizer.learning_rate=2e-4", "method.lora_rank=16", "method.lora_alpha=32", "method.lora_dropout=0.05",
        "batch.micro_batch_size=4", "schedule.kind=cosine", "schedule.warmup.fraction=0.05",
    ),
}  # fmt: skip
"""SFTConfig, ModelConfig and PEFT's targets for Llama; examples/train_lora/llama3_lora_sft.yaml (8 rows a step);
examples/llama-3/lora-1b.yml (2 x 2 rows a step, 10 warm-up steps of about 200)."""


def same_for_all(rows: int) -> list[str]:
    """Settings that every contender shares: the rows, the passes, and no stopping before the tokens are used up."""
    return [
        f"data.max_rows={rows}", "data.max_length=256", "data.validation_fraction=0.2", "data.test_fraction=0.05",
        f"schedule.epochs={PASSES}", "batch.gradient_accumulation_steps=1", "checkpoints.evaluations_per_epoch=1",
        "checkpoints.early_stopping_patience=null",
    ]  # fmt: skip


def make_contenders(task: str, file: str, rows: int) -> dict[str, Any]:
    """Make the plan of each contender."""
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.workflow.plans import edit_plan, make_plan

    def plan(preset: Any, *settings: str) -> Any:
        spec = TaskSpec(description=task, data_paths=(file,), model="embedded", preset=preset)
        return make_plan(spec, settings=(*same_for_all(rows), *settings))

    auto = plan("auto")
    plans = {f"auto, seed {seed}": edit_plan(auto, [f"seed={seed}"]) for seed in (0, 1, 2)}
    rate = auto.optimizer.learning_rate
    plans |= {
        f"auto, rate x {factor:g}": edit_plan(auto, [f"optimizer.learning_rate={factor * rate}"]) for factor in FACTORS
    }
    plans |= {preset: plan(preset) for preset in PRESETS}
    plans |= {name: edit_plan(auto, settings) for name, settings in PEERS.items()}
    return plans


def run(folder: Path, task: str, file: str, rows: int) -> None:
    """Train every contender that has no result yet."""
    from finetune_exe.models.load import settle_libraries
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train
    from finetune_exe.workflow.preparing import prepare_dataset

    settle_libraries()
    folder.mkdir(parents=True, exist_ok=True)
    plans = make_contenders(task, file, rows)
    if not (folder / "dataset").exists():
        prepare_dataset(plans["auto, seed 0"], folder / "dataset", progress=lambda *_: None, note=print)
    results = folder / "results.jsonl"
    done = {json.loads(line)["contender"] for line in results.read_text().splitlines()} if results.exists() else set()
    for name, plan in plans.items():
        if name in done:
            continue
        started = time.monotonic()
        place = folder / "".join(letter if letter.isalnum() else "-" for letter in name)
        outcome = train(plan, load_dataset(folder / "dataset"), base=model_folder("embedded"), run=place,
                        emit=lambda _: None)  # fmt: skip
        advice = plan.decisions["optimizer.learning_rate"].interval
        line = {
            "contender": name, "task": task, "learning_rate": plan.optimizer.learning_rate,
            "batch": plan.batch.effective, "rank": plan.method.lora_rank, "steps": outcome.num_steps,
            "tokens": outcome.processed_tokens, "learned_tokens": outcome.learned_tokens,
            "base_loss": outcome.initial_validation_loss, "best_loss": outcome.best_validation_loss,
            "last_loss": outcome.evaluations[-1].validation_loss,
            "advised": None if advice is None else [advice.low, advice.high],
            "train_rows": len(load_dataset(folder / "dataset").split("train")),
        }  # fmt: skip
        with results.open("a") as out:
            out.write(json.dumps(line) + "\n")
        print(f"{time.monotonic() - started:.0f} s", line, file=sys.stderr, flush=True)


def table(folder: Path) -> str:
    """Write one task's results as Markdown, best first."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    auto = [line["best_loss"] for line in lines if line["contender"].startswith("auto, seed")]
    noise = 2 * statistics.stdev(auto) if len(auto) > 1 else float("nan")
    low, high = next(line["advised"] for line in lines if line["contender"] == "auto, seed 0")
    swept = [line for line in lines if line["contender"].startswith("auto")]
    best = min(swept, key=lambda line: line["best_loss"])
    first = lines[0]
    head = [
        f"## {first['task']}",
        "",
        f"{first['train_rows']} training rows, {first['tokens']:,} tokens ({first['learned_tokens']:,} learned) in "
        f"{PASSES} passes; validation loss of the base model {first['base_loss']:.3f}. "
        f"Twice the standard deviation of `auto` over its seeds: {noise:.3f}.",
        "",
        f"Best learning rate of the sweep: {best['learning_rate']:.2g}; the plan's interval: {low:.2g} to {high:.2g} "
        f"({'inside' if low <= best['learning_rate'] <= high else 'OUTSIDE'}).",
        "",
        "| contender | learning rate | rows a step | rank | steps | best validation loss | at the end | against auto |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    middle = statistics.mean(auto)
    rows = [
        f"| {line['contender']} | {line['learning_rate']:.2g} | {line['batch']} | {line['rank']} | {line['steps']} "
        f"| {line['best_loss']:.3f} | {line['last_loss']:.3f} | {line['best_loss'] - middle:+.3f} |"
        for line in sorted(lines, key=lambda line: line["best_loss"])
    ]
    return "\n".join([*head, *rows, ""])


def main() -> None:
    """Run one task, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("folder", type=Path)
    runner.add_argument("file")
    runner.add_argument("--task", required=True)
    runner.add_argument("--rows", type=int, default=240)
    writer = commands.add_parser("table")
    writer.add_argument("folders", type=Path, nargs="+")
    writer.add_argument("--write", type=Path)
    args = parser.parse_args()
    if args.command == "run":
        run(args.folder, args.task, args.file, args.rows)
        return
    head = "# Advice against presets, other trainers and a sweep"
    text = "\n".join([head, "", *map(table, args.folders)])
    if args.write:
        args.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
