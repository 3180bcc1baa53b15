"""Speed of tokenising, proving and packing, beside the tokenizers library itself, `datasets` and TRL.

    python benchmarks/tokenising.py ROWS.jsonl [--rows 100000] [--peer PYTHON] [--write benchmarks/tokenising.md]

ROWS is a file of rows in any form; PYTHON is an interpreter with `trl` and `datasets` (another environment
will do). Every contender gets the same conversations and both cores:

- the tokenizers library's own batch rate: `Tokenizer.encode_batch` of the texts, already rendered;
- finetune-exe: rendering, tokenising, both derivations of the mask, packed arrays on disk; a process a core;
- `datasets.map` with `apply_chat_template`, batched, two processes: rendering and tokenising, no mask;
- TRL's own preprocessing for supervised fine-tuning, as its trainer does it before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

MAX_LENGTH, ROUNDS = 1024, 5
PEERS = {
    "`datasets.map` with `apply_chat_template`, no mask": "map",
    "TRL `SFTTrainer` preprocessing, no mask": "trl",
}
PEER = """
import json, sys, time
from pathlib import Path
rows, model, what = sys.argv[1:4]
import datasets
from transformers import AutoTokenizer
datasets.disable_caching()
datasets.disable_progress_bars()
tokenizer = AutoTokenizer.from_pretrained(model)
data = datasets.load_dataset("json", data_files=rows, split="train")
started = time.perf_counter()
if what == "map":
    def work(batch):
        made = tokenizer.apply_chat_template(batch["messages"], tokenize=True, return_dict=True)
        return {"input_ids": made["input_ids"]}
    data.map(work, batched=True, num_proc=2, remove_columns=data.column_names)
else:
    from transformers import AutoModelForCausalLM, LlamaConfig
    from trl import SFTConfig, SFTTrainer
    tiny = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = AutoModelForCausalLM.from_config(tiny)
    config = SFTConfig(output_dir=sys.argv[4], max_length=1024, dataset_num_proc=2, use_cpu=True, report_to=[])
    started = time.perf_counter()
    SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
print("SECONDS", time.perf_counter() - started)
"""


def rates_of_both(texts: list[str], folder: Path, jobs_of: Callable[[Path], list]) -> tuple[float, float]:
    """Rows a second of the library's `encode_batch`, and of encoding shards in processes, their start included.

    They take turns, for other machines' work on the same processor comes and goes; of each, the median is given.
    """
    from tokenizers import Tokenizer

    from finetune_exe.data.workers import encode_in_processes

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    cores = len(os.sched_getaffinity(0))
    library, ours = [], []
    for _ in range(ROUNDS):
        library.append(_rate(lambda: tokenizer.encode_batch(texts, add_special_tokens=False), len(texts)))
        with tempfile.TemporaryDirectory() as target:
            jobs = jobs_of(Path(target))
            ours.append(
                _rate(lambda jobs=jobs: encode_in_processes(jobs, num_workers=cores, told=lambda _: 0), len(texts))
            )
    return median(library), median(ours)


def rate_of_peer(python: str, rows: Path, model: Path, what: str, num_rows: int) -> float | None:
    """Rows a second of another program, loading left out; None where it does not run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-c", PEER, str(rows), str(model), what, folder]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""}
        )
    seconds = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("SECONDS")]
    if not seconds:
        print(done.stderr[-2000:])
        return None
    return num_rows / float(seconds[0])


def _rate(work: Callable[[], object], num_rows: int) -> float:
    started = time.perf_counter()
    work()
    return num_rows / (time.perf_counter() - started)


def measure(rows: Path, *, num_rows: int, peer: str | None) -> list[str]:
    """Measure all contenders on the first rows of a file that can be kept, and give the lines of a table."""
    from finetune_exe.data.ingest import ingest, open_sources
    from finetune_exe.data.rows import KeptRow
    from finetune_exe.data.shards import ShardJob
    from finetune_exe.data.sources import find_sources
    from finetune_exe.data.spool import Spool
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.encode import encode_rows
    from finetune_exe.text.tokenizer import load_tokenizer

    model = model_folder("embedded")
    tokenizer = load_tokenizer(model, chat_template=None)
    assert tokenizer.template is not None
    opened = open_sources(find_sources([str(rows)]), format_name=None)
    kept = []
    for row in ingest(opened, deduplicate=True):
        if len(kept) == num_rows:
            break
        if (
            isinstance(row, KeptRow)
            and encode_rows([row.conversation], tokenizer, max_length=MAX_LENGTH)[0].fault is None
        ):
            kept.append(row)
    num_rows = len(kept)
    texts = [tokenizer.template.render(row.conversation.messages, answer_next=False, columns={}) for row in kept]
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        for row in kept:
            spool.add(row, group=row.key)
        spool.close()
        plain = Path(folder) / "rows.jsonl"
        with plain.open("w") as file:
            for row in kept:
                turns = [{"role": turn.role, "content": turn.content} for turn in row.conversation.messages]
                file.write(json.dumps({"messages": turns}) + "\n")

        def jobs_of(target: Path) -> list[ShardJob]:
            return [
                ShardJob(
                    rows=str(shard.path), rows_digest=shard.digest, drawn=None, num_drawn=shard.num_rows,
                    shards=str(target), model=str(model), chat_template=None, tokenizer_digest="", template_digest="",
                    max_length=MAX_LENGTH, on_too_long="drop", format_name=opened[0].detection.format.name,
                )
                for shard in spool.shards
            ]  # fmt: skip

        library, ours = rates_of_both(texts, model, jobs_of)
        found: dict[str, float | None] = {
            "tokenizers `encode_batch` of rendered texts": library,
            "finetune-exe: render, tokenise, prove, write": ours,
        }
        for name, what in PEERS.items():
            if peer:
                found[name] = rate_of_peer(peer, plain, model, what, num_rows)
    words = sum(len(turn.content.split()) for row in kept for turn in row.conversation.messages) / num_rows
    lines = [
        f"{num_rows:,} conversations of {words:.0f} words, SmolLM2's tokenizer and template.",
        "",
        "| | rows/s | of the library's own rate |",
        "|---|---:|---:|",
    ]
    for name, rate in found.items():
        lines.append(f"| {name} | {rate:,.0f} | {rate / library:.0%} |" if rate else f"| {name} | did not run | |")
    return lines


def main() -> None:
    """Measure all and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--rows", dest="num_rows", type=int, default=100_000)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    table = measure(arguments.rows, num_rows=arguments.num_rows, peer=arguments.peer)
    text = "\n".join(["# Tokenising speed", "", f"{machine}; by `python benchmarks/tokenising.py`.", "", *table]) + "\n"
    print(text)
    if arguments.write:
        arguments.write.write_text(text)


if __name__ == "__main__":
    main()
