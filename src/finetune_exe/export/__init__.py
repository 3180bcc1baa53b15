"""Plans for other tools: each exporter is one file and one entry of `EXPORTERS`."""

from __future__ import annotations

import difflib

from finetune_exe.domain.plan import Dpo, Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.export.axolotl import AXOLOTL
from finetune_exe.export.exporter import Exporter, File, Files
from finetune_exe.export.llama_factory import LLAMA_FACTORY
from finetune_exe.export.ms_swift import MS_SWIFT
from finetune_exe.export.plan_file import PlanFile
from finetune_exe.export.python_script import PythonScript
from finetune_exe.export.source import adapter, call, quantization, setting, trainer_settings
from finetune_exe.export.trl_script import TrlScript

__all__ = ["EXPORTERS", "Exporter", "File", "Files", "config_excerpt", "find_exporter"]

EXPORTERS: tuple[Exporter, ...] = (PlanFile(), PythonScript(), TrlScript(), AXOLOTL, LLAMA_FACTORY, MS_SWIFT)


def find_exporter(name: str) -> Exporter:
    """Look up the exporter for a target.

    Raises:
        FineTuneError: O03 for a target that is not known.
    """
    names = [entry.name for entry in EXPORTERS]
    if name in names:
        return EXPORTERS[names.index(name)]
    near = difflib.get_close_matches(name.lower(), names, n=1)
    raise FineTuneError(
        "O03",
        what=f"{name!r} is no configuration this program can write{f'; did you mean {near[0]}?' if near else ''}",
        where=f"--to {name}",
        why="a configuration in a form that nobody checked would train something else",
        fix="; ".join(f"--to {entry.name} writes {entry.describe}" for entry in EXPORTERS),
    )


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
