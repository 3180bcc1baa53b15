"""Loss curves of exported configurations beside this program's own, step by step.

    python benchmarks/exports.py --peers FOLDER [--trainers python trl llamafactory litgpt] [--steps 10]

FOLDER holds an environment for each trainer, `trl/bin/python` and so on. Every step learns from all rows, so that the
order in which programs shuffle them does not matter; what is drawn at random are the adapters' first factors, and how
much that matters is measured by this program's own runs with other seeds. Printed is what `exports.md` shows.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from finetune_exe.models.locate import model_folder

TRAINERS = ("python", "trl", "llamafactory", "litgpt")
NUM_ROWS = {"train": 4, "validation": 1, "test": 1}
SECONDS = 1500


def write_rows(folder: Path) -> None:
    """Write short conversations, all different, a file for each side of the split."""
    rows = [
        {"messages": [
            {"role": "system", "content": "You add numbers."},
            {"role": "user", "content": f"What is {7 * number + 3} plus {5 * number + 8}?"},
            {"role": "assistant", "content": f"The sum of the two is {12 * number + 11}."},
        ]}
        for number in range(sum(NUM_ROWS.values()))
    ]  # fmt: skip
    lines = [json.dumps(row) + "\n" for row in rows]
    for side, count in NUM_ROWS.items():
        (folder / f"{side}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
        lines = lines[count:]


def run(words: list[str | Path], folder: Path, *, peer: bool = False) -> str:
    """Run a program in a folder; what it said."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if peer:
        environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    if done.returncode:
        sys.exit(
            f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        )
    return done.stdout + done.stderr


def fine_tune(folder: Path, *words: str | Path) -> str:
    """Run this program."""
    return run([sys.executable, "-m", "finetune_exe", *words], folder)


def ours(folder: Path, seed: int) -> list[float]:
    """Train the plan with a seed; the loss of each step."""
    name = f"ours-{seed}"
    fine_tune(folder, "train", "plan.yaml", "--run", name, "--set", f"seed={seed}")
    events = [json.loads(line) for line in (folder / name / "events.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "step"]


def script(folder: Path, target: str, python: Path | str) -> list[float]:
    """Train with an exported script."""
    fine_tune(folder, "config", "--plan", "plan.yaml", "--to", target, "-o", f"train_{target}.py")
    rows = [f"ours-0/dataset/{side}.rows.jsonl" for side in ("train", "validation")]
    said = run([python, f"train_{target}.py", *rows, "--output", f"{target}-out"], folder, peer=target != "python")
    pattern = r"step \d+/\d+: loss ([\d.]+)" if target == "python" else r"'loss': '?([\d.]+)"
    return [float(loss) for loss in re.findall(pattern, said)]


def llama_factory(folder: Path, peers: Path) -> list[float]:
    """Train with LLaMA-Factory.

    It learns one token more of each row, the line end behind the end of the turn, which the model knows beforehand: the
    sum of its losses is divided by the tokens that the others learn.
    """
    fine_tune(folder, "config", "--plan", "plan.yaml", "--to", "llamafactory", "-o", ".")
    fine_tune(folder, "dataset", "--plan", "plan.yaml", "--export", "llamafactory", "-o", "data", "--overwrite")
    run([peers / "llamafactory" / "bin" / "llamafactory-cli", "train", "llamafactory.yaml"], folder, peer=True)
    history = json.loads((folder / "run" / "trainer_state.json").read_text())["log_history"]
    num_learned = int(np.load(folder / "ours-0" / "dataset" / "train.learned.npy").sum())
    factor = (num_learned + NUM_ROWS["train"]) / num_learned
    return [factor * entry["loss"] for entry in history if "loss" in entry]


def litgpt(folder: Path, peers: Path, model: Path) -> list[float]:
    """Train with LitGPT, whose first step has a learning rate of zero: it is left out."""
    program = peers / "litgpt" / "bin" / "litgpt"
    fine_tune(folder, "config", "--plan", "plan.yaml", "--to", "litgpt", "-o", "litgpt.yaml")
    fine_tune(folder, "dataset", "--plan", "plan.yaml", "--export", "litgpt", "-o", "data", "--overwrite")
    place = folder / "checkpoints" / "HuggingFaceTB" / "SmolLM2-135M-Instruct"
    shutil.copytree(model, place)
    run([program, "convert_to_litgpt", place], folder, peer=True)
    text = re.sub(r"checkpoint_dir: .*", f"checkpoint_dir: {place}", (folder / "litgpt.yaml").read_text())
    (folder / "litgpt.yaml").write_text(text, encoding="utf-8")
    said = run([program, "finetune_lora", "--config", "litgpt.yaml"], folder, peer=True)
    return [float(loss) for loss in re.findall(r"loss train: ([\d.]+)", said)][1:]


def main() -> None:
    """Train with each, and print the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--trainers", nargs="*", default=TRAINERS, choices=TRAINERS)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3, help="runs of this program")
    options = parser.parse_args()
    model, peers = model_folder("embedded", revision=None, progress=print), options.peers.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_rows(folder)
        settings = (
            "method.kind=lora", "precision.base_dtype=float32", "batch.packing=false", "batch.micro_batch_size=64",
            "batch.gradient_accumulation_steps=1", f"schedule.epochs={options.steps}", "schedule.warmup.kind=steps",
            "schedule.warmup.steps=0", "optimizer.learning_rate=0.0002", "checkpoints.evaluations_per_epoch=0.25",
            "checkpoints.early_stopping_patience=null", "data.max_length=96", "method.lora_dropout=0",
            'data.validation_paths=["validation.jsonl"]', 'data.test_paths=["test.jsonl"]',
        )  # fmt: skip
        changes = [word for setting in settings for word in ("--set", setting)]
        fine_tune(folder, "config", model, "--data", "train.jsonl", "--cpu", *changes, "-o", "plan.yaml")
        mine = [ours(folder, seed) for seed in range(options.seeds)]
        print(f"fine-tune: {mine}", flush=True)
        curves = {"fine-tune": mine[0]}
        for name in options.trainers:
            if name == "llamafactory":
                curves[name] = llama_factory(folder, peers)
            elif name == "litgpt":
                curves[name] = litgpt(folder, peers, model)
            else:
                curves[name] = script(
                    folder, name, sys.executable if name == "python" else peers / name / "bin" / "python"
                )
            print(f"{name}: {curves[name]}", flush=True)
    steps = min(map(len, curves.values()))
    spread = [max(run[step] for run in mine) - min(run[step] for run in mine) for step in range(steps)]
    print("| step | " + " | ".join(curves) + " | seeds differ by |")
    print("|---:|" + "---:|" * (len(curves) + 1))
    for step in range(steps):
        print(
            f"| {step + 1} | "
            + " | ".join(f"{curve[step]:.4f}" for curve in curves.values())
            + f" | {spread[step]:.4f} |"
        )
    for name, curve in curves.items():
        print(f"{name}: at most {max(abs(a - b) for a, b in zip(curve, mine[0], strict=False)):.4f} from fine-tune")
    print(f"fine-tune with {options.seeds} seeds: at most {max(spread):.4f} apart")


if __name__ == "__main__":
    main()
