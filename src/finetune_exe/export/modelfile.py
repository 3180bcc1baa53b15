"""An Ollama Modelfile whose template writes, character for character, what the chat template of the training wrote.

Ollama does not run Jinja. The texts between turns are found by rendering turns that can be recognised; what is put
together from them is then held against the template itself on real conversations, and nothing is written where one
differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.text.conversation import Message
from finetune_exe.text.render import ChatTemplate, TemplateRefusedError

_SYSTEM, _USER, _ANSWER, _AGAIN = "Qxsystemxq", "Qxuserxq", "Qxanswerxq", "Qxagainxq"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTexts:
    """What stands around the contents of turns."""

    without_system: str
    """At the beginning, where there is no system turn."""
    before_system: str
    after_system: str
    before_user: str
    before_answer: str
    """Between a user turn and an answer given before."""
    after_answer: str
    answer_next: str
    """Between the last user turn and the answer the model gives."""

    def write(self, messages: Sequence[Message]) -> str:
        """Write turns as Ollama does with the template made of these texts."""
        around = {
            "system": (self.before_system, self.after_system),
            "user": (self.before_user, ""),
            "assistant": (self.before_answer, self.after_answer),
        }
        start = "" if messages[0].role == "system" else self.without_system
        turns = (around[m.role][0] + m.content + around[m.role][1] for m in messages if m.role in around)
        return start + "".join(turns) + self.answer_next


def turn_texts(template: ChatTemplate, *, bos: str = "", thinking: bool = False) -> TurnTexts | None:
    """Find what a chat template puts around contents; None where it takes no system turn, or moves contents.

    Args:
        template: The chat template.
        bos: A first token that the server puts there itself; it is left out.
        thinking: Answers begin with what they think.
    """
    system, user = Message(role="system", content=_SYSTEM), Message(role="user", content=_USER)
    answer, again = Message(role="assistant", content=_ANSWER), Message(role="user", content=_AGAIN)
    try:
        whole = template.render((system, user, answer, again), answer_next=True, columns={}, thinking=thinking)
        alone = template.render((user,), answer_next=True, columns={}, thinking=thinking)
    except TemplateRefusedError:
        return None
    pieces = _between(whole, (_SYSTEM, _USER, _ANSWER, _AGAIN))
    first = _between(alone, (_USER,))
    if pieces is None or first is None or first[1] != pieces[4]:
        return None
    before_system, to_user, to_answer, to_again, answer_next = pieces
    beginning = first[0].removeprefix(bos)
    before_user = _common_ending((beginning, to_user, to_again))
    cut = len(before_user)
    return TurnTexts(
        without_system=beginning[: len(beginning) - cut], before_system=before_system.removeprefix(bos),
        after_system=to_user[: len(to_user) - cut], before_user=before_user, before_answer=to_answer,
        after_answer=to_again[: len(to_again) - cut], answer_next=answer_next,
    )  # fmt: skip


def modelfile(
    weights: str, texts: TurnTexts, *, stops: Sequence[str], context: int, most_tokens: int, license: str | None
) -> str | None:
    """Write a Modelfile that answers as the model was evaluated: greedily, and with its own stop tokens.

    Args:
        weights: Name of the GGUF file beside it.
        texts: What stands around turns, without a first token that the file has the server add.
        stops: Texts at which an answer ends.
        context: Tokens of a conversation that the server makes room for.
        most_tokens: Tokens of an answer.
        license: Of the base model.

    Returns:
        The file's text; None where Ollama's syntax cannot hold a text.
    """
    template = "".join((
        '{{ if ne (index .Messages 0).Role "system" }}', _literal(texts.without_system), "{{ end }}",
        "{{ range .Messages }}",
        '{{ if eq .Role "system" }}', _literal(texts.before_system), "{{ .Content }}", _literal(texts.after_system),
        '{{ else if eq .Role "user" }}', _literal(texts.before_user), "{{ .Content }}",
        '{{ else if eq .Role "assistant" }}', _literal(texts.before_answer), "{{ .Content }}",
        _literal(texts.after_answer), "{{ end }}{{ end }}", _literal(texts.answer_next),
    ))  # fmt: skip
    if any('"""' in text or "\r" in text for text in (template, *stops)):
        return None
    lines = [
        f"FROM ./{weights}",
        f'TEMPLATE """{template}"""',
        *(f'PARAMETER stop "{stop}"' for stop in stops),
        "PARAMETER temperature 0",
        "PARAMETER repeat_penalty 1.0",
        f"PARAMETER num_ctx {context}",
        f"PARAMETER num_predict {most_tokens}",
        *([] if license is None else [f'LICENSE """{license}"""']),
    ]
    return "\n".join(lines) + "\n"


def _between(text: str, marks: Sequence[str]) -> list[str] | None:
    """Cut a text at marks that must each stand in it once, in this order."""
    pieces, rest = [], text
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            return None
        pieces.append(before)
    return [*pieces, rest]


def _common_ending(texts: Sequence[str]) -> str:
    """Give the longest text that all of them end in."""
    shortest = min(texts, key=len)
    starts = (start for start in range(len(shortest)) if all(text.endswith(shortest[start:]) for text in texts))
    return shortest[next(starts, len(shortest)) :]


def _literal(text: str) -> str:
    """Write a text so that Ollama's template language takes it as it is."""
    return text.replace("{{", '{{ "{{" }}')
