"""A Modelfile's template writes what the chat template writes, as a reader of Ollama's template language sees it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import TEMPLATES, write_tokenizer

from finetune_exe.export.modelfile import TurnTexts, modelfile, turn_texts
from finetune_exe.text.conversation import Message
from finetune_exe.text.render import ChatTemplate, compile_template
from finetune_exe.text.tokenizer import load_tokenizer

SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def compiled(source: str) -> ChatTemplate:
    return compile_template(source, special_tokens={"bos_token": "<s>", "eos_token": "</s>"}, where="test")


def served(text: str, messages: Sequence[Message]) -> str:
    """Run the few things of Go's template language that a Modelfile of ours uses."""
    found = re.search(r'TEMPLATE """(.*?)"""', text, re.DOTALL)
    assert found
    pieces = re.split(r"(\{\{ .*? \}\})", found[1], flags=re.DOTALL)

    def block(start: int, message: Message | None) -> tuple[str, int]:
        """Write up to the end that belongs to `start`, or to the next branch."""
        out, at = [], start
        while at < len(pieces):
            piece = pieces[at]
            if piece == "{{ end }}" or piece.startswith("{{ else"):
                break
            if piece == "{{ .Content }}":
                assert message is not None
                out.append(message.content)
            elif piece == '{{ "{{" }}':
                out.append("{{")
            elif piece == "{{ range .Messages }}":
                for turn in messages:
                    body, end = block(at + 1, turn)
                    out.append(body)
                at = end
            elif piece.startswith("{{ if"):
                body, at = branches(at, message)
                out.append(body)
            else:
                assert not piece.startswith("{{"), piece
                out.append(piece)
            at += 1
        return "".join(out), at

    def branches(at: int, message: Message | None) -> tuple[str, int]:
        chosen: str | None = None
        while pieces[at] != "{{ end }}":
            role = re.search(r'"(\w+)"', pieces[at])
            assert role
            if "ne (index .Messages 0).Role" in pieces[at]:
                holds = messages[0].role != role[1]
            else:
                assert message is not None
                holds = message.role == role[1]
            body, at = block(at + 1, message)
            if holds and chosen is None:
                chosen = body
        return chosen or "", at

    written, end = block(0, None)
    assert end == len(pieces)
    return written


def written(texts: TurnTexts) -> str:
    text = modelfile("m.gguf", texts, stops=("<|im_end|>",), context=64, most_tokens=8, license=None)
    assert text is not None
    return text


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12).map(lambda t: f"a{t}b")


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    turns = [Message(role="system", content=draw(WORDS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 3))):
        turns += [Message(role="user", content=draw(WORDS)), Message(role="assistant", content=draw(WORDS))]
    return (*turns, Message(role="user", content=draw(WORDS)))


@pytest.mark.parametrize("source", [TEMPLATES["chatml"], TEMPLATES["thinks"], TEMPLATES["trims_content"], SMOL],
                         ids=["chatml", "thinks", "trims_content", "default system"])  # fmt: skip
@given(messages=conversations())
@settings(max_examples=40, deadline=None)
def test_every_conversation_is_rendered_as_by_the_chat_template(source: str, messages: tuple[Message, ...]) -> None:
    template = compiled(source)
    texts = turn_texts(template)
    assert texts is not None
    assert served(written(texts), messages) == template.render(messages, answer_next=True, columns={})
    assert texts.write(messages) == served(written(texts), messages)


def test_a_first_token_that_the_server_adds_is_left_out() -> None:
    template = compiled(TEMPLATES["trims_content"])
    texts = turn_texts(template, bos="<s>")
    assert texts is not None
    for messages in (
        (Message(role="user", content="x"),),
        (Message(role="system", content="s"), Message(role="user", content="x")),
    ):
        whole = template.render(messages, answer_next=True, columns={})
        assert "<s>" + served(written(texts), messages) == whole


def test_a_template_without_system_turns_or_with_moved_contents_has_none(tmp_path: Path) -> None:
    assert turn_texts(compiled("{{ messages[-1]['content'] }}")) is None
    assert turn_texts(compiled(TEMPLATES["renames_roles"])) is None
    backwards = "{% for m in messages | reverse %}{{ m['content'] }}|{% endfor %}"
    assert turn_texts(compiled(backwards)) is None
    tokenizer = load_tokenizer(write_tokenizer(tmp_path), chat_template="plain")
    assert tokenizer.template is not None
    assert turn_texts(tokenizer.template) is not None


def test_texts_that_look_like_the_template_language_stay_texts() -> None:
    texts = turn_texts(compiled(TEMPLATES["chatml"].replace("'<|im_start|>'", "'{{ .Content }}'")))
    assert texts is not None
    assert served(written(texts), (Message(role="user", content="x"),)).startswith("{{ .Content }}user\nx")


def test_what_the_syntax_cannot_hold_is_not_written() -> None:
    texts = turn_texts(compiled(TEMPLATES["chatml"].replace("<|im_start|>", '"""')))
    assert texts is not None
    assert modelfile("m.gguf", texts, stops=(), context=64, most_tokens=8, license=None) is None
