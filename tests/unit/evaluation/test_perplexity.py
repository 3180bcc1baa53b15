"""Perplexity of documents against lm-evaluation-harness's arithmetic and transformers' loss."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import write_model

from finetune_exe.domain.evaluation import WindowPolicy
from finetune_exe.evaluation.perplexity import measure_documents, perplexity_of, windows
from finetune_exe.models.load import load_model
from finetune_exe.text.tokenizer import load_tokenizer

TEXTS = [
    "the quick brown fox jumps over the lazy dog " * 9,
    "said the user\n\nthe  end",
    "a",
    "caf\u00e9 the assistant " * 4,
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("perplexity") / "tiny")


def harness_windows(tokens: list[int], prefix: int, length: int) -> Iterator[tuple[list[int], list[int]]]:
    """The disjoint rolling windows of lm-evaluation-harness with one token of context, in our words."""
    first = min(length, len(tokens))
    yield [prefix, *tokens[: first - 1]], tokens[:first]
    done = first
    while done < len(tokens):
        count = min(len(tokens) - done, length)
        end = done + count
        yield tokens[end - length - 1 : end - 1], tokens[end - count : end]
        done = end


def harness_figures(folder: Path, texts: list[str], length: int) -> dict[str, float]:
    model = load_model(folder, dtype="float32", device="cpu").eval()
    tokenizer = load_tokenizer(folder, chat_template=None)
    total = 0.0
    assert tokenizer.bos_token_id is not None
    for text in texts:
        for given_tokens, wanted in harness_windows(tokenizer.encode(text).ids, tokenizer.bos_token_id, length):
            with torch.no_grad():
                logs = torch.log_softmax(model(input_ids=torch.tensor([given_tokens])).logits[0].double(), dim=-1)
            total += sum(float(logs[len(given_tokens) - len(wanted) + k, t]) for k, t in enumerate(wanted))
    words = sum(len(re.split(r"\s+", text)) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    return {"word_perplexity": math.exp(-total / words), "bits_per_byte": -total / size / math.log(2)}


@pytest.mark.parametrize("length", [16, 200])
def test_figures_are_those_of_the_harness(folder: Path, length: int) -> None:
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    policy = WindowPolicy(context=length, stride=length, begins_with_bos=True)
    found = perplexity_of(measure_documents(model, TEXTS, tokenizer, policy), policy)
    expected = harness_figures(folder, TEXTS, length)
    assert found is not None
    assert found.word_perplexity == pytest.approx(expected["word_perplexity"], rel=1e-4)
    assert found.bits_per_byte == pytest.approx(expected["bits_per_byte"], rel=1e-4)


def test_the_harness_itself_agrees_where_it_is_installed(folder: Path) -> None:
    huggingface: Any = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed here")
    from types import SimpleNamespace

    theirs = huggingface.HFLM(pretrained=str(folder), max_length=16, batch_size=1, device="cpu", dtype="float32")
    sums = theirs.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in TEXTS], disable_tqdm=True)
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    policy = WindowPolicy(context=16, stride=16, begins_with_bos=True)
    ours = measure_documents(model, TEXTS, tokenizer, policy)
    assert [-loss.nll for loss in ours] == pytest.approx([float(value) for value in sums], rel=1e-4)


def test_one_window_is_transformers_loss(folder: Path) -> None:
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    policy = WindowPolicy(context=200, stride=100, begins_with_bos=False)
    [found] = measure_documents(model, TEXTS[:1], tokenizer, policy)
    ids = torch.tensor([tokenizer.encode(TEXTS[0]).ids])
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert found.num_tokens == ids.shape[1] - 1
    assert found.nll / found.num_tokens == pytest.approx(loss, rel=1e-5)


def test_batches_and_padding_change_nothing(folder: Path) -> None:
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    policy = WindowPolicy(context=12, stride=5, begins_with_bos=True)
    one, many = (measure_documents(model, TEXTS, tokenizer, policy, max_tokens=size) for size in (1, 10_000))
    assert [loss.nll for loss in one] == pytest.approx([loss.nll for loss in many], rel=1e-5)
    assert [loss.num_tokens for loss in one] == [loss.num_tokens for loss in many]


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_every_token_is_predicted_once_behind_a_full_window(count: int, context: int, stride: int, bos: bool) -> None:
    stride = min(stride, context)
    tokens = list(range(1, count + 1))
    predicted: list[int] = []
    for number, (sequence, scored) in enumerate(
        windows(tokens, context=context, stride=stride, start=0 if bos else None)
    ):
        assert 2 <= len(sequence) <= context + 1
        predicted += sequence[len(sequence) - scored :]
        if number:
            assert len(sequence) == context + 1
    assert predicted == (tokens if bos else tokens[1:])


def test_nothing_predicted_is_no_perplexity() -> None:
    assert perplexity_of([], WindowPolicy(context=8, stride=8, begins_with_bos=True)) is None
