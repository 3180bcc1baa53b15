"""The folders an agent may reach, and the one way from a name it gives to a path."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.errors import FineTuneError

MOST_FILES = 50_000
"""Entries of a folder that are looked at, to see where its links lead."""
LONGEST_NAME = 200
"""Characters of a model's name."""
LARGEST_PLAN = 4_000_000
"""Bytes."""
PATH_SETTINGS = ("data.paths", "data.validation_paths", "data.test_paths", "data.chat_template", "model.reference")
"""Settings that name files; they are given by arguments of their own, or stand in a plan that is looked through."""
_STDLIB, _HUB = "stdlib", "hf://"
_MORE_ROOTS = "let the user start the server with --root for its folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Folders, with every link resolved; a relative path is taken from the first."""

    folders: tuple[Path, ...]
    beyond: str
    """What the user may do to allow more."""

    @classmethod
    def declared(cls, folders: Iterable[Path], *, beyond: str = _MORE_ROOTS) -> Roots:
        """Take the folders that the user declared.

        Args:
            folders: The folders.
            beyond: What the user may do to allow more.

        Raises:
            FineTuneError: A01 where one is no folder, or is the whole disk.
        """
        resolved = tuple(folder.expanduser().resolve() for folder in folders)
        for folder in resolved:
            if not folder.is_dir():
                raise _outside(str(folder), "there is no such folder", "give a folder that exists: --root FOLDER")
            if folder == Path(folder.anchor):
                raise _outside(str(folder), "it is the whole disk", "name the project's folder: --root FOLDER")
        return cls(folders=resolved, beyond=beyond)

    def confine(self, name: str) -> Path:
        """Give the path that a name means, links resolved.

        Raises:
            FineTuneError: A01 where it lies outside of the folders, or is neither file nor folder.
        """
        try:
            path = Path(os.path.realpath(self.folders[0] / Path(name).expanduser()))
            odd = path.exists() and not (path.is_file() or path.is_dir())
        except (ValueError, OSError, RuntimeError) as fault:
            raise _outside(name, str(fault), "give the path of a file or folder") from fault
        if not self.holds(path):
            raise _outside(name, f"it comes to {path}", self._fix())
        if odd:
            raise _outside(name, "it is neither a file nor a folder", "give the path of a file or folder")
        return path

    def confine_all(self, name: str) -> Path:
        """Give the path that a name means, where nothing below it leads outside either.

        Raises:
            FineTuneError: A01 where it does.
        """
        path = self.confine(name)
        if path.is_dir():
            for number, entry in enumerate(_entries(path)):
                if number == MOST_FILES:
                    raise _outside(name, f"it holds more than {MOST_FILES:,} files", "give the rows alone")
                if entry.is_symlink() and not self.holds(Path(os.path.realpath(entry))):
                    raise _outside(str(entry), f"it is a link to {os.path.realpath(entry)}", self._fix())
        return path

    def holds(self, path: Path) -> bool:
        """Say whether a resolved path lies in one of the folders."""
        return any(path.is_relative_to(folder) for folder in self.folders)

    def rows(self, names: Sequence[str]) -> tuple[str, ...]:
        """Give the files and folders of rows that names or patterns mean; "stdlib" stays what it is.

        Raises:
            FineTuneError: A01 where one lies outside, or is not on this machine.
        """
        return tuple(path for name in names for path in self._rows(name))

    def _rows(self, name: str) -> Iterator[str]:
        if name == _STDLIB:
            yield name
        elif name.startswith(_HUB) or "://" in name:
            raise _outside(name, "it is not on this machine", "let the user fetch it, and give the file")
        elif glob.has_magic(name) and not self._exists(name):
            yield from self._pattern(name) or [str(self.confine_all(name))]
        else:
            yield str(self.confine_all(name))

    def _pattern(self, name: str) -> list[str]:
        """Give the files that a pattern means."""
        if ".." in Path(name).parts:
            raise _outside(name, "a pattern may not climb", "write the pattern without ..")
        fixed = next((parent for parent in Path(name).parents if not glob.has_magic(str(parent))), Path())
        self.confine(str(fixed))
        return [str(self.confine_all(path)) for path in sorted(glob.glob(str(self.folders[0] / name), recursive=True))]

    def named(self, words: str) -> None:
        """Let words pass that are no name of a file outside, whatever else they are.

        Raises:
            FineTuneError: A01 where they are.
        """
        if words.startswith(_HUB):
            self.rows([words])
        elif self._exists(words):
            self.confine_all(words)
        elif glob.has_magic(words):
            self._pattern(words)

    def model(self, reference: str | None) -> str | None:
        """Give a base model as it may be used: a name, or a path inside of the folders.

        Raises:
            FineTuneError: A01 where it is a path that lies outside.
        """
        if reference is None:
            return None
        odd = not reference.isprintable() or len(reference) > LONGEST_NAME
        if odd or reference.startswith((".", "/", "~", "\\")) or reference.count("/") > 1 or self._exists(reference):
            return str(self.confine_all(reference))
        return reference

    def settings(self, settings: Sequence[str]) -> tuple[str, ...]:
        """Let `path=value` settings pass that name no file.

        Raises:
            FineTuneError: A01 where one does.
        """
        for setting in settings:
            path = setting.partition("=")[0].strip()
            if any(named == path or named.startswith(f"{path}.") for named in PATH_SETTINGS):
                raise _outside(setting, "this setting names files", "use the tool's own arguments for data and model")
        return tuple(settings)

    def plan(self, name: str) -> Path:
        """Give the path of a plan file that names nothing outside of the folders.

        Raises:
            FineTuneError: A01 where it does; C01, C02 where it is no plan.
        """
        path = self.confine(name)
        if path.is_file() and path.stat().st_size > LARGEST_PLAN:
            raise _outside(name, "it is too large for a plan", "give the plan.yaml that analyze wrote")
        plan = read_plan(path)
        data = plan.data
        self.rows((*data.paths, *data.validation_paths, *data.test_paths))
        self.model(plan.model.reference)
        if data.chat_template not in (None, "plain"):
            self.confine(data.chat_template)
        return path

    def configuration(self, name: str) -> Path:
        """Give the path of another trainer's file that names no model and no rows outside of the folders.

        Raises:
            FineTuneError: A01 where it does; C15, C16, C17 where it cannot be carried over.
        """
        from finetune_exe.review.carry import carry
        from finetune_exe.review.configuration import read_configurations

        path = self.confine(name)
        for setting in carry(read_configurations(path)[0]).settings:
            values = setting.value if isinstance(setting.value, list) else [setting.value]
            for value in map(str, values if setting.path in PATH_SETTINGS else []):
                self.model(value) if setting.path == "model.reference" else self.named(value)
        return path

    def _exists(self, name: str) -> bool:
        """Say whether a name is that of a file, as seen from here or from the first folder."""
        try:
            return Path(name).exists() or (self.folders[0] / name).exists()
        except (OSError, ValueError):
            return False  # no name of a file at all

    def _fix(self) -> str:
        listed = ", ".join(map(str, self.folders))
        return f"move it into {listed}, or {self.beyond}"


def _entries(folder: Path) -> Iterator[Path]:
    """List what lies below a folder; links are not followed."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in (*folders, *files))


def _outside(name: str, why: str, fix: str) -> FineTuneError:
    return FineTuneError("A01", what="this path may not be used by an agent", where=name, why=why, fix=fix)
