"""Files that would run code or fill the memory are refused before they are opened."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save, save_file
from tests.tiny import write_model

from finetune_exe.errors import BAD_DATA, FineTuneError
from finetune_exe.models.headers import check_header, stored_tensors
from finetune_exe.models.locate import model_folder


class Canary:
    """Leaves a file where its pickle is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", ".metadata"])
@pytest.mark.parametrize("as_file", [False, True], ids=["in a folder", "by its name"])
def test_a_pickle_is_refused_and_never_opened(name: str, as_file: bool, tmp_path: Path) -> None:
    folder, canary = tmp_path / "model", tmp_path / "canary"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(FineTuneError, match=r"error\[FT-M0[13]\]") as refused:
        model_folder(str(folder / name if as_file else folder))
    assert not canary.exists()
    if not as_file:
        assert name in refused.value.why
    pickle.loads((folder / name).read_bytes())  # noqa: S301 - the canary's own: it would have sung
    assert canary.exists()


def test_a_pickle_beside_sound_weights_is_left_alone(tmp_path: Path) -> None:
    from finetune_exe.models.load import load_model

    folder, canary = write_model(tmp_path / "model"), tmp_path / "canary"
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.pt"):
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
    load_model(model_folder(str(folder)), dtype="float32", device="cpu")
    assert not canary.exists()


def written(path: Path, header: object, data: bytes = b"\0" * 16, *, length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content) if length is None else length) + content + data)
    return path


def tensor(start: int, end: int, *, dtype: str = "F32", shape: tuple[int, ...] = (2,)) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


TWICE = b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}'
HOSTILE = {
    "over each other": ({"a": tensor(0, 8), "b": tensor(4, 12)}, "begins at byte 4"),
    "with a gap": ({"a": tensor(0, 4, shape=(1,)), "b": tensor(8, 16)}, "begins at byte 8"),
    "past the end": ({"a": tensor(0, 8), "b": tensor(8, 24, shape=(4,))}, "end at byte 24 of 16"),
    "short of the end": ({"a": tensor(0, 8)}, "end at byte 8 of 16"),
    "another shape": ({"a": tensor(0, 16, shape=(1000, 1000))}, "which its shape does not"),
    "backwards": ({"a": tensor(16, 0, shape=())}, "which its shape does not"),
    "negative": ({"a": tensor(-16, 0)}, "no counts"),
    "twice": (TWICE, "'a' comes twice"),
    "a list": ([1, 2], "no JSON object"),
    "no JSON": (b"\xff\xfe{{{", "codec can't decode"),
    "nested": (b"[" * 100_000, "recursion"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [4]}}, "lacks"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_headers_that_lie_are_refused_with_the_lie(name: str, tmp_path: Path) -> None:
    header, why = HOSTILE[name]
    with pytest.raises(FineTuneError, match=r"error\[FT-M12\]") as refused:
        check_header(written(tmp_path / "model.safetensors", header))
    assert why in refused.value.why
    assert refused.value.exit_status == BAD_DATA


@pytest.mark.parametrize("length", [8 << 30, (1 << 64) - 1, 10_000])
def test_a_header_of_gigabytes_takes_no_memory(length: int, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FineTuneError, match=r"error\[FT-M12\]"):
        check_header(written(tmp_path / "model.safetensors", {}, length=length))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10


def test_a_sparse_file_as_long_as_its_header_claims_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "model.safetensors", {}, length=8 << 30)
    os.truncate(path, (8 << 30) + 100)
    with pytest.raises(FineTuneError, match=r"error\[FT-M12\]"):
        check_header(path)


@pytest.mark.parametrize("content", [b"", b"\0\0\0"])
def test_a_file_without_a_header_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(FineTuneError, match=r"error\[FT-M12\]"):
        check_header(path)


@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5),
    dtype=st.sampled_from(["f4", "i8", "u1", "f2"]),
)
def test_what_the_library_writes_is_sound(
    shapes: list[list[int]], dtype: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("sound") / "model.safetensors"
    save_file({f"t{number}": np.zeros(shape, dtype) for number, shape in enumerate(shapes)}, path)
    check_header(path)


WHOLE = save({"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 3), np.float32)})


@given(cut=st.integers(0, len(WHOLE) - 1))
def test_every_shorter_file_is_seen_as_safetensors_itself_sees_it(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("cut") / "x.safetensors"
    file.write_bytes(WHOLE[:cut])
    with pytest.raises(FineTuneError, match=r"error\[FT-M12\]"):
        check_header(file)
    with pytest.raises(SafetensorError), safe_open(file, framework="numpy"):
        pass


def test_tensors_stand_where_they_are_said_to(tmp_path: Path) -> None:
    values = {"a": np.arange(6, dtype=np.float32), "b": np.ones((2, 3), np.float16)}
    path = tmp_path / "x.safetensors"
    save_file(values, path, metadata={"format": "pt"})
    content = path.read_bytes()
    assert {t.name: content[t.first : t.last] for t in stored_tensors(path)} == {
        n: v.tobytes() for n, v in values.items()
    }
    assert {t.name: (t.dtype, t.shape) for t in stored_tensors(path)} == {"a": ("F32", (6,)), "b": ("F16", (2, 3))}


def test_a_model_with_such_a_file_is_refused_before_pytorch_is_loaded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(write_model(tmp_path / "tiny"), folder)
    written(folder / "model.safetensors", {"a": tensor(0, 8), "b": tensor(4, 12)})
    code = (
        "import sys; from finetune_exe.models.locate import model_folder\n"
        "try: model_folder(sys.argv[1])\n"
        "except Exception as fault: print(fault.code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["M12", "False"]
