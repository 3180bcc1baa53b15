"""Whether runs made to fail are named and mended; how fast a long log is read; how often wordings are named.

    python benchmarks/debug.py --runs [CASE ...] [--trl PYTHON] [--only trl|ours] [--keep FOLDER]
    python benchmarks/debug.py [--megabytes 300]

The first makes every run of failing.py, asks for a diagnosis of its folder, applies the patch to that very run and
makes it once more; TRL runs where a Python with it is named. Filling a disk takes the right to mount a small one.
Printed is what debug.md shows.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import random
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from failing import CASES, Case, losses, share_that_stops, write_models, write_ours, write_trl  # noqa: E402

from finetune_exe.diagnosis.diagnose import diagnose  # noqa: E402

WORDINGS = ROOT / "tests" / "unit" / "diagnosis" / "wordings.toml"
END = 'Traceback (most recent call last):\n  File "x.py", line 1\ntorch.OutOfMemoryError: CUDA out of memory.\n'
SOUND = {"healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau"}
SECONDS = 3000


class Outcome(NamedTuple):
    """One run, and what there is to say of it."""

    status: int
    losses: list[float]
    stops: float | None = None
    """Share of answers that end by themselves, where that is what is asked."""

    @property
    def said(self) -> str:
        """Say how it went."""
        if self.status:
            return f"ended with {self.status}"
        course = f"loss {self.losses[0]:.3g} to {self.losses[-1]:.3g}" if self.losses else "no loss"
        return course if self.stops is None else f"{course}, {self.stops:.0%} of answers stop"

    @property
    def sound(self) -> bool:
        """Whether it ended well and learned something."""
        learned = bool(self.losses) and all(map(math.isfinite, self.losses)) and self.losses[-1] < 0.9 * self.losses[0]
        return not self.status and learned and self.stops in (None, 1.0)


def run(
    words: Sequence[str | Path], folder: Path, *, log: str | None = None, path: str | None = None
) -> tuple[int, str]:
    """Run a program in a folder; give its status and all it said, which also goes to a log."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment |= {"PYTHONPATH": path} if path else {}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT, check=False, timeout=SECONDS)  # fmt: skip
    if log:
        (folder / log).write_text(done.stdout, encoding="utf-8")
    return done.returncode, done.stdout


def fine_tune(folder: Path, *words: str | Path, log: str | None = None) -> tuple[int, str]:
    """Run this program."""
    return run([sys.executable, "-m", "finetune_exe", *words], folder, log=log)


def train_trl(case: Case, folder: Path, python: str) -> Outcome:
    """Run the script."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    shutil.rmtree(folder / "disk" / "out", ignore_errors=True)
    status, said = run([python, "train.py"], folder, log="train.log", path=sysconfig.get_path("purelib"))
    asked = "no_learning_wrong_template" in case.wanted and status == 0
    saved = max((folder / "out").glob("checkpoint-*"), key=lambda path: path.stat().st_mtime) if asked else folder
    return Outcome(status, losses(said), share_that_stops(saved) if asked else None)


def train_ours(case: Case, folder: Path, plan: str) -> Outcome:
    """Train a plan; what the command says goes to a log beside the run."""
    name = "disk/run" if case.disk_mib else "run"
    shutil.rmtree(folder / name, ignore_errors=True)
    status, _ = fine_tune(folder, "train", plan, "--run", name, log="train.log")
    events = folder / name / "events.jsonl"
    lines = [json.loads(line) for line in events.read_text().splitlines()] if events.is_file() else []
    course = [float(line["loss"]) for line in lines if line["event"] == "step"]
    asked = "no_learning_wrong_template" in case.wanted and status == 0
    return Outcome(
        status, course, share_that_stops(folder.parent / case.model, weights=folder / name / "model") if asked else None
    )


@contextmanager
def disk(folder: Path, mib: float) -> Iterator[None]:
    """Mount a small disk."""
    if not mib:
        yield
        return
    (folder / "disk").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={round(mib * 1024)}k", "tmpfs", folder / "disk"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder / "disk"], check=True)


def try_trl(case: Case, folder: Path, python: str) -> list[str]:
    """Make a run of TRL fail, ask why, patch its script, and run it again."""
    write_trl(case, folder)
    with disk(folder, case.disk_mib):
        before = train_trl(case, folder, python)
        findings = json.loads(fine_tune(folder, "debug", ".", "--json")[1])["findings"]
        status, diff = fine_tune(folder, "debug", ".", "--patch")
        if not case.wanted:
            return row("TRL", case, before, findings, "", None)
        if status:
            return row("TRL", case, before, findings, "none", None)
        (folder / "fix.diff").write_text(diff, encoding="utf-8")
        run(["patch", "-p1", "-i", "fix.diff"], folder)
        after = train_trl(case, folder, python)
        again = json.loads(fine_tune(folder, "debug", ".", "--json")[1])["findings"]
    changes = "; ".join(line[1:].strip(" ,") for line in diff.splitlines() if line[:1] == "+" and line[:3] != "+++")
    return row("TRL", case, before, findings, changes, (after, again))


def try_ours(case: Case, folder: Path) -> list[str]:
    """Make a run of this program fail, ask why, apply the patch, and run the mended plan."""
    write_ours(case, folder)
    options = [word for setting in case.ours or () for word in ("--set", setting)]
    model = f"../{case.model}"
    made, said = fine_tune(folder, "analyze", "reply to requests", "--data", "rows.jsonl", "--model", model, *options)
    if made:
        return row("ours", case, Outcome(made, []), [], said.splitlines()[0], None)
    with disk(folder, case.disk_mib):
        before = train_ours(case, folder, "plan.yaml")
        name = "disk/run" if case.disk_mib else "run"
        given = [path for path in (name, "train.log") if (folder / path).exists()] if before.status else [name]
        given = given if (folder / name / "events.jsonl").is_file() else ["train.log", "plan.yaml"]
        status, told = fine_tune(folder, "debug", *given, "--json")
        findings = json.loads(told)["findings"] if not status else []
        if not case.wanted:
            return row("ours", case, before, findings, "", None)
        status, told = fine_tune(folder, "debug", *given, "--apply", "mended.yaml")
        if status:
            return row("ours", case, before, findings, told.splitlines()[0], None)
        after = train_ours(case, folder, "mended.yaml")
        again = json.loads(fine_tune(folder, "debug", name, "--json")[1])["findings"]
    return row("ours", case, before, findings, told.splitlines()[0].partition(": ")[2], (after, again))


def row(
    trainer: str, case: Case, before: Outcome, findings: list[dict[str, Any]], patch: str,
    after: tuple[Outcome, list[dict[str, Any]]] | None,
) -> list[str]:  # fmt: skip
    """Write one line of the table."""
    first = findings[0] if findings else {"label": "none", "confidence": 0, "evidence": []}
    named = first["label"] in (case.wanted or SOUND)
    lines = [str(line["line"]) for line in first["evidence"] if line["line"]]
    mended = ""
    if after is not None:
        outcome, again = after
        label = again[0]["label"] if again else "none"
        mended = f"{'yes' if outcome.sound and label in SOUND else 'NO'}: {outcome.said}, {label}"
    elif case.wanted:
        mended = "NO"
    label = f"{first['label']} {first['confidence']:.0%}"
    return [trainer, case.title, before.said, f"{label if named else f'**{label}**'}", ", ".join(lines), patch, mended]


def make_runs(names: Sequence[str], folder: Path, *, trl: str | None, only: str | None) -> None:
    """Make all runs and print their table."""
    from tests.tiny import write_tokenizer

    write_tokenizer(folder / "tokenizer", pad="<|endoftext|>")
    write_models(folder, folder / "tokenizer")
    print("| trainer | run | how it went | first finding | lines | patch | mended |\n|---|---|---|---|---|---|---|")
    for name in names or CASES:
        case = CASES[name]
        if case.trl is not None and trl and only != "ours":
            print(f"| {' | '.join(try_trl(case, folder / f'trl-{name}', trl))} |", flush=True)
        if case.ours is not None and only != "trl":
            print(f"| {' | '.join(try_ours(case, folder / f'ours-{name}'))} |", flush=True)


def ordinary_log(size: int) -> Iterator[str]:
    """Write what a long run prints: metrics, progress bars drawn over each other, lines of a launcher."""
    rng, written, step, loss = random.Random(1), 0, 0, 2.1  # noqa: S311
    while written < size:
        step += 1
        loss = max(0.9, 0.99999 * loss + rng.gauss(0, 0.0004))
        clock = f"{step // 3600:02d}:{step % 60:02d}"
        bar = f"\r {step % 100:3d}%|{'#' * (step % 10):10}| {step}/4000000 [{clock}<01:12,  1.31s/it]"
        rest = f"'grad_norm': {abs(rng.gauss(0.6, 0.1)):.4f}, 'learning_rate': 0.0002, 'epoch': {step / 40000:.3f}"
        line = f"{bar}\n{{'loss': {loss:.4f}, {rest}}}\n"
        if step % 50 == 0:
            line += f"[2024-05-01 10:00:{step % 60:02d}] [INFO] [Rank 0] step={step}, skipped=0, lr=[0.0002]\n"
        written += len(line)
        yield line


def measure_reading(size: int) -> None:
    """Measure how fast a log is read, and print it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.log"
        with path.open("w") as file:
            file.writelines(ordinary_log(size))
            file.write(END)
        begun = time.process_time()
        with path.open("rb") as file:
            sum(1 for _ in file)
        bare = time.process_time() - begun
        begun = time.process_time()
        found = diagnose([path]).findings[0]
        seconds = time.process_time() - begun
    print(f"| counting its lines alone, `sum(1 for _ in file)` | {size / 1e6 / bare:.0f} MB/s |")
    print(f"| log of {size / 1e6:.0f} MB: {found.label} | {size / 1e6 / seconds:.0f} MB/s |")
    print(f"| memory of the process | {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB |")


def measure_wordings() -> None:
    """Count how often each kind of wording is named first, and print it."""
    for kind, labels in tomllib.loads(WORDINGS.read_text(encoding="utf-8")).items():
        said = [
            diagnose([Path("-")], stdin=io.BytesIO(text.encode())).findings[0].label in label.split("/")
            for label, texts in labels.items() for text in texts
        ]  # fmt: skip
        print(f"| {kind}, first label right | {sum(said)} of {len(said)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--runs", nargs="*", metavar="CASE", choices=CASES)
    parser.add_argument("--trl", metavar="PYTHON")
    parser.add_argument("--only", choices=["trl", "ours"])
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    wished = parser.parse_args()
    if wished.runs is None:
        measure_reading(wished.megabytes * 1_000_000)
        measure_wordings()
    elif wished.keep:
        wished.keep.mkdir(parents=True)
        make_runs(wished.runs, wished.keep, trl=wished.trl, only=wished.only)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_runs(wished.runs, Path(folder), trl=wished.trl, only=wished.only)


if __name__ == "__main__":
    main()
