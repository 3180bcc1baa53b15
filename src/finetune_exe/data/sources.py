"""Find the files that a user's paths mean."""

from __future__ import annotations

import difflib
import glob
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.data.faults import Tell, insist
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.read import SUFFIXES, TEXT_SUFFIXES, inner_suffix, read_rows
from finetune_exe.domain.dataset import SourceFile
from finetune_exe.errors import FineTuneError

STDLIB = "stdlib"
"""The path that stands for the embedded corpus."""
HUB = "hf://"
"""What a dataset of the hub begins with."""
_HUB_NAME = re.compile(r"https?://huggingface\.co/datasets/([\w.-]+/[\w.-]+).*|([\w-]+/[\w.-]+)")
"""A dataset of the hub as the address of its page, or its owner and name, say it."""
ROW_SUFFIXES = tuple(suffix for suffix, container in SUFFIXES.items() if container != "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file of rows, or the embedded corpus."""

    name: str
    """The path as the user gave it, or "stdlib"; what is no text in it is shown as in \\xe9."""
    path: Path | None
    """None for the embedded corpus and for a dataset of the hub."""

    def rows(self, tell: Tell = insist) -> Iterator[RawRow | BadLine]:
        """Read the rows.

        Args:
            tell: Told what is unusual about the file as a whole.

        Raises:
            FineTuneError: D01 or D02 where the file cannot be read or is empty; X01 for a dataset of the hub where
                the package that fetches it is not installed.
        """
        if self.name.startswith(HUB):
            from finetune_exe.data.hub import hub_rows

            return hub_rows(self.name)
        if self.path is None:
            from finetune_exe.data.stdlib_corpus import corpus_rows

            return corpus_rows()
        return read_rows(self.path, tell)

    def place(self, raw: RawRow | BadLine, number: int) -> str:
        """Say where a row is: file:line, or the row's number (from 1) in a file without lines."""
        if self.name == STDLIB and isinstance(raw, RawRow) and isinstance(raw.row, dict):
            return f"{self.name}:{raw.row['module']}:{raw.line}"
        return f"{self.name}:{raw.line}" if raw.line is not None else f"{self.name}, row {number}"

    def describe(self, *, num_rows: int) -> SourceFile:
        """Name the content: size and SHA-256 of the file's bytes."""
        if self.name.startswith(HUB):
            from finetune_exe.data.hub import hub_digest

            return SourceFile(path=self.name, sha256=hub_digest(self.name), num_bytes=0, num_rows=num_rows)
        if self.path is None:
            from finetune_exe.data.stdlib_corpus import corpus_files

            files = list(corpus_files())
        else:
            files = [self.path]
        digest, size = hashlib.sha256(), 0
        for path in files:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        return SourceFile(path=self.name, sha256=digest.hexdigest(), num_bytes=size, num_rows=num_rows)


def find_sources(paths: Sequence[str]) -> tuple[Source, ...]:
    """Turn files, folders, patterns, "stdlib" and datasets of the hub (hf://owner/name) into sources, none twice.

    A folder means its files of rows or, where it has none, its text files.

    Raises:
        FineTuneError: C05 without any path, D07 where a path leads nowhere.
    """
    if not paths:
        raise FineTuneError(
            "C05",
            what="no data is named",
            where="data.paths",
            why="there is nothing to read",
            fix="give files with --data PATH or --set data.paths=PATH",
        )
    found: dict[Path | str, Source] = {}
    for text in paths:
        if text == STDLIB or text.startswith(HUB):
            found.setdefault(text, Source(name=text, path=None))
            continue
        for path in _expand(text):
            found.setdefault(path.resolve(), Source(name=_shown(path), path=path))
    return tuple(found.values())


def _shown(path: Path) -> str:
    """Write a path as text, which not every name of a file is: bytes that are not UTF-8 as in \\xe9."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        chosen = [p for p in files if inner_suffix(p) in ROW_SUFFIXES]
        chosen = chosen or [p for p in files if inner_suffix(p) in TEXT_SUFFIXES]
        if not chosen:
            raise _missing(text, why="the folder holds no file of rows", names=[p.name for p in files])
        return chosen
    if path.exists():
        return [path]
    matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
    if matches:
        return matches
    if path.is_symlink():
        raise _missing(text, why="it is a link that leads nowhere, or round in a circle", names=[])
    hub = None if path.parent.is_dir() or inner_suffix(path) in SUFFIXES else _HUB_NAME.fullmatch(text)
    hint = f"a dataset of the hub is named {HUB}{hub[1] or hub[2]}" if hub else "check the path"
    names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.5)
    raise _missing(text, why="there is nothing at this path", names=near, hint=hint)


def _missing(text: str, *, why: str, names: list[str], hint: str = "check the path") -> FineTuneError:
    hint = f"there is {', '.join(names[:5])}" if names else hint
    return FineTuneError(
        "D07", what="the data is not there", where=text, why=why, fix=f"{hint}; give a file, a folder or a pattern"
    )
