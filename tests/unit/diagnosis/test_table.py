"""The contract of every entry of the table: it fires on its example, is silent on a healthy log, and can be applied."""

from __future__ import annotations

import io
import math
import tomllib
from pathlib import Path

import pytest

from finetune_exe.diagnosis.anchors import anchors
from finetune_exe.diagnosis.diagnose import diagnose
from finetune_exe.diagnosis.table import by_label, causes, compiled
from finetune_exe.domain.document import Value
from finetune_exe.domain.plan import SETTING_GROUPS, Plan

EXAMPLES = tomllib.loads(Path(__file__).with_name("examples.toml").read_text())
LOGS: dict[str, str] = EXAMPLES["logs"]
DESCRIPTIONS: dict[str, str] = EXAMPLES["descriptions"]
WORDINGS = [(label, text) for kind in ("logs", "descriptions") for label, texts in
            tomllib.loads(Path(__file__).with_name("wordings.toml").read_text())[kind].items() for text in texts]  # fmt: skip
BY_LABEL = by_label()
CURVES = {"healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau",
          "divergence", "eval_unstable", "rl_loss_not_informative"}  # fmt: skip
LAST_RESORTS = {"unknown_error", "interrupted", "not_recognised"}


def healthy_log(steps: int = 300) -> str:
    """Write what an ordinary run prints: progress bars, harmless warnings, metrics, both losses falling."""
    lines = [
        "Loading checkpoint shards: 100%|##########| 4/4 [00:09<00:00,  2.31s/it]",
        "trainable params: 41,943,040 || all params: 8,072,204,288 || trainable%: 0.5196",
        "UserWarning: `do_sample` is set to `False`. However, `temperature` is set to `0.6`",
        "Setting `pad_token_id` to `eos_token_id`:2 for open-end generation.",
        "[INFO|trainer.py:2414] 2026-01-02 10:00:00,000 >>   Gradient Accumulation steps = 8",
        "`use_cache=True` is incompatible with gradient checkpointing. Setting `use_cache=False`.",
        "wandb: Run data is saved locally in /home/user/wandb",
        "Saving model checkpoint to out/checkpoint-100",
        "Dropping fully masked examples from train dataset: 100%|##########| 64/64 [00:00<00:00, 900.1 examples/s]",
        "[WARNING] Some weights of the model checkpoint were not used; this is expected if you fine-tune",
        "FutureWarning: `tokenizer` is deprecated and will be removed in version 5.0.0. Use `processing_class` instead.",
        "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly",
        "NCCL INFO Bootstrap : Using eth0",
        "[INFO] DeepSpeed ZeRO stage 2 optimizer ready",
        "PyTorch: setting up devices",
        "Sequence length 4096 set for packing; flash attention enabled",
        "the port 29500 is used as MASTER_PORT",
        "Token has not been saved to git credential helper.",
        "Special tokens have been added in the vocabulary",
        "If reserved memory is large try max_split_size_mb to avoid fragmentation",
    ]
    for step in range(1, steps):
        loss, epoch = 1.0 + 1.2 * 0.97**step, step / 100
        shown = loss + 0.01 * math.sin(7 * step)
        rest = f"'grad_norm': 0.6, 'learning_rate': 0.0002, 'epoch': {epoch:.2f}"
        lines.append(f"{{'loss': {shown:.4f}, {rest}}}")
        lines.append(f" {step % 100:3d}%|###       | {step}/{steps} [00:{step % 60:02d}<01:12,  1.31s/it]")
        if step % 50 == 0:
            lines.append(f"{{'eval_loss': {loss + 0.05:.4f}, 'eval_runtime': 3.2, 'epoch': {epoch:.2f}}}")
    lines.append("{'train_runtime': 812.1, 'train_samples_per_second': 3.1, 'train_loss': 1.21, 'epoch': 3.0}")
    return "\n".join(lines) + "\n"


def labels(text: str) -> list[str]:
    return [finding.label for finding in diagnose([Path("-")], stdin=io.BytesIO(text.encode())).findings]


def test_every_entry_has_an_example() -> None:
    assert LOGS.keys() | DESCRIPTIONS.keys() | CURVES | LAST_RESORTS == BY_LABEL.keys()
    assert len(BY_LABEL) == len(causes()), "a label stands twice"


@pytest.mark.parametrize("label", LOGS)
def test_fires_on_its_example_inside_a_long_log(label: str) -> None:
    assert labels(healthy_log() + LOGS[label] + "\n")[0] == label


@pytest.mark.parametrize("label", DESCRIPTIONS)
def test_fires_on_a_description(label: str) -> None:
    assert labels(DESCRIPTIONS[label])[0] == label


@pytest.mark.parametrize(("label", "text"), WORDINGS)
def test_other_wordings_of_public_threads_are_named_too(label: str, text: str) -> None:
    assert labels(text)[0] in label.split("/")


CONTENT = [
    "The run ended after two hours without errors and both losses went down smoothly.",
    "Resumed from checkpoint-500 and it continued fine.",
    "No NaNs, the gradient norm is about 0.4 and everything looks good.",
    "The new release solved my out of memory problem.",
    "After merging, the scores are the same as before merging, great.",
    "训练很顺利，效果很好",
]
QUESTIONS = [
    "Which learning rate is recommended for LoRA on 7B models?",
    "How can I write a checkpoint every 50 steps?",
    "Is it possible to resume a LoRA run with more data?",
    "请问是否支持多机训练？",
]


@pytest.mark.parametrize("text", [*CONTENT, *QUESTIONS])
def test_success_and_plain_questions_raise_no_alarm(text: str) -> None:
    first = diagnose([Path("-")], stdin=io.BytesIO(text.encode())).findings[0]
    assert first.label in {"healthy", "not_recognised"} or first.confidence < 0.5


def test_what_is_said_to_be_solved_is_not_the_trouble() -> None:
    assert labels("The OOM is gone now, but all ranks hang when the model is saved on 4 GPUs.")[0] == "nccl_timeout"


def test_an_exception_nobody_spelled_out_is_told_by_the_library_that_raised_it() -> None:
    frames = '  File "/env/deepspeed/runtime/zero/coordinator.py", line 42, in fetch\n    self.queue.pop()\n'
    assert (
        labels(f"{healthy_log()}Traceback (most recent call last):\n{frames}IndexError: unheard of\n")[0]
        == "dist_config"
    )
    assert labels(f"{healthy_log()}{frames}IndexError: the head of the traceback is missing\n")[0] == "dist_config"


@pytest.mark.parametrize("text", [*LOGS.values(), *(text for _, text in WORDINGS)])
def test_no_line_is_passed_over_that_a_sign_matches(text: str) -> None:
    for sign in (sign for cause in causes() for sign in cause.signs):
        if compiled(sign.pattern).search(text):
            assert any(anchor in text.lower() for anchor in anchors(sign.pattern)), sign.pattern


def test_all_are_silent_on_a_healthy_log() -> None:
    findings = diagnose([Path("-")], stdin=io.BytesIO(healthy_log().encode())).findings
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
        holder, leaf = _holder(path), path.rsplit(".", 1)[1]
        assert leaf in type(holder).model_fields
        type(holder).model_validate(holder.model_dump() | {leaf: value})
    for path, factor in cause.scale.items():
        assert isinstance(getattr(_holder(path), path.rsplit(".", 1)[1]), int | float)
        assert factor > 0


def _holder(path: str) -> Value:
    """Find the part of a default plan that has the last name of a dotted path as its field."""
    group, *inner, _ = path.split(".")
    assert group in SETTING_GROUPS
    value = Plan.model_fields[group].default
    for name in inner:
        value = getattr(value, name)
    assert isinstance(value, Value)
    return value
