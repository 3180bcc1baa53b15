"""Turn conversations into training tokens, and prove which of them are learned.

The loss mask is derived twice, by ways that share nothing but the template (see `masks`):

- *prefix rendering*: what the template adds when an answer is appended to the turns before it is the answer;
  tokens are counted;
- *marked content*: the answer's characters are found again in the rendered text; tokens are chosen by the
  characters they stand for.

Only a row where both agree token for token is trained on. No label is ever derived from a token's id, and the
token that ends an answer is always learned.

What is really done for every row: the conversation and each prompt are rendered by the template, and the whole
conversation is tokenised. What is taken from memory where it was proven to hold: the tokens of a prompt, from those of
the whole (`boundaries`), and where in the text each turn stands (`skeleton`, compared with each row's rendering
character for character). Where it does not hold, prompts are tokenised and answers marked row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from itertools import takewhile

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.masks import (
    AnswerText,
    Range,
    UnfitRowError,
    learned_by_mark,
    learned_by_prefix,
    not_proven,
    split_pieces,
)
from finetune_exe.text.placed import Placed
from finetune_exe.text.render import ChatTemplate, TemplateRefusedError
from finetune_exe.text.thinking import opening_before, settled, thinking_of, thinks, without_thinking
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.text.tool_calls import called_names

BATCH_ROWS, BATCH_CHARACTERS = 2048, 4_000_000
"""Most rows handed to the tokenizer at once, and about how many characters. Encodings that are freed in small batches
leave a heap in which the next are slow to find room: 256 rows at a time took a fifth more processor time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """Token ids of one training sequence, and which of them the model learns to predict."""

    tokens: tuple[int, ...]
    ranges: tuple[Range, ...]
    """Positions of the learned tokens, in order, disjoint."""

    @property
    def learned(self) -> tuple[bool, ...]:
        """For each token, whether it is learned."""
        flags = [False] * len(self.tokens)
        for start, end in self.ranges:
            flags[start:end] = [True] * (end - start)
        return tuple(flags)

    @property
    def num_learned(self) -> int:
        """Count the learned tokens."""
        return sum(end - start for start, end in self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What became of one row."""

    sequences: tuple[Sequence, ...]
    """Its sequences; for a row that is too long, those it would have."""
    fault: RowFault | None = None
    """Why it cannot be trained on."""


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
        no_template, template_refused, call_not_written, thinking_not_written, mask_not_proven, double_bos.
    """
    [encoded] = encode_rows([conversation], tokenizer, max_length=max_length)
    return encoded.fault or encoded.sequences


def encode_rows(conversations: Rows[Conversation], tokenizer: ChatTokenizer, *, max_length: int) -> list[Encoded]:
    """Encode many rows as `encode` does each, fast: the tokenizer gets them in batches.

    Args:
        conversations: The rows.
        tokenizer: The base model's.
        max_length: Longest sequence, in tokens.
    """
    results: list[Encoded] = []
    for drafts in _batches(_draft_row(row, tokenizer) for row in conversations):
        texts = [draft.text for draft in drafts if isinstance(draft, _Draft)]
        tokenised = iter(tokenizer.encode_batch(texts))
        results += [
            Encoded(sequences=(), fault=draft)
            if isinstance(draft, RowFault)
            else _finish(draft, next(tokenised), tokenizer, max_length)
            for draft in drafts
        ]
    return results


def encode_prompt(conversation: Conversation, tokenizer: ChatTokenizer) -> tuple[int, ...] | None:
    """Encode what the model is given to produce the row's last answer; None where there is no answer to produce."""
    last = _last_answer(conversation)
    if conversation.kind == "text" or last is None or tokenizer.template is None:
        return None
    turns = settled(conversation, tokenizer.template.thinking_key).messages
    try:
        text = tokenizer.template.render(
            turns[:last], answer_next=True, columns=conversation.extra, thinking=thinks(turns[: last + 1])
        )
    except TemplateRefusedError:
        return None
    return tuple(tokenizer.encode(text).ids)


def reference_answer(conversation: Conversation, tokenizer: ChatTokenizer) -> str | None:
    """Give the answer that `encode_prompt` asks for, without what it thinks before.

    Calls of tools are given as the template writes them, without its marks.
    """
    last = _last_answer(conversation)
    if last is None:
        return None
    answer, template = conversation.messages[last], tokenizer.template
    if template is None or not called_names(answer):
        return without_thinking(answer.content).strip()
    turns, columns = settled(conversation, template.thinking_key).messages[: last + 1], conversation.extra
    try:
        prompt = template.render(turns[:-1], answer_next=True, columns=columns, thinking=thinks(turns))
        written = template.render(turns, answer_next=False, columns=columns, thinking=thinks(turns))
    except TemplateRefusedError:
        return None
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, written, strict=False)))
    opened = "" if opening_before(prompt[:shared]) is None else "<think>"
    said = without_thinking(opened + written[shared:])
    for token in tokenizer.special_tokens:
        said = said.replace(token, "")
    return said.strip()


def _last_answer(conversation: Conversation) -> int | None:
    answers = [index for index, message in enumerate(conversation.messages) if message.role == "assistant"]
    return answers[-1] if answers else None


@dataclass(frozen=True, slots=True)
class _Draft:
    """A row that was rendered and is to be tokenised."""

    conversation: Conversation
    text: str
    answers: dict[int, AnswerText]
    """Empty for a text without turns."""


def _batches(drafts: Iterable[_Draft | RowFault]) -> Iterator[list[_Draft | RowFault]]:
    """Group rows for the tokenizer."""
    batch: list[_Draft | RowFault] = []
    characters = 0
    for draft in drafts:
        batch.append(draft)
        characters += len(draft.text) if isinstance(draft, _Draft) else 0
        if len(batch) == BATCH_ROWS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _draft_row(conversation: Conversation, tokenizer: ChatTokenizer) -> _Draft | RowFault:
    """Render a row and the prompt of each answer."""
    try:
        if conversation.kind == "text":
            return _draft_text(conversation, tokenizer)
        template = tokenizer.template
        if template is None:
            raise UnfitRowError(
                "no_template",
                "the base model has no chat template",
                "choose the instruct variant of the model, or --set data.chat_template=plain",
            )
        conversation = settled(conversation, template.thinking_key)
        answers = _learned_answers(conversation.messages)
        _refuse_special_tokens(conversation.messages, tokenizer)
        whole = template.render(
            conversation.messages, answer_next=False, columns=conversation.extra, thinking=thinks(conversation.messages)
        )
        return _Draft(conversation, whole, {i: _answer_text(conversation, i, template, whole) for i in answers})
    except UnfitRowError as unfit:
        return unfit.fault
    except TemplateRefusedError as refusal:
        return RowFault(
            code="template_refused",
            message=f"the chat template refuses the row: {refusal}",
            fix="put the turns in the order the template wants, or give another with data.chat_template",
        )


def _finish(draft: _Draft, tokens: Placed, tokenizer: ChatTokenizer, max_length: int) -> Encoded:
    """Prove the masks of a row that was tokenised."""
    try:
        if not draft.answers:
            return Encoded(sequences=_cut_text(draft, tokens, tokenizer, max_length))
        sequences = _prove_chat(draft, tokens, tokenizer)
    except UnfitRowError as unfit:
        return Encoded(sequences=(), fault=unfit.fault)
    except TemplateRefusedError as refusal:
        unmarked = not_proven(f"the chat template refuses the row with marks in it: {refusal}", "leave the row out")
        return Encoded(sequences=(), fault=unmarked.fault)
    if tokenizer.doubles_bos(sequences[0].tokens):
        return Encoded(sequences=(), fault=DOUBLE_BOS)
    longest = max(len(sequence.tokens) for sequence in sequences)
    return Encoded(sequences=sequences, fault=_too_long(longest, max_length) if longest > max_length else None)


def _prove_chat(draft: _Draft, tokens: Placed, tokenizer: ChatTokenizer) -> tuple[Sequence, ...]:
    conversation = draft.conversation
    sequences = []
    for piece in split_pieces(draft.text, tokens, draft.answers, tokenizer):
        turns = conversation.messages[: max(piece.answers) + 1] if piece.text != draft.text else conversation.messages
        learned = learned_by_prefix(piece, tokenizer)
        if learned != learned_by_mark(piece, turns, conversation, tokenizer):
            raise not_proven(
                "the two derivations of the loss mask disagree on this row",
                "look at the row's answers; if all rows fail, the template is at fault: "
                "give another with data.chat_template",
            )
        sequences.append(Sequence(tokens=tuple(piece.tokens.ids), ranges=tuple(learned)))
    return tuple(sequences)


def _too_long(tokens: int, max_length: int) -> RowFault:
    return RowFault(
        code="too_long",
        message=f"the conversation has {tokens} tokens, more than max_length {max_length}",
        fix="raise data.max_length, set data.on_too_long=truncate_prompt, or split the conversation",
    )


DOUBLE_BOS = RowFault(
    code="double_bos",
    message="the row begins with two beginning-of-text tokens",
    fix="give a template that writes it once with data.chat_template",
)


def _learned_answers(messages: tuple[Message, ...]) -> list[int]:
    answers = [index for index, message in enumerate(messages) if message.role == "assistant" and message.learn]
    if not answers:
        raise UnfitRowError(
            "no_assistant", "the conversation has no assistant turn to learn from", "add the answer, or drop the row"
        )
    if any(not messages[index].content.strip() and not messages[index].extra for index in answers):
        raise UnfitRowError("empty_answer", "an assistant turn is empty", "write the answer, or drop the row")
    return answers


def _refuse_special_tokens(messages: tuple[Message, ...], tokenizer: ChatTokenizer) -> None:
    for message in messages:
        token = tokenizer.specials.find(f"{thinking_of(message)}{message.content}")
        if token is not None:
            raise UnfitRowError(
                "special_token",
                f"a {message.role} turn contains the special token {token} as text",
                "remove it: the template writes such tokens itself, and inside a turn it would end or forge one",
            )


def _answer_text(conversation: Conversation, index: int, template: ChatTemplate, whole: str) -> AnswerText:
    messages, columns = conversation.messages, conversation.extra
    turns, thought = messages[: index + 1], thinking_of(messages[index])
    prompt = template.render(turns[:-1], answer_next=True, columns=columns, thinking=bool(thought))
    is_last = len(turns) == len(messages)
    text = whole if is_last else template.render(turns, answer_next=False, columns=columns, thinking=bool(thought))
    if thought not in text:
        raise UnfitRowError(
            "thinking_not_written",
            f"the chat template does not write the thinking of turn {index + 1}: an answer without it would be learned",
            "choose a base model whose chat template writes it, such as Qwen/Qwen3-4B, give a template with "
            "data.chat_template, or write it into the answers: fine-tune dataset chatml FILE --thinking within -o "
            "NEW.jsonl (out leaves it out)",
        )
    missing = next((name for name in called_names(messages[index]) if name not in text[len(prompt) :]), None)
    if missing is not None:
        raise UnfitRowError(
            "call_not_written",
            f"the chat template does not write the call of {missing} in turn {index + 1}: "
            "an answer without it would be learned",
            "choose a base model whose chat template writes tool calls, such as Qwen/Qwen3-4B-Instruct-2507, or give a "
            "template with data.chat_template",
        )
    if not text.startswith(prompt):
        raise not_proven(
            "the template does not continue its own prompt when the answer is added",
            "give a template whose generation prompt is the beginning of the answer with data.chat_template",
        )
    return AnswerText(prompt, text)


def _draft_text(conversation: Conversation, tokenizer: ChatTokenizer) -> _Draft:
    text = conversation.messages[0].content
    if not text.strip():
        raise UnfitRowError("empty_text", "the text is empty", "drop the row")
    _refuse_special_tokens((Message(role="assistant", content=text),), tokenizer)
    return _Draft(conversation, (tokenizer.bos_token or "") + text + tokenizer.eos_token, {})


def _cut_text(draft: _Draft, tokens: Placed, tokenizer: ChatTokenizer, max_length: int) -> tuple[Sequence, ...]:
    """Learn everything of a text but the bos token, its end token included; found by counting and by characters."""
    bos = tokenizer.bos_token or ""
    text = draft.conversation.messages[0].content
    counted = (tokenizer.encode(bos).ids if bos else []) + tokenizer.encode(text).ids + [tokenizer.eos_token_id]
    by_count = [index >= bool(bos) for index in range(len(counted))]
    by_offset = [offset[0] >= len(bos) for offset in tokens.offsets]
    if counted != tokens.ids or by_count != by_offset:
        raise not_proven(
            "a token straddles the beginning or end of the text",
            "remove white space at the beginning or end of the text",
        )
    sequences = []
    for start in range(0, len(counted), max_length):
        piece = tuple(counted[start : start + max_length])
        if len(piece) > 1:
            sequences.append(Sequence(tokens=piece, ranges=(Range(1, len(piece)),)))
    return tuple(sequences)
