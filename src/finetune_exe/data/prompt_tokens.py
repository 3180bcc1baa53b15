"""Look for the generation prompt before every answer, and whether a token of it is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.encode import Sequence as Encoded
from finetune_exe.text.render import TemplateRefusedError
from finetune_exe.text.thinking import thinking_of
from finetune_exe.text.tokenizer import ChatTokenizer

_USUAL = Conversation(kind="chat", messages=(Message(role="user", content="a"), Message(role="assistant", content="b")))


class PromptTokens(NamedTuple):
    """Tokens of generation prompts, and those among them that are not learned."""

    num_checked: int
    num_unlearned: int


class PromptCounter:
    """Counts the tokens that a template writes to begin an answer: all stand right before it, and none is learned.

    What the template writes is taken from the template itself, so an answer said to begin too early, inside its
    prompt, does not have the prompt before it.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        texts = self._texts(_USUAL)
        self._usual = tuple(tokenizer.encode(texts[0]).ids) if texts else ()

    def count(self, conversation: Conversation, sequences: Sequence[Encoded]) -> PromptTokens:
        """Count the generation prompts of a row.

        An answer without its prompt before it has as many learned prompt tokens as the prompt is long, and one where
        the template writes none and nothing at all stands before it.
        """
        checked = unlearned = 0
        for sequence in sequences:
            learned_until = 0
            for number, (first, end) in enumerate(sequence.ranges):
                before = self._num_before(conversation, sequence.tokens[:first], is_first=number == 0)
                checked += abs(before)
                unlearned += max(0, before - max(0, learned_until - (first - before)))
                learned_until = end
        return PromptTokens(checked, unlearned)

    def _num_before(self, conversation: Conversation, tokens: tuple[int, ...], *, is_first: bool) -> int:
        """Give the number of tokens of the prompt that `tokens` end with; below 0 where they do not end with it."""
        if conversation.kind == "text" or self._tokenizer.template is None:
            return (1 if tokens else -1) if is_first else 0
        usual = self._usual
        if usual and tokens[-len(usual) :] == usual:
            return len(usual)
        texts = self._texts(conversation)
        if not texts:
            return (1 if tokens else -1) if is_first else 0
        for text in texts:
            ids = self._tokenizer.encode(text).ids
            if self._tokenizer.decode(tokens[-2 * len(ids) - 2 :]).endswith(text):
                return len(ids)
        return -max(1, len(usual))

    def _texts(self, conversation: Conversation) -> list[str]:
        """Give what the template writes to begin each learned answer, if it writes anything."""
        template, found = self._tokenizer.template, []
        for index, message in enumerate(conversation.messages):
            if template is None or message.role != "assistant" or not message.learn:
                continue
            turns, columns, thinking = conversation.messages[:index], conversation.extra, bool(thinking_of(message))
            try:
                asked = template.render(turns, answer_next=False, columns=columns, thinking=thinking)
                answering = template.render(turns, answer_next=True, columns=columns, thinking=thinking)
            except TemplateRefusedError:
                continue
            if answering.startswith(asked) and answering != asked:
                found.append(answering[len(asked) :])
        return list(dict.fromkeys(found))
