"""What an answer thinks is learned where the model will write it, under whatever key a row keeps it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import write_tokenizer

from finetune_exe.cli import main as edge
from finetune_exe.data.parity import compare_engines
from finetune_exe.errors import BAD_DATA, OK, USAGE
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode, encode_prompt, reference_answer
from finetune_exe.text.thinking import THINKING_KEYS, moved, settled, thinking_key, without_thinking
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

_CHATML = "{{ '<|im_start|>' + m.role + '\n' }}"
TEMPLATES = {
    # The server leaves it to the model to open its thinking, or says that there is none.
    "opened by the model": (
        "{% for m in messages %}" + _CHATML + "{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' + (m.reasoning_content or '').strip('\n') + '\n</think>\n\n' }}{% endif %}"
        "{{ m.content.lstrip('\n') + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' + ('' if enable_thinking else '<think>\n\n</think>\n\n') }}{% endif %}"
    ),
    "opened by the server": (
        "{% for m in messages %}" + _CHATML + "{% if m.role == 'assistant' and loop.last %}"
        "{{ '<think>\n' + m.reasoning_content + '\n</think>\n' if m.reasoning_content else '<think></think>' }}"
        "{% endif %}{{ m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|im_start|>assistant\n' + ('<think>\n' if enable_thinking else '<think></think>') }}{% endif %}"
    ),
    "channels": (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% if m['thinking'] and loop.last %}"
        "{{ '<|im_start|>assistant<|channel|>analysis<|message|>' + m['thinking'] + '<|im_end|>' }}{% endif %}"
        "{{ '<|im_start|>assistant<|channel|>final<|message|>' + m.content + '<|im_end|>' }}{% else %}"
        "{{ '<|im_start|>' + m.role + '<|message|>' + m.content + '<|im_end|>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"
    ),
    "none": (
        "{% for m in messages %}" + _CHATML + "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}  # fmt: skip
THOUGHT, SAID = "two and two,\n\nso four", "the fox says 4"
LEARNED = {
    "opened by the model": f"<think>\n{THOUGHT}\n</think>\n\n{SAID}<|im_end|>",
    "opened by the server": f"{THOUGHT}\n</think>\n{SAID}<|im_end|>",
    "channels": f"<|channel|>analysis<|message|>{THOUGHT}<|im_end|><|im_start|>assistant<|channel|>final<|message|>{SAID}"
    "<|im_end|>",
}
WITHIN = f"<think>\n{THOUGHT}\n</think>\n\n{SAID}"


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    folder = tmp_path_factory.mktemp("thinking")
    return {name: load_tokenizer(write_tokenizer(folder / name, template=template), chat_template=None)
            for name, template in TEMPLATES.items()}  # fmt: skip


def answer(content: str = SAID, **extra: Any) -> Message:
    return Message(role="assistant", content=content, extra=extra)


def chat(*answers: Message) -> Conversation:
    """Each answer behind a question."""
    turns = (
        turn for number, said in enumerate(answers) for turn in (Message(role="user", content=f"ask {number}"), said)
    )
    return Conversation(kind="chat", messages=tuple(turns))


def learned(conversation: Conversation, tokenizer: ChatTokenizer) -> list[str]:
    encoded = encode(conversation, tokenizer, max_length=10_000)
    assert not isinstance(encoded, RowFault), encoded
    return [tokenizer.decode(sequence.tokens[start:end]) for sequence in encoded for start, end in sequence.ranges]


def prompt(conversation: Conversation, tokenizer: ChatTokenizer) -> str:
    ids = encode_prompt(conversation, tokenizer)
    assert ids is not None
    return tokenizer.decode(ids)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize(
    "thinker",
    [
        *(answer(**{key: THOUGHT}) for key in THINKING_KEYS),
        answer(WITHIN),
        answer(reasoning_content=THOUGHT, thinking=None),
    ],
    ids=[*THINKING_KEYS, "within the answer", "an empty key beside it"],
)
def test_it_is_learned_wherever_a_row_keeps_it(
    name: str, thinker: Message, tokenizers: dict[str, ChatTokenizer]
) -> None:
    assert learned(chat(thinker), tokenizers[name]) == [LEARNED[name]]


@pytest.mark.parametrize(
    ("name", "asks", "tells"),
    [
        ("opened by the model", "assistant\n", "assistant\n<think>\n\n</think>\n\n"),
        ("opened by the server", "assistant\n<think>\n", "assistant\n<think></think>"),
        ("channels", "assistant", "assistant"),
    ],
)
def test_each_answer_is_asked_for_as_it_answers(
    name: str, asks: str, tells: str, tokenizers: dict[str, ChatTokenizer]
) -> None:
    tokenizer = tokenizers[name]
    assert prompt(chat(answer(reasoning_content=THOUGHT)), tokenizer).endswith(f"<|im_start|>{asks}")
    assert prompt(chat(answer()), tokenizer).endswith(f"<|im_start|>{tells}")
    plain = f"{'<|channel|>final<|message|>' if name == 'channels' else ''}{SAID}<|im_end|>"
    assert learned(chat(answer()), tokenizer) == [plain]
    both = chat(answer("one"), answer(reasoning_content=THOUGHT))
    assert learned(both, tokenizer) == [plain.replace(SAID, "one"), LEARNED[name]]
    assert learned(chat(answer(WITHIN), answer(WITHIN)), tokenizer) == [LEARNED[name]] * 2


@pytest.mark.parametrize("name", LEARNED)
def test_what_a_metric_compares_is_what_is_said(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    for thinker in (answer(thinking=THOUGHT), answer(WITHIN), answer()):
        assert reference_answer(chat(thinker), tokenizers[name]) == SAID


def test_a_template_without_it_learns_what_stands_in_the_answer_and_refuses_the_rest(
    tokenizers: dict[str, ChatTokenizer],
) -> None:
    tokenizer = tokenizers["none"]
    assert learned(chat(answer(WITHIN)), tokenizer) == [f"{WITHIN}<|im_end|>"]
    fault = encode(chat(answer(reasoning=THOUGHT)), tokenizer, max_length=1000)
    assert isinstance(fault, RowFault)
    assert fault.code == "thinking_not_written"
    assert not isinstance(encode(chat(answer(reasoning="  ")), tokenizer, max_length=1000), RowFault)


def test_it_may_not_forge_turns(tokenizers: dict[str, ChatTokenizer]) -> None:
    fault = encode(chat(answer(thinking="so <|im_end|>")), tokenizers["opened by the model"], max_length=1000)
    assert isinstance(fault, RowFault)
    assert fault.code == "special_token"


def test_an_opening_that_is_not_known_is_not_guessed(tmp_path: Path) -> None:
    odd = TEMPLATES["opened by the model"].replace("<think>", "<ponder>")
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "odd", template=odd), chat_template=None)
    fault = encode(chat(answer(thinking=THOUGHT)), tokenizer, max_length=1000)
    assert isinstance(fault, RowFault)
    assert fault.code == "mask_not_proven"
    assert "opens the thinking" in fault.message


@pytest.mark.parametrize("name", LEARNED)
def test_another_engine_writes_the_same(name: str, tokenizers: dict[str, ChatTokenizer]) -> None:
    pytest.importorskip("minijinja")
    rows = [chat(answer(thinking=THOUGHT)), chat(answer(WITHIN)), chat(answer("one"), answer(reasoning=THOUGHT))]
    [parity, *_] = compare_engines(rows, tokenizers[name])
    assert (parity.num_equal, parity.note) == (3, "")


@pytest.mark.parametrize("name", LEARNED)
def test_transformers_writes_the_same(name: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_tokenizer(tmp_path / "m", template=TEMPLATES[name])
    peer, tokenizer = (
        transformers.AutoTokenizer.from_pretrained(str(folder)),
        load_tokenizer(folder, chat_template=None),
    )
    key = tokenizer.template.thinking_key if tokenizer.template else None
    turns = [{"role": "user", "content": "ask 0"}, {"role": "assistant", "content": SAID, key: THOUGHT}]
    whole = peer.apply_chat_template(turns, tokenize=False, enable_thinking=True)
    asked = peer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True, enable_thinking=True)
    [sequence] = encode(chat(answer(WITHIN)), tokenizer, max_length=1000)
    assert tokenizer.decode(sequence.tokens) == whole
    assert prompt(chat(answer(WITHIN)), tokenizer) == asked


def test_the_key_a_template_reads_is_found_in_it() -> None:
    assert [thinking_key(template) for template in TEMPLATES.values()] == [
        "reasoning_content", "reasoning_content", "thinking", None,
    ]  # fmt: skip
    assert thinking_key("{% if thinking %}{{ enable_thinking }}{% endif %}") is None, "a switch"


def test_what_is_written_behind_thinking_is_what_is_said() -> None:
    assert without_thinking(WITHIN) == SAID
    assert without_thinking(f"<think>{THOUGHT}") == ""
    assert without_thinking(SAID) == SAID


TAG = "A model closes its thinking with `</think>`."
SHOWN = "Write:\n```\n<think>\nhm\n</think>\n```\nand then the answer."
BARE = "Write\n<think>\nhm\n</think>\nand then the answer."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TAG, TAG),
        (f"{TAG}\nSo `<think>` opens it.", f"{TAG}\nSo `<think>` opens it."),
        (SHOWN, SHOWN),
        (BARE, BARE),
        (f"<think>hm</think>{TAG}", TAG),
        (f"<think>hm</think>\n\n{SHOWN}", SHOWN),
        (f"<think>hm</think>\n\n{BARE}", BARE),
        (f"<think>\nThey ask about `</think>`.\n</think>\n\n{TAG}", TAG),
        (f"They ask about `</think>`.\n</think>\n\n{TAG}", TAG),
        ("<think></think>\n4", "4"),
        ("</think>\n\n4", "4"),
        ("<think>\n```\n</think>\n4", "4"),
    ],
)
def test_a_mark_of_thinking_that_is_spoken_of_cuts_nothing_off(text: str, said: str) -> None:
    assert without_thinking(text) == said
    left_out = moved(chat(answer(text)), "out").messages[-1].content
    assert left_out == (said if text.startswith(("<think>hm", "<think>\n")) else text), "nothing was thought"


CALLING = (
    "{% for m in messages %}" + _CHATML + "{% if m.role == 'assistant' %}"
    "{{ '<think>\n' + m.reasoning_content + '\n</think>\n' if m.reasoning_content else '<think></think>' }}{% endif %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}{{ '<tool_call>' + call.function.arguments | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' + ('<think>\n' if enable_thinking else '<think></think>') }}{% endif %}"
)


@pytest.mark.parametrize("thought", [None, THOUGHT, "Where is </think> said?"])
def test_a_call_is_the_answer_whatever_was_thought_and_whatever_it_says(tmp_path: Path, thought: str | None) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, template=CALLING), chat_template=None)
    call = {"type": "function", "function": {"name": "find", "arguments": {"text": "</think>"}}}
    found = reference_answer(chat(answer("", tool_calls=[call], reasoning_content=thought)), tokenizer)
    assert found == '<tool_call>{"text": "</think>"}'


def test_thinking_that_speaks_of_its_mark_is_put_whole_where_the_template_reads_it() -> None:
    thought = "They ask about `</think>`."
    found = settled(chat(answer(f"<think>\n{thought}\n</think>\n\n{TAG}")), "reasoning_content").messages[-1]
    assert (found.content, found.extra["reasoning_content"]) == (TAG, thought)


@pytest.mark.parametrize("thinker", [answer(reasoning=THOUGHT, name="a"), answer(WITHIN, name="a")])
def test_it_is_written_into_answers_or_left_out(thinker: Message) -> None:
    plain = chat(answer("one", name="a"))
    assert moved(chat(thinker), "within") == chat(answer(WITHIN, name="a"))
    assert moved(chat(thinker), "out") == chat(answer(SAID, name="a"))
    assert moved(replace(plain, rejected=(thinker,)), "out").rejected == (answer(SAID, name="a"),)
    assert moved(plain, "within") == moved(plain, "out") == plain


def test_a_file_is_written_so_by_the_command(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": SAID, "thinking": THOUGHT}]
    (tmp_path / "rows.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 3)
    for place, content in (("within", WITHIN), ("out", SAID)):
        command = ["dataset", "chatml", str(tmp_path / "rows.jsonl"), "--thinking", place, "-o", str(tmp_path / place)]
        assert edge._run(command, debug=False) == OK
        first, *_ = map(json.loads, (tmp_path / place).read_text().splitlines())
        assert first["messages"][1] == {"role": "assistant", "content": content}
    assert edge._run(["dataset", "--check", str(tmp_path / "rows.jsonl"), "--thinking", "out"], debug=False) == USAGE


def test_a_format_without_a_place_for_it_says_where_it_may_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": SAID, "thinking": THOUGHT}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    command = ["dataset", "alpaca", str(tmp_path / "rows.jsonl")]
    assert edge._run(command, debug=False) == BAD_DATA
    said = capsys.readouterr().err
    assert "alpaca has no place for what an answer thinks" in said
    assert "--thinking within or --thinking out" in said
    assert edge._run([*command, "--thinking", "out"], debug=False) == OK
    turns[1]["name"] = "a"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    assert edge._run(command, debug=False) == BAD_DATA
    assert "--thinking" not in capsys.readouterr().err
