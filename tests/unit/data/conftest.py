"""A small tokenizer, and the shared dirty files, for all tests of this folder."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from tests.tiny import write_tokenizer

from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

TRUTH = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth"


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")), chat_template=None)


@pytest.fixture(scope="session")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    packed = TRUTH / "dirty.tar.gz"
    if not packed.is_file():
        pytest.skip("the dirty files are not beside the repository")
    folder = tmp_path_factory.mktemp("dirty")
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    return folder / "dirty"
