"""A tokenizer and a model small enough to train in a second, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "trims_content": (
        "{{ bos_token }}{% for message in messages %}{{ '<|head|>' + message['role'] + '<|/head|>\n\n' }}"
        "{{ message['content'] | trim }}{{ '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
    ),
    "renames_roles": (
        "{{ bos_token }}{% for message in messages %}"
        "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate user/assistant/user/...') }}{% endif %}"
        "{{ '<|im_start|>' + role + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}"
    ),
    "brackets": (
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
        "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    "thinks": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}"
    ),
    "generation_block": (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
        "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|head|>", "<|/head|>", "<s>"]
VOCABULARY = 400


def write_tokenizer(folder: Path, *, template: str | None = TEMPLATES["chatml"], pad: str = "<|im_end|>") -> Path:
    """Train a byte-level BPE on a few sentences and write it as a model folder has it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        ["the quick brown fox jumps over the lazy dog, said the user to the assistant\n\nthe end\n\n\n"] * 3, trainer
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": "<s>",
        "eos_token": "<|im_end|>",
        "pad_token": pad,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def write_model(folder: Path, *, seed: int = 0, tied: bool = True) -> Path:
    """Write a random two-layer Llama with the tokenizer above."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=tied, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_gpt2(folder: Path, *, positions: int) -> Path:
    """Write a random two-layer GPT-2, which learned a vector for each position and drops out while it trains."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    write_tokenizer(folder)
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=positions, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2,
                        bos_token_id=None, eos_token_id=None)  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def write_rows(path: Path, *, count: int = 60) -> Path:
    """Write short conversations about a few topics, each topic a group."""
    topics = ("fox", "dog", "user", "end", "lazy", "quick", "brown", "over", "jump", "said", "the", "assistant")
    lines = []
    for number in range(count):
        topic = topics[number % len(topics)]
        question = f"say {topic} {number}" + " please" * (number % 4)
        answer = f"the {topic} said {number % 7}" + f" {topic}" * (number % 3)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        lines.append(json.dumps({"messages": messages, "topic": topic}))
    path.write_text("\n".join(lines) + "\n")
    return path
