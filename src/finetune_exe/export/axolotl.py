"""Axolotl's YAML."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.domain.yaml_tree import Json
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
from finetune_exe.export.source import model_source, template_text
from finetune_exe.export.trainer_keys import (
    TRAINER_DIFFERS,
    low_rank_keys,
    optimizer_key,
    pairs_keys,
    schedule_key,
    tf32_key,
    trainer_keys,
    warmup_keys,
)


def _keys(plan: Plan) -> Iterator[Key]:
    batch, template, pairs = plan.batch, template_text(plan), plan.objective.kind == "dpo"
    rows: dict[str, Json] = {"ds_type": "json"} if pairs else {
        "ds_type": "json", "type": "chat_template", "field_messages": "messages", "roles_to_train": ["assistant"],
        "train_on_eos": "turn", "message_field_training": "training",
    }  # fmt: skip
    yield key("rl", "dpo" if pairs else None, "objective.kind")
    yield from pairs_keys(plan, beta="rl_beta")
    yield key("base_model", model_source(plan), "model.reference")
    yield key("revision_of_model", plan.model.revision)
    yield from _method(plan)
    yield key("datasets", [{"path": TRAIN_ROWS, "split": "train", **rows} if pairs else {"path": TRAIN_ROWS, **rows}])
    yield key("test_datasets", [{"path": VALIDATION_ROWS, "split": "train", **rows}])
    yield key("dataset_prepared_path", "prepared")
    if not pairs:
        yield key("chat_template", "jinja" if template else "tokenizer_default", "data.chat_template")
        yield key("chat_template_jinja", template)
    yield key("sequence_len", plan.data.max_length, "data.max_length")
    yield key("excess_length_strategy", "raise", note="the prepared rows are no longer")
    yield key("sample_packing", False)
    yield key("pad_to_sequence_len", False)
    if not pairs or not batch.group_by_length:
        yield key("group_by_length", batch.group_by_length, "batch.group_by_length")
    yield key("micro_batch_size", batch.micro_batch_size, "batch.micro_batch_size")
    yield key("num_epochs", plan.schedule.epochs, "schedule.epochs")
    yield from optimizer_key(plan, name="optimizer")
    yield from schedule_key(plan, name="lr_scheduler")
    yield from warmup_keys(plan, share="warmup_ratio")
    yield key("gradient_checkpointing", plan.precision.gradient_checkpointing, "precision.gradient_checkpointing")
    patience = plan.checkpoints.early_stopping_patience
    yield key("early_stopping_patience", patience, "checkpoints.early_stopping_patience")
    yield from deepspeed_keys(plan)
    yield from tf32_key(plan, automatic=True)
    yield from trainer_keys(plan)


def _method(plan: Plan) -> Iterator[Key]:
    method = plan.method
    if not isinstance(method, LowRank):
        yield key("adapter", "", "method.kind", note="every weight is trained")
        return
    yield key("adapter", method.kind, "method.kind")
    yield from low_rank_keys(method, rank="lora_r", prefix="peft_", drops=plan.objective.kind == "sft")
    if isinstance(method.target_modules, str):
        yield key("lora_target_linear", True, "method.target_modules")
    else:
        yield key("lora_target_modules", list(method.target_modules), "method.target_modules")
    if isinstance(method, Qlora):
        yield key("load_in_4bit", True)
        double = method.double_quantization
        yield key("bnb_config_kwargs.bnb_4bit_use_double_quant", double, "method.double_quantization")


AXOLOTL = ConfigurationFile(
    name="axolotl",
    title="Axolotl 0.19",
    file_name="axolotl.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=lambda plan: ("pip install axolotl==0.19.0", prepare("axolotl"), "axolotl train axolotl.yaml"),
    otherwise=(
        *TRAINER_DIFFERS,
        "on several processes, each takes the mean over its own learned tokens",
    ),
    beside=deepspeed_file,
    pairs=Pairs(
        otherwise=(
            *PAIRS_DIFFER,
            "an end-of-text token is learned behind an answer that the chat template ends with another",
        ),
        rows_are_rendered=True,
    ),
)
