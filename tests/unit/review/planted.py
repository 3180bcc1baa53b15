"""Sound configurations, and mistakes to plant in them one at a time."""

from __future__ import annotations

from typing import NamedTuple

from finetune_exe.domain.review import Severity

AXOLOTL = """\
base_model: Qwen/Qwen2.5-7B-Instruct
load_in_4bit: false
adapter: lora
lora_r: 16
lora_alpha: 32
lora_target_linear: true
datasets:
  - path: rows.jsonl
    ds_type: json
    type: chat_template
    train_on_eos: turn
val_set_size: 0.05
chat_template: tokenizer_default
sequence_len: 2048
sample_packing: true
attn_implementation: flash_attention_2
micro_batch_size: 2
gradient_accumulation_steps: 8
num_epochs: 3
optimizer: adamw_torch
lr_scheduler: cosine
learning_rate: 2e-4
warmup_ratio: 0.03
bf16: auto
gradient_checkpointing: true
evals_per_epoch: 2
saves_per_epoch: 2
seed: 1
output_dir: out
"""
LLAMA_FACTORY = """\
model_name_or_path: Qwen/Qwen2.5-7B-Instruct
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: mine
template: qwen
cutoff_len: 2048
val_size: 0.1
output_dir: out
per_device_train_batch_size: 1
per_device_eval_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
eval_strategy: steps
eval_steps: 100
save_steps: 100
"""
SWIFT = """\
model: Qwen/Qwen2.5-7B-Instruct
tuner_type: lora
dataset: [rows.jsonl]
split_dataset_ratio: 0.05
lora_rank: 8
lora_alpha: 32
target_modules: [all-linear]
torch_dtype: bfloat16
max_length: 2048
truncation_strategy: right
per_device_train_batch_size: 1
gradient_accumulation_steps: 16
learning_rate: 1e-4
num_train_epochs: 1
eval_steps: 50
save_steps: 50
output_dir: out
"""
SWIFT_COMMAND = """\
#!/bin/bash
# one GPU
CUDA_VISIBLE_DEVICES=0 \\
swift sft \\
    --model Qwen/Qwen2.5-7B-Instruct \\
    --tuner_type lora \\
    --dataset 'rows.jsonl#500' \\
    --lora_rank 8 \\
    --target_modules all-linear \\
    --torch_dtype bfloat16 \\
    --max_length 2048 \\
    --learning_rate 1e-4 \\
    --num_train_epochs 1 \\
    --output_dir "$OUT/run"
"""
TRL = """\
model_name_or_path: Qwen/Qwen2.5-0.5B-Instruct
dataset_name: trl-lib/Capybara
max_length: 2048
use_peft: true
lora_r: 16
lora_alpha: 32
lora_target_modules: all-linear
learning_rate: 2.0e-4
per_device_train_batch_size: 2
gradient_accumulation_steps: 8
num_train_epochs: 1
lr_scheduler_type: cosine
bf16: true
eval_strategy: steps
eval_steps: 100
output_dir: out
"""
TORCHTUNE = """\
output_dir: out
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  path: tokenizer.model
  max_seq_len: 2048
dataset:
  _component_: torchtune.datasets.alpaca_dataset
  packed: true
  train_on_input: false
model:
  _component_: torchtune.models.llama3_1.lora_llama3_1_8b
  lora_attn_modules: [q_proj, v_proj, output_proj]
  apply_lora_to_mlp: true
  lora_rank: 16
  lora_alpha: 32
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: /models/Meta-Llama-3.1-8B-Instruct/
  checkpoint_files: [model.safetensors]
  output_dir: ${output_dir}
  model_type: LLAMA3
optimizer:
  _component_: torch.optim.AdamW
  lr: 3e-4
lr_scheduler:
  _component_: torchtune.training.get_cosine_schedule_with_warmup
  num_warmup_steps: 100
loss:
  _component_: torchtune.modules.loss.CEWithChunkedOutputLoss
epochs: 1
batch_size: 2
gradient_accumulation_steps: 8
enable_activation_checkpointing: true
enable_activation_offloading: false
dtype: bf16
seed: null
"""
ARGUMENTS = """\
{
  "output_dir": "out",
  "per_device_train_batch_size": 4,
  "per_device_eval_batch_size": 4,
  "num_train_epochs": 3,
  "learning_rate": 2e-5,
  "lr_scheduler_type": "cosine",
  "logging_steps": 10,
  "eval_strategy": "steps",
  "eval_steps": 100,
  "save_steps": 100,
  "load_best_model_at_end": true,
  "bf16": true
}
"""
TRL_SCRIPT = """\
from datasets import load_dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
rows = load_dataset("json", data_files="rows.jsonl")["train"]
adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
arguments = SFTConfig(
    output_dir="out",
    max_length=2048,
    per_device_train_batch_size=4,
    learning_rate=2e-4,
    num_train_epochs=3,
    bf16=True,
)
trainer = SFTTrainer(model=MODEL, args=arguments, train_dataset=rows, peft_config=adapter)
trainer.train()
"""
UNSLOTH = """\
from unsloth import FastLanguageModel, is_bfloat16_supported
from unsloth.chat_templates import get_chat_template, train_on_responses_only
from trl import SFTConfig, SFTTrainer

max_seq_length = 2048
model, tokenizer = FastLanguageModel.from_pretrained(
    model_name="unsloth/Llama-3.2-3B-Instruct", max_seq_length=max_seq_length, load_in_4bit=True
)
model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=16, use_gradient_checkpointing="unsloth")
tokenizer = get_chat_template(tokenizer, chat_template="llama-3.1")
trainer = SFTTrainer(
    model=model,
    tokenizer=tokenizer,
    train_dataset=rows,
    max_seq_length=max_seq_length,
    args=SFTConfig(
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        learning_rate=2e-4,
        num_train_epochs=1,
        fp16=not is_bfloat16_supported(),
        bf16=is_bfloat16_supported(),
        optim="adamw_8bit",
        output_dir="out",
    ),
)
trainer = train_on_responses_only(
    trainer,
    instruction_part="<|start_header_id|>user<|end_header_id|>\\n\\n",
    response_part="<|start_header_id|>assistant<|end_header_id|>\\n\\n",
)
trainer.train()
"""
DATASETS = """\
{
  "mine": {
    "file_name": "rows.jsonl",
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
  }
}
"""
SOUND = {
    "axolotl.yaml": AXOLOTL, "llamafactory.yaml": LLAMA_FACTORY, "swift.yaml": SWIFT, "swift.sh": SWIFT_COMMAND,
    "trl.yaml": TRL, "torchtune.yaml": TORCHTUNE, "arguments.json": ARGUMENTS, "train_trl.py": TRL_SCRIPT,
    "train_unsloth.py": UNSLOTH, "dataset_info.json": DATASETS,
}  # fmt: skip


class Planted(NamedTuple):
    """A mistake, by the text it takes the place of."""

    name: str
    file: str
    old: str
    new: str
    code: str
    severity: Severity = "error"
    also: tuple[str, ...] = ()
    """Other errors that follow from it."""
    elsewhere: bool = False
    """Whether the finding stands at another line."""


A, L, S, C, T, N, J, P, U, D = SOUND
PLANTED = (
    Planted("axolotl: misspelt", A, "learning_rate:", "learning_rat:", "misspelt_key"),
    Planted("axolotl: misspelt in a list", A, "train_on_eos:", "train_on_eoss:", "misspelt_key"),
    Planted("axolotl: unknown", A, "seed: 1", "seed: 1\nfavourite_colour: red", "unknown_key", "warning"),
    Planted("axolotl: twice", A, "seed: 1", "seed: 1\nseed: 2", "key_given_twice"),
    Planted("axolotl: no number", A, "lora_r: 16", "lora_r: sixteen", "wrong_type"),
    Planted("axolotl: a fraction", A, "micro_batch_size: 2", "micro_batch_size: 2.5", "wrong_type"),
    Planted("axolotl: a choice", A, "train_on_eos: turn", "train_on_eos: turns", "wrong_choice"),
    Planted("axolotl: qlora in 16 bit", A, "adapter: lora", "adapter: qlora", "contradiction"),
    Planted("axolotl: no adapter", A, "load_in_4bit: false\nadapter: lora", "load_in_4bit: true", "contradiction"),
    Planted("axolotl: lora ignored", A, "adapter: lora\n", "", "ignored_key", "warning"),
    Planted("axolotl: two warm-ups", A, "warmup_ratio: 0.03", "warmup_ratio: 0.03\nwarmup_steps: 10", "contradiction"),
    Planted("axolotl: saving", A, "saves_per_epoch: 2", "saves_per_epoch: 2\nsave_steps: 100", "contradiction"),
    Planted("axolotl: evaluating", A, "evals_per_epoch: 2", "evals_per_epoch: 2\neval_steps: 100", "contradiction"),
    Planted("axolotl: packing preferences", A, "seed: 1", "rl: dpo", "contradiction", elsewhere=True),
    Planted("axolotl: early stopping", A, "seed: 1", "early_stopping_patience: 3", "contradiction"),
    Planted("axolotl: sharegpt", A, "type: chat_template", "type: sharegpt", "template"),
    Planted("axolotl: no template", A, "chat_template: tokenizer_default", "chat_template: jinja", "contradiction"),
    Planted("axolotl: template", A, "chat_template: tokenizer_default", "chat_template: llama3", "template", "warning"),
    Planted("axolotl: mask", A, "seed: 1", "train_on_inputs: true", "mask", "warning"),
    Planted("axolotl: ends", A, "train_on_eos: turn", "train_on_eos: none", "mask", "warning"),
    Planted("axolotl: packing", A, "attn_implementation: flash_attention_2\n", "", "packing", "warning", elsewhere=True),
    Planted("axolotl: sdpa", A, "flash_attention_2", "sdpa", "packing", "warning"),
    Planted("axolotl: pad", A, "seed: 1", 'special_tokens:\n  pad_token: "<|im_end|>"\n  eos_token: "<|im_end|>"', "end_token", "warning"),
    Planted("axolotl: old attention", A, "attn_implementation: flash_attention_2", "flash_attention: true", "deprecated_key", "note"),
    Planted("axolotl: gone", A, "seed: 1", "unsloth_lora_qkv: true", "deprecated_key", "warning"),
    Planted("axolotl: rate", A, "learning_rate: 2e-4", "learning_rate: 2e-2", "learning_rate", "warning"),
    Planted("axolotl: rate of 2", A, "learning_rate: 2e-4", "learning_rate: 2", "learning_rate"),
    Planted("axolotl: length", A, "sequence_len: 2048", "sequence_len: 204800", "length", "warning"),
    Planted("axolotl: no layers", A, "lora_target_linear: true\n", "", "adapter", elsewhere=True),
    Planted("axolotl: streaming", A, "seed: 1", "streaming: true", "contradiction"),
    Planted("axolotl: two loaders", A, "seed: 1", "deepspeed: ds.json\nfsdp: [full_shard]", "contradiction"),
    Planted("axolotl: schedule", A, "lr_scheduler: cosine", "lr_scheduler: constant", "ignored_key", "warning", elsewhere=True),
    Planted("axolotl: epochs", A, "num_epochs: 3", "num_epochs: 40", "epochs", "note"),
    Planted("llamafactory: misspelt", L, "lora_rank:", "lora_rnk:", "misspelt_key"),
    Planted("llamafactory: unknown", L, "save_steps: 100", "save_steps: 100\nfavourite_colour: red", "unknown_key"),
    Planted("llamafactory: gone", L, "eval_strategy:", "evaluation_strategy:", "deprecated_key", "warning"),
    Planted("llamafactory: text", L, "1.0e-4", '"1.0e-4"', "number_as_text"),
    Planted("llamafactory: stage", L, "stage: sft", "stage: sftt", "wrong_choice"),
    Planted("llamafactory: no number", L, "lora_rank: 8", "lora_rank: eight", "wrong_type"),
    Planted("llamafactory: trains nothing", L, "do_train: true\n", "", "does_not_train", elsewhere=True),
    Planted("llamafactory: quantised and full", L, "finetuning_type: lora", "finetuning_type: full\nquantization_bit: 4", "contradiction"),
    Planted("llamafactory: lora ignored", L, "finetuning_type: lora", "finetuning_type: full", "ignored_key", "warning", elsewhere=True),
    Planted("llamafactory: galore", L, "lora_target: all", "lora_target: all\nuse_galore: true", "contradiction"),
    Planted("llamafactory: two validations", L, "val_size: 0.1", "val_size: 0.1\neval_dataset: other", "contradiction"),
    Planted("llamafactory: no validation", L, "val_size: 0.1\n", "", "contradiction", elsewhere=True),
    Planted("llamafactory: streaming", L, "val_size: 0.1", "streaming: true\nval_size: 100", "contradiction"),
    Planted("llamafactory: masks", L, "cutoff_len: 2048", "cutoff_len: 2048\nmask_history: true\ntrain_on_prompt: true", "contradiction"),
    Planted("llamafactory: mask", L, "cutoff_len: 2048", "cutoff_len: 2048\ntrain_on_prompt: true", "mask", "warning"),
    Planted("llamafactory: packing", L, "cutoff_len: 2048", "cutoff_len: 2048\npacking: true", "packing", "warning"),
    Planted("llamafactory: template", L, "template: qwen", "template: llama3", "template", "warning"),
    Planted("llamafactory: two formats", L, "bf16: true", "bf16: true\nfp16: true", "contradiction", elsewhere=True),
    Planted("llamafactory: best", L, "save_steps: 100", "save_steps: 150\nload_best_model_at_end: true", "contradiction"),
    Planted("llamafactory: new tokens", L, "lora_target: all", "lora_target: all\nresize_vocab: true", "new_tokens", "warning"),
    Planted("llamafactory: warm-up", L, "warmup_ratio: 0.1", "warmup_ratio: 10", "warmup"),
    Planted("llamafactory: memory", L, "per_device_eval_batch_size: 1", "per_device_eval_batch_size: 16", "memory", "note"),
    Planted("swift: misspelt", S, "max_length:", "max_lenght:", "misspelt_key"),
    Planted("swift: gone", S, "tuner_type:", "train_type:", "deprecated_key", "warning"),
    Planted("swift: packing", S, "max_length: 2048", "max_length: 2048\npacking: true", "contradiction"),
    Planted("swift: quantised", S, "torch_dtype: bfloat16", "torch_dtype: bfloat16\nquant_bits: 4", "ignored_key", "warning"),
    Planted("swift: quantised and full", S, "tuner_type: lora", "tuner_type: full\nquant_method: bnb\nquant_bits: 4", "contradiction"),
    Planted("swift: mask", S, "max_length: 2048", "max_length: 2048\nloss_scale: all", "mask", "warning"),
    Planted("swift: rows", S, "truncation_strategy: right\n", "", "rows_dropped", "note", elsewhere=True),
    Planted("swift: shortened", S, "learning_rate: 1e-4", "learning_rat: 1e-4", "shortened_key", "warning"),
    Planted("swift: shortened and whole", S, "output_dir: out", "learning_rat: 1e-3", "shortened_key"),
    Planted("swift: command, misspelt", C, "--learning_rate", "--lerning_rate", "misspelt_key"),
    Planted("axolotl: optimizer", A, "optimizer: adamw_torch", "optimizer: adamw_bnb_8bit\nfsdp_version: 2\nfsdp_config:\n  offload_params: false", "contradiction"),
    Planted("axolotl: a group for a list", A, "seed: 1", "tokens:\n  pad_token: x", "wrong_type"),
    Planted("swift: command, rate", C, "1e-4", "1e-1", "learning_rate"),
    Planted("axolotl: new tokens", A, "seed: 1", 'tokens: ["<|tool|>"]', "new_tokens", "warning"),
    Planted("swift: new tokens", S, "output_dir: out", "new_special_tokens: [<tool>]", "new_tokens", "warning"),
    Planted("trl: sixteen bits", T, "use_peft: true\nlora_r: 16\nlora_alpha: 32\nlora_target_modules: all-linear", "dtype: bfloat16", "precision", "warning"),
    Planted("trl: misspelt", T, "gradient_accumulation_steps", "gradient_acumulation_steps", "misspelt_key"),
    Planted("trl: gone", T, "max_length:", "max_seq_length:", "deprecated_key", "warning"),
    Planted("trl: text", T, "2.0e-4", "2e-4", "number_as_text", "warning"),
    Planted("trl: lora ignored", T, "use_peft: true\n", "", "ignored_key", elsewhere=True),
    Planted("trl: four bit", T, "use_peft: true\nlora_r: 16\nlora_alpha: 32\nlora_target_modules: all-linear", "load_in_4bit: true", "contradiction", also=("learning_rate",)),
    Planted("trl: padding free", T, "bf16: true", "bf16: true\npadding_free: true", "contradiction"),
    Planted("trl: packing", T, "bf16: true", "bf16: true\npacking: true", "packing", "warning"),
    Planted("trl: marks", T, "bf16: true", "bf16: true\nassistant_only_loss: true", "mask", "warning"),
    Planted("torchtune: component", N, "lora_rank: 16", "lora_rnk: 16", "misspelt_key"),
    Planted("torchtune: recipe", N, "gradient_accumulation_steps:", "gradient_acumulation_steps:", "misspelt_key"),
    Planted("torchtune: unknown", N, "seed: null", "favourite_colour: red", "unknown_key", "warning"),
    Planted("torchtune: packed", N, "max_seq_len: 2048", "max_seq_len: null", "contradiction", elsewhere=True),
    Planted("torchtune: mask", N, "train_on_input: false", "train_on_input: true", "mask", "warning"),
    Planted("torchtune: backward", N, "dtype: bf16", "dtype: bf16\noptimizer_in_bwd: true", "contradiction"),
    Planted("torchtune: half", N, "dtype: bf16", "dtype: fp16", "contradiction"),
    Planted("torchtune: offloading", N, "enable_activation_checkpointing: true\nenable_activation_offloading: false", "enable_activation_offloading: true", "contradiction"),
    Planted("arguments: text", J, "2e-5", '"2e-5"', "number_as_text"),
    Planted("arguments: misspelt", J, '"num_train_epochs"', '"num_train_epoch"', "misspelt_key"),
    Planted("arguments: gone", J, '"eval_strategy": "steps",', '"eval_strategy": "steps", "overwrite_output_dir": true,', "deprecated_key", "warning"),
    Planted("arguments: best", J, '"eval_strategy": "steps"', '"eval_strategy": "epoch"', "contradiction", elsewhere=True),
    Planted("arguments: twice", J, '"bf16": true', '"bf16": true, "bf16": false', "key_given_twice"),
    Planted("script: misspelt", P, "learning_rate=", "learning_rat=", "misspelt_key"),
    Planted("script: gone", P, "max_length=", "max_seq_length=", "deprecated_key", "warning"),
    Planted("script: text", P, "2e-4", '"2e-4"', "number_as_text"),
    Planted("script: adapter unused", P, ", peft_config=adapter", "", "adapter", also=("learning_rate",), elsewhere=True),
    Planted("script: two formats", P, "bf16=True", "bf16=True, fp16=True", "contradiction"),
    Planted("script: rate", P, "2e-4", "2e-1", "learning_rate"),
    Planted("unsloth: no adapter", U, 'model = FastLanguageModel.get_peft_model(model, r=16, lora_alpha=16, use_gradient_checkpointing="unsloth")\n', "", "adapter", elsewhere=True),
    Planted("unsloth: marks", U, "<|start_header_id|>assistant<|end_header_id|>\\n\\n", "<|im_start|>assistant\\n", "mask"),
    Planted("unsloth: full in four bit", U, "load_in_4bit=True", "load_in_4bit=True, full_finetuning=True", "contradiction"),
    Planted("datasets: formatting", D, '"formatting"', '"format"', "misspelt_key"),
    Planted("datasets: tags", D, '"role_tag"', '"role"', "misspelt_key"),
    Planted("datasets: a choice", D, '"sharegpt"', '"chatml"', "wrong_choice"),
)  # fmt: skip
