"""LLaMA-Factory's YAML, and the list of datasets that it reads."""

from __future__ import annotations

import json
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
from finetune_exe.export.exporter import File, Files
from finetune_exe.export.source import model_source
from finetune_exe.export.trainer_keys import TRAINER_DIFFERS, low_rank_keys, pairs_keys, transformers_keys


def _keys(plan: Plan) -> Iterator[Key]:
    yield key("stage", plan.objective.kind, "objective.kind")
    yield from pairs_keys(plan, beta="pref_beta")
    yield key("do_train", True)
    yield key("model_name_or_path", model_source(plan), "model.reference")
    yield key("model_revision", plan.model.revision)
    yield from _method(plan)
    yield key("dataset_dir", ".")
    yield key("dataset", "train")
    yield key("eval_dataset", "validation")
    if plan.data.chat_template is None:
        yield key("template", None, "data.chat_template")
    yield key("cutoff_len", plan.data.max_length, "data.max_length", note="the prepared rows are no longer")
    yield key("packing", False)
    yield key("train_on_prompt", False)
    yield key("mask_history", False)
    if plan.objective.kind == "sft" or not plan.batch.group_by_length:
        sampling = "group_by_length" if plan.batch.group_by_length else "random"
        yield key("train_sampling_strategy", sampling, "batch.group_by_length")
    checkpointing = plan.precision.gradient_checkpointing
    yield key("disable_gradient_checkpointing", not checkpointing, "precision.gradient_checkpointing")
    patience = plan.checkpoints.early_stopping_patience
    yield key("early_stopping_steps", patience, "checkpoints.early_stopping_patience")
    yield key("report_to", "none")
    yield from deepspeed_keys(plan)
    yield from transformers_keys(plan)


def _method(plan: Plan) -> Iterator[Key]:
    method = plan.method
    if not isinstance(method, LowRank):
        yield key("finetuning_type", "full", "method.kind")
        return
    yield key("finetuning_type", "lora", "method.kind")
    yield from low_rank_keys(method, rank="lora_rank", drops=plan.objective.kind == "sft")
    targets = method.target_modules
    yield key("lora_target", "all" if isinstance(targets, str) else ",".join(targets), "method.target_modules")
    if isinstance(method, Qlora):
        yield key("quantization_bit", 4)
        yield key("quantization_method", "bnb")
        yield key("double_quantization", method.double_quantization, "method.double_quantization")


def _datasets(plan: Plan) -> Files:
    tags = {
        "role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
        "system_tag": "system",
    }  # fmt: skip
    pairs = plan.objective.kind == "dpo"
    columns = ("messages", *(("chosen", "rejected") if pairs else ()))
    form = {"formatting": "sharegpt", **({"ranking": True} if pairs else {})}
    entries = {
        name: {"file_name": path, **form, "columns": {column: column for column in columns}, "tags": tags}
        for name, path in (("train", TRAIN_ROWS), ("validation", VALIDATION_ROWS))
    }
    return (File(name="dataset_info.json", text=json.dumps(entries, indent=2) + "\n"),)


_TEMPLATE_DIFFERS = (
    "the chat template is taken from the tokenizer and cut into pieces by guesswork where `template` does not name",
    "one of its own: look at the first row that it prints",
    "what the template puts behind the end of a turn, such as a line end, is learned too",
)
LLAMA_FACTORY = ConfigurationFile(
    name="llamafactory",
    title="LLaMA-Factory 0.9",
    file_name="llamafactory.yaml",
    methods=("lora", "qlora", "full"),
    keys=_keys,
    commands=lambda plan: (
        "pip install llamafactory==0.9.5",
        "fine-tune config --plan plan.yaml --to llamafactory -o .",
        prepare("llamafactory"),
        "llamafactory-cli train llamafactory.yaml",
    ),
    otherwise=(*TRAINER_DIFFERS, *_TEMPLATE_DIFFERS),
    beside=lambda plan: (*_datasets(plan), *deepspeed_file(plan)),
    pairs=Pairs(otherwise=(*PAIRS_DIFFER, *_TEMPLATE_DIFFERS)),
)
