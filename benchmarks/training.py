"""Training speed beside TRL's SFTTrainer: the same model, tokens, effective batch and method, one after the other.

    python benchmarks/training.py ROWS.json [--case lora --case full ...] [--write benchmarks/training.md]

ROWS is a file of instruction rows; TRL must be installed beside finetune-exe (pip install trl). Each contender runs
in a process of its own on all cores, TRL with its own defaults; both train one epoch over the very same token ids, with
the same tokens learned. The first step of each is left out of the timing. Learned tokens are those that carry a loss.
All cases take about eight minutes on two cores that are otherwise idle; on busy ones the figures mean nothing.
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
from typing import Any, NamedTuple

BATCH, RANK, MAX_LENGTH = 8, 16, 512
FULL_ROW_TEXT = 16_000
"""Characters of a text that is cut into rows of MAX_LENGTH."""


class Case(NamedTuple):
    """What is trained."""

    title: str
    method: str
    rows: int
    full_rows: bool


CASES = {
    "lora": Case(f"LoRA r {RANK} on all linear layers, the rows as they are", "lora", 48, False),
    "lora-full-rows": Case(f"LoRA r {RANK}, texts cut into rows of {MAX_LENGTH}", "lora", 24, True),
    "full": Case("every weight trained, the rows as they are", "full", 24, False),
}

NOTES = """
## Where the time goes

A step of 1,272 tokens (eight packed rows, LoRA) on one core, operation by operation (`torch.profiler`): 54 % in the
frozen layers' and the head's matrix products, which run at 155 to 190 GFLOP/s, the rate of large ones alone; 9 % in the
adapters' narrow ones; 16 % in attention; 4 % in the loss beside its products; the rest in norms, rotary positions and
activations, each of them a pass or more over memory.

What was tried, in seconds of processor time for a step of 1,270 tokens on one core:

| | seconds | kept |
|---|---:|---|
| before: PyTorch's fused attention, PEFT's layers, all logits at once, padded by 6 % | 8.31 | |
| attention written out row by row in blocks of 256 queries, weights computed again for the gradient | 6.27 | yes |
| adapters without passes over the output for scale and sum | 5.94 | yes |
| packed instead of padded | 5.76 | yes |
| loss and its gradient slice by slice under a frozen head | 5.24 | yes |

- AdamW in one pass over each tensor: 0.12 s instead of 0.70 s a step where every weight trains. Kept.
- Attention in blocks of 128 or 64 queries was no faster; in float32 slower from 256 tokens on.
- Memory in huge pages (`THP_MEM_ALLOC_ENABLE`, `glibc.malloc.hugetlb`) and a heap that is never trimmed showed no
  steady gain: between 9 % faster and 28 % slower on a busy machine. Not kept.
- Weights transposed beforehand saved at most 4 % of the products. Not kept.
- On a machine with busy neighbours two threads gain little: every operation ends with its slower thread.
"""


def prepare(rows_file: Path, case: Case, folder: Path) -> int:
    """Write plan and prepared dataset for ours, and the same sequences of train tokens for TRL; count them."""
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.workflow.plans import make_plan
    from finetune_exe.workflow.runs import prepare_dataset

    source = rows_file if not case.full_rows else _texts(rows_file, case.rows, folder / "texts.jsonl")
    held_out = max(3, case.rows // 20)
    total = case.rows + 2 * held_out
    shares = (f"data.max_rows={total}", f"data.validation_fraction={held_out / total}",
              f"data.test_fraction={held_out / total}")  # fmt: skip
    adapter = (f"method.lora_rank={RANK}", "method.lora_dropout=0.0") if case.method == "lora" else ()
    plan = make_plan(
        TaskSpec(description="continue the text" if case.full_rows else "follow instructions",
                 data_paths=(str(source),), model="embedded", method=case.method),
        settings=(
            f"data.max_length={MAX_LENGTH}", *(() if case.full_rows else shares), *adapter,
            f"batch.micro_batch_size={BATCH}", "batch.gradient_accumulation_steps=1", "schedule.epochs=1",
            f"optimizer.learning_rate={2e-4 if case.method == 'lora' else 2e-5}", "schedule.max_steps=null",
            "checkpoints.evaluations_per_epoch=1",
        ),
    )  # fmt: skip
    write_plan(plan, folder / "plan.yaml")
    prepare_dataset(plan, folder / "dataset", progress=lambda *_: None, note=print)
    split = load_dataset(folder / "dataset").split("train")
    with (folder / "trl.jsonl").open("w", encoding="utf-8") as file:
        for index in range(len(split)):
            ids, learned = (part.tolist() for part in split.sequence(index))
            labels = [token if flag else -100 for token, flag in zip(ids, learned, strict=True)]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    return len(split)


def _texts(rows_file: Path, num_rows: int, path: Path) -> Path:
    """Join the rows' words to as many long texts as are cut into about so many full rows, and some to hold out."""
    rows = json.loads(rows_file.read_text(encoding="utf-8"))
    words = "\n\n".join("\n".join(str(value) for value in row.values() if value) for row in rows)
    needed = num_rows * MAX_LENGTH * 5 // FULL_ROW_TEXT + 3
    texts = [words[start : start + FULL_ROW_TEXT] for start in range(0, len(words), FULL_ROW_TEXT)][:needed]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def run_ours(folder: Path, case: Case) -> dict[str, Any]:
    """Train with finetune-exe."""
    from finetune_exe.domain.events import AnyEvent, CheckpointSaved, StepFinished
    from finetune_exe.domain.plan_yaml import read_plan
    from finetune_exe.estimate.parameters import block_parameters
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.loop import train
    from finetune_exe.training.matrix_rate import measure_matrix_rate

    steps: list[StepFinished] = []
    saved: list[CheckpointSaved] = []

    def keep(event: AnyEvent) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append(event)
        if isinstance(event, StepFinished):
            steps.append(event)
            print(f"ours: step {event.step}, loss {event.loss:.3f}, {event.step_seconds:.1f} s", file=sys.stderr)

    rate = measure_matrix_rate("bfloat16")
    plan = read_plan(folder / "plan.yaml")
    summary = train(
        plan, load_dataset(folder / "dataset"), base=model_folder("embedded"), run=folder / "run", emit=keep
    )
    timed, shape = steps[1:], plan.model.shape
    assert shape is not None
    passes = 6 if case.method == "full" else 4
    operations = passes * (
        sum(step.padded_tokens for step in timed) * shape.num_layers * block_parameters(shape)
        + sum(step.learned_tokens for step in timed) * shape.vocab_size * shape.hidden_size
    )
    seconds = sum(step.step_seconds for step in timed)
    return {
        "learned": sum(step.learned_tokens for step in timed),
        "tokens": sum(step.processed_tokens for step in timed),
        "padded": sum(step.padded_tokens for step in timed),
        "seconds": seconds,
        "losses": [step.loss for step in steps],
        "weights": [step.learned_tokens for step in steps],
        "peak_gib": summary.peak_memory_bytes / 2**30,
        "matrix_rate": rate,
        "matrix_share": operations / seconds / rate,
        "packed": plan.batch.packing,
    }


def run_trl(folder: Path, case: Case) -> dict[str, Any]:
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
        learning_rate=2e-4 if case.method == "lora" else 2e-5, use_cpu=not torch.cuda.is_available(),
        report_to="none", save_strategy="no", logging_steps=1,
    )  # fmt: skip
    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=adapter if case.method == "lora" else None,
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
    return {
        "learned": sum(count[0] for count in counts[1:]),
        "tokens": sum(count[1] for count in counts[1:]),
        "padded": sum(count[2] for count in counts[1:]),
        "seconds": ended - counts[1][3],
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "weights": [count[0] for count in counts],
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def table(case: Case, results: dict[str, dict[str, Any]], num_rows: int) -> list[str]:
    """Write one case as Markdown."""
    ours, theirs = results["finetune-exe"], results["TRL SFTTrainer"]
    lines = [
        f"## {case.title[0].upper()}{case.title[1:]}",
        "",
        f"Batch {BATCH}, {num_rows} rows, {'packed' if ours['packed'] else 'padded, rows of like length together'} by "
        "finetune-exe as its plan says, padded by TRL.",
        "",
        "| | learned tokens/s | tokens/s | of them padding | seconds | peak memory | mean loss | loss of each step |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, result in results.items():
        mean = sum(loss * count for loss, count in zip(result["losses"], result["weights"], strict=True))
        lines.append(
            f"| {name} | {result['learned'] / result['seconds']:.0f} | {result['tokens'] / result['seconds']:.0f} "
            f"| {1 - result['tokens'] / result['padded']:.0%} | {result['seconds']:.0f} | {result['peak_gib']:.1f} GiB "
            f"| {mean / sum(result['weights']):.3f} | {', '.join(f'{loss:.2f}' for loss in result['losses'])} |"
        )
    ratio = (ours["learned"] / ours["seconds"]) / (theirs["learned"] / theirs["seconds"])
    lines += [
        "",
        f"Ratio of learned tokens per second: **{ratio:.2f}**. Matrix products alone reach "
        f"{ours['matrix_rate'] / 1e9:.0f} GFLOP/s here in bfloat16; the run reached {ours['matrix_share']:.0%} of it.",
        "",
    ]
    return lines


def _cpu() -> str:
    from finetune_exe.planning.hardware import detect_hardware

    hardware = detect_hardware()
    return f"{hardware.cpu} ({', '.join(hardware.cpu_features)})"


def measure(rows_file: Path, case: str) -> list[str]:
    """Run both contenders on a case."""
    results = {}
    with tempfile.TemporaryDirectory() as name:
        num_rows = prepare(rows_file.resolve(), CASES[case], Path(name))
        for title, contender in (("finetune-exe", "ours"), ("TRL SFTTrainer", "trl")):
            command = [sys.executable, __file__, name, "--contender", contender, "--case", case]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[title] = json.loads(done.stdout.splitlines()[-1])
    return table(CASES[case], results, num_rows)


def main() -> None:
    """Run every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--contender", choices=["ours", "trl"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases = arguments.case or list(CASES)
    if arguments.contender:
        run = {"ours": run_ours, "trl": run_trl}[arguments.contender]
        print(json.dumps(run(arguments.rows_file, CASES[cases[0]])))
        return
    lines = [
        "# Training speed",
        "",
        f"`python benchmarks/training.py {arguments.rows_file.name}` on {_cpu()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "accelerate", "trl"))
        + ".",
        "",
        "SmolLM2-135M-Instruct, one epoch over the same token ids, the first step left out. TRL with its own defaults. "
        "Each shuffles for itself, so losses step by step are of other rows; their means are of the same.",
        "",
    ]
    for case in cases:
        lines += measure(arguments.rows_file, case)
    text = "\n".join(lines) + NOTES.lstrip("\n")
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
