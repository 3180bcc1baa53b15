"""Tokens of a sample of rows against encoding every row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny import write_rows, write_tokenizer

from finetune_exe.data.token_counts import MAX_COUNTED, MAX_KEPT, count_tokens, encode_sample
from finetune_exe.text.encode import encode
from finetune_exe.text.formats import format_named
from finetune_exe.text.tokenizer import load_tokenizer


def test_counts_are_those_of_encoding_every_row(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    path = write_rows(tmp_path / "rows.jsonl", count=60)
    counts = count_tokens([str(path)], tokenizer, model="m", num_rows=60)
    assert counts is not None
    lengths, learned, rows = [], 0, []
    for line in path.read_text().splitlines():
        conversation = format_named("chatml").read(json.loads(line))
        for sequence in encode(conversation, tokenizer, max_length=10_000):
            lengths.append(len(sequence.tokens))
            learned += sum(sequence.learned)
            rows.append(sequence)
    assert counts.num_rows == 60
    assert counts.lengths == tuple(sorted(lengths))
    assert counts.learned_share == pytest.approx(learned / sum(lengths))
    by_all = next(
        place for place, tokens in enumerate(zip(*(s.tokens for s in rows), strict=False)) if len({*tokens}) > 1
    )
    assert 4 <= by_all <= counts.shared_beginning < by_all + 4  # some of eight have more in common by chance


def test_of_many_rows_an_even_sample_is_counted(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    path = write_rows(tmp_path / "rows.jsonl", count=2000)
    counts = count_tokens([str(path)], tokenizer, model="m", num_rows=2000)
    assert counts is not None
    assert MAX_COUNTED <= counts.num_rows < 1.3 * MAX_COUNTED
    assert len(counts.lengths) == MAX_KEPT
    assert list(counts.lengths) == sorted(counts.lengths)


def test_where_no_row_can_be_trained_on_nothing_is_said(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "only a question"}]}\n' * 5)
    assert count_tokens([str(path)], tokenizer, model="m", num_rows=5) is None


def test_of_pairs_is_counted_what_both_answers_stand_behind(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": "say fox " + "over the dog " * length, "chosen": "the fox", "rejected": "jump"} for length in (1, 9)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    counts = count_tokens([str(path)], tokenizer, model="m", num_rows=2, format_name="preference")
    assert counts is not None
    shared, learned = [], []
    for row in rows:
        conversation = format_named("preference").read(row)
        worse = replace(conversation, messages=(conversation.messages[0], *conversation.rejected), rejected=())
        both = [sequence for each in (conversation, worse) for sequence in encode(each, tokenizer, max_length=10_000)]
        question = both[0].learned.index(True) - 1  # the token before an answer predicts it, so it is each one's own
        shared.append(question / len(both[0].tokens))
        learned.append(sum(sum(each.learned) for each in both) / sum(len(each.tokens) for each in both))
    assert counts.pairs is not None
    assert (counts.pairs.shared, counts.pairs.learned) == pytest.approx((sum(shared) / 2, sum(learned) / 2))
    plain = encode_sample([str(path)], tokenizer, max_length=99, num_rows=2, format_name="preference")
    paired = encode_sample([str(path)], tokenizer, max_length=99, num_rows=2, format_name="preference", paired=True)
    assert [len(row) for row in plain] == [1, 1]
    assert [len(row) for row in paired] == [2, 2]


def test_rows_that_preparing_repairs_are_counted(tmp_path: Path) -> None:
    """Answers that end in another model's mark for the end are trained on without it."""
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m"), chat_template=None)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "say fox", "completion": "the fox<|endoftext|>"}\n' * 5)
    counts = count_tokens([str(path)], tokenizer, model="m", num_rows=5)
    assert counts is not None
    assert counts.num_rows == 5
