"""Rows as training sequences."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.data.ingest import KeptRow, LostRow
from finetune_exe.prepared.store import SequenceView
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.encode import encode, strip_end_markers
from finetune_exe.text.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRow:
    """A row whose loss mask is proven."""

    row: KeptRow
    conversation: Conversation
    """As it was encoded: without special tokens written out at the end of its answers."""
    sequences: tuple[SequenceView, ...]

    @property
    def stripped(self) -> bool:
        """Say whether such tokens were taken away."""
        return self.conversation is not self.row.conversation


def encode_row(row: KeptRow, tokenizer: ChatTokenizer, *, max_length: int) -> EncodedRow | LostRow:
    """Encode a row and prove its mask; a row that fails is lost with the reason."""
    import numpy as np

    conversation = strip_end_markers(row.conversation, tokenizer)
    encoded = encode(conversation, tokenizer, max_length=max_length)
    if isinstance(encoded, RowFault):
        return LostRow(position=row.position, fault=encoded, row=row.raw)
    views = (
        SequenceView(np.array(sequence.tokens, dtype=np.int32), np.array(sequence.learned, dtype=np.bool_))
        for sequence in encoded
    )
    return EncodedRow(row=row, conversation=conversation, sequences=tuple(views))


def ends_learned(row: EncodedRow, stop_token_ids: tuple[int, ...]) -> bool:
    """Say whether every learned answer of the row ends in a learned stop token.

    A text that was cut in pieces has its end in the last piece only.
    """
    import numpy as np

    is_text = row.conversation.kind == "text"
    for tokens, learned in row.sequences[-1:] if is_text else row.sequences:
        last_learned = learned & ~np.append(learned[1:], False)
        if not np.isin(tokens[last_learned], stop_token_ids).all():
            return False
    return True
