"""Learning from pairs of answers (DPO) beside TRL's DPOTrainer: the same model, tokens, batch and adapter.

    python benchmarks/pairs.py PAIRS.json [--pairs 24] [--trl PYTHON] [--write benchmarks/pairs.md]

PAIRS is a file of rows with a better and a worse answer; PYTHON belongs to an environment in which TRL is installed.
Three trainings of one epoch, each in a process of its own on all cores, the first step left out of the timing:
finetune-exe as its plan says, which packs rows and computes the question of a pair once; finetune-exe with rows padded;
TRL with its own defaults. On cores that are otherwise busy the figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

BATCH, RANK, MAX_LENGTH, RATE, BETA, HELD_OUT = 4, 16, 512, 1e-5, 0.1, 3
PACKED, PADDED, TRL = "finetune-exe", "finetune-exe, rows padded", "TRL DPOTrainer"


def prepare(rows_file: Path, num_pairs: int, folder: Path) -> None:
    """Write a plan for either of ours, the dataset they share, and its pairs as texts for TRL."""
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.text.tokenizer import load_tokenizer
    from finetune_exe.workflow.plans import edit_plan, make_plan
    from finetune_exe.workflow.preparing import prepare_dataset

    total = num_pairs + 2 * HELD_OUT
    plan = make_plan(
        TaskSpec(description="answer politely", data_paths=(str(rows_file),), model="embedded", method="lora"),
        settings=(
            "data.format=preference", "objective.kind=dpo", f"objective.beta={BETA}", f"data.max_length={MAX_LENGTH}",
            f"data.max_rows={total}", f"data.validation_fraction={HELD_OUT / total}",
            f"data.test_fraction={HELD_OUT / total}", f"method.lora_rank={RANK}", "method.lora_dropout=0.0",
            f"batch.micro_batch_size={BATCH}", "batch.gradient_accumulation_steps=1", f"optimizer.learning_rate={RATE}",
            "precision.gradient_checkpointing=false", "schedule.epochs=1", "checkpoints.evaluations_per_epoch=1",
        ),
    )  # fmt: skip
    prepare_dataset(plan, folder / "dataset", progress=lambda *_: None, note=print)
    base = model_folder("embedded")
    tokenizer, split = load_tokenizer(base, chat_template=None), load_dataset(folder / "dataset").split("train")
    full_steps = (f"schedule.max_steps={len(split) // BATCH}",)
    write_plan(edit_plan(plan, full_steps), folder / f"{PACKED}.yaml")
    padded = ("batch.packing=false", "batch.group_by_length=false")
    write_plan(edit_plan(plan, (*full_steps, *padded)), folder / f"{PADDED}.yaml")
    rows = []
    for index in range(len(split)):
        better, worse = split.members(index)
        start = int(better.learned.argmax())
        answers = [
            view.tokens[start : len(view.learned) - int(view.learned[::-1].argmax())] for view in (better, worse)
        ]
        prompt, chosen, rejected = (tokenizer.decode(ids.tolist()) for ids in (better.tokens[:start], *answers))
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    (folder / "pairs.json").write_text(json.dumps({"base": str(base), "rows": rows}), encoding="utf-8")


def train_ours(folder: Path, name: str) -> dict[str, Any]:
    """Train with finetune-exe."""
    from finetune_exe.domain.events import AnyEvent, PairsJudged, StepFinished
    from finetune_exe.domain.plan_yaml import read_plan
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train

    events: list[AnyEvent] = []
    plan = read_plan(folder / f"{name}.yaml")
    data = load_dataset(folder / "dataset")
    summary = train(plan, data, base=model_folder("embedded"), run=folder / name, emit=events.append)
    steps = [event for event in events if isinstance(event, StepFinished)]
    margins = [event.margin for event in events if isinstance(event, PairsJudged) and event.split == "train"]
    computed = sum(step.padded_tokens - step.shared_tokens for step in steps[1:])
    return {
        "seconds": sum(step.step_seconds for step in steps[1:]), "losses": [step.loss for step in steps],
        "margins": margins, "pairs": BATCH * len(steps), "computed": computed,
        "packed": plan.batch.packing, "peak": max(summary.peak_memory_bytes, _peak()),
    }  # fmt: skip


def train_trl(folder: Path) -> dict[str, Any]:
    """Train with TRL, left at its own defaults."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    began: list[float] = []
    losses: list[float] = []
    margins: list[float] = []
    computed: list[int] = []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            began.append(time.monotonic())
            computed.append(0)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                losses.append(float(logs["loss"]))
                margins.append(float(logs["rewards/margins"]))

    def count(model: Any, inputs: Any, named: dict[str, Any]) -> None:
        import torch

        if torch.is_grad_enabled() and computed:
            computed[-1] += named["input_ids"].numel()

    given, watch = json.loads((folder / "pairs.json").read_text(encoding="utf-8")), Watch()
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(given["base"]),
        args=DPOConfig(
            output_dir=str(folder / "trl"), beta=BETA, per_device_train_batch_size=BATCH, num_train_epochs=1,
            max_length=2 * MAX_LENGTH, learning_rate=RATE, bf16=True, use_cpu=True, report_to="none",
            save_strategy="no", logging_steps=1, dataloader_drop_last=True,
        ),
        train_dataset=Dataset.from_list(given["rows"]),
        processing_class=AutoTokenizer.from_pretrained(given["base"]),
        peft_config=LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[watch],
    )  # fmt: skip
    trainer.model.register_forward_pre_hook(count, with_kwargs=True)
    trainer.train()
    return {
        "seconds": watch.ended - began[1], "losses": losses, "margins": margins, "pairs": BATCH * len(losses),
        "computed": sum(computed[1:]), "packed": False, "peak": _peak(),
    }  # fmt: skip


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Write the results as Markdown."""
    lines = ["| | pairs/s | tokens computed | seconds | peak memory | mean loss | mean margin |",
             "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    rates = {}
    for name, result in results.items():
        rates[name] = (result["pairs"] - BATCH) / result["seconds"]
        loss, margin = (sum(result[key]) / len(result[key]) for key in ("losses", "margins"))
        lines.append(
            f"| {name} | {rates[name]:.2f} | {result['computed']:,} | {result['seconds']:.0f} "
            f"| {result['peak'] / 2**30:.1f} GiB | {loss:.4f} | {margin:+.4f} |"
        )
    ours = rates[PACKED]
    ratios = (f"**{ours / rate:.2f}** times as many as {name}" for name, rate in rates.items() if name != PACKED)
    return [*lines, "", f"Pairs per second: {'; '.join(ratios)}.", ""]


def main() -> None:
    """Train with each and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--trl", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        folder = arguments.rows_file
        found = train_trl(folder) if arguments.contender == TRL else train_ours(folder, arguments.contender)
        (folder / f"{arguments.contender}.json").write_text(json.dumps(found), encoding="utf-8")
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments.rows_file.resolve(), arguments.pairs, Path(folder))
        for name in (PACKED, PADDED, TRL):
            python = arguments.trl if name == TRL else sys.executable
            environment = {key: value for key, value in os.environ.items() if name != TRL or key != "PYTHONPATH"}
            subprocess.run(
                [python, __file__, folder, "--contender", name], check=True, stdout=sys.stderr, env=environment
            )
            results[name] = json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8"))
    code = "from importlib.metadata import version; print(version('trl'), version('transformers'))"
    trl, transformers = subprocess.run(
        [arguments.trl, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft"))
    text = "\n".join([
        "# Learning from pairs of answers", "",
        f"`python benchmarks/pairs.py {arguments.rows_file.name} --pairs {arguments.pairs}` on {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {packages}, TRL {trl} (transformers {transformers}).", "",
        f"SmolLM2-135M-Instruct in bfloat16, LoRA of rank {RANK} on all linear layers, DPO with beta {BETA}, {BATCH} "
        f"pairs a step, rows of up to {MAX_LENGTH} tokens, {results[PACKED]['pairs']} pairs; the first step is left "
        f"out. {'Packed' if results[PACKED]['packed'] else 'Padded'} by finetune-exe, as its plan says; padded by TRL, "
        "which has no packing of pairs in this version. Each takes the pairs in an order of its own. Tokens computed "
        "are those of the passes with gradients, padding included. At the start every loss is 0.6931, every margin 0.",
        "",
        *table(results),
    ])  # fmt: skip
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
