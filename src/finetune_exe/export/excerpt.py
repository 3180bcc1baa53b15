"""The heart of a training configuration, short enough to read in a report."""

from __future__ import annotations

from finetune_exe.domain.plan import Dpo, Plan
from finetune_exe.export.source import adapter, call, quantization, setting, trainer_settings


def config_excerpt(plan: Plan) -> str:
    """Write the heart of the training configuration as Python, short enough to read in the plan report."""
    schedule = plan.schedule
    length = [setting("num_train_epochs", schedule.epochs)]
    length += [] if schedule.max_steps is None else [setting("max_steps", schedule.max_steps)]
    pairs = f"# the loss is DPO's, beta {plan.objective.beta:g}\n" if isinstance(plan.objective, Dpo) else ""
    training = pairs + call("training = TrainingArguments", (*trainer_settings(plan), *length))
    peft, four_bit = adapter(plan), quantization(plan)
    if peft is None:
        return (
            f"from transformers import TrainingArguments\n\n# every weight is trained: there is no adapter\n{training}"
        )
    kept = call(f"quantization = {four_bit.type}", four_bit.settings) if four_bit else ""
    names = f"{four_bit.type}, TrainingArguments" if four_bit else "TrainingArguments"
    imports = f"from peft import {peft.type}\nfrom transformers import {names}\n\n"
    return imports + call(f"adapter = {peft.type}", peft.settings) + kept + training
