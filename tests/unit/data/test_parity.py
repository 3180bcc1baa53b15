"""What is trained is what other programs serve: transformers and minijinja render the same ids."""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import replace
from http.client import HTTPConnection
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl
from tests.unit.text.chat_templates import FAMILIES, Family, write_family

from finetune_exe.data.parity import compare_engines
from finetune_exe.data.prepare import prepare
from finetune_exe.data.prompt_tokens import PromptCounter
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode, encode_prompt
from finetune_exe.text.masks import Range
from finetune_exe.text.tokenizer import load_tokenizer

TEXTS = ("hi", " the fox\n", "1 < 2 & {{ x }}", "ünï 😀", "\n\nno", "a\tb", "{% if %}")


def conversations(family: Family) -> list[Conversation]:
    rows = []
    for first in TEXTS:
        for second in TEXTS:
            turns: list[Any] = [("user", first), ("assistant", second), ("user", second), ("assistant", first)]
            turns = [("system", first), *turns] if family.systems and second == "hi" else turns
            rows.append(Conversation(kind="chat", messages=tuple(Message(role=r, content=c) for r, c in turns)))
    return rows


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_prompts_are_those_of_transformers(family: Family, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = write_family(tmp_path / "m", family)
    tokenizer = load_tokenizer(folder, chat_template=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = transformers.AutoTokenizer.from_pretrained(str(folder))
    for row in conversations(family):
        messages = [{"role": message.role, "content": message.content} for message in row.messages[:-1]]
        made = peer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, enable_thinking=False
        )
        assert tuple(made["input_ids"]) == encode_prompt(row, tokenizer)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_second_engine_agrees(family: Family, tmp_path: Path) -> None:
    pytest.importorskip("minijinja")
    rows = conversations(family)
    parity, *_ = compare_engines(rows, load_tokenizer(write_family(tmp_path / "m", family), chat_template=None))
    assert (parity.num_conversations, parity.num_equal, parity.note) == (len(rows), len(rows), "")


def test_an_engine_that_renders_otherwise_is_found_out(tmp_path: Path) -> None:
    pytest.importorskip("minijinja")
    template = FAMILIES[0].template.replace("m['content'] + '<|im_end|>'", "m['content'].swapcase() + '<|im_end|>'", 1)
    (tmp_path / "odd.jinja").write_text(template)
    tokenizer = load_tokenizer(write_family(tmp_path / "m", FAMILIES[0]), chat_template=str(tmp_path / "odd.jinja"))
    parity, *_ = compare_engines(conversations(FAMILIES[0])[:3], tokenizer)
    assert (parity.num_conversations, parity.num_equal) == (3, 0)
    assert "swapcase" in parity.note


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_binding_of_llama_cpp_agrees(family: Family, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    tokenizer = load_tokenizer(write_family(tmp_path / "m", family), chat_template=None)
    rows = conversations(family)
    parity = compare_engines(rows, tokenizer)[-1]
    assert parity.engine.startswith("llama-cpp-python")
    assert parity.num_conversations == len(rows)
    # It never says that the model shall not think, so a template that asks begins the answer otherwise.
    assert parity.num_equal == (0 if "enable_thinking" in family.template else len(rows))


class FakeFormatter:
    """Stands in for the binding's class: it writes what it was given, one thing a line."""

    def __init__(self, template: str, eos_token: str, bos_token: str, *, add_generation_prompt: bool) -> None:
        self.given = (template, eos_token, bos_token, add_generation_prompt)

    def __call__(self, *, messages: list[dict[str, str]], tools: object) -> SimpleNamespace:
        asked = SimpleNamespace(messages=messages, tools=tools)
        SEEN.append((self.given, asked))
        turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in messages)
        return SimpleNamespace(prompt=turns + ("<|im_start|>assistant\n" if self.given[3] else ""))


SEEN: list[tuple[tuple[str, str, str, bool], SimpleNamespace]] = []


def test_the_binding_gets_template_tokens_and_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, module = ModuleType("llama_cpp"), ModuleType("llama_cpp.llama_chat_format")
    package.__spec__ = ModuleSpec("llama_cpp", None)
    module.Jinja2ChatFormatter = FakeFormatter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "llama_cpp", package)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_chat_format", module)
    monkeypatch.setattr("finetune_exe.data.parity.version", lambda name: "1.2.3")
    family = FAMILIES[0]
    rows = conversations(family)[:3]
    parity = compare_engines(rows, load_tokenizer(write_family(tmp_path / "m", family), chat_template=None))[-1]
    assert (parity.engine, parity.num_conversations, parity.num_equal) == ("llama-cpp-python 1.2.3", 3, 3)
    (template, eos, _, asks), seen = SEEN[-1]
    assert "generation %}" not in template
    assert (eos, asks) == ("<|im_end|>", True)
    assert [turn["role"] for turn in seen.messages] == [message.role for message in rows[-1].messages[:-1]]


def test_the_certificate_names_engines_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minijinja", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    folder = write_family(tmp_path / "m", FAMILIES[0])
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(9))
    prepare(plan_for(path), load_tokenizer(folder, chat_template=None), tmp_path / "out")
    parity, *_ = json.loads((tmp_path / "out" / "mask_certificate.json").read_text())["parity"]
    assert (parity["engine"], parity["num_conversations"], parity["note"]) == ("minijinja", 0, "not installed")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_the_generation_prompt_is_found_before_every_answer_and_missed_in_one_that_begins_too_early(
    family: Family, tmp_path: Path
) -> None:
    tokenizer = load_tokenizer(write_family(tmp_path / "m", family), chat_template=None)
    counter = PromptCounter(tokenizer)
    num_answers = 0
    for row in conversations(family):
        sequences = encode(row, tokenizer, max_length=10_000)
        if isinstance(sequences, RowFault):
            continue
        found = counter.count(row, sequences)
        num_answers += sum(len(sequence.ranges) for sequence in sequences)
        assert 0 < found.num_checked == found.num_unlearned
        (start, end), *others = sequences[0].ranges
        early = replace(sequences[0], ranges=(Range(start - 1, end), *others))
        wrong = counter.count(row, [early])
        assert wrong.num_unlearned < wrong.num_checked or family.name in ("llama-2", "mistral")
    assert num_answers


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_llama_cpp_serves_the_ids_that_were_trained(family: Family, tmp_path: Path) -> None:
    """Its server renders the template of an exported file and tokenises what it rendered, all in C++."""
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's binding is not installed: pip install xllamacpp")
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM, LlamaConfig

    from finetune_exe.models.gguf_vocabulary import read_vocabulary
    from finetune_exe.models.gguf_writing import Speech, write_gguf

    ours = load_tokenizer(write_family(tmp_path / "m", family), chat_template=None)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=ours.vocabulary_size, **sizes))
    if family.rstrip:  # llama.cpp would leave the white space behind such tokens where it is
        with pytest.raises(FineTuneError, match="white space"):
            read_vocabulary(tmp_path / "m", num_rows=ours.vocabulary_size)
        return
    vocabulary = read_vocabulary(tmp_path / "m", num_rows=ours.vocabulary_size)
    speech = Speech(
        name="x", license="mit", chat_template=family.template, bos_id=ours.bos_token_id, adds_bos=False,
        eos_id=ours.eos_token_id, end_of_turn_id=ours.eos_token_id, pad_id=0,
    )  # fmt: skip
    write_gguf(model, vocabulary, speech, tmp_path / "model.gguf", kind="f32")
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = str(tmp_path / "model.gguf"), 256, 1, False
    options.use_jinja = True
    server = xllamacpp.Server(options)
    unequal = []
    for row in conversations(family)[:12]:
        turns = [{"role": message.role, "content": message.content} for message in row.messages[:-1]]
        question = {"messages": turns, "chat_template_kwargs": {"enable_thinking": False}}
        text = asked(server.listening_address, "/apply-template", question)["prompt"]
        ids = asked(
            server.listening_address, "/tokenize", {"content": text, "add_special": False, "parse_special": True}
        )
        if tuple(ids["tokens"]) != encode_prompt(row, ours):
            unequal.append((text, ids["tokens"], encode_prompt(row, ours)))
    assert unequal == []


def asked(address: str, path: str, question: dict[str, Any]) -> dict[str, Any]:
    """Ask llama.cpp's server on this machine."""
    connection = HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("POST", path, json.dumps(question), {"Content-Type": "application/json"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    connection.close()
    return answer
