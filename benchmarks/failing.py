"""Runs made to fail on purpose, by TRL and by this program: a small model made on the spot, rows, scripts and plans."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "said", "user", "assistant", "end")
OTHER_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3's way of writing turns: the small model's tokenizer has none of its marks."""
_LOUD = 2.0**18
"""Factor by which the inner activations of the loud model are larger: beyond float16, nothing to bfloat16."""


class Case(NamedTuple):
    """One way to fail, or none."""

    title: str
    wanted: tuple[str, ...]
    """Labels one of which must come first; empty where nothing is to be found."""
    trl: Mapping[str, Any] | None = None
    """What SFTConfig is given; None where TRL is not asked."""
    ours: tuple[str, ...] | None = None
    """Settings of the plan; None where this program is not asked."""
    rows: str = "learnable"
    model: str = "tiny-llama"
    lora: str = ""
    """Layers that get adapters; none trains every weight."""
    load: str = ""
    """Further arguments of from_pretrained."""
    disk_mib: float = 0.0
    """Size of the disk that checkpoints go to; 0 for the usual one."""
    count: int = 96


_TRL = {"bf16": False, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "num_train_epochs": 6}
_EACH = {"eval_strategy": "epoch", "save_strategy": "epoch"}
_NO_CHECKPOINTS = {"eval_strategy": "epoch", "save_strategy": "no"}
_OURS = ("method.kind=full", "precision.base_dtype=float32", "batch.micro_batch_size=8", "schedule.epochs=6",
         "batch.gradient_accumulation_steps=1", "data.keep_similar_together=false", "optimizer.learning_rate=0.003",
         "checkpoints.early_stopping_patience=null", "checkpoints.evaluations_per_epoch=1")  # fmt: skip

CASES = {
    "over": Case("learned by heart: 30 passes over 40 rows", ("overfitting",), rows="unlearnable", count=64,
                 trl={**_TRL, **_EACH, "learning_rate": 5e-3, "num_train_epochs": 30},
                 ours=(*_OURS, "optimizer.learning_rate=0.005", "schedule.epochs=30")),
    "masked": Case("every label masked: answers beyond the longest sequence", ("loss_zero_masked", "truncation"),
                   rows="long", trl={**_TRL, **_NO_CHECKPOINTS, "max_length": 24}, ours=(*_OURS, "data.max_length=24")),
    "unmarked": Case("every label masked: a template without marks", ("loss_zero_masked",),
                     trl={**_TRL, **_NO_CHECKPOINTS, "assistant_only_loss": True}),
    "hot": Case("learning rate 100 times too high", ("lr_divergence", "divergence"),
                trl={**_TRL, **_NO_CHECKPOINTS, "learning_rate": 0.3},
                ours=(*_OURS, "optimizer.learning_rate=1.0", "optimizer.max_grad_norm=null")),
    "template": Case("another family's template", ("no_learning_wrong_template",),
                     trl={**_TRL, **_EACH, "chat_template_path": "llama3.jinja"},
                     ours=(*_OURS, "data.chat_template=llama3.jinja")),
    "half": Case("weights and optimizer in float16", ("nan_loss",), load=", dtype=torch.float16",
                 trl={**_TRL, **_NO_CHECKPOINTS}),
    "overflow": Case("float16 with a model whose activations are beyond it", ("nan_loss",), model="loud-llama",
                     ours=(*_OURS, "method.kind=lora", "method.lora_rank=16", "batch.packing=false",
                           "batch.group_by_length=false", "precision.base_dtype=float16")),
    "disk": Case("a full disk", ("disk_full",), trl={**_TRL, **_EACH}, disk_mib=6.0, ours=_OURS),
    "sound-full": Case("healthy: every weight", (), trl={**_TRL, **_EACH}, ours=_OURS),
    "sound-lora": Case("healthy: LoRA", (), trl={**_TRL, **_EACH}, lora="all-linear",
                       ours=(*_OURS, "method.kind=lora", "method.lora_rank=16", "schedule.epochs=9")),
    "sound-one": Case("healthy: one epoch, no evaluation", (),
                      trl={**_TRL, "save_strategy": "no", "num_train_epochs": 1},
                      ours=(*_OURS, "schedule.epochs=2"), count=192),
    "sound-bf16": Case("healthy: bfloat16", (), trl={**_TRL, **_EACH, "bf16": True},
                       ours=(*_OURS, "precision.base_dtype=bfloat16")),
}  # fmt: skip

_SCRIPT = """{torch}from datasets import load_dataset
{peft}from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

MODEL = "../{model}"

tokenizer = AutoTokenizer.from_pretrained(MODEL)
model = AutoModelForCausalLM.from_pretrained(MODEL{load})
rows = load_dataset("json", data_files={{"train": "train.jsonl", "validation": "validation.jsonl"}})
config = SFTConfig(
    output_dir="{output}",
    use_cpu=True,
    report_to="none",
    logging_steps=1,
{settings})
trainer = SFTTrainer(
    model=model,
    args=config,
    train_dataset=rows["train"],
    eval_dataset=rows["validation"],
    processing_class=tokenizer,
{adapter})
trainer.train()
"""
_ADAPTER = '    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="{}", task_type="CAUSAL_LM"),\n'


def write_models(folder: Path, tokenizer: Path) -> None:
    """Train a model of two layers to answer in turns and to stop, and make one of it that is too loud for float16."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    words = AutoTokenizer.from_pretrained(tokenizer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True, pad_token_id=words.pad_token_id,
        eos_token_id=words.eos_token_id, bos_token_id=words.bos_token_id,
    )  # fmt: skip
    model, rng = LlamaForCausalLM(config), random.Random(0)  # noqa: S311
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(300):
        texts = [words.apply_chat_template(_repeat(rng), tokenize=False) for _ in range(16)]
        batch = words(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    for name in ("tiny-llama", "loud-llama"):
        model.save_pretrained(folder / name)
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            (folder / name / file).write_bytes((tokenizer / file).read_bytes())
        with torch.no_grad():
            for layer in model.model.layers:
                layer.mlp.up_proj.weight *= _LOUD
                layer.mlp.down_proj.weight /= _LOUD


def _repeat(rng: random.Random) -> list[dict[str, str]]:
    word, times = rng.choice(WORDS), rng.randint(1, 3)
    asked, answer = f"say {word} {times}", " ".join([word] * times)
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]


def conversations(kind: str, count: int) -> Iterator[tuple[str, str]]:
    """Give questions with answers: by a rule, by chance, or by a rule after a long question."""
    rng = random.Random(1)  # noqa: S311
    for number in range(count):
        index = rng.randrange(len(WORDS))
        if kind == "unlearnable":
            yield f"what is {WORDS[number % 12]} {number}", " ".join(rng.choice(WORDS) for _ in range(6))
        else:
            tail = " the lazy dog" * 6 if kind == "long" else " please" * (number % 3)
            answer = f"{WORDS[(5 * index + 3) % 12]} {WORDS[(7 * index + 1) % 12]}"
            yield f"what follows {WORDS[index]} {number}{tail}", answer


def write_trl(case: Case, folder: Path) -> None:
    """Write a TRL script as people have it, and its rows."""
    folder.mkdir()
    pairs = list(conversations(case.rows, case.count))
    lines = []
    for question, answer in pairs:
        asked, said = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
        row = {"prompt": [asked], "completion": [said]} if case.rows == "long" else {"messages": [asked, said]}
        lines.append(json.dumps(row) + "\n")
    held_out = len(lines) // 4 if case.rows != "unlearnable" else 24
    (folder / "train.jsonl").write_text("".join(lines[:-held_out]), encoding="utf-8")
    (folder / "validation.jsonl").write_text("".join(lines[-held_out:]), encoding="utf-8")
    (folder / "llama3.jinja").write_text(OTHER_TEMPLATE, encoding="utf-8")
    assert case.trl is not None
    settings = "".join(f"    {key}={value!r},\n" for key, value in case.trl.items() if value is not None)
    script = _SCRIPT.format(
        torch="import torch\n" if "torch" in case.load else "",
        peft="from peft import LoraConfig\n" if case.lora else "",
        model=case.model, load=case.load, settings=settings, adapter=_ADAPTER.format(case.lora) if case.lora else "",
        output="disk/out" if case.disk_mib else "out",
    )  # fmt: skip
    (folder / "train.py").write_text(script, encoding="utf-8")


def write_ours(case: Case, folder: Path) -> None:
    """Write rows for a plan."""
    folder.mkdir()
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for question, answer in conversations(case.rows, case.count):
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    (folder / "llama3.jinja").write_text(OTHER_TEMPLATE, encoding="utf-8")


def losses(text: str) -> list[float]:
    """Read the train losses that TRL printed."""
    return [float(loss) for loss in re.findall(r"[{ ]'loss': '?([\d.e+-]+|nan|inf)", text)]


def share_that_stops(model: Path, *, weights: Path | None = None) -> float:
    """Ask a model, as its own folder says it is to be asked, and count the answers that end by themselves."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words = AutoTokenizer.from_pretrained(model)
    loaded = AutoModelForCausalLM.from_pretrained(model if weights is None else weights)
    stopped = 0
    for word in WORDS:
        text = words.apply_chat_template(
            [{"role": "user", "content": f"what follows {word} 3"}], tokenize=False, add_generation_prompt=True
        )
        asked = words(text, return_tensors="pt", add_special_tokens=False)
        ids = loaded.generate(**asked, max_new_tokens=24, do_sample=False)[0, asked.input_ids.shape[1] :]
        stopped += words.eos_token_id in ids.tolist()
    return stopped / len(WORDS)
