"""Put the skill where coding agents look for it, never over what the user wrote there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_exe import __version__
from finetune_exe.agents.skill import NAME, command_files, skill_files
from finetune_exe.atomic import io_faults, write_file
from finetune_exe.errors import FineTuneError

AGENTS: Mapping[str, tuple[str, ...]] = {
    "claude": (f".claude/skills/{NAME}",),
    "codex": (f".agents/skills/{NAME}",),
    "gemini": (f".agents/skills/{NAME}", ".gemini/commands"),
    "cursor": (f".cursor/skills/{NAME}",),
}
"""The folders that each agent looks into, in a project and in the user's own folder alike."""
EVERYWHERE = ("claude", "codex")
"""Whose two folders all four read in a project."""
RECORD = f".{NAME}.json"
"""What was written, by its hash: so a later version can tell an old file from an edited one."""
State = Literal["new", "current", "outdated", "edited"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFile:
    """One file of the skill and what stands at its place."""

    path: Path
    content: bytes
    state: State
    """Not there; as this version writes it; as an earlier one wrote it; changed by somebody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillFolder:
    """A place for the skill, looked at."""

    root: Path
    """The project, or the user's own folder."""
    path: Path
    files: tuple[SkillFile, ...]
    leftovers: tuple[Path, ...]
    """Files of an earlier version, unchanged, that this one no longer has."""

    @property
    def edited(self) -> tuple[Path, ...]:
        """Files that are the user's own by now."""
        return tuple(file.path for file in self.files if file.state == "edited")

    @property
    def current(self) -> bool:
        """Whether all of it is there as this version writes it."""
        return not self.leftovers and all(file.state == "current" for file in self.files)


def look(agents: Sequence[str], root: Path) -> tuple[SkillFolder, ...]:
    """Look at the places of the skill and change nothing.

    Args:
        agents: Keys of `AGENTS`; none stands for `EVERYWHERE`.
        root: The project, or the user's own folder.

    Raises:
        FineTuneError: I01 where a place cannot be read.
    """
    folders = dict.fromkeys(folder for agent in agents or EVERYWHERE for folder in AGENTS[agent])
    return tuple(_look_at(root, root / folder) for folder in folders)


def _look_at(root: Path, folder: Path) -> SkillFolder:
    with io_faults(folder):
        recorded = _recorded(folder)
        wanted = skill_files() if folder.name == NAME else command_files()
        files = tuple(
            SkillFile(path=folder / name, content=content, state=_state(folder / name, content, recorded.get(name)))
            for name, content in wanted.items()
        )
        gone = tuple(folder / name for name, digest in recorded.items()
                     if name not in wanted and _digest_at(folder / name) == digest)  # fmt: skip
    return SkillFolder(root=root, path=folder, files=files, leftovers=gone)


def _state(path: Path, content: bytes, recorded: str | None) -> State:
    if not path.exists() and not path.is_symlink():
        return "new"
    found = _digest_at(path)
    if found == _digest(content):
        return "current"
    return "outdated" if found is not None and found == recorded else "edited"


def write(folders: Iterable[SkillFolder], *, overwrite: bool = False) -> None:
    """Write the skill to every place, or to none where the user edited a file of it.

    Raises:
        FineTuneError: A02 where a file was edited and `overwrite` does not allow to replace it; I01 where it cannot be
            written.
    """
    folders = list(folders)
    if not overwrite:
        _spare_edited(folders, "writing it anew would lose your changes", "add --overwrite to replace it")
    for folder in folders:
        for file in folder.files:
            if file.state != "current":
                write_file(file.path, file.content)
        _remove(folder.leftovers, folder.root)
        hashes = {file.path.relative_to(folder.path).as_posix(): _digest(file.content) for file in folder.files}
        record = json.dumps({"version": __version__, "sha256": hashes}, indent=2).encode() + b"\n"
        if _content(folder.path / RECORD) != record:
            write_file(folder.path / RECORD, record)


def remove(folders: Iterable[SkillFolder], *, overwrite: bool = False) -> None:
    """Remove the skill from every place, or from none where the user edited a file of it; other files stay.

    Raises:
        FineTuneError: A02 where a file was edited and `overwrite` does not allow to remove it; I01 where it cannot be
            removed.
    """
    folders = list(folders)
    if not overwrite:
        _spare_edited(folders, "removing it would lose your changes", "move it away, or add --overwrite to remove it")
    for folder in folders:
        there = [file.path for file in folder.files if file.state != "new"]
        with io_faults(folder.path):
            _remove((*there, *folder.leftovers, folder.path / RECORD), folder.root)


def _remove(files: Iterable[Path], root: Path) -> None:
    """Remove files, and the folders that they leave empty below a root."""
    for file in files:
        file.unlink(missing_ok=True)
        for parent in file.parents:
            if parent == root or parent.is_symlink() or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()


def _recorded(folder: Path) -> dict[str, str]:
    """Read which files were written and their hashes; a record that cannot be read counts as none."""
    try:
        hashes = json.loads((folder / RECORD).read_bytes())["sha256"]
        known = {name: digest for name, digest in hashes.items() if isinstance(digest, str)}
        return {name: digest for name, digest in known.items() if ".." not in Path(name).parts and name[:1] != "/"}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None


def _digest_at(path: Path) -> str | None:
    """Give the hash of a file; None where something else, or a link, is in its place."""
    content = _content(path)
    return None if content is None else _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _spare_edited(folders: Iterable[SkillFolder], why: str, fix: str) -> None:
    paths = [path for folder in folders for path in folder.edited]
    if paths:
        files = f"{len(paths)} file{'s' if len(paths) > 1 else ''}"
        raise FineTuneError(
            "A02",
            what=f"{files} of the skill did not come from this program like this",
            where=", ".join(map(str, paths)),
            why=why,
            fix=f"keep it as it is, or {fix}",
        )
