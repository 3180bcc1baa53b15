"""Guesses from what people say: near by the words in common, weak, and none for what sounds like nothing known."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest

from finetune_exe.diagnosis.diagnose import diagnose
from finetune_exe.diagnosis.sayings import likest
from finetune_exe.diagnosis.table import causes
from finetune_exe.domain.diagnosis import Finding

SAYINGS = [(cause.label, saying) for cause in causes() for saying in cause.sayings]


def first(text: str) -> Finding:
    return diagnose([Path("-")], stdin=io.BytesIO(text.encode())).findings[0]


def test_no_saying_stands_twice() -> None:
    assert [saying for saying, times in Counter(saying for _, saying in SAYINGS).items() if times > 1] == []


@pytest.mark.parametrize("text", ["I like trains", "hello", "", "The cat sat on the mat", "zzz qqq xxx"])
def test_what_shares_hardly_a_word_sounds_like_nothing(text: str) -> None:
    assert likest(text) == []


def test_a_saying_is_nearest_to_itself() -> None:
    long_enough = [(label, saying) for label, saying in SAYINGS if len(saying) > 30][::9]
    assert long_enough
    for label, saying in long_enough:
        found = next(like for like in likest(saying) if like.label == label)
        assert found.saying == saying
        assert found.nearness == pytest.approx(1.0)


def test_shares_are_of_one_whole_and_ranked() -> None:
    likes = likest("the loss hovers and the answers of the tuned model are no better than before training")
    assert len(likes) > 1
    assert sum(like.share for like in likes) == pytest.approx(1.0)
    assert [like.share for like in likes] == sorted((like.share for like in likes), reverse=True)


def test_a_guess_is_weak_and_quotes_what_it_sounds_like() -> None:
    found = first("a colleague says that rollouts eat most of each step")
    assert found.label == "slow_training"
    assert found.confidence < 0.5
    assert any("sounds like" in evidence.text for evidence in found.evidence)


@pytest.mark.parametrize(
    "text",
    ["Which optimizer saves the most memory?", "支持断点续训吗？", "How do I merge the adapter into the base model?"],
)
def test_a_plain_question_is_no_complaint(text: str) -> None:
    assert first(text).confidence < 0.5


def test_a_question_that_tells_of_trouble_is_one() -> None:
    assert first("Why does the model repeat the same sentence over and over?").confidence > 0.5
    assert first("How can I fix it that all ranks hang when the model is saved on 4 GPUs?").label == "nccl_timeout"


def test_trouble_that_went_away_is_none() -> None:
    assert first("After switching to bf16 the NaNs disappeared and training is stable.").confidence < 0.5
