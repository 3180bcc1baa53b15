"""The prepared dataset on disk: what is written is read, and damage is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.prepared.splits import PreparedRow, write_split

from finetune_exe.domain.dataset import SPLITS, MaskProof, PreparedDataset, Split
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import MANIFEST, SequenceView, StoredRow, load_dataset

SEQUENCES = st.lists(st.tuples(st.integers(0, 60_000), st.booleans()), min_size=1, max_size=9)
ROWS = st.lists(st.lists(SEQUENCES, min_size=1, max_size=3), min_size=1, max_size=6)
Drawn = list[list[list[tuple[int, bool]]]]


def write(folder: Path, drawn: Drawn) -> PreparedDataset:
    """Write the same rows as all three splits."""
    rows = [
        PreparedRow(
            stored=StoredRow(source=f"rows.jsonl:{n}", group=f"g{n % 2}", conversation={"kind": "chat", "n": n}),
            sequences=[SequenceView(*map(np.array, zip(*sequence, strict=True))) for sequence in row],
        )
        for n, row in enumerate(drawn)
    ]
    folder.mkdir(exist_ok=True)
    splits: dict[str, Split] = {name: write_split(folder, name, rows) for name in SPLITS}
    manifest = PreparedDataset(
        key="k", format="chatml", format_evidence=(), sources=(), seen=3 * len(drawn), kept=3 * len(drawn),
        splits=splits, mask_proof=MaskProof(num_proven=0, num_disagreeing=0, end_of_turn_learned=True, stop_tokens=()),
        template_digest="t", tokenizer_digest="t", pad_token_id=0, max_length=9,
    )  # fmt: skip
    manifest.write(folder / MANIFEST)
    return manifest


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(ROWS)
def test_what_is_written_is_read(tmp_path: Path, drawn: Drawn) -> None:
    manifest = write(tmp_path / "out", drawn)
    prepared = load_dataset(tmp_path / "out")
    assert prepared.manifest == manifest
    flat = [(number, sequence) for number, row in enumerate(drawn) for sequence in row]
    for name in SPLITS:
        data, split = prepared.split(name), manifest.splits[name]
        assert len(data) == split.num_sequences == len(flat)
        for index, (number, sequence) in enumerate(flat):
            tokens, learned = data.sequence(index)
            assert list(zip(tokens.tolist(), learned.tolist(), strict=True)) == sequence
            assert data.rows[index] == number
        lengths = sorted(len(sequence) for _, sequence in flat)
        assert (split.num_tokens, split.length_max) == (sum(lengths), lengths[-1])
        assert split.length_p50 in lengths
        assert split.num_learned_tokens == sum(learned for _, sequence in flat for _, learned in sequence)
        assert [row.source for row in data.read_rows()] == [f"rows.jsonl:{n}" for n in range(len(drawn))]
        assert split.num_groups == min(2, len(drawn))


def test_arrays_are_mapped_and_not_copied(tmp_path: Path) -> None:
    write(tmp_path / "out", [[[(1, True), (2, False)]]])
    data = load_dataset(tmp_path / "out").split("train")
    assert isinstance(data.tokens, np.memmap)
    assert np.shares_memory(data.sequence(0).tokens, data.tokens)
    assert (data.tokens.dtype, data.learned.dtype, data.offsets.dtype) == (np.int32, np.bool_, np.int64)


def flip_a_token(folder: Path) -> None:
    content = bytearray((folder / "train.tokens.npy").read_bytes())
    content[-1] ^= 1
    (folder / "train.tokens.npy").write_bytes(content)


def cut_the_mask(folder: Path) -> None:
    path = folder / "test.learned.npy"
    path.write_bytes(path.read_bytes()[:-1])


def change_a_row(folder: Path) -> None:
    path = folder / "validation.rows.jsonl"
    path.write_text(path.read_text().replace("g0", "g7"))


DAMAGES: list[Callable[[Path], object]] = [
    flip_a_token,
    cut_the_mask,
    change_a_row,
    lambda folder: (folder / "test.offsets.npy").unlink(),
    lambda folder: (folder / "test.rows.jsonl").unlink(),
    lambda folder: (folder / MANIFEST).unlink(),
    lambda folder: (folder / "test.rows.npy").write_bytes(b""),
    lambda folder: np.save(folder / "train.tokens.npy", np.array([{}], dtype=object), allow_pickle=True),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    write(tmp_path / "out", [[[(1, True), (2, False)]], [[(3, True)]]])
    damage(tmp_path / "out")
    with pytest.raises(FineTuneError) as caught:
        load_dataset(tmp_path / "out")
    assert caught.value.code == "D05"
