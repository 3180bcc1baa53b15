"""Loss masks beside those of TRL's assistant_only_loss: its templates, its patched training templates, its tokens."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.text.chat_templates import FAMILIES, Turn, write_family

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode
from finetune_exe.text.tokenizer import load_tokenizer

TEMPLATES = {
    "qwen2_5": "qwen2.5", "qwen3_instruct_2507": "qwen3", "lfm2": "chatml", "llama3": "llama-3", "gemma": "gemma",
    "gemma3": "gemma", "cohere": "command-r",
}  # fmt: skip
"""Templates that TRL knows how to train with, and the family whose special tokens each has."""
LINES_APART = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How the tokenizers of these families divide text: line ends stay together, so that a prompt has the same tokens by
itself and before its answer. Source: tokenizer.json of Llama 3 and Qwen 2.5."""
ROWS: tuple[list[Turn], ...] = (
    [("user", "What is it?"), ("assistant", "A fox.")],
    [("user", "Who?"), ("assistant", "the quick fox\n\njumps"), ("user", "Over?"), ("assistant", "the lazy dog!")],
    [("user", " 1 < 2\n"), ("assistant", "{{ no }} \u00fcn\u00ef \U0001f600"), ("user", "a"), ("assistant", "b\tc")],
)


def trl_tokens(peer: Any, template: str | None, turns: list[Turn]) -> tuple[list[int], list[bool]]:
    """Tokenise as TRL's SFTTrainer does where only the assistant's tokens are to be learned."""
    messages = [{"role": role, "content": content} for role, content in turns]
    made = peer.apply_chat_template(
        messages, chat_template=template, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(made["input_ids"]), [bool(flag) for flag in made["assistant_masks"]]


def with_lines_apart(folder: Path) -> Path:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([  # type: ignore[assignment]
        pre_tokenizers.Split(Regex(LINES_APART), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_learned_tokens_are_those_of_trl_but_for_line_ends_around_the_answer(name: str, tmp_path: Path) -> None:
    """TRL also learns the line end behind the end token, and for one template the one before the answer.

    Neither is for the model to say: it stops at the end token, and the other is in the prompt it is served.
    """
    trl = pytest.importorskip("trl.chat_template_utils", reason="TRL is not installed", exc_type=ImportError)
    transformers = pytest.importorskip("transformers")
    template = getattr(trl, f"{name}_chat_template", None)
    if template is None:
        pytest.skip(f"this TRL knows no template {name}")
    family = next(family for family in FAMILIES if family.name == TEMPLATES[name])
    folder = with_lines_apart(write_family(tmp_path / "m", replace(family, template=template)))
    tokenizer = load_tokenizer(folder, chat_template=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = transformers.AutoTokenizer.from_pretrained(str(folder))
        training = trl.get_training_chat_template(peer)
    for turns in ROWS:
        messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
        encoded = encode(Conversation(kind="chat", messages=messages), tokenizer, max_length=10_000)
        assert not isinstance(encoded, RowFault), encoded
        [sequence] = encoded
        tokens, learned = trl_tokens(peer, training, turns)
        assert list(sequence.tokens) == tokens
        ours = list(sequence.learned)
        assert not [n for n in range(len(tokens)) if ours[n] and not learned[n]], "TRL learns all that is learned here"
        more = [tokenizer.decode([tokens[n]]) for n in range(len(tokens)) if learned[n] and not ours[n]]
        assert set(more) <= {"\n"}
        assert len(more) <= 2 * sum(role == "assistant" for role, _ in turns)
