"""Tokenise a sample of rows, as training will see them."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice

from finetune_exe.data.encoded import encode_conversations
from finetune_exe.data.ingest import open_sources
from finetune_exe.data.raw import RawRow
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.task import FormatName, PairCounts, TokenCounts
from finetune_exe.estimate.rows import order_by_beginning
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.encode import Sequence as TokenSequence
from finetune_exe.text.tokenizer import ChatTokenizer

MAX_COUNTED = 400
"""Rows that are tokenised; their mean length is then known to a few per cent."""
MAX_KEPT = 101
"""Order statistics that are kept of them."""
LONGEST = 1 << 17
"""The longest context of all but three models of the table."""
USUAL_PASS = 8
"""Rows of a pass in which they are compared."""


def encode_sample(
    paths: Sequence[str],
    tokenizer: ChatTokenizer,
    *,
    max_length: int,
    num_rows: int,
    format_name: FormatName | None = None,
    paired: bool = False,
) -> Iterator[tuple[TokenSequence, ...]]:
    """Encode an even sample of the rows, 400 or a few more; those that cannot be trained on are passed over.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        tokenizer: The model's.
        max_length: Longest sequence in tokens.
        num_rows: Rows there are.
        format_name: Form of the rows; None looks for itself.
        paired: Give each row with its better and with its worse answer.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    rows = _sample(paths, num_rows=num_rows, format_name=format_name)
    yield from _encoded(rows, tokenizer, max_length=max_length, paired=paired)


def _sample(paths: Sequence[str], *, num_rows: int, format_name: FormatName | None) -> Iterator[Conversation]:
    """Read rows at even distances; those that are none are passed over."""
    opened = open_sources(find_sources(paths), format_name=format_name)
    stride = max(1, num_rows // MAX_COUNTED)
    entries = ((opening.detection.format, entry) for opening in opened for entry in opening.entries)
    rows = ((form, entry.row) for form, entry in entries if isinstance(entry, RawRow))
    read = (form.read(row) for form, row in islice(rows, 0, None, stride))
    yield from (row for row in read if not isinstance(row, RowFault))


def _encoded(
    rows: Iterable[Conversation], tokenizer: ChatTokenizer, *, max_length: int, paired: bool = False
) -> Iterator[tuple[TokenSequence, ...]]:
    """Encode rows as preparing does."""
    encoded = encode_conversations(list(rows), tokenizer, max_length=max_length, paired=paired)
    yield from (row.sequences for row in encoded if row.fault is None)


def count_tokens(
    paths: Sequence[str], tokenizer: ChatTokenizer, *, model: str, num_rows: int, format_name: FormatName | None = None
) -> TokenCounts | None:
    """Tokenise an even sample of the rows with the model's template.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        tokenizer: The model's.
        model: Its reference in the plan.
        num_rows: Rows there are.
        format_name: Form of the rows; None looks for itself.

    Returns:
        The counts; None where no row of the sample can be trained on.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    rows = list(_sample(paths, num_rows=num_rows, format_name=format_name))
    encoded = list(_encoded(rows, tokenizer, max_length=LONGEST))
    pairs = list(_encoded([row for row in rows if row.rejected], tokenizer, max_length=LONGEST, paired=True))
    lengths = [sum(len(sequence.tokens) for sequence in sequences) for sequences in encoded]
    all_sequences = [sequence for sequences in encoded for sequence in sequences]
    learned = sum(chain.from_iterable(sequence.learned for sequence in all_sequences))
    if not lengths:
        return None
    ordered, last = sorted(lengths), min(MAX_KEPT, len(lengths)) - 1
    kept = (ordered[round(index * (len(ordered) - 1) / max(1, last))] for index in range(last + 1))
    return TokenCounts(
        model=model,
        num_rows=len(lengths),
        lengths=tuple(kept),
        learned_share=learned / max(1, sum(lengths)),
        shared_beginning=_shared_beginning(all_sequences),
        pairs=_counts_of_pairs(pairs) if pairs else None,
    )


def _counts_of_pairs(pairs: list[tuple[TokenSequence, ...]]) -> PairCounts:
    """Take the mean over pairs of their shares: long ones, which may be left out, weigh no more than others."""
    learned = (sum(sum(each.learned) for each in pair) / sum(len(each.tokens) for each in pair) for pair in pairs)
    return PairCounts(
        shared=statistics.fmean(_shared(pair) / len(pair[0].tokens) for pair in pairs),
        learned=statistics.fmean(learned),
    )


def _shared_beginning(sequences: list[TokenSequence]) -> int:
    """Count what rows begin with as others of their pass do, in passes that are drawn from the sample."""
    rows = list(sequences)
    random.Random(0).shuffle(rows)  # noqa: S311 - one typical order, no secret
    passes = [rows[start : start + USUAL_PASS] for start in range(0, len(rows), USUAL_PASS)]
    return sum(map(_shared, passes)) // max(1, len(rows) - len(passes))


def _shared(sequences: Sequence[TokenSequence]) -> int:
    """Count the tokens of the rows of a pass that need not be computed, as another row begins with them."""
    placed = order_by_beginning([(sequence.tokens, sequence.learned) for sequence in sequences])
    return sum(row.shared for row in placed)
