"""Likelihoods of alternatives that share their beginning, against one plain pass for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import write_model

from finetune_exe.models.load import load_model
from finetune_exe.models.scoring import Alternatives, encode_alternatives, score_alternatives
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

CASES = [
    ("the quick brown", [" fox jumps", " dog", " lazy dog said the user"]),
    ("said the user to ", ["the assistant", "the fox"]),
    ("the", [" end"]),
    ("", ["the fox", "a dog"]),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("scoring") / "tiny")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(folder, dtype="float32", device="cpu").eval()


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ChatTokenizer:
    return load_tokenizer(folder, chat_template=None)


def groups_of(tokenizer: ChatTokenizer) -> list[Alternatives]:
    return [group for context, texts in CASES
            for group in encode_alternatives([context] * len(texts), texts, tokenizer, max_length=64)]  # fmt: skip


def plain(model: Any, group: Alternatives) -> list[tuple[float, bool]]:
    """Score each branch in a pass of its own."""
    found = []
    for branch, scored in zip(group.branches, group.num_scored, strict=True):
        tokens = torch.tensor([[*group.prefix, *branch]])
        with torch.no_grad():
            logs = torch.log_softmax(model(input_ids=tokens).logits[0].double(), dim=-1)
        places = range(tokens.shape[1] - scored, tokens.shape[1])
        found.append((
            sum(float(logs[place - 1, tokens[0, place]]) for place in places),
            all(int(logs[place - 1].argmax()) == int(tokens[0, place]) for place in places),
        ))  # fmt: skip
    return found


@pytest.mark.parametrize("max_tokens", [1, 40, 4096])
def test_branches_score_as_if_each_stood_alone(model: Any, tokenizer: ChatTokenizer, max_tokens: int) -> None:
    groups = groups_of(tokenizer)
    scores = score_alternatives(model, groups, pad_token_id=tokenizer.pad_token_id, max_tokens=max_tokens)
    for group, found in zip(groups, scores, strict=True):
        for likelihood, (expected, greedy) in zip(found, plain(model, group), strict=True):
            assert likelihood.log_likelihood == pytest.approx(expected, rel=1e-5, abs=1e-5)
            assert likelihood.greedy is greedy


def test_the_seam_is_tokenised_as_one_text(tokenizer: ChatTokenizer) -> None:
    [group] = encode_alternatives(["the "] * 2, ["quick", "fox"], tokenizer, max_length=64)
    for branch, text in zip(group.branches, ["the quick", "the fox"], strict=True):
        assert [*group.prefix, *branch] == tokenizer.encode(text).ids
    assert all(scored == len(branch) for scored, branch in zip(group.num_scored, group.branches, strict=True))


def test_an_empty_context_is_the_first_token(tokenizer: ChatTokenizer) -> None:
    [group] = encode_alternatives([""], ["the fox"], tokenizer, max_length=64)
    assert group.prefix[0] == tokenizer.bos_token_id
    assert group.num_scored == (len(tokenizer.encode("the fox").ids),)


def test_what_is_too_long_loses_its_beginning(tokenizer: ChatTokenizer) -> None:
    [group] = encode_alternatives(["the fox " * 50] * 2, ["the end", "the dog"], tokenizer, max_length=20)
    assert max(len(group.prefix) + len(branch) for branch in group.branches) == 20
    assert all(len(group.prefix) + len(branch) <= 20 for branch in group.branches)


def test_sequences_that_share_no_token_stand_alone(tokenizer: ChatTokenizer) -> None:
    groups = encode_alternatives(["", "x"], ["the fox", "the fox"], tokenizer, max_length=20)
    assert [len(group.branches) for group in groups] == [1, 1]


def test_a_learned_prefix_stands_before_every_row(folder: Path, tokenizer: ChatTokenizer) -> None:
    from peft import PrefixTuningConfig, get_peft_model

    torch.manual_seed(3)
    base = load_model(folder, dtype="float32", device="cpu")
    model = get_peft_model(base, PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)).eval()
    groups = groups_of(tokenizer)
    scores = score_alternatives(model, groups, pad_token_id=tokenizer.pad_token_id)
    bare = score_alternatives(load_model(folder, dtype="float32", device="cpu").eval(), groups, pad_token_id=0)
    for group, found, without in zip(groups, scores, bare, strict=True):
        for likelihood, (expected, _), other in zip(found, plain(model, group), without, strict=True):
            assert likelihood.log_likelihood == pytest.approx(expected, rel=1e-4, abs=1e-4)
            assert likelihood.log_likelihood != pytest.approx(other.log_likelihood, rel=1e-4)
