"""What was measured before, by a digest of the model and of what it was asked: nothing is measured twice.

Every part is a file written in one step, so an evaluation that was killed goes on behind the parts that are there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.atomic import new_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORM = 3
"""Raised whenever a part is measured another way: what older versions kept is then measured anew."""
SAMPLED_BYTES = 2 << 30
"""Files larger than this are named by samples of their content."""
_SAMPLE, _NUM_SAMPLES = 1 << 20, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultCache:
    """Results of one model in a folder; a folder of None keeps nothing.

    A damaged file counts as absent.
    """

    folder: Path | None
    model: str
    """Digest of the model."""

    def values(self, part: str, asked: str, make: Callable[[], Any]) -> Any:
        """Give JSON values from the cache, or make and keep them.

        Args:
            part: What was measured, for people.
            asked: Digest of what was asked and how.
            make: Measures it.
        """
        path = self._path(part, asked, ".json")
        if path is not None and path.is_file():
            try:
                return json.loads(path.read_bytes())
            except (OSError, ValueError):
                pass
        made = make()
        if path is not None:
            with new_file(path) as file:
                file.write(json.dumps(made, ensure_ascii=False).encode())
        return made

    def arrays(
        self, part: str, asked: str, make: Callable[[], Mapping[str, NDArray[Any]]]
    ) -> Mapping[str, NDArray[Any]]:
        """Give arrays from the cache, or make and keep them."""
        import zipfile

        import numpy as np

        path = self._path(part, asked, ".npz")
        if path is not None and path.is_file():
            try:
                with np.load(path, allow_pickle=False) as held:
                    return {name: held[name] for name in held.files}
            except (OSError, ValueError, EOFError, zipfile.BadZipFile):
                pass
        made = make()
        if path is not None:
            with new_file(path) as file:
                np.savez(file, allow_pickle=False, **dict(made))
        return made

    def _path(self, part: str, asked: str, suffix: str) -> Path | None:
        if self.folder is None:
            return None
        return self.folder / self.model / f"{part}-{digest_of(FORM, asked)[:16]}{suffix}"


NOTHING_KNOWN = ResultCache(folder=None, model="")


def digest_of(*parts: object) -> str:
    """Name some values by their content."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def digest_folder(folder: Path) -> str:
    """Name a model's folder by its configuration, tokenizer and weights; very large weights by samples of them."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".json", ".safetensors", ".jinja", ".model"}:
            digest.update(path.name.encode())
            size = path.stat().st_size
            with path.open("rb") as file:
                if size <= SAMPLED_BYTES:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
                    continue
                digest.update(str(size).encode())
                for number in range(_NUM_SAMPLES):
                    file.seek((size - _SAMPLE) * number // (_NUM_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:32]
