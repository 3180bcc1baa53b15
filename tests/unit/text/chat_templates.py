"""Twelve ways to write a conversation, each as a Jinja template and, independently, as a few lines of Python.

The templates are written from the documented form of each family, with `{% generation %}` around what the model says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

Turn = tuple[str, str]
"""Role and content."""


class Answered(NamedTuple):
    """What the model is given before one answer, and what it must say, the end token included."""

    prompt: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Family:
    """A way to write conversations."""

    name: str
    template: str
    bos: str | None
    eos: str
    special: tuple[str, ...]
    systems: bool
    """Whether the template takes a system turn."""
    open: Callable[[Sequence[Turn]], str]
    """What stands before an answer to the last of these turns."""
    close: Callable[[str], str]
    """An answer as the model must write it."""
    after: str = ""
    """What the template writes behind an answer."""
    rstrip: bool = False
    """Whether its special tokens swallow white space behind them."""

    def answers(self, turns: Sequence[Turn]) -> list[Answered]:
        """List prompt and answer of every assistant turn."""
        return [
            Answered(self.open(turns[:index]), self.close(content))
            for index, (role, content) in enumerate(turns)
            if role == "assistant"
        ]


GENERATED = "{% generation %}{{ ANSWER }}{% endgeneration %}"
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def _roles(
    turns: Sequence[Turn],
    write: Callable[[str, str], str],
    *,
    start: str = "",
    ask: str,
    names: dict[str, str] | None = None,
) -> str:
    return start + "".join(write((names or {}).get(role, role), content) for role, content in turns) + ask


def _im(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _qwen_system(turns: Sequence[Turn]) -> str:
    return (
        ""
        if turns[0][0] == "system"
        else _im("system", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
    )


def _llama2(turns: Sequence[Turn]) -> str:
    system = f"<<SYS>>\n{turns[0][1].strip()}\n<</SYS>>\n\n" if turns[0][0] == "system" else ""
    text = ""
    for role, content in [turn for turn in turns if turn[0] != "system"]:
        if role == "user":
            text += f"<s>[INST] {system}{content.strip()} [/INST]"
            system = ""
        else:
            text += f" {content.strip()} </s>"
    return text


def _mistral(turns: Sequence[Turn]) -> str:
    return "<s>" + "".join(
        f"[INST] {content}[/INST]" if role == "user" else f" {content}</s>" for role, content in turns
    )


def _alpaca(turns: Sequence[Turn]) -> str:
    heads = {"user": "### Instruction:\n", "assistant": "### Response:\n", "system": ""}
    ends = {"user": "\n\n", "assistant": "<|endoftext|>\n\n", "system": "\n\n"}
    return "".join(heads[role] + content + ends[role] for role, content in turns) + "### Response:\n"


def _commands(turns: Sequence[Turn]) -> str:
    names = {"user": "USER", "assistant": "CHATBOT", "system": "SYSTEM"}
    return _roles(
        turns, lambda role, text: f"<|START_OF_TURN_TOKEN|><|{role}_TOKEN|>{text.strip()}<|END_OF_TURN_TOKEN|>",
        start="<BOS_TOKEN>", ask="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", names=names,
    )  # fmt: skip


def _chatml(system: str = "") -> str:
    answer = GENERATED.replace("ANSWER", "m['content'] + '<|im_end|>'")
    return (
        system + "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}" + answer
        + "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )  # fmt: skip


FAMILIES = (
    Family(
        name="chatml", bos=None, eos="<|im_end|>", special=IM, systems=True, template=_chatml(),
        open=lambda turns: _roles(turns, _im, ask="<|im_start|>assistant\n"), close=lambda text: text + "<|im_end|>", after="\n",
    ),
    Family(
        name="qwen2.5", bos=None, eos="<|im_end|>", special=IM, systems=True,
        template=_chatml("{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}{% endif %}"),
        open=lambda turns: _roles(turns, _im, start=_qwen_system(turns), ask="<|im_start|>assistant\n"),
        close=lambda text: text + "<|im_end|>", after="\n",
    ),
    Family(
        name="qwen3", bos=None, eos="<|im_end|>", special=IM, systems=True,
        template=(
            "{% for m in messages %}{% set content = m['content'] %}{{ '<|im_start|>' + m['role'] + '\n' }}"
            "{% if m['role'] == 'assistant' %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
            "{% if loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
            + GENERATED.replace("ANSWER", "content + '<|im_end|>'") +
            "{% else %}{{ content + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}"
            "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
        ),
        open=lambda turns: _roles(turns, _im, ask="<|im_start|>assistant\n<think>\n\n</think>\n\n"),
        close=lambda text: text + "<|im_end|>", after="\n",
    ),
    Family(
        name="llama-2", bos="<s>", eos="</s>", special=("<s>", "</s>"), systems=True,
        template=(
            "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\n' + messages[0]['content'] | trim + '\n<</SYS>>\n\n' %}{% set turns = messages[1:] %}"
            "{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}{% for m in turns %}"
            "{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.index0 == 0 else '') + m['content'] | trim + ' [/INST]' }}"
            "{% else %}" + GENERATED.replace("ANSWER", "' ' + m['content'] | trim + ' ' + eos_token") + "{% endif %}{% endfor %}"
        ),
        open=_llama2, close=lambda text: f" {text.strip()} </s>",
    ),
    Family(
        name="llama-3", bos="<|begin_of_text|>", eos="<|eot_id|>", systems=True,
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        template=(
            "{% for m in messages %}{{ bos_token if loop.index0 == 0 else '' }}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
            "{% if m['role'] == 'assistant' %}" + GENERATED.replace("ANSWER", "m['content'] | trim + '<|eot_id|>'")
            + "{% else %}{{ m['content'] | trim + '<|eot_id|>' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
        ),
        open=lambda turns: _roles(
            turns, lambda role, text: f"<|start_header_id|>{role}<|end_header_id|>\n\n{text.strip()}<|eot_id|>",
            start="<|begin_of_text|>", ask="<|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
        close=lambda text: text.strip() + "<|eot_id|>",
    ),
    Family(
        name="mistral", bos="<s>", eos="</s>", special=("<s>", "</s>", "[INST]", "[/INST]"), systems=False,
        template=(
            "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
            "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}{% else %}"
            + GENERATED.replace("ANSWER", "' ' + m['content'] + eos_token") + "{% endif %}{% endfor %}"
        ),
        open=_mistral, close=lambda text: f" {text}</s>",
    ),
    Family(
        name="gemma", bos="<bos>", eos="<end_of_turn>", special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), systems=False,
        template=(
            "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
            "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}{{ '<start_of_turn>' + role + '\n' }}"
            "{% if role == 'model' %}" + GENERATED.replace("ANSWER", "m['content'] | trim + '<end_of_turn>'")
            + "{% else %}{{ m['content'] | trim + '<end_of_turn>' }}{% endif %}{{ '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
        ),
        open=lambda turns: _roles(
            turns, lambda role, text: f"<start_of_turn>{role}\n{text.strip()}<end_of_turn>\n", start="<bos>",
            ask="<start_of_turn>model\n", names={"assistant": "model"},
        ),
        close=lambda text: text.strip() + "<end_of_turn>", after="\n",
    ),
    Family(
        name="phi-3", bos=None, eos="<|end|>", special=("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), systems=True, rstrip=True,
        template=(
            "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}{% if m['role'] == 'assistant' %}"
            + GENERATED.replace("ANSWER", "m['content'] + '<|end|>'") +
            "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
        ),
        open=lambda turns: _roles(turns, lambda role, text: f"<|{role}|>\n{text}<|end|>\n", ask="<|assistant|>\n"),
        close=lambda text: text + "<|end|>", after="\n",
    ),
    Family(
        name="zephyr", bos="<s>", eos="</s>", special=("<s>", "</s>"), systems=True,
        template=(
            "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' }}{% if m['role'] == 'assistant' %}"
            + GENERATED.replace("ANSWER", "m['content'] + eos_token") +
            "{% else %}{{ m['content'] + eos_token }}{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
        ),
        open=lambda turns: _roles(turns, lambda role, text: f"<|{role}|>\n{text}</s>\n", ask="<|assistant|>\n"),
        close=lambda text: text + "</s>", after="\n",
    ),
    Family(
        name="alpaca", bos=None, eos="<|endoftext|>", special=("<|endoftext|>",), systems=True,
        template=(
            "{% for m in messages %}{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n\n' }}{% elif m['role'] == 'system' %}{{ m['content'] + '\n\n' }}"
            "{% else %}{{ '### Response:\n' }}" + GENERATED.replace("ANSWER", "m['content'] + eos_token") + "{{ '\n\n' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
        ),
        open=_alpaca, close=lambda text: text + "<|endoftext|>", after="\n\n",
    ),
    Family(
        name="granite", bos=None, eos="<|end_of_text|>", special=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"), systems=True,
        template=(
            "{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' }}{% if m['role'] == 'assistant' %}"
            + GENERATED.replace("ANSWER", "m['content'] + '<|end_of_text|>'") +
            "{% else %}{{ m['content'] + '<|end_of_text|>' }}{% endif %}{{ '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
        ),
        open=lambda turns: _roles(
            turns, lambda role, text: f"<|start_of_role|>{role}<|end_of_role|>{text}<|end_of_text|>\n",
            ask="<|start_of_role|>assistant<|end_of_role|>",
        ),
        close=lambda text: text + "<|end_of_text|>", after="\n",
    ),
    Family(
        name="command-r", bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>", systems=True,
        special=("<BOS_TOKEN>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>", "<|SYSTEM_TOKEN|>"),
        template=(
            "{{ bos_token }}{% for m in messages %}{% set name = {'user': 'USER', 'assistant': 'CHATBOT', 'system': 'SYSTEM'}[m['role']] %}"
            "{{ '<|START_OF_TURN_TOKEN|><|' + name + '_TOKEN|>' }}{% if m['role'] == 'assistant' %}"
            + GENERATED.replace("ANSWER", "m['content'] | trim + '<|END_OF_TURN_TOKEN|>'") +
            "{% else %}{{ m['content'] | trim + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
        ),
        open=_commands, close=lambda text: text.strip() + "<|END_OF_TURN_TOKEN|>",
    ),
)  # fmt: skip


def write_family(folder: Path, family: Family) -> Path:
    """Train a byte-level BPE that knows the family's special tokens, and write it as a model folder has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=[AddedToken(token, special=True, normalized=False, rstrip=family.rstrip) for token in family.special],
    )  # fmt: skip
    text = "the quick brown fox jumps over the lazy dog, said the user to the assistant: 'no!'\n\n[INST] ### Response:\n\n\n"
    tokenizer.train_from_iterator([text] * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"eos_token": family.eos, "tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {"bos_token": family.bos} if family.bos else {}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(family.template)
    return folder
