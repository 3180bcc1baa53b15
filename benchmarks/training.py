"""Training speed beside other trainers: the same model, tokens, effective batch and method, one after the other.

    python benchmarks/training.py ROWS.json [--case lora --case full ...] [--rows 400] [--base FOLDER] [--batch 32]
        [--peer trl=PYTHON --peer llamafactory=PYTHON --peer axolotl=PYTHON] [--write benchmarks/training.md]

ROWS is a file of instruction rows; each PYTHON belongs to an environment in which that peer is installed. Without
--peer it is TRL beside finetune-exe (pip install trl). Each contender runs in a process of its own on all cores, the
peers with their own defaults (training_peers.py); all train one epoch over the very same token ids, with the same
tokens learned. The first step of each is left out of the timing. Learned tokens are those that carry a loss.
All cases take about eight minutes on two cores that are otherwise idle; on busy ones the figures mean nothing.
The base is SmolLM2-135M-Instruct, or --base: on a GPU something larger. There, memory is what PyTorch allocated.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

BATCH, RANK, MAX_LENGTH = 8, 16, 512
OURS = "finetune-exe"
PEERS = {
    "trl": ("TRL SFTTrainer", "trl"),
    "llamafactory": ("LLaMA-Factory", "llamafactory"),
    "axolotl": ("Axolotl", "axolotl"),
}
"""Title and package of each trainer that training_peers.py can run."""
PEER_SECONDS = 2 * 3600
CURVE_POINTS = 8
FULL_ROW_TEXT = 16_000
"""Characters of a text that is cut into rows of MAX_LENGTH."""


class Case(NamedTuple):
    """What is trained."""

    title: str
    method: str
    rows: int
    full_rows: bool
    batch: int = BATCH


CASES = {
    "lora": Case(f"LoRA r {RANK} on all linear layers, the rows as they are", "lora", 48, False),
    "lora-full-rows": Case(f"LoRA r {RANK}, texts cut into rows of {MAX_LENGTH}", "lora", 24, True),
    "full": Case("every weight trained, the rows as they are", "full", 24, False),
}

NOTES = """
## How far the figures carry

Peers and the rates of this machine change from run to run. Four hours later, beside two peers, the first case came
out at 307 learned tokens a second, 3.05 times as many as Axolotl's 101 and 3.71 times LLaMA-Factory's 83, and a day
later at 347, 3.71 times Axolotl's 93 and 3.73 times LLaMA-Factory's 93. Some hours before, the first case came out at
356 learned tokens a second beside Axolotl's 104, 3.4 times as many as the best peer, and in two runs of a day before
at 258 beside 90, 2.9 times, and at 265 beside 80, 3.3 times. Before that, with each row's beginning computed by
itself and norms and MLPs by transformers, it was 232 and 73, with 2.9 GiB at most, and 5.1 GiB where rows are full.

## What checkpoints and records cost

In a `fine-tune demo` on the same machine (LoRA, 32 steps, 106.5 s in all, two checkpoints), a checkpoint took
0.24 and 0.29 s, 0.5 % of the run, and what lies between the end of a step and the beginning of the next, the record in
`events.jsonl` and the progress line included, at most 1 ms, 0.04 % of a step. Read off the run's own `events.jsonl`.

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
| norms, loss and MLPs in fewer passes, beside 6.41 without them in the same process on a busy machine | 5.85 | yes |

- AdamW in one pass over each tensor: 0.12 s instead of 0.70 s a step where every weight trains. Kept.
- Rows that begin alike, their beginning computed once: with the 24 tokens of the template's system prompt before rows
  of 185, a step of eight rows takes 1 / 1.07 of the processor time it takes with rows whole; with a system prompt of
  1,000 tokens before them 1 / 3.1. Kept.
- Attention in blocks of 128 or 64 queries was no faster; in float32 slower from 256 tokens on.
- Two passes at once on one core each, instead of every operation on both: 2.83 instead of 2.94 s for a step of 1,192
  tokens in a quiet minute, 1.02 times as fast over six steps. The cores slow each other by the memory they share: 5.0 s
  of processor time for that step on one core, 5.5 to 5.9 on two. Not kept.
- The frozen layers' and the head's products alone take 67 % of a step, at the rate of large products: were all else
  free, a step would take two thirds of its time.
- Memory in huge pages (`THP_MEM_ALLOC_ENABLE`, `glibc.malloc.hugetlb`) and a heap that is never trimmed showed no
  steady gain: between 9 % faster and 28 % slower on a busy machine. Not kept.
- Weights transposed beforehand saved at most 4 % of the products. Not kept.
- Frozen layers' products in int8 (a scale for each output and each token, `torch._int_mm`): 380 to 430 GFLOP/s on one
  core where bfloat16 reaches 190; with rounding and scaling, the products of a layer take 0.61 of the time, and a step,
  reckoned from that, 1 / 1.2. Losses then read 0.02 higher from the first step on (1.913 instead of 1.891). Adapters
  are as good over bfloat16 weights: held-out losses of 1.833 and 1.221 on two sets of rows after 20 steps of 8 rows,
  beside 1.835 and 1.216, 1.833 and 1.219 of two seeds. Not kept: such losses are not those of other programs, nor
  those that `fine-tune eval` measures; for the gradient alone, where they are, it would save a tenth.
- On a machine with busy neighbours two threads gain little: every operation ends with its slower thread.

What is left beside products and attention, in milliseconds for 1,272 tokens on one core, forward and backward:

| | as transformers and PyTorch compute it | in fewer passes |
|---|---:|---:|
| a norm of 576 numbers a token (61 in a step) | 0.75 + 2.9 | 0.55 + 0.40 |
| the loss beside its products, 954 learned tokens | 190 | 25 |
| SiLU, product and their gradients in an MLP (30 in a step) | 1.5 + 2.2 | 1.5 + 3.5, the activation made again |

- Memory fresh from the system cost 0.2 to 0.25 s of a step, most of it for float32 logits of 32 MiB, which the C
  library asks for anew each time; now 0.01 s.
- Kept for the gradient of 8 rows of 512 (LoRA): 1.62 GiB instead of 2.59; peak memory 3.1 GiB instead of 4.35 in the
  same loop of one step. Every weight trained, 2 rows of 512: 0.88 GiB instead of 1.31.
- Query, key and value as one product of 960 columns instead of three, gate and up as one of 3,072: 168 to 190 GFLOP/s
  either way. Three adapters' narrow products as one: 0.42 ms instead of three times 0.17. Not kept.
- Norms in blocks of 64 to 256 tokens: 0.6 to 1.3 ms forward, against 0.55 at once. Not kept.
"""


def prepare(rows_file: Path, case: Case, base: str, folder: Path) -> int:
    """Write plan and prepared dataset for ours, and the same sequences of train tokens for the peers; count them."""
    from finetune_exe.domain.plan_yaml import write_plan
    from finetune_exe.domain.task import TaskSpec
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.workflow.plans import make_plan
    from finetune_exe.workflow.preparing import prepare_dataset

    source = rows_file if not case.full_rows else _texts(rows_file, case.rows, folder / "texts.jsonl")
    held_out = max(3, case.rows // 20)
    total = case.rows + 2 * held_out
    shares = (f"data.max_rows={total}", f"data.validation_fraction={held_out / total}",
              f"data.test_fraction={held_out / total}")  # fmt: skip
    adapter = (f"method.lora_rank={RANK}", "method.lora_dropout=0.0") if case.method == "lora" else ()
    plan = make_plan(
        TaskSpec(description="continue the text" if case.full_rows else "follow instructions",
                 data_paths=(str(source),), model=base, method=case.method),
        settings=(
            f"data.max_length={MAX_LENGTH}", *(() if case.full_rows else shares), *adapter,
            f"batch.micro_batch_size={case.batch}", "batch.gradient_accumulation_steps=1", "schedule.epochs=1",
            f"optimizer.learning_rate={_learning_rate(case)}", "schedule.max_steps=null",
            "checkpoints.evaluations_per_epoch=1",
        ),
    )  # fmt: skip
    write_plan(plan, folder / "plan.yaml")
    prepare_dataset(plan, folder / "dataset", progress=lambda *_: None, note=print)
    split = load_dataset(folder / "dataset").split("train")
    settings = {
        "base": str(model_folder(base)), "method": case.method, "rank": RANK, "batch": case.batch,
        "max_length": MAX_LENGTH, "learning_rate": _learning_rate(case),
    }  # fmt: skip
    (folder / "case.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "tokens.jsonl").open("w", encoding="utf-8") as file:
        for index in range(len(split)):
            ids, learned = (part.tolist() for part in split.sequence(index))
            labels = [token if flag else -100 for token, flag in zip(ids, learned, strict=True)]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")
    return len(split)


def _learning_rate(case: Case) -> float:
    return 2e-4 if case.method == "lora" else 2e-5


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
    from finetune_exe.models.load import pick_device
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

    on_cpu = pick_device() == "cpu"
    rate = measure_matrix_rate("bfloat16") if on_cpu else None
    plan, base = read_plan(folder / "plan.yaml"), json.loads((folder / "case.json").read_text(encoding="utf-8"))["base"]
    summary = train(plan, load_dataset(folder / "dataset"), base=Path(base), run=folder / "run", emit=keep)
    timed, shape = steps[1:], plan.model.shape
    assert shape is not None
    passes = 6 if case.method == "full" else 4
    operations = passes * (
        sum(step.padded_tokens - step.shared_tokens for step in timed) * shape.num_layers * block_parameters(shape)
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
        "peak_gib": max(
            summary.peak_memory_bytes / 2**30, on_cpu * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        ),
        "matrix_rate": rate,
        "rate": operations / seconds,
        "packed": plan.batch.packing,
    }


def run_peer(name: str, python: str, folder: Path) -> dict[str, Any]:
    """Train with a peer in its own environment; where it fails, say with which words."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python, str(Path(__file__).with_name("training_peers.py")), name, str(folder)]
    with (folder / f"{name}.log").open("w+", encoding="utf-8") as log:
        try:
            subprocess.run(
                command, stdout=log, stderr=log, check=True, timeout=PEER_SECONDS, env=environment
            )  # its helpers may outlive it, and would hold a pipe open
            found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, subprocess.SubprocessError, ValueError) as fault:
            log.seek(0)
            last = [line.strip() for line in log.read().splitlines() if line.strip()][-1:]
            print(f"{name} failed: {fault}; its last line: {last}", file=sys.stderr)
            return {"failed": (last or [str(fault)])[0][:200]}
    return found


def table(case: Case, results: dict[str, dict[str, Any]], num_rows: int) -> list[str]:
    """Write one case as Markdown."""
    ours = results[OURS]
    lines = [
        f"## {case.title[0].upper()}{case.title[1:]}",
        "",
        f"Batch {case.batch}, {num_rows} rows, {'packed' if ours['packed'] else 'padded, rows of like length together'}"
        " by finetune-exe as its plan says, padded by the others.",
        "",
        "| | learned tokens/s | tokens/s | of them padding | seconds | peak memory | mean loss | loss along the run |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name, result in results.items():
        if "failed" in result:
            lines.append(f"| {name} | failed: {result['failed'].replace('|', ' ')} | | | | | | |")
            continue
        curve = _curve(result)
        lines.append(
            f"| {name} | {_rate(result):.0f} | {result['tokens'] / result['seconds']:.0f} "
            f"| {1 - result['tokens'] / result['padded']:.0%} | {result['seconds']:.0f} | {result['peak_gib']:.1f} GiB "
            f"| {_mean(result['losses'], result['weights']):.3f} | {', '.join(f'{loss:.2f}' for loss in curve)} |"
        )
    finished = {name: _rate(result) for name, result in results.items() if name != OURS and "failed" not in result}
    if finished:
        best = max(finished, key=lambda name: finished[name])
        ratios = "; ".join(f"{_rate(ours) / rate:.2f} times {name}'s" for name, rate in finished.items())
        lines += [
            "",
            f"Learned tokens per second beside the best peer, {best}: **{_rate(ours) / finished[best]:.2f}** times as "
            f"many ({ratios}).",
        ]
    reached = f"The run's matrix products came to {ours['rate'] / 1e12:.0f} TFLOP/s."
    if ours["matrix_rate"]:
        reached = (
            f"Matrix products alone reach {ours['matrix_rate'] / 1e9:.0f} GFLOP/s here in bfloat16; the run reached "
            f"{ours['rate'] / ours['matrix_rate']:.0%} of it."
        )
    return [*lines, "", reached, ""]


def _rate(result: dict[str, Any]) -> float:
    return float(result["learned"] / result["seconds"])


def _mean(losses: list[float], weights: list[int]) -> float:
    """Mean over all learned tokens."""
    return sum(loss * count for loss, count in zip(losses, weights, strict=True)) / sum(weights)


def _curve(result: dict[str, Any]) -> list[float]:
    """Mean losses of the run's parts in order; of each step where there are few."""
    losses, weights = result["losses"], result["weights"]
    size = -(-len(losses) // CURVE_POINTS)
    return [_mean(losses[at : at + size], weights[at : at + size]) for at in range(0, len(losses), size)]


def _cpu() -> str:
    from finetune_exe.planning.hardware import detect_hardware

    hardware = detect_hardware()
    gpus = "".join(f"{gpu.name}, " for gpu in hardware.gpus)
    return f"{gpus}{hardware.cpu} ({', '.join(hardware.cpu_features)})"


def measure(rows_file: Path, case: Case, name: str, base: str, peers: dict[str, str]) -> list[str]:
    """Run all contenders on a case."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        num_rows = prepare(rows_file.resolve(), case, base, Path(folder))
        command = [sys.executable, __file__, folder, "--ours", "--case", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results[OURS] = json.loads(done.stdout.splitlines()[-1])
        for peer, python in peers.items():
            results[PEERS[peer][0]] = run_peer(peer, python, Path(folder))
    return table(case, results, num_rows)


def _versions(peers: dict[str, str]) -> str:
    """Name what ran: our libraries, and each peer with the version that its environment holds."""
    found = [f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "accelerate")]
    for peer, python in peers.items():
        code = f"from importlib.metadata import version as v; print(v({PEERS[peer][1]!r}), v('transformers'))"
        asked = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False).stdout.split()
        found.append(f"{PEERS[peer][0]} {asked[0]} (transformers {asked[1]})" if asked else f"{PEERS[peer][0]} (?)")
    return ", ".join(found)


def main() -> None:
    """Run every case and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--rows", type=int, help="train on so many rows instead of each case's number")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PYTHON", help=f"one of {', '.join(PEERS)}")
    parser.add_argument("--base", default="embedded", help="folder of another base model")
    parser.add_argument("--batch", type=int, default=BATCH, help="rows of a step")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    cases = arguments.case or list(CASES)
    if arguments.ours:
        print(json.dumps(run_ours(arguments.rows_file, CASES[cases[0]])))
        return
    peers = {name: python for name, _, python in (given.partition("=") for given in arguments.peer)}
    peers = peers or {"trl": sys.executable}
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if missing := [name for name, python in peers.items() if not Path(python).is_file()]:
        parser.error(f"--peer {missing[0]}=PYTHON names no Python: {peers[missing[0]] or 'nothing'}")
    lines = [
        "# Training speed",
        "",
        f"`python benchmarks/training.py {arguments.rows_file.name}` on {_cpu()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {_versions(peers)}.",
        "",
        f"{'SmolLM2-135M-Instruct' if arguments.base == 'embedded' else Path(arguments.base).name}, one epoch over the "
        "same token ids, the first step left out. The others with their own defaults, in bfloat16. Each shuffles for "
        "itself, so losses step by step are of other rows; their means are of the same.",
        "",
    ]
    for name in cases:
        case = CASES[name]._replace(rows=arguments.rows or CASES[name].rows, batch=arguments.batch)
        lines += measure(arguments.rows_file, case, name, arguments.base, peers)
    text = "\n".join(lines) + (NOTES if arguments.base == "embedded" else "")
    print(text)
    if arguments.write:
        arguments.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
