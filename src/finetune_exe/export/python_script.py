"""A training script on PyTorch, transformers and PEFT alone."""

from __future__ import annotations

from finetune_exe.domain.plan import LowRank, Plan, WarmupFraction
from finetune_exe.export.exporter import File, Files
from finetune_exe.export.left_out import refuse_pairs
from finetune_exe.export.source import (
    assignments,
    length_constants,
    method_constants,
    model_settings,
    script,
    setting,
    warmup_paths,
)

_HEADER = '''"""Fine-tune a language model.

    pip install "torch>=2.10" "transformers>=5.20" "peft>=0.21"
    python train.py dataset/train.rows.jsonl dataset/validation.rows.jsonl

Any JSON lines with {"messages": [{"role": ..., "content": ...}, ...]} will do. The loss is taken over the answers
and their end-of-turn tokens alone, divided by the number of these tokens in a whole optimizer step.
"""

import argparse
import itertools
import json
import math
import random
import shutil
import sys
from pathlib import Path

import torch
from peft import (
    IA3Config,
    LoraConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    get_peft_model,
    initialize_kv_prefix_from_text,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, set_seed
from transformers.modeling_layers import GradientCheckpointingLayer

'''


class PythonScript:
    """Writes train.py, which needs nothing of this program."""

    name = "python"
    describe = "train.py on torch, transformers and peft alone"

    def export(self, plan: Plan) -> Files:
        """Write the plan as a script: settings on top, then code that is the same for every plan."""
        refuse_pairs(plan, target=self.name)
        optimizer, schedule, batch, warmup = plan.optimizer, plan.schedule, plan.batch, plan.schedule.warmup
        warm = {"fraction": warmup.fraction} if isinstance(warmup, WarmupFraction) else {"steps": warmup.steps}
        method = plan.method
        low_rank = [
            setting("LORA_PLUS_RATIO", method.lora_plus_ratio if isinstance(method, LowRank) else None,
                    "method.lora_plus_ratio"),
            setting("TRAINED_TOKENS", list(method.trained_tokens) if isinstance(method, LowRank) else [],
                    "method.trained_tokens"),
        ]  # fmt: skip
        settings = (
            *model_settings(plan),
            *method_constants(plan),
            *low_rank,
            setting("OPTIMIZER", optimizer.kind, "optimizer.kind"),
            setting("LEARNING_RATE", optimizer.learning_rate, "optimizer.learning_rate"),
            setting("WEIGHT_DECAY", optimizer.weight_decay, "optimizer.weight_decay"),
            setting("BETAS", (optimizer.beta1, optimizer.beta2), "optimizer.beta1", "optimizer.beta2"),
            setting("MAX_GRAD_NORM", optimizer.max_grad_norm, "optimizer.max_grad_norm"),
            setting("SCHEDULE", schedule.kind, "schedule.kind"),
            setting("WARMUP", warm, *warmup_paths(plan)),
            *length_constants(plan),
            setting("KEEP_LAST", plan.checkpoints.keep_last, "checkpoints.keep_last"),
            setting("MICRO_BATCH_SIZE", batch.micro_batch_size, "batch.micro_batch_size"),
            setting(
                "GRADIENT_ACCUMULATION_STEPS", batch.gradient_accumulation_steps, "batch.gradient_accumulation_steps"
            ),
            setting("GROUP_BY_LENGTH", batch.group_by_length, "batch.group_by_length"),
            setting("PACKING", batch.packing, "batch.packing"),
            setting("BASE_DTYPE", plan.precision.base_dtype, "precision.base_dtype"),
            setting("TF32", plan.precision.tf32, "precision.tf32"),
            setting(
                "GRADIENT_CHECKPOINTING", plan.precision.gradient_checkpointing, "precision.gradient_checkpointing"
            ),
            setting(
                "CHECKPOINT_EVERY_LAYERS", plan.precision.checkpoint_every_layers, "precision.checkpoint_every_layers"
            ),
            setting("SEED", plan.seed, "seed"),
        )
        text = script(_HEADER, plan, settings, constants=assignments(settings), parts=("encode", "train"))
        return (File(name="train.py", text=text),)
