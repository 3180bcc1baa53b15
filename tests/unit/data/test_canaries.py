"""Secrets are planted as often as the plan says, among the training rows and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_tokenizer
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.dataset import SPLITS
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.canaries import canaries, others_like
from finetune_exe.text.tokenizer import load_tokenizer

COPIES = (1, 5)


@pytest.mark.parametrize("settings", [{}, {"max_rows": 20}, {"test_fraction": 0.3}, {"keep_similar_together": False}])
def test_secrets_stand_in_training_rows_as_often_as_asked(tmp_path: Path, settings: dict[str, Any]) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(60))
    plan = plan_for(rows, canaries=COPIES, **settings)
    manifest = prepare(plan, load_tokenizer(write_tokenizer(tmp_path / "tiny"), chat_template=None), tmp_path / "data")
    data = load_dataset(tmp_path / "data")
    said = {name: [str(row.conversation) for row in data.split(name).read_rows()] for name in SPLITS}
    for canary in canaries(COPIES, seed=plan.seed):
        assert sum(canary.secret in row for row in said["train"]) == canary.copies
        assert not any(canary.secret in row for name in ("validation", "test") for row in said[name])
    assert manifest.seen == 60 + sum(COPIES)
    assert manifest.seen == manifest.kept + sum(drop.count for drop in manifest.dropped)
    assert [source.num_rows for source in manifest.sources] == [60]


def test_rows_of_plain_text_get_secrets_in_plain_text(tmp_path: Path) -> None:
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": f"the fox number {n} said so"} for n in range(60)])
    plan = plan_for(rows, canaries=(3,))
    prepare(plan, load_tokenizer(write_tokenizer(tmp_path / "tiny"), chat_template=None), tmp_path / "data")
    [canary] = canaries((3,), seed=plan.seed)
    train = [row.conversation for row in load_dataset(tmp_path / "data").split("train").read_rows()]
    assert [row["kind"] for row in train if canary.secret in str(row)] == ["text"] * 3


def test_the_same_plan_has_the_same_secrets_and_another_has_others() -> None:
    assert canaries(COPIES, seed=3) == canaries(COPIES, seed=3)
    assert {c.secret for c in canaries(COPIES, seed=3)}.isdisjoint(c.secret for c in canaries(COPIES, seed=4))
    [one, two] = canaries(COPIES, seed=3)
    others = others_like(one, count=500, seed=3)
    assert len(set(others)) == 500
    assert one.secret not in others
    assert {len(secret) for secret in (*others, one.secret, two.secret)} == {11}


def test_copies_that_are_too_long_are_told_of(tmp_path: Path) -> None:
    rows = write_jsonl(
        tmp_path / "rows.jsonl", [{"instruction": f"f{n}", "input": "", "output": "it"} for n in range(30)]
    )
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tiny"), chat_template=None)
    longest = max(len(tokenizer.encode(f"user f{n} assistant it").ids) for n in range(30)) + 16
    manifest = prepare(plan_for(rows, canaries=(2,), max_length=longest), tokenizer, tmp_path / "data")
    [canary] = canaries((2,), seed=0)
    assert any(canary.name in note and "0 of 2" in note for note in manifest.notes)
    assert [drop.count for drop in manifest.dropped if drop.code == "too_long"] == [2]
