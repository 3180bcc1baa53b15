"""Two ways to say which tokens of a sequence are learned.

Both start from the same rendered text and its tokens, and share nothing else:

- `learned_by_prefix` renders what the model is given before each answer, and what stands there after it, and counts
  tokens. It never looks for the answer's characters.
- `learned_by_mark` finds the answer's characters in the rendered text and takes the tokens that stand for them, by
  the tokenizer's offsets. It never renders the row's prompt.

Both close an answer at the special token that follows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.placed import JoinedTokens, Placed
from finetune_exe.text.render import ChatTemplate, TemplateRefusedError
from finetune_exe.text.skeleton import CLOSE, OPEN, TRIMS, CharSpan
from finetune_exe.text.thinking import THINKING_KEYS, opening_before, thinks
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.text.tool_calls import is_call_alone, mark_last_name, without_calls


class Range(NamedTuple):
    """Positions [start, end) of a sequence."""

    start: int
    end: int


class UnfitRowError(Exception):
    """A row cannot be trained on."""

    def __init__(self, code: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.fault = RowFault(code=code, message=message, fix=fix)


def not_proven(message: str, fix: str) -> UnfitRowError:
    """Say why the mask of a row cannot be derived, and what to do."""
    return UnfitRowError("mask_not_proven", message, fix)


@dataclass(frozen=True, slots=True)
class AnswerText:
    """Text up to the end of one answer, and the part of it the model is given before it answers."""

    prompt: str
    text: str


class Counts(NamedTuple):
    """Tokens of an answer's prompt, and of the text up to the answer's end."""

    prompt: int
    text: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One sequence to be: its text, its tokens, and which answers are learned in it."""

    text: str
    tokens: Placed
    counts: dict[int, Counts]
    """For each answer learned in it, by its turn."""

    @property
    def answers(self) -> list[int]:
        """The turns that are learned."""
        return list(self.counts)


def split_pieces(whole: str, tokens: Placed, answers: dict[int, AnswerText], tokenizer: ChatTokenizer) -> list[Piece]:
    """Keep the conversation in one where each prompt's tokens are the beginning of the whole; else take it apart.

    Taken apart, every answer stands behind the tokens its prompt has by itself, as at serving.

    Raises:
        UnfitRowError: The tokenizer writes an answer otherwise when its prompt stands before it.
    """
    counts = {index: _count(whole, answer, tokens.ids, tokenizer) for index, answer in answers.items()}
    in_one = {index: count for index, count in counts.items() if count is not None}
    if len(in_one) == len(answers):
        return [Piece(whole, tokens, in_one)]
    pieces = []
    for index, answer in answers.items():
        prompt, rest = tokenizer.encode(answer.prompt), tokenizer.encode(answer.text[len(answer.prompt) :])
        joined = JoinedTokens(prompt, rest, shift=len(answer.prompt))
        if tokenizer.decode(joined.ids) != tokenizer.decode(tokenizer.encode(answer.text).ids):
            raise not_proven(
                "the tokenizer writes the answer otherwise when it stands behind its prompt",
                "remove white space at the beginning of the answer",
            )
        pieces.append(Piece(answer.text, joined, {index: Counts(len(prompt.ids), len(joined.ids))}))
    return pieces


def _count(whole: str, answer: AnswerText, ids: list[int], tokenizer: ChatTokenizer) -> Counts | None:
    """Count the tokens of an answer's prompt and text; None where the whole does not begin with them."""
    if not whole.startswith(answer.text):
        return None
    prompt = count_beginning(answer.prompt, ids, tokenizer)
    text = len(ids) if len(answer.text) == len(whole) else count_beginning(answer.text, ids, tokenizer)
    return None if prompt is None or text is None else Counts(prompt, text)


def count_beginning(text: str, ids: list[int], tokenizer: ChatTokenizer) -> int | None:
    """Count the tokens of a text by itself; None where they are not the beginning of `ids`.

    Where the text's last special token is a hard boundary (see `boundaries`), its tokens are those of the longer text
    up to there and those of the few characters behind; otherwise, and for the first few texts of each ending, it is
    tokenised.
    """
    counted = tokenizer.specials.count_prefix(text, ids)
    if counted is not None:
        return counted
    beginning = tokenizer.encode(text).ids
    return len(beginning) if ids[: len(beginning)] == beginning else None


def learned_by_prefix(piece: Piece, tokenizer: ChatTokenizer) -> list[Range]:
    """Count tokens: an answer begins where its prompt's tokens end, and ends at the last special token it brings.

    Raises:
        UnfitRowError: No special token ends the answer.
    """
    learned = []
    ids, specials = piece.tokens.ids, tokenizer.special_ids
    for begin, end in piece.counts.values():
        closing = end
        while closing > begin and ids[closing - 1] not in specials:
            closing -= 1
        if closing == begin:
            raise not_proven(
                "the template ends the answer with no special token, so the model could never learn to stop",
                "give a template that writes the end-of-turn token with data.chat_template",
            )
        learned.append(Range(begin, closing))
    return learned


def learned_by_mark(
    piece: Piece, turns: tuple[Message, ...], conversation: Conversation, tokenizer: ChatTokenizer
) -> list[Range]:
    """Find each answer's characters in the text, take their tokens, and add the special token that follows.

    Args:
        piece: The sequence.
        turns: The turns it renders.
        conversation: The row they are of.
        tokenizer: Its template wrote the text.

    Raises:
        UnfitRowError: The answer's characters are not in the text.
    """
    spans = None
    if tokenizer.skeletons is not None and len(turns) == len(conversation.messages):
        spans = tokenizer.skeletons.find(conversation, piece.answers, piece.text)
    learned = []
    ids = piece.tokens.ids
    for start, end in spans if spans is not None else _marked_spans(piece, turns, conversation, tokenizer):
        first, closing = piece.tokens.token_at(start), piece.tokens.token_at(end)
        while closing < len(ids) and ids[closing] not in tokenizer.special_ids:
            closing += 1
        learned.append(Range(first, min(closing + 1, len(ids))))
    return learned


def _marked_spans(
    piece: Piece, turns: tuple[Message, ...], conversation: Conversation, tokenizer: ChatTokenizer
) -> list[CharSpan]:
    """Put each answer between marks, render, and find the marks, trying the trims that templates are known to make.

    An answer that is nothing but calls has no content to stand between marks, and templates write turns with and
    without content differently: it ends behind the marked name of the last tool called, and begins where any words
    would, had the turn said them.
    """
    assert tokenizer.template is not None
    for trim in TRIMS:
        marked_turns = tuple(
            _marked(message, trim) if index in piece.answers else message for index, message in enumerate(turns)
        )
        marked = tokenizer.template.render(
            marked_turns, answer_next=False, columns=conversation.extra, thinking=thinks(turns)
        )
        spans, plain = _remove_marks(marked)
        if plain == piece.text and len(spans) == sum(_num_marks(turns[index]) for index in piece.answers):
            found = iter(spans)
            return [_whole(piece.text, turns[: index + 1], conversation, tokenizer.template, found)
                    for index in sorted(piece.answers)]  # fmt: skip
    raise not_proven(
        "the template changes the answer's text, so its characters cannot be found again",
        "give a template that writes answers as they are with data.chat_template",
    )


def _num_marks(message: Message) -> int:
    return 1 + any(isinstance(message.extra.get(key), str) for key in THINKING_KEYS)


def _whole(
    text: str, turns: tuple[Message, ...], conversation: Conversation, template: ChatTemplate, marks: Iterator[CharSpan]
) -> CharSpan:
    """Join what was found of the last of the turns: what it thinks, and what it says or calls."""
    spans = [next(marks) for _ in range(_num_marks(turns[-1]))]
    if len(spans) > 1:
        begin = _beginning_of_thinking(text[: spans[0].start], template)
    elif is_call_alone(turns[-1]):
        begin = _beginning(text, turns, conversation, template)
    else:
        begin = spans[0].start
        lead = _lead(template)
        begin -= len(lead) if text.endswith(lead, 0, begin) else 0
    return CharSpan(begin, spans[-1].end)


def _lead(template: ChatTemplate) -> str:
    """Give what the model writes before an answer: what an example's answer has before it and its prompt has not."""
    answered = Message(role="assistant", content=OPEN)
    prompt, whole = _example(template, answer_next=True), _example(template, answered, answer_next=False)
    return whole[len(prompt) : whole.find(OPEN)] if prompt and whole.startswith(prompt) else ""


def _example(template: ChatTemplate, *answers: Message, answer_next: bool, thinking: bool = False) -> str:
    """Render a question that is no row's; nothing where the template will not."""
    turns = (Message(role="user", content="1"), *answers)
    with suppress(TemplateRefusedError):
        return template.render(turns, answer_next=answer_next, columns={}, thinking=thinking)
    return ""


def _beginning_of_thinking(before: str, template: ChatTemplate) -> int:
    """Find where an answer that thinks begins: at the opening of its thinking, or behind what the server writes of it.

    Raises:
        UnfitRowError: The template opens it in a way that is not known.
    """
    start = opening_before(before)
    if start is None:
        raise not_proven(
            "the template opens the thinking of an answer in a way that is not known, so its beginning is not",
            "leave the thinking out, or give another template with data.chat_template",
        )
    asked = _example(template, answer_next=True, thinking=True)
    given = opening_before(asked)
    return start if given is None else start + len(asked) - given


def _marked(message: Message, trim: Callable[[str], str]) -> Message:
    for key in THINKING_KEYS:
        if isinstance(thought := message.extra.get(key), str):
            rest = replace(message, extra={name: value for name, value in message.extra.items() if name != key})
            marked = _marked(rest, trim)
            return replace(marked, extra={**marked.extra, key: OPEN + trim(thought) + CLOSE})
    if is_call_alone(message):
        return replace(message, extra=mark_last_name(message.extra, OPEN + CLOSE))
    return replace(message, content=OPEN + trim(message.content) + CLOSE)


def _beginning(text: str, turns: tuple[Message, ...], conversation: Conversation, template: ChatTemplate) -> int:
    """Find where the last of the turns begins to say something, by words in place of its calls.

    Raises:
        UnfitRowError: The template begins a turn that calls tools in another way than one that speaks.
    """
    spoken = replace(turns[-1], content=OPEN + CLOSE, extra=without_calls(turns[-1].extra))
    said = template.render((*turns[:-1], spoken), answer_next=False, columns=conversation.extra, thinking=thinks(turns))
    before, mark, _ = said.partition(OPEN)
    if not mark or not text.startswith(before):
        raise not_proven(
            "the template begins a turn that calls tools otherwise than one that speaks, so its beginning is not known",
            "leave the row out, or give another template with data.chat_template",
        )
    return len(before)


def _remove_marks(marked: str) -> tuple[list[CharSpan], str]:
    spans, plain = [], ""
    rest = marked
    while OPEN in rest and CLOSE in rest:
        before, rest = rest.split(OPEN, 1)
        content, rest = rest.split(CLOSE, 1)
        spans.append(CharSpan(len(plain) + len(before), len(plain) + len(before) + len(content)))
        plain += before + content
    return spans, plain + rest
