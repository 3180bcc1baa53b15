"""From the configuration of another training program to a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.plan import BaseModelChoice, Plan
from finetune_exe.domain.plan_yaml import apply_settings
from finetune_exe.domain.review import ConfigurationReview
from finetune_exe.domain.values import Decision, Leaf
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.review.carried import Carried, Left, Setting
from finetune_exe.review.carry import carry
from finetune_exe.review.configuration import Configuration, read_configurations
from finetune_exe.workflow.reviewing import review_one


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedPlan:
    """A plan out of another program's configuration."""

    plan: Plan
    title: str
    """The program, with the version its keys were checked with."""
    num_carried: int
    left: tuple[Left, ...]
    review: ConfigurationReview
    """What is wrong with the file itself."""


def carry_plan(path: Path, *, task: str, hardware: str | None, settings: Sequence[str] = ()) -> CarriedPlan:
    """Make a plan of what a configuration says; where it says nothing, of what its program takes.

    Args:
        path: The configuration.
        task: What the model shall learn, in a sentence.
        hardware: What to plan for; None is this machine.
        settings: `path=value` wishes that go before the file.

    Raises:
        FineTuneError: C15, C16 where it cannot be read; C17 where no plan can be made of it.
    """
    configuration = read_configurations(path)[0]
    carried = carry(configuration)
    wished = {one.partition("=")[0] for one in settings}
    reference = next((one for one in carried.settings if one.path == "model.reference"), None)
    if reference is None and "model.reference" not in wished:
        raise FineTuneError(
            "C17",
            what="the file names no base model",
            where=str(path),
            why="a plan is for one model, and everything in it follows from that",
            fix=f"name it: {typed('fine-tune', 'config', '--from', path)} "
            "--set model.reference=Qwen/Qwen2.5-0.5B-Instruct",
        )
    plan = _draft(str(reference.value) if reference else "embedded", task=task, hardware=hardware)
    plan = _with_settings(plan, configuration, carried)
    from finetune_exe.workflow.plans import edit_plan

    plan = edit_plan(plan, settings)
    said = sum(1 for one in carried.settings if one.line is not None)
    return CarriedPlan(
        plan=plan,
        title=configuration.peer.title,
        num_carried=said,
        left=carried.left,
        review=review_one(configuration, gpu=hardware),
    )


def _draft(reference: str, *, task: str, hardware: str | None) -> Plan:
    from finetune_exe.planning.model import describe_model
    from finetune_exe.workflow.plans import bare_plan, find_hardware

    try:
        model = describe_model(reference)
    except FineTuneError:
        # a folder of another machine, or a name that is not known here: it stays as it is written
        model = BaseModelChoice(reference=reference, name=reference.rpartition("/")[2])
    return bare_plan(model, task=task, hardware=find_hardware(hardware), reason="named in the file")


def _with_settings(plan: Plan, configuration: Configuration, carried: Carried) -> Plan:
    """Apply the settings, each with the file and the line as its source."""
    kinds = ("method.kind", "objective.kind")
    ordered = sorted(carried.settings, key=lambda one: one.path not in kinds)
    ordered = [one for one in ordered if one.path not in ("model.reference", "model.revision")]
    try:
        plan = apply_settings(plan, [_assignment(one) for one in ordered])
    except FineTuneError:
        for one in ordered:
            plan = _with_setting(plan, one, configuration)
    revision = next((one for one in carried.settings if one.path == "model.revision"), None)
    if revision is not None:
        name = None if revision.value is None else str(revision.value)
        plan = plan.altered(model={"revision": name})
    values = {path: value for path, value, _ in plan.settings()}
    decisions = dict(plan.decisions)
    for one in carried.settings:
        if one.path in values:
            decisions[one.path] = _decision(one, values[one.path], configuration)
    if "schedule.warmup.kind" in decisions:
        warmup = next(one for one in carried.settings if one.path.startswith("schedule.warmup."))
        decisions["schedule.warmup.kind"] = _decision(warmup, values["schedule.warmup.kind"], configuration)
    return Plan.model_validate({**dict(plan), "decisions": decisions})


def _assignment(one: Setting) -> str:
    return f"{one.path}={json.dumps(one.value)}"


def _with_setting(plan: Plan, one: Setting, configuration: Configuration) -> Plan:
    """Apply one setting; what a plan may not have is named with its line."""
    try:
        return apply_settings(plan, [_assignment(one)])
    except FineTuneError as fault:
        raise FineTuneError(
            "C17",
            what=f"{one.key} cannot be carried over: {fault.what}",
            where=f"{configuration.path}:{one.line}" if one.line else configuration.peer.title,
            why="a plan may not have that value",
            fix=f"correct {one.key} in the file; fine-tune review says more",
        ) from fault


def _decision(one: Setting, value: Leaf, configuration: Configuration) -> Decision:
    if one.line is None:
        reason = f"the file says nothing; {configuration.peer.title} takes this"
        return Decision(value=value, reason=reason, source=configuration.peer.title, confidence="high")
    source = f"{configuration.path}:{one.line}"
    return Decision(value=value, reason=f"{one.key} in the file", source=source, confidence="high")
