"""Say of run folders whether they are finished, can go on, or are damaged, without loading a tensor."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from finetune_exe.domain.checkup import RunState
from finetune_exe.domain.events import read_events
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.models.headers import check_header
from finetune_exe.prepared.store import load_dataset
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.resume import resume_command
from finetune_exe.workflow.run_folder import RunFolder
from finetune_exe.workflow.run_lock import training_process

DEEPEST = 3
"""Levels below the given folder that are searched for runs."""


def find_runs(path: Path) -> list[Path]:
    """List the run folders at or below a path, sorted.

    Raises:
        FineTuneError: L01 where there is none.
    """
    found = sorted(_runs_below(path, DEEPEST))
    if found:
        return found
    raise FineTuneError(
        "L01",
        what="there is no run here",
        where=str(path),
        why="a run folder holds plan.yaml beside events.jsonl, checkpoints or dataset" if path.exists()
        else "there is nothing at this path",
        fix="give the folder of a run, or one that holds runs, as in: fine-tune doctor runs",
    )  # fmt: skip


def _runs_below(path: Path, levels: int) -> Iterator[Path]:
    if not path.is_dir() or path.is_symlink():
        return
    run = RunFolder(path)
    if run.summary.is_file() or run.events.is_file() or (run.plan.is_file() and run.dataset.is_dir()):
        yield path
    elif levels:
        for folder in path.iterdir():
            yield from _runs_below(folder, levels - 1)


def run_state(path: Path) -> RunState:
    """Look at every document, checkpoint and leftover of a run folder; a run under way is not disturbed by it."""
    run = RunFolder(path)
    holder = training_process(path)
    if holder is not None:
        saved = len(list(path.glob("checkpoints/step-*/manifest.json")))
        words = f"process {holder} trains into it now; {_progress(run)}"
        return RunState(folder=str(path), state="unfinished", num_checkpoints=saved, problems=(words,))
    found = find_checkpoints(path)
    broken = [*_document_faults(run), *_dataset_faults(run)]
    rejected = [f"{bad.path.relative_to(path)}: {bad.why}" for bad in found.rejected]
    leftovers = _leftovers(path)

    def state(name: Literal["finished", "unfinished", "damaged"], problems: Iterable[str], fix: str | None) -> RunState:
        return RunState(folder=str(path), state=name, num_checkpoints=len(found.whole),
                        problems=(*problems, *leftovers), fix=fix)  # fmt: skip

    if run.summary.is_file() and not _has_weights(run.model):
        broken.append("model: the run ended in good order, but what it learned is gone")
    if broken or (rejected and not found.whole and not run.summary.is_file()):
        again = typed("fine-tune", "train", run.plan, "--run", path, "--overwrite")
        anew = again if run.plan.is_file() else "restore it from a copy"
        return state("damaged", (*broken, *rejected), anew)
    if run.summary.is_file():
        remove = typed("rm", "-r", *(bad.path for bad in found.rejected))
        return state("damaged" if rejected else "finished", rejected,
                     f"{remove}; the model beside it is whole" if rejected else None)  # fmt: skip
    passed_over = [f"{why}; --resume passes it over" for why in rejected]
    fix = f"{resume_command(path)}; or see why it ended: {typed('fine-tune', 'debug', path)}"
    return state("unfinished", (_progress(run), *passed_over), fix)


def _document_faults(run: RunFolder) -> Iterator[str]:
    try:
        read_plan(run.plan)
    except FineTuneError as fault:
        yield f"plan.yaml: {fault.what}"
    if run.summary.is_file():
        try:
            TrainingRun.read(run.summary)
        except FineTuneError as fault:
            yield f"run.json: {fault.what} ({fault.why})"


def _dataset_faults(run: RunFolder) -> Iterator[str]:
    if not run.dataset.is_dir():
        return
    try:
        load_dataset(run.dataset)
    except FineTuneError as fault:
        yield f"dataset: {fault.why}"


def _has_weights(folder: Path) -> bool:
    """Say whether weights lie in a folder, and every file of them is whole by its header and its length."""
    files = list(folder.glob("*.safetensors")) if folder.is_dir() else []
    try:
        for file in files:
            check_header(file)
    except (FineTuneError, OSError):
        return False
    return bool(files)


def _leftovers(path: Path) -> tuple[str, ...]:
    """Name working folders and files that a killed process left, and how much room they take."""
    found = [entry for folder in (path, path / "checkpoints") if folder.is_dir()
             for entry in sorted(folder.glob(".*.*"))]  # fmt: skip
    return tuple(f"{entry.relative_to(path)}: left by a process that was killed, {_size(entry) / 1e6:,.1f} MB"
                 for entry in found)  # fmt: skip


def _size(entry: Path) -> int:
    if not entry.is_dir():
        return entry.lstat().st_size
    return sum(os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(entry) for name in names)


def _progress(run: RunFolder) -> str:
    events = read_events(run.events) if run.events.is_file() else []
    steps = [(step, event.num_steps) for event in events if (step := getattr(event, "step", None)) is not None
             and hasattr(event, "num_steps")]  # fmt: skip
    if not steps:
        return "no step was made yet"
    done, planned = steps[-1]
    return f"the last was step {done} of {planned}"
