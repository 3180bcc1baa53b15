"""Turns that call tools: learned as the template writes them, proven twice, and never lost in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.tiny import write_tokenizer

from finetune_exe.data.check import check
from finetune_exe.evaluation.tasks.structured import find_json, read_calls
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode, reference_answer
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

HEAD = (
    "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}{% for m in messages %}{{ '<|im_start|>' + m.role }}"
)
TAIL = "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
CALLS = (
    '{% for call in m.tool_calls or [] %}{{ \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{ ARGUMENTS }}{{ '}\\n</tool_call>' }}{% endfor %}"
)
CALLING = HEAD + "{% if m.content %}{{ '\\n' + m.content }}{% endif %}" + CALLS + TAIL
"""Writes calls below what is said, as Qwen's templates do: a turn without words has no line for them."""
DEAF = HEAD.partition("{% for m")[2]
DEAF = "{% for m" + DEAF + "{{ '\\n' + m.content }}" + TAIL


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    templates = {
        "calling": CALLING.replace("ARGUMENTS", "call.function.arguments | tojson"),
        "text": CALLING.replace("ARGUMENTS", "'' + call.function.arguments"),
        "deaf": DEAF,
    }
    folder = tmp_path_factory.mktemp("templates")
    return {name: load_tokenizer(write_tokenizer(folder / name, template=template), chat_template=None)
            for name, template in templates.items()}  # fmt: skip


def asked(*calls: object, content: str = "") -> Conversation:
    made = [{"type": "function", "function": {"name": f"tool_{n}", "arguments": a}} for n, a in enumerate(calls, 1)]
    return Conversation(
        kind="chat",
        messages=(
            Message(role="user", content="weather in Oslo?"),
            Message(role="assistant", content=content, extra={"tool_calls": made}),
            Message(role="tool", content="3 C", extra={"tool_call_id": "c1"}),
            Message(role="assistant", content="It is 3 degrees."),
        ),
        extra={"tools": [{"type": "function", "function": {"name": "tool_1"}}]},
    )


def learned(conversation: Conversation, tokenizer: ChatTokenizer) -> list[str]:
    encoded = encode(conversation, tokenizer, max_length=10_000)
    assert not isinstance(encoded, RowFault), encoded
    (sequence,) = encoded
    return [tokenizer.decode(sequence.tokens[start:end]) for start, end in sequence.ranges]


@pytest.mark.parametrize("arguments", [{"city": "Oslo"}, '{"city": "Oslo"}', '{"city":"Oslo"}'])
def test_a_call_alone_is_learned_whole_with_its_arguments_as_an_object(
    arguments: object, tokenizers: dict[str, ChatTokenizer]
) -> None:
    assert learned(asked(arguments), tokenizers["calling"]) == [
        '<tool_call>\n{"name": "tool_1", "arguments": {"city": "Oslo"}}\n</tool_call><|im_end|>',
        "It is 3 degrees.<|im_end|>",
    ]


def test_several_calls_and_calls_beside_words_are_learned_whole(tokenizers: dict[str, ChatTokenizer]) -> None:
    two = learned(asked("{}", {"n": 2}), tokenizers["calling"])[0]
    assert two.startswith("<tool_call>")
    assert two.count("</tool_call>") == 2
    assert two.endswith('"arguments": {"n": 2}}\n</tool_call><|im_end|>')
    spoken = learned(asked("{}", content="Let me look."), tokenizers["calling"])[0]
    assert spoken.startswith("Let me look.\n<tool_call>")


def test_a_template_that_takes_arguments_as_text_gets_them_as_text(tokenizers: dict[str, ChatTokenizer]) -> None:
    assert '"arguments": {"city":"Oslo"}}' in learned(asked('{"city":"Oslo"}'), tokenizers["text"])[0]


def test_the_answer_asked_for_is_the_call_as_it_is_written(tokenizers: dict[str, ChatTokenizer]) -> None:
    row = asked('{"city": "Oslo"}')
    call = Conversation(kind="chat", messages=row.messages[:2], extra=row.extra)
    wanted = reference_answer(call, tokenizers["calling"])
    assert wanted == '<tool_call>\n{"name": "tool_1", "arguments": {"city": "Oslo"}}\n</tool_call>'
    assert wanted is not None
    assert [one.name for one in read_calls(find_json(wanted))] == ["tool_1"]
    assert reference_answer(row, tokenizers["calling"]) == "It is 3 degrees."


@pytest.mark.parametrize("content", ["", "Let me look."])
def test_a_call_that_the_template_does_not_write_is_no_empty_answer_to_learn(
    content: str, tokenizers: dict[str, ChatTokenizer]
) -> None:
    fault = encode(asked("{}", content=content), tokenizers["deaf"], max_length=10_000)
    assert isinstance(fault, RowFault)
    assert fault.code == "call_not_written"
    assert "tool_1 in turn 2" in fault.message


def test_the_check_says_what_the_model_would_not_see(tmp_path: Path, tokenizers: dict[str, ChatTokenizer]) -> None:
    tools = [{"type": "function", "function": {"name": "tool_1"}}]
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "tool_1", "arguments": "{}"}}]}
    turns = [{"role": "user", "content": "weather?"}, call, {"role": "tool", "content": "3 C"},
             {"role": "assistant", "content": "It is 3 degrees."}]  # fmt: skip
    rows = [{"messages": turns, "tools": tools}, {"messages": [turns[0], turns[3]], "tools": tools}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def found(name: str) -> dict[str, str]:
        report = check([str(tmp_path / "rows.jsonl")], tokenizer=tokenizers[name])
        return {finding.code: finding.severity for finding in report.findings}

    deaf = found("deaf")
    assert deaf["call_not_written"] == "error"
    assert deaf["tools_not_written"] == "warning"
    assert not found("calling").keys() & {"call_not_written", "tools_not_written"}
