"""Beginnings tokenised once, against whole texts under tokenizers of every kind."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers

from finetune_exe.text.beginnings import MOST_KNOWN, Beginnings
from finetune_exe.text.boundaries import SpecialTexts

SYSTEM = "<|start|>system\nYou are kind, and you answer in one short line.<|end|>\n"
KINDS = {
    "bytes": (None, pre_tokenizers.ByteLevel(add_prefix_space=False)),
    "bytes with a space in front": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "pieces, the first with a mark": (None, pre_tokenizers.Metaspace(prepend_scheme="first")),
    "pieces, all with a mark": (None, pre_tokenizers.Metaspace(prepend_scheme="always")),
    "a mark put before by a normalizer": (
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        None,
    ),
}
TOKENS = {"plain": {}, "takes space before": {"lstrip": True}, "takes space behind": {"rstrip": True}}


def make(kind: str, **behaviour: bool) -> tuple[Tokenizer, Beginnings]:
    """Train a small tokenizer with two special tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = KINDS[kind]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator([SYSTEM, "the quick brown fox jumps over the lazy dog\n\n, . ?"] * 3, trainer)
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, **behaviour) for token in ("<|start|>", "<|end|>")]
    )
    numbers = {tokenizer.token_to_id(token): token for token in ("<|start|>", "<|end|>")}
    return tokenizer, Beginnings(tokenizer, SpecialTexts(tokenizer, numbers))


def whole(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


@pytest.mark.parametrize("behaviour", TOKENS)
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_their_characters_are_those_of_the_whole_text(kind: str, behaviour: str) -> None:
    tokenizer, beginnings = make(kind, **TOKENS[behaviour])
    texts = [f"{SYSTEM}<|start|>user\nline {i} of the dog<|end|>\n<|start|> fox {i}" for i in range(6)]
    made = beginnings.encode_batch(texts)
    assert [tokens.ids for tokens in made] == whole(tokenizer, texts)
    for text, tokens in zip(texts, made, strict=True):
        known = tokenizer.encode(text, add_special_tokens=False)
        for character in range(len(SYSTEM) + len("<|start|>"), len(text)):
            index = known.char_to_token(character)
            if index is not None:
                assert tokens.token_at(character) == index
        assert [known.offsets[i] for i in range(len(known)) if known.offsets[i][0] > len(SYSTEM) + 9] == [
            span for span in tokens.offsets if span[0] > len(SYSTEM) + 9
        ]


@given(
    order=st.lists(st.tuples(st.integers(0, 3), st.text(alphabet="ab \n<|>", max_size=12)), min_size=1, max_size=12),
    size=st.integers(1, 5),
)
def test_texts_in_any_order_and_batch_have_the_tokens_of_the_whole(order: list[tuple[int, str]], size: int) -> None:
    tokenizer, beginnings = MADE
    heads = [
        "",
        SYSTEM,
        SYSTEM.replace("kind", "brief"),
        f"{SYSTEM}<|start|>user\nthe same question of everybody<|end|>\n",
    ]
    texts = [f"{heads[head]}<|start|>{rest}<|end|>" for head, rest in order]
    made = [tokens.ids for i in range(0, len(texts), size) for tokens in beginnings.encode_batch(texts[i : i + size])]
    assert made == whole(tokenizer, texts)


MADE = make("bytes")


def test_a_beginning_is_tokenised_once() -> None:
    tokenizer, beginnings = make("bytes")
    asked: list[str] = []

    class Watched:
        def encode_batch(self, texts: list[str], **options: bool) -> object:
            asked.extend(texts)
            return tokenizer.encode_batch(texts, **options)

        def encode(self, text: str, **options: bool) -> object:
            return tokenizer.encode(text, **options)

    beginnings._tokenizer = Watched()  # type: ignore[assignment]
    beginnings.encode_batch([f"{SYSTEM}<|start|>user\n{i}" for i in range(9)])
    assert sum(SYSTEM in text for text in asked) == 1
    assert asked[-1] == "<|start|>user\n8"


def test_the_beginnings_kept_are_few() -> None:
    _, beginnings = make("bytes")
    for i in range(3 * MOST_KNOWN):
        beginnings.encode_batch([f"{i}{SYSTEM}<|start|>user\n{j}" for j in range(2)])
    assert len(beginnings._known) == MOST_KNOWN


def test_a_tokenizer_that_contradicts_itself_gets_whole_texts() -> None:
    tokenizer, beginnings = make("bytes")
    odd = tokenizer.encode("odd", add_special_tokens=False)

    class Fickle:
        def encode_batch(self, texts: list[str], **options: bool) -> object:
            return tokenizer.encode_batch(texts, **options)

        def encode(self, text: str, **options: bool) -> object:
            return odd if text.startswith("<|start|>user") else tokenizer.encode(text, **options)

    beginnings._tokenizer = Fickle()  # type: ignore[assignment]
    texts = [f"{SYSTEM}<|start|>user\n{i}" for i in range(5)]
    assert [tokens.ids for tokens in beginnings.encode_batch(texts)] == whole(tokenizer, texts)
    assert list(beginnings._known.values()) == [None]
