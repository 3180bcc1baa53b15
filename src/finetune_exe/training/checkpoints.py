"""Checkpoints of a run: whole folders under `checkpoints/`, verified before they are used, the best one among them.

A checkpoint is written beside its place, every file and folder brought to the disk, the manifest last, and then
renamed; so that a kill at any moment leaves the earlier ones as they were.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError

from finetune_exe.atomic import folder_to_disk, free_bytes, io_faults, to_disk
from finetune_exe.domain.checkpoint import MANIFEST, CheckpointFile, CheckpointManifest
from finetune_exe.errors import FineTuneError
from finetune_exe.training.setup import Setup
from finetune_exe.training.sharding import whole_state
from finetune_exe.training.state import FOLDER, save_state
from finetune_exe.units import format_bytes

_NAME = re.compile(r"step-(\d+)")
UNFINISHED = ".step-"
"""What the names of folders begin with that are not whole yet, or no longer."""


class Checkpoint(NamedTuple):
    """A checkpoint that was found whole."""

    path: Path
    manifest: CheckpointManifest


class Rejected(NamedTuple):
    """A checkpoint that cannot be used."""

    path: Path
    why: str


class Found(NamedTuple):
    """What lies in a run's folder of checkpoints."""

    whole: tuple[Checkpoint, ...]
    """From the newest to the oldest."""
    rejected: tuple[Rejected, ...]


class Checkpoints:
    """Saves what was learned at a step, keeping the best and the last few."""

    def __init__(
        self, run: Path, *, keep_last: int, found: Found | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = run / "checkpoints"
        self.keep_last = keep_last
        self.steps = sorted(kept.manifest.step for kept in found.whole) if found else []
        self.parent = found.whole[0].manifest.digest() if found and found.whole else None
        self.save_seconds: list[float] = []
        self._clock = clock

    def path(self, step: int) -> Path:
        """Give the folder of a step's checkpoint."""
        return self.folder / f"step-{step}"

    def save(self, setup: Setup, manifest: CheckpointManifest, *, best_step: int) -> Path:
        """Write a checkpoint in one piece, then remove those that are neither best nor recent.

        Of several processes, which must all call it, the first alone writes.

        Args:
            setup: What is saved.
            manifest: All that is said of it but its files and its parent.
            best_step: Step whose checkpoint is kept whatever its age.

        Raises:
            FineTuneError: I12 where the disk is full, I01 where it cannot be written for another reason; the earlier
                checkpoints are then as they were.
        """
        with whole_state(setup):
            if setup.ranks.is_first:
                return self._write(setup, manifest, best_step=best_step)
        self.steps = [*(kept for kept in self.steps if kept != manifest.step), manifest.step]
        return self.path(manifest.step)

    def _write(self, setup: Setup, manifest: CheckpointManifest, *, best_step: int) -> Path:
        begun, step = self._clock(), manifest.step
        with _new_checkpoint(self.path(step)) as work:
            write_learned(setup, work)
            written = manifest.model_copy(update={"files": describe_files(work), "parent": self.parent})
            (work / MANIFEST).write_text(written.pretty_json(), encoding="utf-8")
        self.parent = written.digest()
        self.steps = [*(kept for kept in self.steps if kept != step), step]
        recent = self.steps[-self.keep_last :]
        for old in [kept for kept in self.steps if kept not in recent and kept != best_step]:
            _remove(self.path(old))
            self.steps.remove(old)
        self.save_seconds.append(self._clock() - begun)
        return self.path(step)


def write_learned(setup: Setup, folder: Path) -> None:
    """Write the model as other programs load it, and the state beside it."""
    setup.method.save(setup.model, folder)
    (folder / FOLDER).mkdir()
    save_state(setup, folder / FOLDER)


def find_checkpoints(run: Path) -> Found:
    """Verify every checkpoint of a run, size and hash of each file, the newest first."""
    whole, rejected = [], []
    for path in _folders(run / "checkpoints"):
        why = fault_of(path)
        if why is None:
            whole.append(Checkpoint(path, CheckpointManifest.read(path / MANIFEST)))
        else:
            rejected.append(Rejected(path, why))
    return Found(tuple(whole), tuple(rejected))


def fault_of(path: Path) -> str | None:
    """Say why a checkpoint cannot be trusted, or None where every file is as its manifest says."""
    if not (path / MANIFEST).is_file():
        return f"{MANIFEST} is missing; it is written last, so the checkpoint was never finished"
    try:
        manifest = CheckpointManifest.read(path / MANIFEST)
    except FineTuneError as fault:
        return f"{MANIFEST}: {fault.what}"
    if path.name != f"step-{manifest.step}":
        return f"{MANIFEST} is that of step {manifest.step}"
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()} - {MANIFEST}
    strange = found - {file.name for file in manifest.files}
    if strange:
        return f"{min(strange)} is not in the manifest"
    for file in manifest.files:
        try:
            size = (path / file.name).stat().st_size
            if size != file.num_bytes:
                return f"{file.name} has {size:,} bytes where the manifest says {file.num_bytes:,}"
            if _hash(path / file.name) != file.sha256:
                return f"{file.name} has another content than the manifest says"
        except OSError as fault:
            return f"{file.name} cannot be read: {fault.strerror or fault}"
    return None


def remove_unfinished(run: Path) -> None:
    """Remove what a killed run left half written; call it only while the run is locked."""
    for path in (run / "checkpoints").glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)


def describe_files(folder: Path) -> tuple[CheckpointFile, ...]:
    """Name, measure and hash every file below a folder."""
    return tuple(
        CheckpointFile(name=file.relative_to(folder).as_posix(), num_bytes=file.stat().st_size, sha256=_hash(file))
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    )


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Turn what the operating system refuses while a checkpoint is written into an error of ours.

    safetensors tells of a full disk in words alone, so the number is read out of them.
    """
    with io_faults(folder):
        try:
            yield
        except (OSError, SafetensorError) as fault:
            number = getattr(fault, "errno", None) or _error_number(str(fault))
            if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise OSError(number, os.strerror(number), str(folder)) from fault
            written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            raise FineTuneError(
                "I12",
                what=f"there is no room for a checkpoint: {format_bytes(written)} of it were written, then "
                f"{format_bytes(free_bytes(folder))} were free",
                where=str(folder),
                why=f"the operating system refused more ({os.strerror(number)}); the earlier checkpoints are intact",
                fix="free some space, or --set checkpoints.keep_last=1; then go on with --resume",
            ) from fault


@contextmanager
def _new_checkpoint(path: Path) -> Iterator[Path]:
    """Give a working folder that becomes `path`, on the disk, when the block ends well, and vanishes otherwise."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True)
        to_disk(path.parent.parent)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name.removeprefix('step-')}-"))
    try:
        with refusals(work):
            yield work
            work.chmod(0o755)
            folder_to_disk(work, last=MANIFEST)
            if path.exists():
                _remove(path)
            os.rename(work, path)
            to_disk(path.parent)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def _folders(folder: Path) -> list[Path]:
    """List the folders named like checkpoints, the newest first."""
    numbered = [(int(match[1]), path) for path in folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(numbered, reverse=True) if path.is_dir()]


def _remove(path: Path) -> None:
    """Take a checkpoint away in one step, so that nothing half removed carries its name."""
    gone = path.with_name(f"{UNFINISHED}{path.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _error_number(words: str) -> int:
    match = re.search(r"os error (\d+)", words)
    return int(match[1]) if match else errno.EIO
