"""What the self-tests work on: a random model of two layers, made on the spot, and a few conversations."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from finetune_exe.domain.plan import BaseModelChoice, DataChoice, DataNeeds, Method, Plan, Task
from finetune_exe.domain.values import Decision, Hardware
from finetune_exe.models.forward import Rows, collate
from finetune_exe.models.load import Dtype, pick_device, require_training_packages, settle_libraries
from finetune_exe.prepared.store import SequenceView
from finetune_exe.text.conversation import Conversation, Message
from finetune_exe.text.encode import encode
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

NUM_ROWS = 8
_SENTENCE = "please count the red and green apples in both of the baskets before you answer my question"
_WORDS = _SENTENCE.split()
_TEMPLATE = (
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A tiny model with rows for it."""

    folder: Path
    """Scratch space."""
    base: Path
    tokenizer: ChatTokenizer
    conversations: tuple[Conversation, ...]
    sequences: tuple[SequenceView, ...]
    device: str
    dtype: Dtype = "float32"
    """Format of the weights where a test does not say otherwise."""

    def rows(self, indices: Sequence[int]) -> Rows:
        """Put some of the rows into one batch."""
        chosen = [self.sequences[index] for index in indices]
        return collate(chosen, pad_token_id=self.tokenizer.pad_token_id, device=self.device)

    def plan(self, method: str = "full", **groups: Any) -> Plan:
        """Make a plan for the tiny model, all settings at their defaults but those given."""
        reference = Decision(value=str(self.base), reason="self-test", source="self-test", confidence="high")
        plan = Plan(
            task=Task(description="self-test", type="chat"),
            model=BaseModelChoice(reference=str(self.base), name="tiny"),
            data=DataChoice(max_length=1024),
            hardware=Hardware(cpu="this machine", num_cores=1, memory_bytes=1 << 30),
            data_needs=DataNeeds(
                minimum_samples=1, recommended_samples=1, reason="self-test", source="self-test", quality_checks=()
            ),
            decisions={"model.reference": reference},
        )
        kind: Any = TypeAdapter(Method).validate_python({"kind": method})
        return plan.model_copy(update={"method": kind, **groups})


def set_up_bench(folder: Path) -> Bench:
    """Write the tiny model into a folder and encode rows of different lengths for it.

    Raises:
        FineTuneError: X01 where a package that training needs is missing.
    """
    require_training_packages()
    settle_libraries()
    return _with_rows(_write_model(folder / "tiny"), folder, dtype="float32", chat_template=None)


def set_up_on(base: Path, folder: Path, *, memory_bytes: int) -> Bench:
    """Encode the same rows for a model at hand, in float32 where it then takes at most half of the memory.

    Args:
        base: The model's folder.
        folder: Scratch space.
        memory_bytes: What the device has.

    Raises:
        FineTuneError: M02, M03 where the model cannot be used.
    """
    require_training_packages()
    settle_libraries()
    num_bytes = 2 * sum(file.stat().st_size for file in base.glob("*.safetensors"))
    own = load_tokenizer(base, chat_template=None)
    return _with_rows(base, folder, dtype="float32" if num_bytes <= memory_bytes / 2 else "bfloat16",
                      chat_template=None if own.template else "plain")  # fmt: skip


def _with_rows(base: Path, folder: Path, *, dtype: Dtype, chat_template: str | None) -> Bench:
    tokenizer = load_tokenizer(base, chat_template=chat_template)
    conversations = tuple(map(_conversation, range(NUM_ROWS)))
    sequences = []
    for conversation in conversations:
        encoded = encode(conversation, tokenizer, max_length=256)
        assert isinstance(encoded, tuple), encoded
        sequences += [SequenceView(np.array(row.tokens, np.int32), np.array(row.learned)) for row in encoded]
    return Bench(
        folder=folder, base=base, tokenizer=tokenizer, conversations=conversations, sequences=tuple(sequences),
        device=pick_device(), dtype=dtype,
    )  # fmt: skip


def _conversation(number: int) -> Conversation:
    """Make a conversation of one to three questions; answers differ much in length, so that a wrong mean shows."""
    turns = []
    for turn in range(1 + number % 3):
        asked, answered = 3 + (number + turn) % 4, 1 + (5 * number + 3 * turn) % 13
        turns += [Message(role="user", content=" ".join(_WORDS[:asked])),
                  Message(role="assistant", content=" ".join(_WORDS[-answered:]))]  # fmt: skip
    return Conversation(kind="chat", messages=tuple(turns))


def _write_model(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    size = _write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=size, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, initializer_range=0.1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> int:
    """Write a tokenizer of single bytes and a few words as a model's folder has it; give its number of tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|start|>", "<|end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator([_SENTENCE] * 4, trainer)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "<|end|>", "pad_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
    return int(tokenizer.get_vocab_size())
