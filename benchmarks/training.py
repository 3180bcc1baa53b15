"""Training speed beside TRL's SFTTrainer: the same model, rows, effective batch and adapter, one after the other.

    python benchmarks/training.py ROWS.json [--rows 96] [--write benchmarks/training.md]

ROWS is a file of instruction rows; TRL must be installed beside finetune-exe (pip install trl). Each contender runs
in a process of its own on all cores, TRL with its own defaults; both train one epoch over the very same rows. The first
step of each is left out of the timing. Learned tokens are those that carry a loss.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

BATCH, RANK, MAX_LENGTH = 8, 16, 512


def prepare(rows_file: Path, num_rows: int, folder: Path) -> int:
    """Write plan and prepared dataset for ours, and the same train rows for TRL; count them."""
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.workflow.plans import make_plan
    from finetune_exe.workflow.runs import prepare_dataset

    held_out = max(3, num_rows // 20)
    total = num_rows + 2 * held_out
    plan = make_plan(
        TaskSpec(description="follow instructions", data_paths=(str(rows_file),), model="embedded"),
        settings=(
            f"data.max_length={MAX_LENGTH}", f"data.max_rows={total}", f"data.validation_fraction={held_out / total}",
            f"data.test_fraction={held_out / total}", f"method.lora_rank={RANK}", "method.lora_dropout=0.0",
            f"batch.micro_batch_size={BATCH}", "batch.gradient_accumulation_steps=1", "schedule.epochs=1",
            "optimizer.learning_rate=2e-4", "checkpoints.evaluations_per_epoch=1",
        ),
    )  # fmt: skip
    write_plan(plan, folder / "plan.yaml")
    prepare_dataset(plan, folder / "dataset", progress=lambda *_: None, note=print)
    rows = load_dataset(folder / "dataset").split("train").read_rows()
    with (folder / "trl.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            messages = [{"role": m["role"], "content": m["content"]} for m in row.conversation["messages"]]
            file.write(json.dumps({"prompt": messages[:-1], "completion": messages[-1:]}) + "\n")
    return len(rows)


def run_ours(folder: Path) -> dict[str, float]:
    """Train with finetune-exe."""
    from finetune_exe.domain.events import AnyEvent, StepFinished
    from finetune_exe.domain.plan_yaml import read_plan
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train

    steps: list[StepFinished] = []

    def keep(event: AnyEvent) -> None:
        if isinstance(event, StepFinished):
            steps.append(event)
            print(f"ours: step {event.step}, loss {event.loss:.3f}, {event.step_seconds:.1f} s", file=sys.stderr)

    plan = read_plan(folder / "plan.yaml")
    summary = train(
        plan, load_dataset(folder / "dataset"), base=model_folder("embedded"), run=folder / "run", emit=keep
    )
    return {
        "learned": sum(step.learned_tokens for step in steps[1:]),
        "tokens": sum(step.processed_tokens for step in steps[1:]),
        "padded": sum(step.padded_tokens for step in steps[1:]),
        "seconds": sum(step.step_seconds for step in steps[1:]),
        "first_loss": steps[0].loss,
        "last_loss": sum(step.loss for step in steps[-4:]) / 4,
        "peak_gib": summary.peak_memory_bytes / 2**30,
    }


def run_trl(folder: Path) -> dict[str, float]:
    """Train with TRL: only what must be the same is set, and use_cpu, without which it refuses a CPU."""
    import resource
    import time

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from finetune_exe.models.locate import model_folder

    base = model_folder("embedded")
    rows = [json.loads(line) for line in (folder / "trl.jsonl").read_text(encoding="utf-8").splitlines()]
    config = SFTConfig(
        output_dir=str(folder / "trl"), per_device_train_batch_size=BATCH, num_train_epochs=1, max_length=MAX_LENGTH,
        learning_rate=2e-4, use_cpu=not torch.cuda.is_available(), report_to="none", save_strategy="no",
        logging_steps=1,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    counts: list[tuple[int, int, int, float]] = []
    plain_step = trainer.training_step

    def timed_step(model: object, inputs: dict[str, torch.Tensor], *rest: object) -> torch.Tensor:
        labels = inputs["labels"]
        real = inputs["attention_mask"].sum() if "attention_mask" in inputs else torch.tensor(labels.numel())
        counts.append((int((labels != -100).sum()), int(real), labels.numel(), time.monotonic()))
        return plain_step(model, inputs, *rest)

    trainer.training_step = timed_step
    trainer.train()
    ended = time.monotonic()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "learned": sum(count[0] for count in counts[1:]),
        "tokens": sum(count[1] for count in counts[1:]),
        "padded": sum(count[2] for count in counts[1:]),
        "seconds": ended - counts[1][3],
        "first_loss": losses[0],
        "last_loss": sum(losses[-4:]) / 4,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def table(results: dict[str, dict[str, float]], rows_file: Path, *, wanted: int, num_rows: int) -> str:
    """Write the comparison as Markdown."""
    ours, theirs = results["finetune-exe"], results["TRL SFTTrainer"]
    names = ("torch", "transformers", "peft", "accelerate", "trl")
    lines = [
        "# Training speed",
        "",
        f"`python benchmarks/training.py {rows_file.name} --rows {wanted}` on {_cpu()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in names) + ".",
        "",
        f"SmolLM2-135M-Instruct, LoRA r {RANK} on all linear layers, batch {BATCH}, length up to {MAX_LENGTH}, one "
        f"epoch over the same {num_rows} rows, the first step left out. TRL with its own defaults.",
        "",
        "| | learned tokens/s | tokens/s | of them padding | seconds | peak memory | loss, first to last steps |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, result in results.items():
        padding = 1 - result["tokens"] / result["padded"]
        lines.append(
            f"| {name} | {result['learned'] / result['seconds']:.0f} | {result['tokens'] / result['seconds']:.0f} "
            f"| {padding:.0%} | {result['seconds']:.0f} | {result['peak_gib']:.1f} GiB "
            f"| {result['first_loss']:.2f} to {result['last_loss']:.2f} |"
        )
    ratio = (ours["learned"] / ours["seconds"]) / (theirs["learned"] / theirs["seconds"])
    lines += ["", f"Ratio of learned tokens per second: **{ratio:.2f}**.", ""]
    return "\n".join(lines)


def _cpu() -> str:
    from finetune_exe.planning.hardware import detect_hardware

    hardware = detect_hardware()
    return f"{hardware.cpu} ({', '.join(hardware.cpu_features)})"


def main() -> None:
    """Run both contenders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--contender", choices=["ours", "trl"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run = {"ours": run_ours, "trl": run_trl}[arguments.contender]
        print(json.dumps(run(arguments.rows_file)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as name:
        num_rows = prepare(arguments.rows_file.resolve(), arguments.rows, Path(name))
        for title, contender in (("finetune-exe", "ours"), ("TRL SFTTrainer", "trl")):
            command = [sys.executable, __file__, name, "--contender", contender]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[title] = json.loads(done.stdout.splitlines()[-1])
    text = table(results, arguments.rows_file, wanted=arguments.rows, num_rows=num_rows)
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
