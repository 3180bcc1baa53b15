"""The contract of every entry of the table: it fires on its example, is silent on a healthy log, and can be applied."""

from __future__ import annotations

import io
import random

import pytest

from finetune_exe.diagnosis.diagnose import diagnose
from finetune_exe.diagnosis.rules import BY_LABEL, DIAGNOSES
from finetune_exe.domain.plan import SETTING_GROUPS, Plan
from finetune_exe.domain.plan import Schedule as _Schedule

LOGS = {
    "oom": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU 0 has a total capacity of 23.69 GiB",
    "disk_full": "OSError: [Errno 28] No space left on device: 'out/checkpoint-500/optimizer.pt'",
    "nan_loss": "RuntimeError: Function 'MmBackward0' returned nan values in its 0th output.",
    "dtype_mismatch": "RuntimeError: expected scalar type Half but found Float",
    "bf16_unsupported": "ValueError: Current CUDA device does not support bfloat16. Please switch dtype to float16.",
    "nan_inference": "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
    "grad_accum_loss": "note: with gradient_accumulation_steps=8 the logged loss is 8 times higher",
    "dataset_format": "pyarrow.lib.ArrowInvalid: JSON parse error: Missing a closing quotation mark in string. in row 41",
    "collate_error": "RuntimeError: stack expects each tensor to be equal size, but got [512] at entry 0 and [498] at entry 1",
    "pad_token_missing": "ValueError: Cannot handle batch sizes > 1 if no padding token is defined.",
    "chat_template_missing": "ValueError: Cannot use apply_chat_template because this processor does not have a chat template.",
    "vocab_mismatch": "Indexing.cu:1422: indexSelectSmallIndex: block: [3,0,0] Assertion `srcIndex < srcSelectDimSize` failed.",
    "truncation": "Token indices sequence length is longer than the specified maximum sequence length for this model (9001 > 4096)",
    "loss_zero_masked": "UserWarning: Could not find response key `### Response:` in the following instance",
    "double_bos": "RuntimeWarning: Detected duplicate leading \"<s>\" in prompt: the prompt has two BOS tokens",
    "requires_grad_missing": "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn",
    "target_modules_not_found": "ValueError: Target modules {'query_key_value'} not found in the base model.",
    "adapter_load_mismatch": "size mismatch for base_model.model.layers.0.q_proj.lora_A.weight: copying a param with shape [8, 64]",
    "no_adapter_on_quantized": "ValueError: You cannot perform fine-tuning on purely quantized models.",
    "resume_error": "ValueError: loaded state dict has a different number of parameter groups",
    "merge_degradation": "UserWarning: Merge lora module to 4-bit linear may get different generations due to rounding errors.",
    "api_mismatch": "TypeError: SFTTrainer.__init__() got an unexpected keyword argument 'dataset_text_field'",
    "env_missing_module": "ModuleNotFoundError: No module named 'sentencepiece'",
    "bnb_cuda_setup": "libbitsandbytes_cuda118.so: cannot open shared object file: No such file or directory",
    "flash_attn_missing": "ImportError: FlashAttention2 has been toggled on, but it cannot be used: the package is not installed.",
    "cuda_arch": "NVIDIA GeForce RTX 5080 with CUDA capability sm_120 is not compatible with the current PyTorch installation.",
    "compile_triton": "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.",
    "extension_build": "RuntimeError: Error building extension 'cpu_adam'",
    "hub_access": "huggingface_hub.errors.GatedRepoError: 403 Client Error. Access to model google/gemma-2b is restricted",
    "lr_type_string": "TypeError: '<=' not supported between instances of 'float' and 'str'",
    "no_loss_returned": "ValueError: The model did not return a loss from the inputs, only the following keys: logits.",
    "device_map_conflict": "RuntimeError: Expected all tensors to be on the same device, but found cuda:0 and cuda:1!",
    "ddp_checkpoint_conflict": "RuntimeError: Expected to have finished reduction in the prior iteration before starting a new one.",
    "dist_config": "AssertionError: Check batch related parameters. train_batch_size is not equal to micro_batch * accumulation",
    "nccl_timeout": "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=77, OpType=ALLGATHER) ran for 1800 s",
    "port_in_use": "RuntimeError: The server socket has failed to listen: EADDRINUSE, address already in use",
    "wrapper_only": "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \ntrain.py FAILED",
}  # fmt: skip
DESCRIPTIONS = {
    "overfitting": "Training loss keeps going down but the validation loss starts climbing after the second epoch.",
    "underfitting": "My loss is stuck around 2.4 from the beginning to the end, it barely moves.",
    "catastrophic_forgetting": "After fine-tuning on legal text the model lost its general abilities: it cannot do sums any more.",
    "repetition": "The tuned model repeats the same sentence over and over.",
    "eos_not_learned": "Generation never stops: the model does not produce the end token and goes on talking to itself.",
    "no_learning_wrong_template": "Answers are garbage unless I use the wrong chat template, the one of vicuna.",
    "slow_training": "Training is painfully slow, nvidia-smi shows a GPU utilization of 12 %.",
    "lr_divergence": "At step 300 the loss suddenly explodes to 9 and stays there.",
    "nan_eval": "The eval loss is nan at each evaluation, train loss looks fine.",
    "packing_contamination": "With packing enabled the quality is worse; I suspect that samples attend to each other.",
    "adapter_not_applied": "With the adapter loaded the outputs are exactly the same as those of the base model.",
    "merge_degradation": "The LoRA works, but after merging it the answers are much worse.",
    "oom": "It runs out of GPU memory on the first batch.",
    "truncation": "All my long examples are truncated to 512 tokens and the answers are lost.",
    "grad_accum_loss": "The reported loss is four times higher with gradient accumulation 4 than without.",
    "nan_loss": "After 200 steps in fp16 the loss becomes nan.",
}
CURVES = {"healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau",
          "divergence", "eval_unstable", "rl_loss_not_informative"}  # fmt: skip
LAST_RESORTS = {"unknown_error", "interrupted", "not_recognised"}


def healthy_log(steps: int = 300) -> str:
    """Write what an ordinary run prints: progress bars, harmless warnings, metrics, both losses falling."""
    rng = random.Random(0)
    lines = [
        "Loading checkpoint shards: 100%|##########| 4/4 [00:09<00:00,  2.31s/it]",
        "trainable params: 41,943,040 || all params: 8,072,204,288 || trainable%: 0.5196",
        "UserWarning: `do_sample` is set to `False`. However, `temperature` is set to `0.6`",
        "Setting `pad_token_id` to `eos_token_id`:2 for open-end generation.",
        "[INFO|trainer.py:2414] 2026-01-02 10:00:00,000 >>   Gradient Accumulation steps = 8",
        "`use_cache=True` is incompatible with gradient checkpointing. Setting `use_cache=False`.",
        "wandb: Run data is saved locally in /home/user/wandb",
        "Saving model checkpoint to out/checkpoint-100",
    ]
    for step in range(1, steps):
        loss, epoch = 1.0 + 1.2 * 0.97**step, step / 100
        lines.append(f"{{'loss': {loss + rng.gauss(0, 0.01):.4f}, 'grad_norm': 0.6, 'learning_rate': 0.0002, 'epoch': {epoch:.2f}}}")
        lines.append(f" {step % 100:3d}%|###       | {step}/{steps} [00:{step % 60:02d}<01:12,  1.31s/it]")
        if step % 50 == 0:
            lines.append(f"{{'eval_loss': {loss + 0.05:.4f}, 'eval_runtime': 3.2, 'epoch': {epoch:.2f}}}")
    lines.append("{'train_runtime': 812.1, 'train_samples_per_second': 3.1, 'train_loss': 1.21, 'epoch': 3.0}")
    return "\n".join(lines) + "\n"


def labels(text: str) -> list[str]:
    return [finding.label for finding in diagnose([], stdin=io.BytesIO(text.encode())).findings]


def test_every_entry_has_an_example() -> None:
    assert LOGS.keys() | DESCRIPTIONS.keys() | CURVES | LAST_RESORTS == BY_LABEL.keys()
    assert len(BY_LABEL) == len(DIAGNOSES), "a label stands twice"


@pytest.mark.parametrize("label", LOGS)
def test_fires_on_its_example_inside_a_long_log(label: str) -> None:
    assert labels(healthy_log() + LOGS[label] + "\n")[0] == label


@pytest.mark.parametrize("label", DESCRIPTIONS)
def test_fires_on_a_description(label: str) -> None:
    assert labels(DESCRIPTIONS[label])[0] == label


def test_all_are_silent_on_a_healthy_log() -> None:
    findings = diagnose([], stdin=io.BytesIO(healthy_log().encode())).findings
    assert [finding.label for finding in findings] == ["healthy"]
    assert findings[0].patch == {}


@pytest.mark.parametrize("label", BY_LABEL)
def test_advice_is_whole_and_of_the_right_strength(label: str) -> None:
    cause = BY_LABEL[label]
    assert cause.title
    assert cause.cause.endswith((".", "one."))
    assert cause.fix.endswith((".", ").", "log."))
    assert all(0 < sign.strength < 1 for sign in (*cause.signs, *cause.tales))


@pytest.mark.parametrize("label", BY_LABEL)
def test_patches_are_settings_of_the_plan_that_validate(label: str) -> None:
    cause = BY_LABEL[label]
    for path, value in cause.patch.items():
        holder = _holder(path)
        holder.model_validate(holder().model_dump() | {path.rsplit(".", 1)[1]: value}, strict=False)
    for path, factor in cause.scale.items():
        assert isinstance(getattr(_holder(path)(), path.rsplit(".", 1)[1]), int | float)
        assert factor > 0


def _holder(path: str) -> type:
    """Find the group of the plan that a dotted path is a field of."""
    group, *rest = path.split(".")
    assert group in SETTING_GROUPS
    holder = type(Plan.model_fields[group].default)
    if len(rest) == 2:
        warmup = _Schedule().warmup
        assert rest[0] == "warmup"
        assert rest[1] in type(warmup).model_fields
        return lambda: warmup  # type: ignore[return-value]
    assert rest[0] in holder.model_fields
    return holder
