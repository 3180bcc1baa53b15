"""A training script on TRL's SFTTrainer, or its DPOTrainer where pairs are learned."""

from __future__ import annotations

from finetune_exe.domain.plan import Dpo, Plan, Prefix, Prompt, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.export.deepspeed import deepspeed_settings
from finetune_exe.export.exporter import File, Files
from finetune_exe.export.source import (
    Setting,
    assignments,
    entries,
    length_constants,
    literal,
    looking_and_keeping,
    method_constants,
    model_settings,
    script,
    setting,
    trainer_settings,
)

_ABOUT_ANSWERS = '''"""Fine-tune a language model with TRL's SFTTrainer (written for TRL 1.16).

    pip install "torch>=2.10" "transformers>=5.20" "peft>=0.21" "trl==1.16.*"
    python train_trl.py dataset/train.rows.jsonl dataset/validation.rows.jsonl

Any JSON lines with {"messages": [{"role": ..., "content": ...}, ...]} will do. Labels are made here and given to the
trainer, so that answers and their end-of-turn tokens alone are learned with any chat template. TRL's own ways differ:
assistant_only_loss needs a template with {% generation %} marks, and completion_only_loss learns the last answer alone
and with it the white space after its end-of-turn token. Both are therefore off below.

Unlike this program's own loop, the trainer's first step has a learning rate of zero where there is a warm-up.
"""

'''
_ABOUT_PAIRS = '''"""Teach a language model which of two answers to prefer, by TRL's DPOTrainer (written for TRL 1.16).

    pip install "torch>=2.10" "transformers>=5.20" "peft>=0.21" "trl==1.16.*"
    python train_trl.py dataset/train.rows.jsonl dataset/validation.rows.jsonl

Any JSON lines with {"prompt": [...], "chosen": [...], "rejected": [...]} will do, each a list of turns. Answers end
with their end-of-turn token, and the model as it was is the model with its adapter switched off.

Unlike this program's own loop, the trainer's first step has a learning rate of zero where there is a warm-up, and the
loss of a step is the mean of its passes, so that pairs of a pass with fewer count more.
"""

'''
_IMPORTS = """import argparse
import json
import math
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, initialize_kv_prefix_from_text
from transformers import AutoTokenizer, BitsAndBytesConfig, EarlyStoppingCallback
"""
_ABOUT = {"sft": _ABOUT_ANSWERS, "dpo": _ABOUT_PAIRS}
_TRAINER = {
    "sft": "from trl import SFTConfig as Config\nfrom trl import SFTTrainer as Trainer\n",
    "dpo": "from trl import DPOConfig as Config\nfrom trl import DPOTrainer\n",
}


class TrlScript:
    """Writes train_trl.py."""

    name = "trl"
    describe = "train_trl.py for TRL 1.16's SFTTrainer or DPOTrainer"

    def export(self, plan: Plan) -> Files:
        """Write the plan as a script; what the trainer would otherwise choose by itself is said in full.

        Raises:
            FineTuneError: O03 for pairs learned by a method that leaves no model as it was beside it.
        """
        kind = plan.objective.kind
        if kind == "dpo" and isinstance(plan.method, Prefix | Prompt):
            raise _no_reference(plan)
        num_processes = plan.parallelism.num_gpus
        start = "python" if num_processes == 1 else f"torchrun --nproc_per_node {num_processes}"
        constants = (
            *model_settings(plan),
            *method_constants(plan),
            *length_constants(plan),
            setting("NUM_PROCESSES", num_processes, "parallelism.num_gpus"),
            setting("EFFECTIVE_BATCH_SIZE", plan.batch.effective * num_processes),
        )
        arguments = (*trainer_settings(plan), *_explicit(plan))
        text = script(
            f"{_ABOUT[kind]}{_IMPORTS}{_TRAINER[kind]}\n".replace("python train_trl.py", f"{start} train_trl.py"),
            plan,
            (*constants, *arguments),
            constants=f"{assignments(constants)}SETTINGS = {entries(arguments)}\n",
            parts=("encode", {"sft": "trl_answers", "dpo": "trl_pairs"}[kind], "trl"),
        )
        return (File(name="train_trl.py", text=text),)


def _explicit(plan: Plan) -> tuple[Setting, ...]:
    dtype = "float32" if plan.method.kind == "full" else plan.precision.base_dtype
    return (
        Setting(name="model_init_kwargs", code=f'{{"dtype": {literal(dtype)}, "revision": REVISION, **GGUF}}'),
        _tf32(plan),
        *_sharding(plan),
        setting("per_device_eval_batch_size", plan.batch.micro_batch_size),
        setting("gradient_checkpointing_kwargs", {"use_reentrant": False}),
        *looking_and_keeping(plan),
        *(_pairs(plan.objective) if isinstance(plan.objective, Dpo) else _answers(plan)),
    )


def _answers(plan: Plan) -> tuple[Setting, ...]:
    return (
        Setting(name="max_length", code="None" if plan.batch.packing else "MAX_LENGTH"),
        setting("truncation_mode", "keep_start"),
        setting("packing", False),
        setting("padding_free", plan.batch.packing, "batch.packing"),
        setting("assistant_only_loss", False),
        setting("completion_only_loss", False),
        setting("loss_type", "nll"),
    )


def _pairs(objective: Dpo) -> tuple[Setting, ...]:
    return (
        setting("max_length", None),
        setting("padding_free", False),
        setting("loss_type", ["sigmoid"], "objective.kind"),
        setting("beta", objective.beta, "objective.beta"),
        setting("disable_dropout", False),
    )


def _no_reference(plan: Plan) -> FineTuneError:
    return FineTuneError(
        "O03",
        what=f"--to trl is not written for objective.kind=dpo with method.kind={plan.method.kind}",
        where="objective.kind and method.kind in the plan",
        why="the model as it was is the reference, which an adapter leaves beside it and this method does not",
        fix="--set method.kind=lora",
    )


def _tf32(plan: Plan) -> Setting:
    """Ask for TF32 only where there is a GPU that has it: elsewhere the trainer refuses to begin."""
    able = "torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8"
    return Setting(name="tf32", code=f"True if {able} else None" if plan.precision.tf32 else "False",
                   paths=("precision.tf32",))  # fmt: skip


def _sharding(plan: Plan) -> tuple[Setting, ...]:
    """Say how processes share the model; weights in 4 bit are not cut up, which the script then names as left out."""
    zero = deepspeed_settings(plan)
    if zero is not None:
        return (setting("deepspeed", zero, "parallelism.kind"),)
    if plan.parallelism.kind != "fsdp":
        return (setting("fsdp", None, "parallelism.kind"),)
    return () if isinstance(plan.method, Qlora) else (setting("fsdp", True, "parallelism.kind"),)
