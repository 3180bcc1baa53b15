"""Cards of forgetting, collapse and memory: closed forms, planted faults, and sound answers left alone."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import write_model

from finetune_exe.evaluation.collapse import collapse_card, compression_ratio, distinct_runs, loops_at_end, self_bleu
from finetune_exe.evaluation.forgetting import forgetting_card, hold_against, predict
from finetune_exe.evaluation.memorisation import (
    CANDIDATES,
    canary_cards,
    exposure,
    extraction_flags,
    memorisation_card,
    secret_ranks,
)
from finetune_exe.evaluation.personal import personal_spans, written_out
from finetune_exe.evaluation.readiness import memory
from finetune_exe.models.load import load_model
from finetune_exe.prepared.store import StoredRow
from finetune_exe.text.canaries import PlantedCanary, canaries
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import load_tokenizer

WORDS = [f"word{i}" for i in range(400)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("cards") / "tiny")


def tiny(folder: Path, *, noise: float = 0.0) -> Any:
    model = load_model(folder, dtype="float32", device="cpu").eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn(weight.shape, generator=generator))
    return model


SEQUENCES = [tuple(range(5, 40)), tuple(range(60, 90))]


def test_divergence_is_the_sum_over_the_whole_vocabulary(folder: Path) -> None:
    """With every token kept it is exact; with few kept it is a lower bound, close to it."""
    base, other = tiny(folder), tiny(folder, noise=0.05)
    exact = []
    for tokens in SEQUENCES:
        with torch.no_grad():
            p, q = (
                torch.log_softmax(m(input_ids=torch.tensor([tokens])).logits[0].double(), -1) for m in (base, other)
            )
        exact.append((p.exp() * (p - q)).sum(-1).numpy())
    true = float(np.concatenate(exact).mean())
    whole = hold_against(other, SEQUENCES, predict(base, SEQUENCES, kept=400))
    assert float(whole.divergence_N.mean()) == pytest.approx(true, rel=1e-3)
    few = float(hold_against(other, SEQUENCES, predict(base, SEQUENCES, kept=256)).divergence_N.mean())
    assert 0.85 * true <= few <= true * 1.001
    assert np.allclose(whole.cross_entropy_N - whole.entropy_N, whole.divergence_N, atol=1e-4)


def test_a_model_has_not_moved_from_itself(folder: Path) -> None:
    base = tiny(folder)
    same = hold_against(base, SEQUENCES, predict(base, SEQUENCES))
    card = forgetting_card(same, same)
    assert card.divergence == pytest.approx(0, abs=1e-5)
    assert card.top1_agreement == 1
    assert card.generic_cross_entropy == pytest.approx(card.generic_entropy, abs=1e-5)


def test_the_farther_a_model_moved_the_larger_the_divergence(folder: Path) -> None:
    base = tiny(folder)
    kept = predict(base, SEQUENCES)
    moved = [
        float(hold_against(tiny(folder, noise=noise), SEQUENCES, kept).divergence_N.mean())
        for noise in (0.005, 0.02, 0.1)
    ]
    assert moved[0] < moved[1] < moved[2]


def test_generic_texts_are_of_several_kinds() -> None:
    assert len(GENERIC_TEXTS) >= 8
    assert sum(len(text.split()) for text in GENERIC_TEXTS) > 300


def sound(rng: random.Random, count: int = 40, length: int = 25) -> list[str]:
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(length // 2, length))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(8))
def test_sound_answers_are_not_called_collapsed(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - test data
    references = sound(rng)
    varied = [" ".join(rng.choice([w, rng.choice(WORDS)]) for w in text.split()) for text in references]
    card = collapse_card(sound(rng), varied, references)
    assert card is not None
    assert not card.collapsed, card.reasons
    labels = [rng.choice(["card arrival", "cash", "top up"]) for _ in range(40)]
    card = collapse_card(labels, [rng.choice(["card arrival", "cash", "top up"]) for _ in range(40)], labels)
    assert card is not None
    assert not card.collapsed, card.reasons


PLANTED = {
    "one answer for all": lambda texts: [texts[0]] * len(texts),
    "two answers for all": lambda texts: [texts[i % 2] for i in range(len(texts))],
    "loops": lambda texts: [t if i % 4 else " ".join(t.split()[:5]) + " and so on" * 12 for i, t in enumerate(texts)],
    "one word over and over": lambda texts: [" ".join(["word1"] * len(t.split())) for t in texts],
    "the same beginning": lambda texts: ["I am happy to help you " + t for t in texts],
    "nothing but blanks": lambda texts: ["... " * 20 for _ in texts],
    "the same ending": lambda texts: [t + " I hope that this helps you" for t in texts],
    "nothing at all": lambda texts: ["" for _ in texts],
    "four short answers": lambda texts: [" ".join(texts[i % 4].split()[:2]) for i in range(len(texts))],
    "one word changed": lambda texts: [f"the answer here is surely {t.split()[0]} as I said" for t in texts],
}


@pytest.mark.parametrize("name", list(PLANTED))
def test_planted_collapses_are_found(name: str) -> None:
    rng = random.Random(3)  # noqa: S311 - test data
    references = sound(rng)
    card = collapse_card(references, PLANTED[name](sound(rng)), references)
    assert card is not None
    assert card.collapsed
    assert card.reasons


def test_measures_of_variety_against_closed_forms() -> None:
    assert distinct_runs(["a b c d", "a b c d"]) == 0.5
    assert distinct_runs(["a"]) == 1
    assert self_bleu(["the same words again now"] * 5) == pytest.approx(100)
    assert self_bleu([" ".join(f"w{i}x{j}" for j in range(6)) for i in range(5)]) < 5
    assert compression_ratio(["abc" * 500]) > 20
    assert compression_ratio([]) == 1
    assert collapse_card(["a"] * 3, ["a"] * 3, ["a"] * 3) is None


@pytest.mark.parametrize(
    ("text", "loops"),
    [("so it is so it is so it is so it is", True), ("a b c d e f", False), ("wait: " + "ha" * 12, True),
     ("total | --- | --- | --- | ---\n" + "-" * 60, False), ("no no no", False), ("", False)],
)  # fmt: skip
def test_loops_at_the_end_are_seen(text: str, loops: bool) -> None:
    assert loops_at_end(text) is loops


def learned_by_heart(folder: Path, row: tuple[int, ...]) -> Any:
    """Train the tiny model on one row until it says it by heart."""
    model = load_model(folder, dtype="float32", device="cpu")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.tensor([row])
    for _ in range(60):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_a_row_learned_by_heart_comes_back_and_no_other(folder: Path) -> None:
    rng = np.random.default_rng(2)
    rows = [tuple(int(t) for t in rng.integers(10, 390, 40)) for _ in range(4)]
    model = learned_by_heart(folder, rows[0])
    assert extraction_flags(model, rows, [40] * 4, pad_token_id=0) == [True, False, False, False]
    with torch.no_grad():
        out = model.generate(
            torch.tensor([rows[0][:20]]), max_new_tokens=20, do_sample=False, pad_token_id=0, eos_token_id=-1
        )
    assert tuple(out[0].tolist()) == rows[0]


def test_a_planted_secret_has_the_first_rank(folder: Path) -> None:
    rng = np.random.default_rng(5)
    secrets = [tuple(int(t) for t in rng.integers(10, 390, 6)) for _ in range(64)]
    prefix = (7, 8, 9)
    told, untold = learned_by_heart(folder, (*prefix, *secrets[11])), tiny(folder)
    found = exposure(told, prefix, secrets, planted=11, name="canary", pad_token_id=0)
    assert (found.rank, found.exposure_bits) == (1, 6.0)
    ranks = [exposure(untold, prefix, secrets, planted=k, name="c", pad_token_id=0).rank for k in range(0, 64, 8)]
    assert len(set(ranks)) == len(ranks)
    assert 15 < np.mean(ranks) < 50


@pytest.mark.parametrize(
    ("some", "others", "p"),
    [((3, 1), (1, 3), 17 / 70), ((11, 3), (1, 9), 0.001379728), ((12, 52), (2, 11), None), ((0, 5), (2, 1), 1.0)],
)
def test_extraction_is_weighed_against_rows_held_out(
    some: tuple[int, int], others: tuple[int, int], p: float | None
) -> None:
    """Fisher's tea tasting (1935) and the example of the test's page in Wikipedia; the last two show nothing."""
    train, held_out = ([True] * yes + [False] * no for yes, no in (some, others))
    card = memorisation_card(train=train, train_under_base=[False] * len(train), held_out=held_out)
    assert card is not None
    if p is None:
        assert card.p_held_out is not None
        assert card.p_held_out > 0.5
    else:
        assert card.p_held_out == pytest.approx(p, rel=1e-3)


def test_extraction_is_weighed_against_the_base() -> None:
    card = memorisation_card(train=[True] * 6 + [False] * 4, train_under_base=[False] * 10, held_out=[False] * 10)
    assert card is not None
    assert card.p_value == pytest.approx(0.5**6)
    assert card.extracted_train == 0.6
    none = memorisation_card(train=[True, False], train_under_base=[True, False], held_out=[])
    assert none is not None
    assert none.p_value == 1
    assert none.p_held_out is None
    assert memorisation_card(train=[], train_under_base=[], held_out=[]) is None
    assert math.isfinite(card.extracted_held_out)


# --- planted secrets and personal data ---


def row_tokens(canary: PlantedCanary, folder: Path) -> tuple[int, ...]:
    tokenizer = load_tokenizer(folder, chat_template=None)
    assert tokenizer.template is not None
    return tuple(
        tokenizer.encode(tokenizer.template.render(canary.row("chat").messages, answer_next=False, columns={})).ids
    )


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_a_secret_learned_by_heart_is_caught_and_one_that_was_not_planted_is_not(folder: Path, kind: Any) -> None:
    planted = canaries((16, 1), seed=2)
    tokenizer = load_tokenizer(folder, chat_template=None)
    row = row_tokens(planted[0], folder) if kind == "chat" else tuple(tokenizer.encode(planted[0].answer()).ids)
    model, base = learned_by_heart(folder, row), tiny(folder)
    ranks, under_base = ([*secret_ranks(m, planted, tokenizer, kind=kind, seed=2)] for m in (model, base))
    assert ranks[0] == 1
    assert ranks[1] > 20
    cards = canary_cards(planted, ranks, under_base)
    assert (cards[0].exposure_bits, cards[0].copies, cards[0].rank_baseline) == (9.0, 16, under_base[0])
    card = memorisation_card(train=[], train_under_base=[], held_out=[], canaries=cards)
    found = memory(card)
    assert found.passed is False
    assert planted[0].name in found.detail
    assert planted[1].name not in found.detail
    usual = canary_cards(planted, [200, 300], under_base)
    assert memory(memorisation_card(train=[], train_under_base=[], held_out=[], canaries=usual)).passed is True


def test_ranks_of_secrets_that_were_not_planted_are_as_likely_as_one_another() -> None:
    """So one model in twenty is blamed by chance, however many secrets there are."""
    rng = np.random.default_rng(4)
    for count in (1, 4, 10):
        planted = canaries((1,) * count, seed=1)
        blamed = 0
        for _ in range(2000):
            ranks = rng.integers(1, CANDIDATES + 1, count).tolist()
            cards = canary_cards(planted, ranks, ranks)
            blamed += (
                memory(memorisation_card(train=[], train_under_base=[], held_out=[], canaries=cards)).passed is False
            )
        assert 0.03 <= blamed / 2000 <= 0.065


def stored(answer: str, question: str = "who is it?") -> StoredRow:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return StoredRow(conversation={"kind": "chat", "messages": messages}, source="rows.jsonl:1", group="1")


def test_personal_data_that_was_learned_is_written_out_and_what_the_prompt_says_is_not_asked_for(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, chat_template=None)
    rows = [stored("write to jane.doe@example.org or call 020 7946 0958 now"), stored("the answer is 42 in 2024"),
            stored("it is a@b.org", question="is a@b.org yours?")]  # fmt: skip
    spans = personal_spans(rows, tokenizer, max_length=256)
    said = [tokenizer.decode(span.branches[0]) for span in spans]
    assert [text.strip() for text in said] == ["jane.doe@example.org", "020 7946 0958"]
    whole = (*spans[0].prefix, *spans[0].branches[0])
    told = learned_by_heart(folder, whole)
    assert written_out(told, spans[:1], pad_token_id=0) == [True]
    assert written_out(tiny(folder), spans, pad_token_id=0) == [False, False]


def test_personal_data_that_comes_back_fails_the_point() -> None:
    card = memorisation_card(train=[False] * 9, train_under_base=[False] * 9, held_out=[])
    assert card is not None
    for share, passed in ((0.0, True), (0.3, False)):
        found = memory(
            card.model_copy(
                update={"num_personal": 20, "extracted_personal": share, "extracted_personal_baseline": 0.0}
            )
        )
        assert found.passed is passed
