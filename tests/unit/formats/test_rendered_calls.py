"""Calls of tools and thinking in texts that a chat template wrote, read as what they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.cli import main as edge
from finetune_exe.errors import OK
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.dialogue_marks import turns_in
from finetune_exe.text.formats.marked_turns import turn_form, with_turns
from finetune_exe.text.render import compile_template

QWEN = (
    "{% if tools %}<|im_start|>system\n{% if messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}"
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function "
    "signatures within <tools></tools> XML tags:\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}\n"
    "</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call><|im_end|>\n'
    "{% elif messages[0].role == 'system' %}<|im_start|>system\n{{ messages[0].content }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n"
    "{% elif m.role == 'assistant' %}<|im_start|>assistant{% if m.content %}\n{{ m.content }}{% endif %}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n'
    "</tool_call>{% endfor %}<|im_end|>\n"
    "{% elif m.role == 'tool' %}{% if loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}\n<tool_response>\n"
    "{{ m.content }}\n</tool_response>{% if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>\n{% endif %}"
    "{% endif %}{% endfor %}"
)
LLAMA = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{% if tools %}Environment: ipython\n{% endif %}"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}<|eot_id|>"
    "{% set ns = namespace(tools=tools) %}"
    "{% for m in messages %}{% if m.role == 'user' %}<|start_header_id|>user<|end_header_id|>\n\n{% if ns.tools %}"
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    "answers the given prompt.\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
    "{% for tool in tools %}{{ tool | tojson(indent=4) }}\n\n{% endfor %}{% set ns.tools = none %}{% endif %}"
    "{{ m.content }}<|eot_id|>{% elif m.tool_calls %}<|start_header_id|>assistant<|end_header_id|>\n\n"
    '{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}'
    "<|eot_id|>{% elif m.role == 'assistant' %}<|start_header_id|>assistant<|end_header_id|>\n\n{{ m.content }}"
    "<|eot_id|>{% elif m.role == 'tool' %}<|start_header_id|>ipython<|end_header_id|>\n\n{{ m.content | tojson }}"
    "<|eot_id|>{% endif %}{% endfor %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}{% if tools and loop.first %}[AVAILABLE_TOOLS] "
    "{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]"
    '{% elif m.tool_calls %}[TOOL_CALLS] [{% for c in m.tool_calls %}{"name": "{{ c.function.name }}", "arguments": '
    '{{ c.function.arguments | tojson }}, "id": "{{ c.id }}"}{{ ", " if not loop.last }}{% endfor %}]</s>'
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>"
    '{% elif m.role == \'tool\' %}[TOOL_RESULTS] {"content": {{ m.content | tojson }}, "call_id": '
    '"{{ m.tool_call_id }}"}[/TOOL_RESULTS]{% endif %}{% endfor %}'
)
MINISTRAL = (
    "<s>{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}{% for m in messages %}"
    "{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% elif m.role == 'assistant' %}"
    "{% if m.reasoning_content %}[THINK]{{ m.reasoning_content }}[/THINK]{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}[TOOL_CALLS]{{ c.function.name }}CALL_ID[ARGS]"
    "{{ c.function.arguments | tojson }}{% endfor %}</s>{% elif m.role == 'tool' %}[TOOL_RESULTS]RESULT_ID"
    "{{ m.content }}[/TOOL_RESULTS]{% endif %}{% endfor %}"
)
NAMING = {"CALL_ID": "[CALL_ID]{{ c.id }}", "RESULT_ID": "{{ m.tool_call_id }}[TOOL_CONTENT]"}
"""What the templates of some of Mistral's models write besides, and those of others do not."""
GPT_OSS = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n"
    "Current date: 2025-08-05\n\nReasoning: medium\n\n# Valid channels: analysis, commentary, final. Channel must be "
    "included for every message.{% if tools %}\nCalls to these tools must go to the commentary channel: 'functions'."
    "{% endif %}<|end|>{% if messages[0].role == 'system' %}<|start|>developer<|message|># Instructions\n\n"
    "{{ messages[0].content }}\n\n<|end|>{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}<|start|>user<|message|>{{ m.content }}<|end|>"
    "{% elif m.role == 'assistant' %}{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>"
    "{{ m.thinking }}<|end|>{% endif %}{% for c in m.tool_calls or [] %}<|start|>assistant to=functions."
    "{{ c.function.name }}<|channel|>commentary json<|message|>{{ c.function.arguments | tojson }}<|call|>{% else %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% endfor %}{% elif m.role == 'tool' %}<|start|>functions.{{ loop.previtem.tool_calls[0].function.name }} "
    "to=assistant<|channel|>commentary<|message|>{{ m.content | tojson }}<|end|>{% endif %}{% endfor %}"
)
"""They are written from the documented form of each family."""
TEMPLATES = {"chatml": QWEN.replace("%}\n", "%}{{ '\\n' }}"), "llama-3": LLAMA, "mistral": MISTRAL, "gpt-oss": GPT_OSS}
FAMILY = pytest.mark.parametrize("form", TEMPLATES)
TOOLS = [
    {"type": "function", "function": {"name": name, "description": "It says.", "parameters": {"type": "object"}}}
    for name in ("get_weather", "add")
]
SAID = st.text("abc {}\"':,\n", min_size=1, max_size=12).map(str.strip).filter(bool)
ARGUMENTS = st.dictionaries(SAID, st.one_of(SAID, st.integers(), st.lists(st.booleans(), max_size=2)), max_size=2)


def call(number: int, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call{number:05}", "type": "function", "function": function}


def asking(arguments: dict[str, Any], result: str, *, twice: bool = False, system: str | None = None) -> Conversation:
    calls = [call(0, "get_weather", arguments), *([call(1, "add", {"a": 1})] if twice else [])]
    messages = [
        *([Message(role="system", content=system)] if system else []),
        Message(role="user", content="How warm is it in Oslo?"),
        Message(role="assistant", content="", extra={"tool_calls": calls}),
        *(Message(role="tool", content=result, extra={"tool_call_id": one["id"]}) for one in calls),
        Message(role="assistant", content="It is 3 degrees."),
    ]
    return Conversation(kind="chat", messages=tuple(messages))


def rendered(form: str, conversation: Conversation, tools: list[Any] | None = None) -> str:
    template = compile_template(TEMPLATES[form], special_tokens={}, where=form)
    return template.render(conversation.messages, answer_next=False, columns={"tools": tools} if tools else {})


def parted(form: str, text: str) -> Conversation:
    read = with_turns(turn_form(form)).read({"text": text})
    assert isinstance(read, Conversation), read
    return read


@FAMILY
@given(
    arguments=ARGUMENTS, result=SAID.map(lambda said: f"so {said}"), twice=st.booleans(), system=SAID | st.none(),
    given_tools=st.booleans(),
)  # fmt: skip
def test_what_a_template_writes_of_calls_comes_back_as_calls(
    form: str, arguments: dict[str, Any], result: str, twice: bool, system: str | None, given_tools: bool
) -> None:
    asked = asking(
        arguments, result, twice=twice and form in ("chatml", "mistral"), system=None if form == "mistral" else system
    )
    tools = TOOLS if given_tools and form != "gpt-oss" else None
    read = parted(form, rendered(form, asked, tools))
    assert read.messages == asked.messages
    assert read.extra == ({"tools": TOOLS} if tools else {})
    assert read.notes == ()
    assert rendered(form, read, read.extra.get("tools")) == rendered(form, asked, tools)


@FAMILY
def test_the_form_of_a_text_with_calls_is_recognised(form: str) -> None:
    assert turns_in(rendered(form, asking({"city": "Oslo"}, "3 C"))) == form


def test_what_gpt_oss_thinks_is_kept_as_thinking_and_written_again() -> None:
    messages = (
        Message(role="user", content="How warm?"),
        Message(role="assistant", content="", extra={"thinking": "Ask.", "tool_calls": [call(0, "get_weather", {})]}),
        Message(role="tool", content="3 C", extra={"tool_call_id": "call00000"}),
        Message(role="assistant", content="It is 3 C.", extra={"thinking": "They say 3."}),
    )
    text = rendered("gpt-oss", Conversation(kind="chat", messages=messages))
    read = parted("gpt-oss", text)
    assert [message.extra.get("reasoning_content") for message in read.messages] == [None, "Ask.", None, "They say 3."]
    assert [message.content for message in read.messages] == ["How warm?", "", "3 C", "It is 3 C."]
    own = text.replace(
        "assistant to=functions.get_weather<|channel|>commentary json",
        "assistant<|channel|>commentary to=functions.get_weather <|constrain|>json",
    )
    assert own != text
    assert parted("gpt-oss", own).messages == read.messages
    unanswered = with_turns(turn_form("gpt-oss")).read({"text": text.rpartition("<|start|>")[0]})
    assert isinstance(unanswered, RowFault)
    assert unanswered.message == "no answer stands behind what is thought, 'They say 3.'"
    broken = with_turns(turn_form("gpt-oss")).read({"text": text.replace("{}<|call|>", "{city<|call|>")})
    assert isinstance(broken, RowFault)
    assert broken.message == "the arguments of the call of 'get_weather' are no JSON object"


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("thought", [None, "They will know."])
def test_the_calls_and_thoughts_of_later_mistrals_come_back(names: bool, thought: str | None) -> None:
    source = MINISTRAL
    for place, name in NAMING.items():
        source = source.replace(place, name if names else "")
    asked = asking({"city": "Oslo"}, "3 C", twice=True)
    extra = {"reasoning_content": thought} if thought else {}
    messages = (
        asked.messages[0], replace(asked.messages[1], extra={**extra, **asked.messages[1].extra}), *asked.messages[2:]
    )  # fmt: skip
    text = compile_template(source, special_tokens={}, where="ministral").render(
        messages, answer_next=False, columns={"tools": TOOLS}
    )
    read = parted("mistral", text)
    assert read.messages == messages
    assert read.extra == {"tools": TOOLS}


def test_an_answer_that_thinks_and_speaks_before_it_calls_keeps_both() -> None:
    said = "<think>\nUse <tool_call>?\n</think>\n\nLet me look."
    text = (
        "<|im_start|>user\nHow warm?<|im_end|>\n"
        f'<|im_start|>assistant\n{said}\n<tool_call>\n{{"name": "look", "arguments": {{}}}}\n</tool_call><|im_end|>\n'
    )
    assert parted("chatml", text).messages[1] == Message(
        role="assistant", content=said, extra={"tool_calls": [call(0, "look", {})]}
    )


def test_the_tools_turns_of_hermes_are_results() -> None:
    text = (
        "<|im_start|>user\nHow warm?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"arguments": {}, "name": "look"}\n</tool_call><|im_end|>\n'
        '<|im_start|>tool\n<tool_response>\n{"warmth": 3}\n</tool_response><|im_end|>\n'
        "<|im_start|>assistant\nIt is 3.<|im_end|>\n"
    )
    result = Message(role="tool", content='{"warmth": 3}', extra={"tool_call_id": "call00000"})
    assert parted("chatml", text).messages[2] == result


@pytest.mark.parametrize("defined", [True, False])
def test_an_object_that_nothing_marks_as_a_call_is_one_only_where_its_tool_is_defined(defined: bool) -> None:
    messages = (
        Message(role="user", content="Describe a function."),
        Message(role="assistant", content='{"name": "add", "parameters": {"a": 1}}'),
    )
    text = rendered("llama-3", Conversation(kind="chat", messages=messages), TOOLS if defined else None)
    assert ("tool_calls" in parted("llama-3", text).messages[-1].extra) == defined


@pytest.mark.parametrize("broken", ['{"name": "look"}', '{"name": "look", "arguments": {}, "why": 1}', "look()",
                                    '{"name": "look", "arguments": {"a": NaN}}'])  # fmt: skip
def test_a_call_that_cannot_be_read_stays_text_and_is_noted(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"<tool_call>\n{broken}\n</tool_call>"
    text = f"<|im_start|>user\nHow warm?<|im_end|>\n<|im_start|>assistant\n{said}<|im_end|>\n"
    read = parted("chatml", text)
    assert read.messages[1] == Message(role="assistant", content=said)
    assert read.notes == ("call_as_text",)
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"text": text}) + "\n")
    asked = ["dataset", "chatml", str(path), "--turns", "chatml", "-o", str(tmp_path / "new.jsonl")]
    assert edge._run(asked, debug=False) == OK
    said = " ".join(capsys.readouterr().err.split())
    assert "1 noted (call_as_text): a turn that should call a tool is no JSON object" in said
    assert f"first at {path}:1" in said


def test_calls_of_a_rendered_text_are_written_as_a_format_has_them() -> None:
    read = parted("mistral", rendered("mistral", asking({"city": "Oslo"}, "3 C"), TOOLS))
    row = format_named("chatml").write(read)
    assert isinstance(row, dict)
    assert row["tools"] == TOOLS
    assert row["messages"][1]["tool_calls"] == [call(0, "get_weather", {"city": "Oslo"})]
    assert row["messages"][2] == {"role": "tool", "content": "3 C", "tool_call_id": "call00000"}
