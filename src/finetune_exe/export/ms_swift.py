"""ms-swift's YAML."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.export.configuration_file import (
    PAIRS_DIFFER,
    TRAIN_ROWS,
    VALIDATION_ROWS,
    ConfigurationFile,
    Key,
    Pairs,
    key,
    prepare,
)
from finetune_exe.export.deepspeed import deepspeed_file, deepspeed_keys
from finetune_exe.export.source import model_source
from finetune_exe.export.trainer_keys import TRAINER_DIFFERS, low_rank_keys, pairs_keys, transformers_keys


def _keys(plan: Plan) -> Iterator[Key]:
    yield key("rlhf_type", "dpo" if plan.objective.kind == "dpo" else None, "objective.kind")
    yield from pairs_keys(plan, beta="beta")
    yield key("model", model_source(plan), "model.reference")
    yield key("use_hf", True)
    yield key("model_revision", plan.model.revision)
    full = not isinstance(plan.method, LowRank)
    yield key("torch_dtype", "float32" if full else plan.precision.base_dtype)
    yield from _method(plan)
    yield key("dataset", [TRAIN_ROWS])
    yield key("val_dataset", [VALIDATION_ROWS])
    yield key("template_backend", "jinja")
    if plan.data.chat_template is None:
        yield key("template", None, "data.chat_template")
    yield key("max_length", plan.data.max_length, "data.max_length")
    yield key("truncation_strategy", "delete", note="the prepared rows are no longer")
    yield key("packing", False)
    yield key("padding_free", False)
    yield key("group_by_length", plan.batch.group_by_length, "batch.group_by_length")
    yield key("gradient_checkpointing", plan.precision.gradient_checkpointing, "precision.gradient_checkpointing")
    patience = plan.checkpoints.early_stopping_patience
    yield key("early_stop_interval", patience, "checkpoints.early_stopping_patience")
    yield key("report_to", ["none"])
    yield key("data_seed", plan.seed)
    yield from deepspeed_keys(plan)
    yield from transformers_keys(plan)


def _method(plan: Plan) -> Iterator[Key]:
    method = plan.method
    if not isinstance(method, LowRank):
        yield key("tuner_type", "full", "method.kind")
        return
    yield key("tuner_type", "lora", "method.kind")
    yield from low_rank_keys(method, rank="lora_rank", drops=plan.objective.kind == "sft")
    targets = method.target_modules
    yield key("target_modules", [targets] if isinstance(targets, str) else list(targets), "method.target_modules")
    if isinstance(method, Qlora):
        yield key("quant_method", "bnb")
        yield key("quant_bits", 4)
        yield key("bnb_4bit_use_double_quant", method.double_quantization, "method.double_quantization")


MS_SWIFT = ConfigurationFile(
    name="ms-swift",
    title="ms-swift 4.6",
    file_name="ms_swift.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=lambda plan: (
        "pip install ms-swift==4.6.0",
        prepare("ms-swift"),
        f"swift {'rlhf' if plan.objective.kind == 'dpo' else 'sft'} ms_swift.yaml",
    ),
    otherwise=TRAINER_DIFFERS,
    beside=deepspeed_file,
    pairs=Pairs(otherwise=PAIRS_DIFFER),
)
