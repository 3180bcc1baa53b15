"""A training script on Unsloth."""

from __future__ import annotations

from finetune_exe.domain.plan import Full, LowRank, Plan, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.export.exporter import File, Files
from finetune_exe.export.left_out import refuse_gguf, refuse_pairs
from finetune_exe.export.source import (
    Setting,
    adapter,
    assignments,
    entries,
    length_constants,
    looking_and_keeping,
    model_settings,
    script,
    setting,
    trainer_settings,
)

_HEADER = '''"""Fine-tune a language model with Unsloth on one GPU (written for Unsloth 2026.10.9, TRL 1.15 or older).

    pip install unsloth==2026.10.9
    python train_unsloth.py dataset/train.rows.jsonl dataset/validation.rows.jsonl

Any JSON lines with {"messages": [{"role": ..., "content": ...}, ...]} will do. Labels are made here and given to the
trainer, so that answers and their end-of-turn tokens alone are learned with any chat template.

Done otherwise than by fine-tune itself: the trainer's first step has a learning rate of zero where there is a warm-up,
and Unsloth replaces the model's code and the trainer's by its own.
"""

import argparse
import json
import math
import sys
from pathlib import Path

from unsloth import FastLanguageModel  # before torch and transformers, parts of which it replaces

import torch
from datasets import Dataset
from transformers import AutoTokenizer, EarlyStoppingCallback
from trl import SFTConfig, SFTTrainer

'''
_ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class UnslothScript:
    """Writes train_unsloth.py."""

    name = "unsloth"
    describe = "train_unsloth.py for Unsloth 2026.10"

    def export(self, plan: Plan) -> Files:
        """Write the plan as a script.

        Raises:
            FineTuneError: O03 where Unsloth does not know the method or cannot load the model.
        """
        refuse_pairs(plan, target=self.name)
        refuse_gguf(plan, target=self.name)
        method, precision = plan.method, plan.precision
        if method.kind not in ("lora", "qlora", "full"):
            raise FineTuneError(
                "O03",
                what=f"Unsloth 2026.10 cannot train method.kind={method.kind}",
                where="--to unsloth",
                why="it has adapters of low rank, and training of all weights",
                fix="--set method.kind=lora; or --to trl or python, which write scripts",
            )
        four_bit = isinstance(method, Qlora)
        constants = (
            *(item for item in model_settings(plan) if item.name != "GGUF"),
            Setting(name="GGUF", code="{}"),
            setting("FIRST_WORDS", None),
            _adapter(plan),
            setting("LOAD_IN_4BIT", four_bit),
            setting("BASE_DTYPE", precision.base_dtype, "precision.base_dtype"),
            setting("GRADIENT_CHECKPOINTING", precision.gradient_checkpointing, "precision.gradient_checkpointing"),
            setting("SEED", plan.seed, "seed"),
            *length_constants(plan),
            setting("EFFECTIVE_BATCH_SIZE", plan.batch.effective),
        )
        arguments = (*trainer_settings(plan), *_explicit(plan))
        text = script(
            _HEADER, plan, (*constants, *arguments),
            constants=f"{assignments(constants)}SETTINGS = {entries(arguments)}\n", parts=("encode", "unsloth"),
        )  # fmt: skip
        return (File(name="train_unsloth.py", text=text),)


def _adapter(plan: Plan) -> Setting:
    """Give what get_peft_model is called with; its scale and its layers are always said, for its own differ."""
    made = adapter(plan)
    if made is None or not isinstance(plan.method, LowRank):
        kept = ("method.masters",) if isinstance(plan.method, Full) and plan.method.masters == "float32" else ()
        return Setting(name="ADAPTER", code="None", paths=("method.kind", *kept))
    named = {item.name: item for item in made.settings if item.name != "task_type"}
    if isinstance(plan.method.target_modules, str):
        named["target_modules"] = setting("target_modules", list(_ALL_LINEAR), "method.target_modules")
    settings = tuple(named.values())
    paths = ("method.kind", *(path for item in settings for path in item.paths))
    return Setting(name="ADAPTER", code=entries(settings), paths=paths)


def _explicit(plan: Plan) -> tuple[Setting, ...]:
    return (
        setting("per_device_eval_batch_size", plan.batch.micro_batch_size),
        *looking_and_keeping(plan),
        Setting(name="max_length", code="MAX_LENGTH"),
        setting("packing", False),
        setting("padding_free", False),
        setting("assistant_only_loss", False),
        setting("completion_only_loss", False),
    )
