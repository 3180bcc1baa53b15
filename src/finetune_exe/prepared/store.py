"""The prepared dataset on disk: flat arrays a training process maps into memory, and the rows they came from.

A folder holds `manifest.json` and, for each split:

- `<split>.tokens.npy`: int32, all sequences end to end;
- `<split>.learned.npy`: bool, whether each token is learned;
- `<split>.offsets.npy`: int64, sequence i is tokens[offsets[i] : offsets[i + 1]];
- `<split>.rows.npy`: int32, the row each sequence came from;
- `<split>.rows.jsonl`: one row a line, with its place in the source, its group and its conversation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe.domain.dataset import PreparedDataset, Split, SplitName
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MANIFEST = "manifest.json"
ARRAYS = ("tokens", "learned", "offsets", "rows")


class SequenceView(NamedTuple):
    """One training sequence, as views into the mapped arrays."""

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One row of the source, as it was trained on."""

    source: str
    """Where it stands: file:line."""
    group: str
    """Rows of one group are all on one side of the split."""
    conversation: dict[str, Any]
    """The conversation as JSON values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitData:
    """One side of the split, mapped into memory."""

    tokens: NDArray[np.int32]
    learned: NDArray[np.bool_]
    offsets: NDArray[np.int64]
    rows: NDArray[np.int32]
    rows_path: Path
    paired: bool = False
    """Whether sequences come in pairs, with the better and with the worse answer; a pair then counts as one."""

    def __len__(self) -> int:
        """Count the sequences, or pairs."""
        return len(self.rows)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence; of a pair, twice those of its longer one, which is what it takes in a batch."""
        import numpy as np

        lengths = np.diff(self.offsets)
        if self.paired:
            lengths = 2 * lengths.reshape(-1, 2).max(axis=1)
        return [int(length) for length in lengths]

    def sequence(self, index: int) -> SequenceView:
        """Give sequence `index`, of a pair the one with the better answer, without copying it."""
        return self._view(2 * index if self.paired else index)

    def members(self, index: int) -> tuple[SequenceView, ...]:
        """Give sequence `index`, of a pair both."""
        if not self.paired:
            return (self._view(index),)
        return self._view(2 * index), self._view(2 * index + 1)

    def _view(self, number: int) -> SequenceView:
        start, end = self.offsets[number], self.offsets[number + 1]
        return SequenceView(self.tokens[start:end], self.learned[start:end])

    def read_rows(self) -> tuple[StoredRow, ...]:
        """Read the rows behind the sequences: row `rows[i]` is that of sequence i."""
        return tuple(self.stream_rows())

    def stream_rows(self) -> Iterator[StoredRow]:
        """Read the rows one after the other."""
        with self.rows_path.open(encoding="utf-8") as file:
            for line in file:
                yield StoredRow(**json.loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedFolder:
    """A prepared dataset that was found whole."""

    path: Path
    manifest: PreparedDataset

    def split(self, name: SplitName) -> SplitData:
        """Map one side of the split into memory.

        Raises:
            FineTuneError: D05 where a file is missing or damaged.
        """
        import numpy as np

        arrays = {}
        for array in ARRAYS:
            file = self.path / f"{name}.{array}.npy"
            try:
                arrays[array] = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as fault:
                raise damaged(file, str(fault)) from fault
        if self.manifest.paired:
            arrays["rows"] = arrays["rows"][::2]
        return SplitData(**arrays, rows_path=self.path / f"{name}.rows.jsonl", paired=self.manifest.paired)


class SplitWriter:
    """Writes one side of the split piece by piece, straight into mapped files.

    Args:
        folder: An unfinished folder; the manifest is written into it afterwards.
        name: Which side.
        num_tokens: Tokens that will be added in all.
        num_sequences: Sequences that will be added.
    """

    def __init__(self, folder: Path, name: SplitName, *, num_tokens: int, num_sequences: int) -> None:
        import numpy as np
        from numpy.lib.format import open_memmap

        def array(kind: str, dtype: type, size: int) -> NDArray[Any]:
            mapped: NDArray[Any] = open_memmap(folder / f"{name}.{kind}.npy", mode="w+", dtype=dtype, shape=(size,))
            return mapped

        self._folder, self._name = folder, name
        self._tokens = array("tokens", np.int32, num_tokens)
        self._learned = array("learned", np.bool_, num_tokens)
        self._offsets = array("offsets", np.int64, num_sequences + 1)
        self._owners = array("rows", np.int32, num_sequences)
        self._file = (folder / f"{name}.rows.jsonl").open("wb")
        self._num_tokens = self._num_sequences = self._num_rows = 0

    def add(
        self,
        *,
        tokens: NDArray[Any],
        learned: NDArray[Any],
        lengths: NDArray[Any],
        owners: NDArray[Any],
        rows: Sequence[bytes],
    ) -> None:
        """Add rows.

        Args:
            tokens: Of all their sequences, end to end.
            learned: Whether each is learned.
            lengths: Tokens of each sequence.
            owners: For each sequence, the number of its row among these.
            rows: Each row's JSON line, line end included.
        """
        import numpy as np

        start, first = self._num_tokens, self._num_sequences
        end, last = start + len(tokens), first + len(lengths)
        self._tokens[start:end] = tokens
        self._learned[start:end] = learned
        self._offsets[first + 1 : last + 1] = start + np.cumsum(lengths)
        self._owners[first:last] = owners + self._num_rows
        self._file.writelines(rows)
        self._num_tokens, self._num_sequences = end, last
        self._num_rows += len(rows)

    def close(self) -> None:
        """Close the open file; what was written is of no use unless `finish` was called."""
        self._file.close()

    def finish(self, *, num_groups: int) -> Split:
        """Close the files and describe the split."""
        import numpy as np

        assert (self._num_tokens, self._num_sequences) == (len(self._tokens), len(self._owners))
        for array in (self._tokens, self._learned, self._offsets, self._owners):
            assert isinstance(array, np.memmap)
            array.flush()
        self._file.close()
        lengths = np.diff(self._offsets)
        return Split(
            num_rows=self._num_rows,
            num_groups=num_groups,
            num_sequences=self._num_sequences,
            num_tokens=self._num_tokens,
            num_learned_tokens=int(np.count_nonzero(self._learned)),
            length_p50=int(np.percentile(lengths, 50, method="higher")),
            length_p95=int(np.percentile(lengths, 95, method="higher")),
            length_max=int(lengths.max()),
            digest=_digest(self._folder, self._name),
        )


def load_dataset(folder: Path, *, verify: bool = True) -> PreparedFolder:
    """Open a prepared dataset.

    Args:
        folder: Where it lies.
        verify: Compare every array with the digest in the manifest.

    Raises:
        FineTuneError: D05 where it is not whole or was changed; C06 or C07 for its manifest.
    """
    if not (folder / MANIFEST).is_file():
        raise damaged(folder, f"{MANIFEST} is not there; it is written last, so the dataset was never finished")
    manifest = PreparedDataset.read(folder / MANIFEST)
    prepared = PreparedFolder(path=folder, manifest=manifest)
    for name, split in manifest.splits.items():
        data = prepared.split(name)
        if len(data.offsets) - 1 != split.num_sequences or len(data.tokens) != split.num_tokens != len(data.learned):
            raise damaged(folder / f"{name}.offsets.npy", "it does not have the length the manifest says")
        if verify and _digest(folder, name) != split.digest:
            raise damaged(folder / f"{name}.tokens.npy", "its content is not what the manifest says")
    return prepared


def damaged(path: Path, why: str) -> FineTuneError:
    """Say that a prepared dataset cannot be trusted."""
    return FineTuneError(
        "D05",
        what="the prepared dataset is damaged or belongs to another plan",
        where=str(path),
        why=why,
        fix="prepare it again: fine-tune dataset --plan plan.yaml --overwrite",
    )


def _digest(folder: Path, name: SplitName) -> str:
    """Hash the files of one split, each under its own name."""
    digest = hashlib.sha256()
    for file in (*(f"{name}.{array}.npy" for array in ARRAYS), f"{name}.rows.jsonl"):
        path = folder / file
        try:
            with path.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").digest()
        except OSError as fault:
            raise damaged(path, fault.strerror or str(fault)) from fault
        digest.update(file.encode() + content)
    return digest.hexdigest()
