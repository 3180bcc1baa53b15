"""What the form of another trainer cannot hold: listed in a comment, or refused where it would train something else."""

from __future__ import annotations

from collections.abc import Collection

from finetune_exe.domain.plan import Parallelism, Plan
from finetune_exe.errors import FineTuneError

_ELSEWHERE = {
    "data": " (applied by `fine-tune dataset`, before)",
    "evaluation": " (applied by `fine-tune eval`, after)",
}


_AS_EVERYWHERE = {"precision.checkpoint_every_layers", "schedule.decay_fraction", "method.quantization"}
"""Settings that at their defaults say what other trainers do, or belong to another schedule."""


def refuse_pairs(plan: Plan, *, target: str) -> None:
    """Refuse to write for a trainer of answers what learns from pairs.

    Raises:
        FineTuneError: O03.
    """
    if plan.objective.kind != "sft":
        raise FineTuneError(
            "O03",
            what=f"--to {target} is not written for objective.kind={plan.objective.kind}",
            where="objective.kind in the plan",
            why="it would train the better answers alone, which is something else",
            fix="--to trl, axolotl, llamafactory or ms-swift, which learn from pairs; `fine-tune train` does too",
        )


def refuse_gguf(plan: Plan, *, target: str) -> None:
    """Refuse a base model in one GGUF file, which trainers do not read.

    Raises:
        FineTuneError: O03.
    """
    if plan.model.reference.endswith(".gguf"):
        raise FineTuneError(
            "O03",
            what=f"--to {target} cannot be written for a model in a GGUF file",
            where=f"model.reference = {plan.model.reference}",
            why="that trainer reads model folders and hub ids alone",
            fix="--set model.reference=HUB-ID; or --to trl or python, which read it",
        )


def left_out(plan: Plan, expressed: Collection[str], *, template_before: bool = False) -> str:
    """List, as comments, the settings that are not among the paths `expressed`, so that none is dropped silently.

    Of what other commands apply, only that which is not as usual; and nothing that is off, as it is by default, or that
    says what every trainer does.

    Args:
        plan: Whose settings.
        expressed: Paths of those that the form carries.
        template_before: Whether the chat template is applied when the rows are written, not by the trainer.
    """
    one_process = plan.parallelism == Parallelism()
    lines: list[str] = []
    for path, value, default in plan.settings():
        if path == "objective.kind" and value == "sft":
            continue  # which every trainer learns from
        by_trainer = path == "data.chat_template" and not template_before
        elsewhere = "" if by_trainer else _ELSEWHERE.get(path.split(".")[0], "")
        off = value == default and (value is None or value is False or value == () or path in _AS_EVERYWHERE)
        usual = off or (elsewhere and value == default) or (one_process and path.startswith("parallelism."))
        if path not in expressed and not usual:
            lines.append(f"#   {path} = {value!r}{elsewhere}")
    return "\n".join(["# not expressible here:", *lines]) + "\n" if lines else ""
