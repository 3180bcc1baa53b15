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


def without(folder: Path, *names: str) -> Path:
    config = folder / "tokenizer_config.json"
    kept = {name: value for name, value in json.loads(config.read_text()).items() if name not in names}
    config.write_text(json.dumps(kept))
    return folder


@pytest.mark.parametrize(
    ("pad", "why"),
    [(None, "names no padding token"), ("<|im_end|>", "ends answers"), ("<|nowhere|>", "does not know <|nowhere|>")],
)
def test_padding_that_is_not_the_tokenizer_s_own_is_said_with_the_reason(
    pad: str | None, why: str, tmp_path: Path
) -> None:
    folder = write_tokenizer(tmp_path / "m", pad=pad or "x")
    tokenizer = load_tokenizer(folder if pad else without(folder, "pad_token"), chat_template=None)
    assert tokenizer.tokenizer.id_to_token(tokenizer.pad_token_id) == "<|endoftext|>"
    assert tokenizer.pad_reason is not None
    assert tokenizer.pad_reason.startswith("<|endoftext|> pads shorter rows: ")
    assert why in tokenizer.pad_reason
    own = load_tokenizer(write_tokenizer(tmp_path / "own", pad="<|endoftext|>"), chat_template=None)
    assert own.pad_reason is None


@pytest.mark.parametrize("eos", [None, "<|nowhere|>"])
def test_a_tokenizer_without_an_end_is_refused(eos: str | None, tmp_path: Path) -> None:
    folder = without(write_tokenizer(tmp_path / "m"), "eos_token")
    if eos:
        config = folder / "tokenizer_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "eos_token": eos}))
    with pytest.raises(FineTuneError, match=r"error\[FT-M02\]") as refused:
        load_tokenizer(folder, chat_template=None)
    assert "eos_token" in refused.value.why


def test_generated_ids_become_an_answer_up_to_the_stop(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    ids = tokenizer.encode(" the fox<|im_end|>and more").ids
    assert tokenizer.decode_answer(ids) == "the fox"
    assert tokenizer.decode_answer(tokenizer.encode("<s>the fox").ids) == "the fox"
