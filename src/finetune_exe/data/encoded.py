"""Rows as training sequences."""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetune_exe.data.shorten import shorten
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.encode import Encoded, Sequence, encode_rows
from finetune_exe.text.end_marks import without_end_marks
from finetune_exe.text.formats.written_calls import calls_as_texts
from finetune_exe.text.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from finetune_exe.domain.plan import OnTooLong


TOOLS_NOT_WRITTEN = RowFault(
    code="tools_not_written",
    message="the model's chat template does not write the definitions of the row's tools",
    fix="choose a base model whose template does, or say in the system prompt which tools there are",
)

END_MARK_WRITTEN = RowFault(
    code="end_mark_written",
    message="an answer ends with a mark for the end, which the chat template would write a second time",
    fix="nothing need be done: preparing takes it off",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that was changed in a row so that it could be kept."""

    code: str
    message: str
    num_learned_lost: int
    """Learned tokens that the row had before and has no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedConversation:
    """A conversation with its sequences, or why it has none."""

    conversation: Conversation
    """As it was encoded: without marks for the end at the ends of its answers, and perhaps shortened."""
    sequences: tuple[Sequence, ...]
    """With a fault: those it would have had, where that is known."""
    num_learned: int
    """Learned tokens that it had before it was shortened."""
    changes: tuple[Change, ...] = ()
    fault: RowFault | None = None


def lacks_tools(conversation: Conversation, tokenizer: ChatTokenizer) -> bool:
    """Whether a row brings definitions of tools that the template never looks at."""
    template = tokenizer.template
    return template is not None and bool(conversation.extra.get("tools")) and "tools" not in template.source


def _writes_calls(tokenizer: ChatTokenizer) -> bool:
    """Whether the template writes calls of tools; those that stood in their file as text are learned as text else."""
    return tokenizer.template is None or "tool_calls" in tokenizer.template.source


def encode_conversations(
    conversations: Rows[Conversation],
    tokenizer: ChatTokenizer,
    *,
    max_length: int,
    on_too_long: OnTooLong = "drop",
    paired: bool = False,
) -> list[EncodedConversation]:
    """Encode conversations and prove their masks.

    Args:
        conversations: The rows.
        tokenizer: The base model's.
        max_length: Longest sequence, in tokens.
        on_too_long: What becomes of longer ones; "refuse" is left to the caller, who sees the fault.
        paired: Make two sequences of each, with the better and with the worse answer; a longer pair is dropped.
    """
    if paired:
        return encode_pairs(conversations, tokenizer, max_length=max_length)
    if not _writes_calls(tokenizer):
        conversations = [calls_as_texts(conversation) for conversation in conversations]
    stripped = [without_end_marks(conversation, tokenizer.special_tokens) for conversation in conversations]
    encoded = encode_rows(stripped, tokenizer, max_length=max_length)
    results = []
    for before, after, found in zip(conversations, stripped, encoded, strict=True):
        changes: tuple[Change, ...] = ()
        if after is not before:
            changes = (Change(code="end_marker_removed", message=MARKER_REMOVED, num_learned_lost=0),)
        if found.fault is not None and found.fault.code == "too_long" and on_too_long == "truncate_prompt":
            results.append(_shortened(after, found, changes, tokenizer, max_length))
        else:
            results.append(_as_found(after, found, changes))
    return results


def encode_pairs(
    conversations: Rows[Conversation], tokenizer: ChatTokenizer, *, max_length: int
) -> list[EncodedConversation]:
    """Encode each conversation twice, with its better and with its worse answer; nothing else is learned."""
    pairs = [as_pair(conversation) for conversation in conversations]
    both = [side for pair in pairs if not isinstance(pair, RowFault) for side in pair]
    encoded = iter(encode_conversations(both, tokenizer, max_length=max_length))
    results = []
    for conversation, pair in zip(conversations, pairs, strict=True):
        if isinstance(pair, RowFault):
            results.append(EncodedConversation(conversation=conversation, sequences=(), num_learned=0, fault=pair))
            continue
        better, worse = next(encoded), next(encoded)
        sequences = (*better.sequences, *worse.sequences)
        fault = better.fault or worse.fault or (None if len(sequences) == 2 else _IN_PIECES)
        results.append(
            EncodedConversation(
                conversation=replace(better.conversation, rejected=conversation.rejected),
                sequences=sequences,
                num_learned=better.num_learned + worse.num_learned,
                changes=better.changes or worse.changes,
                fault=fault,
            )
        )
    return results


def as_pair(conversation: Conversation) -> tuple[Conversation, Conversation] | RowFault:
    """Part a row into the conversation with its better answer and the one with its worse answer."""
    if not conversation.rejected:
        return RowFault(
            code="no_rejected_answer",
            message="the row has no worse answer to hold the better one against",
            fix="add it, or leave the row out of a training on preferences",
        )
    start = conversation.num_prompt_turns
    shared, better, worse = conversation.messages[:start], conversation.messages[start:], conversation.rejected
    if not start or any(message.role == "user" for message in worse):
        return RowFault(
            code="pair_without_prompt",
            message="the two answers do not stand behind one question that both share",
            fix="cut both conversations down to the first answer in which they differ",
        )
    if [message.content for message in better] == [message.content for message in worse]:
        return RowFault(code="same_answers", message="better and worse answer are the same", fix="leave the row out")
    before = tuple(replace(message, learn=False) if message.role == "assistant" else message for message in shared)
    alone = replace(conversation, rejected=())
    return replace(alone, messages=(*before, *better)), replace(alone, messages=(*before, *worse))


_IN_PIECES = RowFault(
    code="pair_in_pieces",
    message="an answer of the pair is more than one sequence under this chat template",
    fix="leave the row out",
)
MARKER_REMOVED = "an answer ended with a mark for the end; it was taken off, for the template writes its own"


def _shortened(
    conversation: Conversation, found: Encoded, changes: tuple[Change, ...], tokenizer: ChatTokenizer, max_length: int
) -> EncodedConversation:
    """Shorten what stands before the answers until the row fits; where it cannot, the row stays too long."""
    shorter = shorten(conversation, tokenizer, max_length=max_length)
    if shorter is None:
        return _as_found(conversation, found, changes)
    before = sum(sequence.num_learned for sequence in found.sequences)
    after = sum(sequence.num_learned for sequence in shorter.sequences)
    change = Change(code="prompt_truncated", message=shorter.message, num_learned_lost=before - after)
    return EncodedConversation(
        conversation=shorter.conversation, sequences=shorter.sequences, num_learned=before, changes=(*changes, change)
    )


def _as_found(conversation: Conversation, found: Encoded, changes: tuple[Change, ...]) -> EncodedConversation:
    return EncodedConversation(
        conversation=conversation,
        sequences=found.sequences,
        num_learned=sum(sequence.num_learned for sequence in found.sequences),
        changes=changes,
        fault=found.fault,
    )


def ends_in(encoded: EncodedConversation, stop_token_ids: tuple[int, ...]) -> bool:
    """Say whether every learned answer ends in a learned stop token.

    A text that was cut in pieces has its end in the last piece only.
    """
    is_text = encoded.conversation.kind == "text"
    return all(
        sequence.tokens[end - 1] in stop_token_ids
        for sequence in (encoded.sequences[-1:] if is_text else encoded.sequences)
        for _, end in sequence.ranges
    )
