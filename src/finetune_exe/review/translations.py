"""What other programs call our choices, and which of their keys say nothing about how a model learns."""

from __future__ import annotations

from finetune_exe.knowledge.trainer_names import OPTIMIZER_CLASSES, TRAINER_OPTIMIZERS, TRAINER_SCHEDULES

CARRIED = {"axolotl", "llamafactory", "ms-swift", "trl", "transformers", "torchtune", "script", "unsloth"}
"""Programs whose configurations become plans."""
OPTIMIZERS = {
    **{theirs.lower(): ours for names in (TRAINER_OPTIMIZERS, OPTIMIZER_CLASSES) for ours, theirs in names.items()},
    "adamw_torch_fused": "adamw", "adamw_hf": "adamw", "adamw": "adamw", "adamw_bnb_8bit": "adamw_8bit",
    "adamw_torch_8bit": "adamw_8bit", "lion": "lion",
}  # fmt: skip
"""What other programs call our optimizers, in lower case."""
SCHEDULES = {
    "cosine": "cosine", "linear": "linear", "constant": "constant", "inverse_sqrt": "inverse_sqrt",
    **{theirs: ours for ours, theirs in TRAINER_SCHEDULES.items()},
    "torchtune.training.get_cosine_schedule_with_warmup": "cosine",
    "torchtune.modules.get_cosine_schedule_with_warmup": "cosine",
}  # fmt: skip
SURROUNDINGS = (
    "output_dir", "logging_", "report_to", "overwrite_", "plot_loss", "wandb_", "dataset_prepared_path", "do_train",
    "run_name", "stage", "rl", "do_eval", "do_predict",
    "evaluation_strategy", "log_level", "save_strategy", "save_steps", "eval_strategy", "dataset_dir",
    "hub_", "push_to_hub", "use_hf", "strict",
    "metric_for_best_model", "greater_is_better", "load_best_model_at_end", "per_device_eval_batch_size",
    "preprocessing_num_workers", "dataloader_num_workers", "dataset_num_proc", "saves_per_epoch", "data_seed",
    "eval_batch_size", "use_cpu", "template_backend", "truncation_strategy", "excess_length_strategy",
    "pad_to_sequence_len", "packing", "padding_free", "train_on_prompt", "mask_history", "train_on_inputs",
    "quantization_method", "load_in_8bit", "gradient_checkpointing_kwargs", "seed", "metric_logger", "device",
    "completion_only_loss", "assistant_only_loss", "loss_type", "truncation_mode", "model_init_kwargs", "tokenizer",
    "trainer.", "model.", "args", "lora", "collator", "responses", "template.", "peft_used", "quantization",
)  # fmt: skip
"""Keys about where a run writes and reports, and those that this program settles in another way."""
REFUSED = {
    "stage": ("pt", "rm", "ppo", "kto"), "rl": ("ipo", "kto", "orpo", "simpo", "grpo", "gdpo", "ebft"),
    "rlhf_type": ("kto", "orpo", "simpo", "cpo", "rm", "ppo", "grpo", "gkd"),
}  # fmt: skip
"""Kinds of training that this program does not do, by the key that names them."""
PLAIN_ARGUMENTS = {"TrainingArguments", "Seq2SeqTrainingArguments"}
"""Calls that compute in float32 where nothing is said; TRL's own take bfloat16."""
OTHER_TRAINERS = {"GRPOConfig", "GRPOTrainer", "KTOConfig", "KTOTrainer", "RewardConfig", "RewardTrainer", "RLOOConfig",
                  "ORPOConfig"}  # fmt: skip
"""The same, by the calls of a script."""
WHOLE = {
    "data.max_length", "data.max_rows", "method.lora_rank", "schedule.max_steps", "batch.micro_batch_size", "seed",
    "batch.gradient_accumulation_steps", "checkpoints.early_stopping_patience", "schedule.warmup.steps",
}  # fmt: skip
"""Settings that are whole numbers."""
SPECIAL = {
    "data.paths", "data.chat_template", "method.target_modules", "optimizer.kind", "schedule.kind",
    "batch.group_by_length", "optimizer.max_grad_norm", "schedule.max_steps", "precision.gradient_checkpointing",
}  # fmt: skip
"""Settings that other programs say in another way."""
