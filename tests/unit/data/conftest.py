"""A small tokenizer for all tests of this folder."""

from __future__ import annotations

import pytest
from tests.tiny import write_tokenizer

from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("tokenizer")), chat_template=None)
