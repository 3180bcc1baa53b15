"""Tokenizers are read from folders as people have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import TEMPLATES, write_tokenizer

from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import load_tokenizer


def test_a_folder_without_tokenizer_is_named_with_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FineTuneError, match=r"error\[FT-M02\]") as caught:
        load_tokenizer(tmp_path, chat_template=None)
    assert "config.json" in caught.value.where


def test_template_file_wins_over_configuration_and_the_given_one_over_both(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "m")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": "inside"}))
    assert (
        load_tokenizer(folder, chat_template=None).template_digest
        == load_tokenizer(write_tokenizer(tmp_path / "n"), chat_template=None).template_digest
    )
    (folder / "chat_template.jinja").unlink()
    inside = load_tokenizer(folder, chat_template=None).template
    assert inside is not None
    assert inside.source == "inside"
    given = tmp_path / "given.jinja"
    given.write_text(TEMPLATES["thinks"])
    replaced = load_tokenizer(folder, chat_template=str(given)).template
    assert replaced is not None
    assert replaced.source == TEMPLATES["thinks"]


def test_a_template_file_that_is_not_there_gets_a_suggestion(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "m")
    (tmp_path / "mine.jinja").write_text("x")
    with pytest.raises(FineTuneError, match=r"there is mine\.jinja"):
        load_tokenizer(folder, chat_template=str(tmp_path / "mime.jinja"))


@pytest.mark.parametrize("pad", ["<|im_end|>", "<|endoftext|>"])
def test_padding_never_is_a_stop_token(tmp_path: Path, pad: str) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m", pad=pad), chat_template=None)
    assert tokenizer.pad_token_id not in tokenizer.stop_token_ids


def test_generated_ids_become_an_answer_up_to_the_stop(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    ids = tokenizer.encode(" the fox<|im_end|>and more").ids
    assert tokenizer.decode_answer(ids) == "the fox"
    assert tokenizer.decode_answer(tokenizer.encode("<s>the fox").ids) == "the fox"
