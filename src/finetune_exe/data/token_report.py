"""How the rows look to the model: lengths, what max_length costs, packing, vocabulary, tokens per word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from finetune_exe.data.histogram import count_lengths
from finetune_exe.data.language import language_of
from finetune_exe.domain.dataset import Fertility, LengthChoice, TokenReport
from finetune_exe.domain.plan import Batch, Plan
from finetune_exe.text.tokenizer import ChatTokenizer

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
"""Close at the upper end, where max_length cuts."""
ADVISED_LOSS = 0.001
"""Share of the learned tokens that may be lost for a shorter max_length."""
CANDIDATES = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
"""The powers of two that contexts of models are, up to that of most."""
GROUPED_STEPS = 32
"""As in training: steps among which rows are sorted by length."""


def report_tokens(
    plan: Plan,
    tokenizer: ChatTokenizer,
    *,
    lengths: NDArray[np.int64],
    learned: NDArray[np.int64],
    too_long: Sequence[tuple[int, int]],
    used: NDArray[np.bool_],
    num_unknown: int,
    sample: Sequence[str],
) -> TokenReport:
    """Describe the encoded rows.

    Args:
        plan: Its max_length and batch.
        tokenizer: The base model's.
        lengths: Tokens of each kept sequence.
        learned: Learned tokens of each.
        too_long: Tokens and learned tokens of each sequence that was dropped for its length.
        used: For each id of the vocabulary, whether it occurs.
        num_unknown: Tokens that stand for what the vocabulary has no piece for.
        sample: Contents of some rows, for tokens per word.
    """
    lost = np.array(too_long, dtype=np.int64).reshape(-1, 2)
    everything = np.concatenate([lengths, lost[:, 0]])
    all_learned = np.concatenate([learned, lost[:, 1]])
    choices = _choices(everything, all_learned, plan.data.max_length)
    advised = next(choice for choice in choices if choice.learned_share_lost <= ADVISED_LOSS)
    return TokenReport(
        quantiles={f"{share:.0%}": int(np.quantile(everything, share, method="higher")) for share in QUANTILES},
        lengths=choices,
        advised_max_length=advised.max_length,
        packing_share=packing_share(lengths, plan.data.max_length),
        padding_share=padding_share(lengths, plan.batch, seed=plan.seed),
        fertility=tokens_per_word(sample, tokenizer),
        vocabulary_size=len(used),
        vocabulary_used=int(used.sum()),
        unknown_tokens=num_unknown,
        template=describe_template(tokenizer),
        histogram=count_lengths(everything),
    )


def _choices(lengths: NDArray[np.int64], learned: NDArray[np.int64], chosen: int) -> tuple[LengthChoice, ...]:
    longest = int(lengths.max())
    wanted = {chosen, *(size for size in CANDIDATES if size < longest), longest}
    total = int(learned.sum())
    choices = []
    for size in sorted(wanted):
        over = lengths > size
        share = float(learned[over].sum()) / total if total else 0.0
        choices.append(LengthChoice(max_length=size, num_rows_too_long=int(over.sum()), learned_share_lost=share))
    return tuple(choices)


def packing_share(lengths: NDArray[np.int64], max_length: int) -> float:
    """Share of full positions if sequences are packed, longest first, each where it leaves least room."""
    counts = np.bincount(lengths, minlength=max_length + 1)[: max_length + 1]
    room = np.zeros(max_length + 1, dtype=np.int64)
    num_rows = 0
    for length in range(max_length, 0, -1):
        left = int(counts[length])
        while left:
            fitting = np.flatnonzero(room[length:])
            if fitting.size:
                free = length + int(fitting[0])
                placed = min(left, int(room[free]))
                room[free] -= placed
                room[free - length] += placed
            else:
                each = max_length // length
                num_new = max(1, left // each)
                placed = min(left, num_new * each)
                full, rest = divmod(placed, each)
                room[max_length - each * length] += full
                if rest:
                    room[max_length - rest * length] += 1
                num_rows += num_new
            left -= placed
    return float(lengths.sum()) / (num_rows * max_length) if num_rows else 0.0


def padding_share(lengths: NDArray[np.int64], batch: Batch, *, seed: int) -> float:
    """Share of full positions in the batches of one epoch; packed rows fill all but the last few."""
    if batch.packing:
        return 1.0 if len(lengths) else 0.0
    order = np.random.default_rng((seed, 0)).permutation(len(lengths))
    window = batch.effective * GROUPED_STEPS if batch.group_by_length else batch.micro_batch_size
    positions = 0
    for start in range(0, len(order), window):
        part = np.sort(lengths[order[start : start + window]])
        sizes = np.append(np.arange(batch.micro_batch_size, len(part), batch.micro_batch_size), len(part))
        positions += int((part[sizes - 1] * np.diff(sizes, prepend=0)).sum())
    return float(lengths.sum()) / positions if positions else 0.0


def tokens_per_word(texts: Sequence[str], tokenizer: ChatTokenizer) -> tuple[Fertility, ...]:
    """Count tokens and words by language; languages written without spaces count letters for words."""
    words: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for text, encoding in zip(texts, tokenizer.encode_batch(texts), strict=True):
        language = language_of(text) or "unknown"
        count = len("".join(text.split())) if language in ("zh", "ja", "th", "lo", "my", "km") else len(text.split())
        words[language] += count
        tokens[language] += len(encoding.ids)
    return tuple(
        Fertility(language=language, num_words=count, num_tokens=tokens[language])
        for language, count in sorted(words.items(), key=lambda item: (-item[1], item[0]))
        if count
    )


def describe_template(tokenizer: ChatTokenizer) -> str:
    """Say which template is used and what follows from it."""
    if tokenizer.template is None:
        return "none: the model can learn plain text only"
    source = {None: "the model's own", "plain": "the built-in plain one"}.get(
        tokenizer.given_template, f"the file {tokenizer.given_template}"
    )
    return f"{source}; an answer ends with {tokenizer.stop_tokens[0]}"
