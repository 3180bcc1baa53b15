"""The heart of a training configuration, short enough to read in a report."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.plan import Dpo, Plan
from finetune_exe.export.source import Setting, adapter, quantization, setting, trainer_settings

_WIDTH = 80
USUAL = {
    "lora_dropout": "0.0", "use_rslora": "False", "use_dora": "False", "weight_decay": "0.0", "adam_beta1": "0.9",
    "adam_beta2": "0.999", "max_grad_norm": "1.0",
}  # fmt: skip
"""Arguments that PEFT and transformers have by themselves; where the plan has the same, the excerpt leaves them out."""


def config_excerpt(plan: Plan) -> str:
    """Write the heart of the training configuration as Python, short enough to read in the plan report."""
    schedule = plan.schedule
    length = [setting("num_train_epochs", schedule.epochs)]
    length += [] if schedule.max_steps is None else [setting("max_steps", schedule.max_steps)]
    pairs = f"# the loss is DPO's, beta {plan.objective.beta:g}\n" if isinstance(plan.objective, Dpo) else ""
    training = pairs + _call("training = TrainingArguments", (*trainer_settings(plan), *length))
    peft, four_bit = adapter(plan), quantization(plan)
    if peft is None:
        return (
            f"from transformers import TrainingArguments\n\n# every weight is trained: there is no adapter\n{training}"
        )
    kept = _call(f"quantization = {four_bit.type}", four_bit.settings) if four_bit else ""
    names = f"{four_bit.type}, TrainingArguments" if four_bit else "TrainingArguments"
    imports = f"from peft import {peft.type}\nfrom transformers import {names}\n\n"
    return imports + _call(f"adapter = {peft.type}", peft.settings) + kept + training


def _call(called: str, settings: Sequence[Setting]) -> str:
    """Write a call with as many of its arguments on a line as fit."""
    lines = [""]
    for one in settings:
        if USUAL.get(one.name) == one.code:
            continue
        argument = f"{one.name}={one.code},"
        if lines[-1] and len(lines[-1]) + 1 + len(argument) > _WIDTH - 4:
            lines.append("")
        lines[-1] = f"{lines[-1]} {argument}".lstrip()
    return f"{called}(\n" + "".join(f"    {line}\n" for line in lines) + ")\n"
