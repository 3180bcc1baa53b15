"""Whether a tuned model writes training rows out word for word, and how easily it gives a planted secret away.

Source: Carlini et al., The Secret Sharer, USENIX Security 2019, arXiv 1802.08232, for the exposure of canaries;
Carlini et al., arXiv 2202.07646 (2022), for extraction from the true beginning.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from finetune_exe.domain.evaluation import Canary, Memorisation
from finetune_exe.evaluation.student_t import incomplete_beta
from finetune_exe.models.scoring import Alternatives, score_alternatives

SUFFIX_TOKENS = 50
"""Longest ending that must come back."""
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
    """Sum up extraction; None where no row is long enough."""
    if not train:
        return None
    gained = sum(a and not b for a, b in zip(train, train_under_base, strict=True))
    lost = sum(b and not a for a, b in zip(train, train_under_base, strict=True))
    p_value = incomplete_beta(0.5, 0.5, gained, lost + 1) if gained else 1.0
    return Memorisation(
        num_rows=len(train),
        extracted_train=sum(train) / len(train),
        extracted_held_out=sum(held_out) / len(held_out) if held_out else 0.0,
        extracted_baseline=sum(train_under_base) / len(train),
        p_value=p_value,
        suffix_tokens=SUFFIX_TOKENS,
        canaries=tuple(canaries),
    )


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
    groups = [
        Alternatives(prefix=tuple(prefix), branches=(tuple(secret),), num_scored=(len(secret),)) for secret in secrets
    ]
    scores = [score[0].log_likelihood for score in score_alternatives(model, groups, pad_token_id=pad_token_id)]
    rank = 1 + sum(score > scores[planted] for score in scores)
    return Canary(
        name=name, rank=rank, num_candidates=len(secrets),
        exposure_bits=math.log2(len(secrets)) - math.log2(rank),
    )  # fmt: skip
