"""Turn a conversation into training tokens, and prove which of them are learned.

The loss mask is derived twice, by ways that share nothing but the template:

- *prefix rendering*: what the template adds when an answer is appended to the turns before it is the answer;
  tokens are counted;
- *marked content*: the answer is put between two marks, rendered, and found again; tokens are chosen by the
  characters they stand for.

Only a row where both agree token for token is trained on. No label is ever derived from a token's id, and the
token that ends an answer is always learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.render import ChatTemplate, TemplateRefusedError
from finetune_exe.text.tokenizer import ChatTokenizer, Tokens

TRIMS: tuple[Callable[[str], str], ...] = (
    str, str.strip, str.lstrip, str.rstrip, lambda text: text.strip("\n"), lambda text: text.lstrip("\n")
)  # fmt: skip
OPEN, CLOSE = "\ue00b\ue0f1", "\ue00d\ue0f3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Token ids of one training sequence and, for each, whether the model learns to predict it."""

    tokens: tuple[int, ...]
    learned: tuple[bool, ...]


class _FaultError(Exception):
    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(code)
        self.fault = RowFault(code=code, message=message, fix=fix)


def encode(conversation: Conversation, tokenizer: ChatTokenizer, *, max_length: int) -> tuple[Sequence, ...] | RowFault:
    """Encode one row.

    A chat is one sequence, or one for each answer where a prompt by itself has other tokens than inside the whole
    conversation (reasoning templates rewrite earlier answers; some tokenizers merge a prompt's last characters with
    the answer's first): each answer is then learned behind exactly the tokens it will be served with. A text is cut
    into sequences of at most `max_length` tokens.

    Args:
        conversation: The row.
        tokenizer: The base model's.
        max_length: Longest sequence, in tokens.

    Returns:
        The sequences, or why the row cannot be trained on: no_assistant, empty_answer, special_token, too_long,
        no_template, template_refused, mask_not_proven.
    """
    try:
        if conversation.kind == "text":
            return _encode_text(conversation.messages[0].content, tokenizer, max_length)
        return _encode_chat(conversation, tokenizer, max_length)
    except _FaultError as fault:
        return fault.fault
    except TemplateRefusedError as refusal:
        return RowFault(
            code="template_refused",
            message=f"the chat template refuses the row: {refusal}",
            fix="put the turns in the order the template wants, or give another with data.chat_template",
        )


def encode_prompt(conversation: Conversation, tokenizer: ChatTokenizer) -> tuple[int, ...] | None:
    """Encode what the model is given to produce the row's last answer; None where there is no answer to produce."""
    last = _last_answer(conversation)
    if conversation.kind == "text" or last is None or tokenizer.template is None:
        return None
    turns = conversation.messages[:last]
    try:
        text = tokenizer.template.render(turns, answer_next=True, columns=conversation.extra)
    except TemplateRefusedError:
        return None
    return tuple(tokenizer.encode(text).ids)


def reference_answer(conversation: Conversation) -> str | None:
    """Give the answer that `encode_prompt` asks for."""
    last = _last_answer(conversation)
    return None if last is None else conversation.messages[last].content.strip()


def strip_end_markers(conversation: Conversation, tokenizer: ChatTokenizer) -> Conversation:
    """Remove special tokens written out as text at the end of answers, as older datasets have them.

    The template writes the end of an answer itself; a second one would teach the model to stop twice.
    Returns the same object where there is nothing to remove.
    """
    messages = tuple(_without_marker(message, tokenizer) for message in conversation.messages)
    return conversation if messages == conversation.messages else replace(conversation, messages=messages)


def _without_marker(message: Message, tokenizer: ChatTokenizer) -> Message:
    content = message.content
    if message.role != "assistant":
        return message
    while True:
        marker = next((token for token in tokenizer.special_tokens if content.rstrip().endswith(token)), None)
        if marker is None:
            return message if content == message.content else replace(message, content=content)
        content = content.rstrip().removesuffix(marker)


def _last_answer(conversation: Conversation) -> int | None:
    answers = [index for index, message in enumerate(conversation.messages) if message.role == "assistant"]
    return answers[-1] if answers else None


def _encode_chat(conversation: Conversation, tokenizer: ChatTokenizer, max_length: int) -> tuple[Sequence, ...]:
    template = tokenizer.template
    if template is None:
        raise _FaultError(
            "no_template",
            "the base model has no chat template",
            "choose the instruct variant of the model, or --set data.chat_template=plain",
        )
    answers = _learned_answers(conversation.messages)
    _refuse_special_tokens(conversation.messages, tokenizer)
    least = sum(len(message.content.strip()) for message in conversation.messages) // tokenizer.longest_token
    if least > max_length:
        raise _too_long(f"at least {least}", max_length)
    whole = template.render(conversation.messages, answer_next=False, columns=conversation.extra)
    spans = {index: _prefix_span(conversation, index, template) for index in answers}
    sequences = []
    for piece in _pieces(whole, spans, tokenizer):
        if len(piece.tokens.ids) > max_length:
            raise _too_long(str(len(piece.tokens.ids)), max_length)
        turns = conversation.messages[: max(piece.answers) + 1] if piece.text != whole else conversation.messages
        learned = _learned_by_prefix(piece, spans, tokenizer)
        if learned != _learned_by_mark(piece, turns, conversation, tokenizer):
            raise _FaultError(
                "mask_not_proven",
                "the two derivations of the loss mask disagree on this row",
                "look at the row's answers; if all rows fail, the template is at fault: "
                "give another with data.chat_template",
            )
        sequences.append(Sequence(tokens=tuple(piece.tokens.ids), learned=tuple(learned)))
    return tuple(sequences)


@dataclass(frozen=True, slots=True)
class _Span:
    """Text up to the end of one answer, and the part of it the model is given before it answers."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """One sequence to be: its text, its tokens, and which answers are learned in it."""

    text: str
    tokens: Tokens
    answers: list[int]


def _pieces(whole: str, spans: dict[int, _Span], tokenizer: ChatTokenizer) -> list[_Piece]:
    """Keep the conversation in one where each prompt's tokens are the beginning of the whole; else take it apart.

    Taken apart, every answer stands behind the tokens its prompt has by itself, as at serving.
    """
    tokens = tokenizer.encode(whole)
    if all(
        whole.startswith(span.text)
        and _begins(tokens, span.prompt, tokenizer)
        and _begins(tokens, span.text, tokenizer)
        for span in spans.values()
    ):
        return [_Piece(whole, tokens, list(spans))]
    pieces = []
    for index, span in spans.items():
        prompt, answer = tokenizer.encode(span.prompt), tokenizer.encode(span.text[len(span.prompt) :])
        shifted = [(start + len(span.prompt), end + len(span.prompt)) for start, end in answer.offsets]
        joined = Tokens(prompt.ids + answer.ids, prompt.offsets + shifted)
        if tokenizer.decode(joined.ids) != tokenizer.decode(tokenizer.encode(span.text).ids):
            raise _FaultError(
                "mask_not_proven",
                "the tokenizer writes the answer otherwise when it stands behind its prompt",
                "remove white space at the beginning of the answer",
            )
        pieces.append(_Piece(span.text, joined, [index]))
    return pieces


def _begins(tokens: Tokens, text: str, tokenizer: ChatTokenizer) -> bool:
    beginning = tokenizer.encode(text).ids
    return tokens.ids[: len(beginning)] == beginning


def _too_long(tokens: str, max_length: int) -> _FaultError:
    return _FaultError(
        "too_long",
        f"the conversation has {tokens} tokens, more than max_length {max_length}",
        "raise data.max_length, or split the conversation",
    )


def _learned_answers(messages: tuple[Message, ...]) -> list[int]:
    answers = [index for index, message in enumerate(messages) if message.role == "assistant" and message.learn]
    if not answers:
        raise _FaultError(
            "no_assistant", "the conversation has no assistant turn to learn from", "add the answer, or drop the row"
        )
    if any(not messages[index].content.strip() and not messages[index].extra for index in answers):
        raise _FaultError("empty_answer", "an assistant turn is empty", "write the answer, or drop the row")
    return answers


def _refuse_special_tokens(messages: tuple[Message, ...], tokenizer: ChatTokenizer) -> None:
    for message in messages:
        for token in tokenizer.special_tokens:
            if token in message.content:
                raise _FaultError(
                    "special_token",
                    f"a {message.role} turn contains the special token {token} as text",
                    "remove it: the template writes such tokens itself, and inside a turn it would end or forge one",
                )


def _prefix_span(conversation: Conversation, index: int, template: ChatTemplate) -> _Span:
    messages, columns = conversation.messages, conversation.extra
    prompt = template.render(messages[:index], answer_next=True, columns=columns)
    text = template.render(messages[: index + 1], answer_next=False, columns=columns)
    if not text.startswith(prompt):
        raise _FaultError(
            "mask_not_proven",
            "the template does not continue its own prompt when the answer is added",
            "give a template whose generation prompt is the beginning of the answer with data.chat_template",
        )
    return _Span(prompt, text)


def _learned_by_prefix(piece: _Piece, spans: dict[int, _Span], tokenizer: ChatTokenizer) -> list[bool]:
    """Count tokens: an answer begins where its prompt's tokens end, and ends at the last special token it brings."""
    learned = [False] * len(piece.tokens.ids)
    for index in piece.answers:
        span = spans[index]
        begin = len(tokenizer.encode(span.prompt).ids)
        end = len(piece.tokens.ids) if span.text == piece.text else len(tokenizer.encode(span.text).ids)
        while end > begin and piece.tokens.ids[end - 1] not in tokenizer.special_ids:
            end -= 1
        if end == begin:
            raise _FaultError(
                "mask_not_proven",
                "the template ends the answer with no special token, so the model could never learn to stop",
                "give a template that writes the end-of-turn token with data.chat_template",
            )
        learned[begin:end] = [True] * (end - begin)
    return learned


def _learned_by_mark(
    piece: _Piece, turns: tuple[Message, ...], conversation: Conversation, tokenizer: ChatTokenizer
) -> list[bool]:
    """Mark each answer's characters, find them in the rendered text, and add the special token that follows."""
    ids, offsets = piece.tokens
    learned = [False] * len(ids)
    for start, end in _marked_spans(piece, turns, conversation, tokenizer):
        index = next((i for i, offset in enumerate(offsets) if offset[1] > start), len(ids))
        while index < len(ids) and offsets[index][0] < end:
            learned[index] = True
            index += 1
        while index < len(ids):
            learned[index] = True
            if ids[index] in tokenizer.special_ids:
                break
            index += 1
    return learned


def _marked_spans(
    piece: _Piece, turns: tuple[Message, ...], conversation: Conversation, tokenizer: ChatTokenizer
) -> list[tuple[int, int]]:
    """Find the characters [start, end) of each answer, trying the trims that templates are known to make."""
    assert tokenizer.template is not None
    for trim in TRIMS:
        marked_turns = tuple(
            replace(message, content=OPEN + trim(message.content) + CLOSE) if index in piece.answers else message
            for index, message in enumerate(turns)
        )
        marked = tokenizer.template.render(marked_turns, answer_next=False, columns=conversation.extra)
        spans, plain = _remove_marks(marked)
        if plain == piece.text and len(spans) == len(piece.answers):
            return spans
    raise _FaultError(
        "mask_not_proven",
        "the template changes the answer's text, so its characters cannot be found again",
        "give a template that writes answers as they are with data.chat_template",
    )


def _remove_marks(marked: str) -> tuple[list[tuple[int, int]], str]:
    spans, plain = [], ""
    rest = marked
    while OPEN in rest and CLOSE in rest:
        before, rest = rest.split(OPEN, 1)
        content, rest = rest.split(CLOSE, 1)
        spans.append((len(plain) + len(before), len(plain) + len(before) + len(content)))
        plain += before + content
    return spans, plain + rest


def _encode_text(text: str, tokenizer: ChatTokenizer, max_length: int) -> tuple[Sequence, ...]:
    """Encode a text with everything learned but the bos token, its end token included."""
    if not text.strip():
        raise _FaultError("empty_text", "the text is empty", "drop the row")
    _refuse_special_tokens((Message(role="assistant", content=text),), tokenizer)
    bos = tokenizer.bos_token or ""
    counted = tokenizer.encode(bos).ids + tokenizer.encode(text).ids + [tokenizer.eos_token_id]
    found = tokenizer.encode(bos + text + tokenizer.eos_token)
    by_count = [index >= bool(bos) for index in range(len(counted))]
    by_offset = [offset[0] >= len(bos) for offset in found.offsets]
    if counted != found.ids or by_count != by_offset:
        raise _FaultError(
            "mask_not_proven",
            "a token straddles the beginning or end of the text",
            "remove white space at the beginning or end of the text",
        )
    sequences = []
    for start in range(0, len(counted), max_length):
        tokens, learned = counted[start : start + max_length], by_count[start : start + max_length]
        learned[0] = False
        if any(learned):
            sequences.append(Sequence(tokens=tuple(tokens), learned=tuple(learned)))
    return tuple(sequences)
