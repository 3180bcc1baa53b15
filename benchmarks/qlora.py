"""QLoRA beside LoRA: what the weights take, the most memory of a run, and the loss of each step on the same rows.

    python benchmarks/qlora.py ROWS.json [--rows 24] [--write benchmarks/qlora.md]

Five trainings of SmolLM2-135M, each in a process of its own: LoRA with one seed, LoRA with another, QLoRA on the grid
of the GGUF file that the model comes in, QLoRA in NormalFloat (double quantisation), both with the first seed, and LoRA
beside the weights that NormalFloat's 4 bits stand for, kept in bfloat16. The rows of each step are the same in all of
them; a seed decides the adapters' first values only. What two seeds differ by is the noise that differences are held
against: the last two show what computing in 4 bit costs, the first and the last what rounding the weights costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

MAX_LENGTH, BATCH, RANK, RATE = 512, 4, 16, 2e-4
ROUNDED = "LoRA beside weights rounded to NormalFloat"
CONTENDERS: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "LoRA": ("lora", 0, ()),
    "LoRA, another seed": ("lora", 1, ()),
    "QLoRA on the base's grid": ("qlora", 0, ("method.quantization=q4_1",)),
    "QLoRA in NormalFloat": ("qlora", 0, ("method.quantization=nf4",)),
    ROUNDED: ("lora", 0, ()),
}
HELD_OUT = 6
TRIED = "\n## What was tried against the rounding\n"
"""What stands from here on was measured otherwise, and stays when the file is written again."""


def prepare(rows_file: Path, num_rows: int, folder: Path) -> None:
    """Write a plan for each contender, and the dataset they share."""
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.workflow.plans import make_plan
    from finetune_exe.workflow.preparing import prepare_dataset

    total = num_rows + 2 * HELD_OUT
    for name, (method, seed, more) in CONTENDERS.items():
        spec = TaskSpec(
            description="follow instructions", data_paths=(str(rows_file),), model="embedded", method=method
        )
        plan = make_plan(
            spec,
            settings=(
                f"data.max_length={MAX_LENGTH}", f"data.max_rows={total}",
                f"data.validation_fraction={HELD_OUT / total}", f"data.test_fraction={HELD_OUT / total}",
                f"method.lora_rank={RANK}", "method.lora_dropout=0.0", f"batch.micro_batch_size={BATCH}",
                "batch.gradient_accumulation_steps=1", "batch.packing=false", f"optimizer.learning_rate={RATE}",
                "precision.base_dtype=bfloat16", "precision.gradient_checkpointing=false", f"seed={seed}", *more,
            ),
        )  # fmt: skip
        write_plan(plan, folder / f"{name}.yaml")
        if name == "LoRA":
            prepare_dataset(plan, folder / "dataset", progress=lambda *_: None, note=print)


def train(folder: Path, name: str) -> dict[str, Any]:
    """Train one contender for one epoch."""
    from finetune_exe.domain.plan_yaml import read_plan
    from finetune_exe.models.forward import batch_of, mean_loss
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.batches import plan_epoch
    from finetune_exe.training.memory import peak_memory_bytes, start_measuring
    from finetune_exe.training.setup import set_up
    from finetune_exe.training.step import learn

    plan, data = read_plan(folder / f"{name}.yaml"), load_dataset(folder / "dataset")
    base = model_folder("embedded")
    setup = set_up(plan, round_weights(base, folder / "rounded") if name == ROUNDED else base)
    loading = peak_memory_bytes(setup.device)
    pad, split = data.manifest.pad_token_id, data.split("train")
    start_measuring(setup.device)
    at_rest = peak_memory_bytes(setup.device)
    losses, counts = [], []
    for micro_batches in plan_epoch(split.lengths, plan.batch, seed=0, epoch=0):
        rows = [batch_of(split, batch, pad_token_id=pad, device=setup.device) for batch in micro_batches]
        learned = learn(setup, rows, max_norm=plan.optimizer.max_grad_norm)
        setup.optimizer.step()
        losses.append(learned.loss)
        counts.append(sum(batch.num_learned for batch in rows))
        print(f"{name}: step {len(losses)}, loss {learned.loss:.3f}", file=sys.stderr)
    peak = peak_memory_bytes(setup.device)
    held_out = mean_loss(setup.losses, data.split("validation"), pad_token_id=pad)
    return {
        "stored": stored_bytes(setup.model), "loading": loading, "at_rest": at_rest, "peak": peak, "losses": losses,
        "counts": counts, "held_out": held_out,
    }  # fmt: skip


def round_weights(base: Path, folder: Path) -> Path:
    """Write a base whose weights are those that QLoRA's 4 bits stand for, in a process of its own for its memory."""
    code = (
        "import sys; from pathlib import Path; from finetune_exe.domain.plan import Qlora; "
        "from finetune_exe.models.load import load_base; "
        "model = load_base(Path(sys.argv[1]), Qlora(lora_rank=1, lora_alpha=1), dtype='bfloat16', device='cpu'); "
        "model.dequantize().save_pretrained(sys.argv[2])"
    )
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    subprocess.run([sys.executable, "-c", code, base, folder], check=True, stdout=sys.stderr)
    return folder


def stored_bytes(model: Any) -> int:
    """Count the bytes of all weights, with what is needed to read those in 4 bit."""
    from finetune_exe.models.packed import Packed

    weights = {id(parameter): parameter for parameter in model.parameters()}.values()
    kept = [weight.quant_state for weight in weights if hasattr(weight, "quant_state")]
    kept += [state.state2 for state in kept if state.state2 is not None]
    kept += [one for module in model.modules() if isinstance(module, Packed) for one in module.packed.values()]
    names = ("absmax", "code", "scale", "least")
    beside = [getattr(one, name, None) for one in kept for name in names]
    return sum(weight.nbytes for weight in weights) + sum(value.nbytes for value in beside if value is not None)


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """Write the results as Markdown."""
    first, second, exact, four, rounded = (results[name] for name in CONTENDERS)
    lines = [
        "| | weights as stored | most memory while loading | at rest | most memory of the steps | mean loss "
        "| held-out loss | loss of each step |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, result in results.items():
        sizes = " | ".join(f"{result[key] / 1e6:,.0f} MB" for key in ("stored", "loading", "at_rest", "peak"))
        curve = ", ".join(f"{loss:.3f}" for loss in result["losses"])
        lines.append(f"| {name} | {sizes} | {_mean(result):.4f} | {result['held_out']:.4f} | {curve} |")
    pairs = ((first, second), (first, exact), (rounded, four), (first, four))
    steps = [f"{_distance(*pair):.4f}" for pair in pairs]
    held_out = [f"{abs(one['held_out'] - other['held_out']):.4f}" for one, other in pairs]
    saved = [f"{(first['peak'] - other['peak']) / 1e6:,.0f} MB" for other in (exact, four)]
    shares = [f"{other['stored'] / first['stored']:.0%}" for other in (exact, four)]
    return [
        *lines,
        "",
        f"Stored, QLoRA's weights take {shares[0]} of LoRA's on the base's grid and {shares[1]} in NormalFloat; the "
        f"most memory of its steps is {saved[0]} and {saved[1]} below LoRA's. Mean distance of the losses step by "
        f"step, in nats: {steps[0]} between two seeds of LoRA, {steps[1]} between QLoRA on the base's grid and LoRA, "
        f"{steps[2]} between QLoRA in NormalFloat and LoRA beside the same rounded weights, {steps[3]} between it and "
        f"LoRA beside whole ones; of the held-out losses {', '.join(held_out)}. At the first step, before anything was "
        f"learned, NormalFloat cost {four['losses'][0] - first['losses'][0]:.3f}: a model as small as this loses much "
        "by rounding, and so few steps do not win it back.",
        "",
    ]


def _mean(result: dict[str, Any]) -> float:
    pairs = zip(result["losses"], result["counts"], strict=True)
    return float(sum(loss * count for loss, count in pairs) / sum(result["counts"]))


def _distance(one: dict[str, Any], other: dict[str, Any]) -> float:
    pairs = list(zip(one["losses"], other["losses"], strict=True))
    return float(sum(abs(a - b) for a, b in pairs) / len(pairs))


def main() -> None:
    """Train all contenders and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(train(arguments.rows_file, arguments.contender)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(arguments.rows_file.resolve(), arguments.rows, Path(folder))
        for name in CONTENDERS:
            command = [sys.executable, __file__, folder, "--contender", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
    packages = ("torch", "transformers", "peft", "bitsandbytes")
    text = "\n".join([
        "# QLoRA beside LoRA", "",
        f"`python benchmarks/qlora.py {arguments.rows_file.name} --rows {arguments.rows}` on {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {', '.join(f'{name} {version(name)}' for name in packages)}.", "",
        f"SmolLM2-135M-Instruct in bfloat16, rank {RANK} on all linear layers, batch {BATCH}, rows of up to "
        f"{MAX_LENGTH} tokens, the same rows in the same steps.", "",
        *table(results),
    ])  # fmt: skip
    print(text)
    if arguments.write:
        before = arguments.write.read_text(encoding="utf-8") if arguments.write.exists() else ""
        _, heading, tried = before.partition(TRIED)
        arguments.write.write_text(text + heading + tried, encoding="utf-8")


if __name__ == "__main__":
    main()
