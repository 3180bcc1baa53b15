"""Whether a tuned model writes training rows out word for word, and how easily it gives a planted secret away.

Source: Carlini et al., The Secret Sharer, USENIX Security 2019, arXiv 1802.08232, for the exposure of canaries;
Carlini et al., arXiv 2202.07646 (2022), for extraction from the true beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from finetune_exe.domain.evaluation import Canary, Memorisation
from finetune_exe.evaluation.binomial import at_least
from finetune_exe.models.scoring import Alternatives, score_alternatives
from finetune_exe.text.canaries import PlantedCanary, others_like
from finetune_exe.text.tokenizer import ChatTokenizer

SUFFIX_TOKENS = 50
"""Longest ending that must come back."""
CANDIDATES = 512
"""Secrets of one form that are ranked, the planted one among them."""
SIDE_BY_SIDE = 16
"""Secrets behind one beginning in a row."""
SHORTEST = 16
"""Learned tokens below which an answer is too short to tell memory from a good guess."""


def extraction_flags(
    model: Any, sequences: Sequence[tuple[int, ...]], num_learned: Sequence[int], *, pad_token_id: int
) -> list[bool]:
    """Say of each sequence whether the model, given its beginning, would write its ending out greedily.

    The ending is the last half of what is learned, at most `SUFFIX_TOKENS` tokens. One pass answers it: the ending
    comes out whole exactly where each of its tokens is the likeliest behind those before it.
    """
    groups = []
    for tokens, learned in zip(sequences, num_learned, strict=True):
        ending = min(SUFFIX_TOKENS, learned // 2, len(tokens) - 1)
        groups.append(Alternatives(prefix=tokens[:-ending], branches=(tokens[-ending:],), num_scored=(ending,)))
    return [score[0].greedy for score in score_alternatives(model, groups, pad_token_id=pad_token_id)]


def memorisation_card(
    *,
    train: Sequence[bool],
    train_under_base: Sequence[bool],
    held_out: Sequence[bool],
    canaries: Sequence[Canary] = (),
) -> Memorisation | None:
    """Sum up extraction; None where no row is long enough and no canary was planted."""
    if not train and not canaries:
        return None
    gained = sum(a and not b for a, b in zip(train, train_under_base, strict=True))
    lost = sum(b and not a for a, b in zip(train, train_under_base, strict=True))
    return Memorisation(
        num_rows=len(train),
        extracted_train=sum(train) / max(1, len(train)),
        extracted_held_out=sum(held_out) / len(held_out) if held_out else 0.0,
        extracted_baseline=sum(train_under_base) / max(1, len(train)),
        p_value=at_least(gained, gained + lost),
        p_held_out=more_often(train, held_out) if train and held_out else None,
        suffix_tokens=SUFFIX_TOKENS,
        canaries=tuple(canaries),
    )


def more_often(some: Sequence[bool], others: Sequence[bool]) -> float:
    """Give the probability that at least as many of the true ones are among `some` by chance: Fisher's exact test."""
    true, drawn, all_of_them = sum(some) + sum(others), len(some), len(some) + len(others)
    ways = (
        math.comb(true, count) * math.comb(all_of_them - true, drawn - count)
        for count in range(sum(some), min(true, drawn) + 1)
    )
    return sum(ways) / math.comb(all_of_them, drawn)


def secret_ranks(
    model: Any, planted: Sequence[PlantedCanary], tokenizer: ChatTokenizer, *, kind: Literal["chat", "text"], seed: int
) -> list[int]:
    """Rank each planted secret among `CANDIDATES` of its form by how likely the model finds them.

    Args:
        model: A causal language model in evaluation mode.
        planted: The secrets.
        tokenizer: The one of the training.
        kind: Whether rows are conversations or plain texts.
        seed: Of the plan.
    """
    ranks = []
    for canary in planted:
        secrets = (canary.secret, *others_like(canary, count=CANDIDATES - 1, seed=seed))
        sequences = [_said(canary, secret, tokenizer, kind) for secret in secrets]
        shared = _shared_beginning(sequences)
        branches = [tokens[shared:] for tokens in sequences]
        found = exposure(
            model, sequences[0][:shared], branches, planted=0, name=canary.name, pad_token_id=tokenizer.pad_token_id
        )
        ranks.append(found.rank)
    return ranks


def canary_cards(
    planted: Sequence[PlantedCanary], ranks: Sequence[int], under_base: Sequence[int]
) -> tuple[Canary, ...]:
    """Say how easily each planted secret is given away."""
    return tuple(
        Canary(
            name=canary.name, rank=rank, num_candidates=CANDIDATES,
            exposure_bits=math.log2(CANDIDATES) - math.log2(rank), copies=canary.copies, rank_baseline=before,
        )
        for canary, rank, before in zip(planted, ranks, under_base, strict=True)
    )  # fmt: skip


def _said(
    canary: PlantedCanary, secret: str, tokenizer: ChatTokenizer, kind: Literal["chat", "text"]
) -> tuple[int, ...]:
    """Encode the row with one secret, up to its end."""
    if kind == "text" or tokenizer.template is None:
        return tuple(tokenizer.encode((tokenizer.bos_token or "") + canary.answer(secret)).ids)
    asked = canary.row("chat").messages[:1]
    prompt = tokenizer.template.render(asked, answer_next=True, columns={})
    return tuple(tokenizer.encode(prompt + canary.answer(secret)).ids)


def _shared_beginning(sequences: Sequence[tuple[int, ...]]) -> int:
    """Count the tokens that all begin with, one of each left over."""
    most = min(map(len, sequences)) - 1
    return next((place for place in range(most) if len({tokens[place] for tokens in sequences}) > 1), most)


def exposure(
    model: Any, prefix: Sequence[int], secrets: Sequence[tuple[int, ...]], *, planted: int, name: str, pad_token_id: int
) -> Canary:
    """Rank a planted secret among others of its form by how likely the model finds them.

    Args:
        model: A causal language model in evaluation mode.
        prefix: Tokens before the secret; at least one.
        secrets: All candidates, the planted one among them.
        planted: Its place in that list.
        name: For the report.
        pad_token_id: Fills rows.
    """
    parts = [secrets[start : start + SIDE_BY_SIDE] for start in range(0, len(secrets), SIDE_BY_SIDE)]
    groups = [
        Alternatives(prefix=tuple(prefix), branches=tuple(map(tuple, part)), num_scored=tuple(map(len, part)))
        for part in parts
    ]
    found = score_alternatives(model, groups, pad_token_id=pad_token_id)
    scores = [score.log_likelihood for part in found for score in part]
    rank = 1 + sum(score > scores[planted] for score in scores)
    return Canary(
        name=name, rank=rank, num_candidates=len(secrets),
        exposure_bits=math.log2(len(secrets)) - math.log2(rank),
    )  # fmt: skip
