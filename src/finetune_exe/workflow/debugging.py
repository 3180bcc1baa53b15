"""A diagnosis with what the planner and the estimator know about it, and the change that would mend the run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from finetune_exe.diagnosis.advice import in_words_of
from finetune_exe.diagnosis.config import changed, difference
from finetune_exe.diagnosis.diagnose import diagnose_material
from finetune_exe.diagnosis.material import Material, gather
from finetune_exe.diagnosis.redact import redact
from finetune_exe.diagnosis.tools import tools
from finetune_exe.domain.diagnosis import Diagnosis, Evidence, Finding
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import apply_settings, dump_plan, write_plan
from finetune_exe.domain.values import Decision, Interval, Scalar
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.knowledge.models import find_model
from finetune_exe.units import GIB, format_gib
from finetune_exe.workflow.run_folder import RunFolder
from finetune_exe.workflow.run_lock import training_process

_WITHOUT_FAULT = ("healthy", "train_only_falling")
"""Findings that name no fault of the training."""
_PASSED = {
    "title": "The training loss falls, and the model passed its evaluation",
    "cause": "Fewer than three validation losses were logged, so their course says little; the evaluation looked at "
             "its end, on rows that were held out.",
    "fix": "Nothing needs mending. A course that can be judged takes more evaluations an epoch.",
    "proof": "The evaluation of the run says ready.",
    "questions": (),
}  # fmt: skip
_CAPACITY = re.compile(r"total capacity of ([\d.]+) GiB|([\d.]+) GiB total capacity")
_MEMORY_PARTS = 4
_OOM_CHANGES = ("method.kind", "optimizer.kind", "precision.gradient_checkpointing", "data.max_length")
"""Settings with which less memory is needed, and which not every program has."""
_OOM_FIXED = ("model.reference", "method.kind", "method.lora_rank", "parallelism.kind", "parallelism.num_gpus")


@dataclass(frozen=True, slots=True, kw_only=True)
class Debugged:
    """A diagnosis, and what it was made from."""

    diagnosis: Diagnosis
    material: Material | None

    @property
    def best(self) -> Finding | None:
        """The first finding that has something to change."""
        ours = self.material is not None and self.material.plan is not None
        mending = (f for f in self.diagnosis.findings if f.patch or (f.own_keys and not ours))
        return next(mending, None)


def debug(
    paths: Sequence[Path], *, stdin: BinaryIO | None = None, context: str | None = None, probe: bool = False
) -> Debugged:
    """Diagnose, and add what planner and estimator say: the range of learning rates, the sums of memory.

    Args:
        paths: What `gather` reads.
        stdin: A stream, read where a path is `-`.
        context: What the user says beside it.
        probe: Look also into the one run of ours that is given, with its model and data.

    Raises:
        FineTuneError: L01 where there is nothing to read, or it is empty or no text.
    """
    material = gather(paths, stdin=stdin) if paths else None
    if probe:
        _probe(material, paths)
    diagnosis = diagnose_material(material, context=context)
    if material is None:
        return Debugged(diagnosis=diagnosis, material=None)
    plan = material.plan or _plan_of_others(material)
    findings = tuple(_beside_evaluation(_informed(finding, plan, material), material) for finding in diagnosis.findings)
    return Debugged(diagnosis=diagnosis.model_copy(update={"findings": findings}), material=material)


def _beside_evaluation(finding: Finding, material: Material) -> Finding:
    """Where the training of a run of ours shows no fault, say what its evaluation failed, or that it passed."""
    if finding.label not in _WITHOUT_FAULT or material.plan_path is None:
        return finding
    path = RunFolder(material.plan_path.parent).evaluation
    if not path.is_file():
        return finding
    evaluation = Evaluation.read(path)
    if evaluation.verdict == "ready" and finding.label != "healthy":
        return finding.model_copy(update=_PASSED)
    failed = [check for check in evaluation.readiness if check.passed is False]
    if not failed:
        return finding
    shown = (Evidence(line=None, text=f"evaluation: {check.name}: {check.detail}") for check in failed)
    return finding.model_copy(
        update={
            "title": "The training shows no fault, but the model failed its evaluation",
            "evidence": (*finding.evidence, *shown),
            "cause": "The losses behave; what the evaluation measured on held-out rows does not suffice.",
            "fix": "; ".join(dict.fromkeys(check.fix for check in failed if check.fix)) or finding.fix,
            "proof": "Evaluate again: no point may fail.",
            "patch": {},
        }
    )


def patch_text(debugged: Debugged) -> str:
    """Write the change that the best finding asks for as unified diffs, of our plan or of the tool's configuration.

    Raises:
        FineTuneError: L02 where there is no setting to change, or no file to change it in.
    """
    best, material = debugged.best, debugged.material
    if best is None or material is None:
        raise _nothing_to_patch("no finding asks for another setting")
    if material.plan and material.plan_path:
        old, new = dump_plan(material.plan), dump_plan(mended_plan(debugged))
        return difference(old, new, name=material.plan_path.name)
    diffs = [difference(config.text, changed(config, best.patch, own_keys=best.own_keys), name=config.path.name)
             for config in material.configs if config.tool]  # fmt: skip
    if not any(diffs):
        raise _nothing_to_patch("no plan and no configuration that has these settings was given")
    return "".join(diffs)


def mended_plan(debugged: Debugged) -> Plan:
    """Give our plan with the settings changed that the best finding names, and everything computed anew.

    Raises:
        FineTuneError: L02 where there is no setting to change, or the run is none of ours.
    """
    from finetune_exe.workflow.plans import edit_plan

    best, material = debugged.best, debugged.material
    if best is None or material is None:
        raise _nothing_to_patch("no finding asks for another setting")
    if material.plan is None:
        raise _nothing_to_patch("no plan of ours was given")
    settings = [f"{path}={json.dumps(value)}" for path, value in best.patch.items()]
    return edit_plan(material.plan, settings)


def apply_patch(debugged: Debugged, path: Path) -> str:
    """Write the mended plan, and say what the estimator now expects.

    Raises:
        FineTuneError: L02 where there is nothing to mend; I01 where it cannot be written.
    """
    plan = mended_plan(debugged)
    write_plan(plan, path)
    assert debugged.best is not None, "there is a patch"
    lines = [f"{path}: " + ", ".join(f"{name} = {value}" for name, value in debugged.best.patch.items())]
    for name, estimate in plan.estimates.items():
        value = estimate.value
        shown = format_gib(value.mid) if estimate.unit == "bytes" else f"{value.mid:.4g} {estimate.unit}"
        lines.append(f"expected {name}: {shown}")
    return "\n".join(lines) + "\n"


def redacted(diagnosis: Diagnosis) -> Diagnosis:
    """Take paths, names, addresses and tokens out of a diagnosis, to be shown to others."""
    findings = tuple(
        finding.model_copy(update={"evidence": tuple(
            Evidence(line=evidence.line, text=redact(evidence.text)) for evidence in finding.evidence)})
        for finding in diagnosis.findings
    )  # fmt: skip
    return diagnosis.model_copy(update={"subject": redact(diagnosis.subject), "findings": findings})


def _probe(material: Material | None, paths: Sequence[Path]) -> None:
    """Add what a look with model and data shows to what was read.

    Raises:
        FineTuneError: E01 where no run of ours is given.
    """
    from finetune_exe.workflow.probing import probe_run

    folder = next((path for path in paths if (path / "plan.yaml").is_file()), paths[0] if paths else Path())
    found = probe_run(folder)
    if material is not None:
        material.hits += found


def _informed(finding: Finding, plan: Plan | None, material: Material) -> Finding:
    """Add the planner's figures to a finding, and to a run that stopped how to go on with it."""
    if finding.label == "interrupted" and material.plan_path is not None:
        return _with_run(finding, material.plan_path.parent)
    if plan is None:
        return finding
    if finding.label == "oom":
        return _with_memory(finding, plan, ours=material.plan is not None, tool=material.tool)
    if "optimizer.learning_rate" in finding.patch:
        return _with_learning_rate(finding, plan)
    return finding


def _with_run(finding: Finding, run: Path) -> Finding:
    """Say which process trains into the run still, or the command that takes it up again."""
    process = training_process(run)
    if process is not None:
        title = f"The run is under way: process {process} trains into it"
        return finding.model_copy(update={"title": title, "cause": "It has not ended yet.", "fix": "Wait for it.",
                                          "proof": "", "questions": ()})  # fmt: skip
    from finetune_exe.training.resume import resume_command

    return finding.model_copy(update={"fix": f"Go on from the last whole checkpoint: {resume_command(run)}"})


def _with_learning_rate(finding: Finding, plan: Plan) -> Finding:
    from finetune_exe.planning.learning_rate import advise_learning_rate

    advised: Decision = advise_learning_rate(plan.model, method=plan.method.kind)
    if advised.interval is None:
        return finding
    patched = finding.patch["optimizer.learning_rate"]
    present = plan.optimizer.learning_rate
    better: object = (
        _inside(float(patched), present, advised.interval) if isinstance(patched, int | float) else advised.value
    )
    low, high = advised.interval.low, advised.interval.high
    said = (
        f"Learning rate {present:g} -> {better:g}: the best one for this model and method is expected between {low:g} "
        f"and {high:g} ({advised.source})."
    )
    lines = {tool: tuple(_rewritten(tool, line, patched, better) for line in lines)
             for tool, lines in finding.fix_in.items()}  # fmt: skip
    patch = finding.patch | {"optimizer.learning_rate": better}
    return finding.model_copy(update={"fix": f"{said} {finding.fix}", "patch": patch, "fix_in": lines})


def _rewritten(tool: str, line: str, old: Scalar, new: object) -> str:
    """Write the better learning rate where a line gives the other one."""
    write = tools()[tool].write
    better = write("optimizer.learning_rate", new) if isinstance(new, int | float) else None
    return better if better and line == write("optimizer.learning_rate", old) else line


def _inside(patched: float, present: float, interval: Interval) -> float:
    """Bring a rate that is to fall or to rise into the range, but never past where it was.

    One that would go beyond the range is of a general rule, and the middle of the range knows this model better.
    """
    falls = patched < present
    beyond = patched < interval.low if falls else patched > interval.high
    inside = interval.mid if beyond else min(max(patched, interval.low), interval.high)
    return inside if (inside < present) == falls else patched


def _with_memory(finding: Finding, plan: Plan, *, ours: bool, tool: str | None) -> Finding:
    """Say what the memory is made of, and the fastest setting that fits."""
    from finetune_exe.planning.fit import find_fit
    from finetune_exe.planning.readiness import usable_memory_bytes

    memory = estimate_memory(plan)
    if memory is None:
        return finding
    parts = sorted(memory.parts.items(), key=lambda part: -part[1])[:_MEMORY_PARTS]
    needed = ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts)
    sums = Evidence(line=None, text=f"estimated need {memory.value.mid / GIB:.1f} GiB: {needed}")
    have = usable_memory_bytes(plan)
    unsaid = [] if ours or tool is None else [path for path in _OOM_CHANGES if path not in tools()[tool].keys]
    fit = find_fit(plan, fixed=(*_OOM_FIXED, *unsaid))
    if not fit.fits:
        fit = find_fit(plan, fixed=("model.reference", *unsaid))
    after = estimate_memory(fit.plan)
    before = {path: value for path, value, _ in plan.settings()}
    patch = {path: value for path, value, _ in fit.plan.settings()
             if before.get(path) != value and not isinstance(value, tuple)}  # fmt: skip
    figures = [sums]
    if after is not None and patch:
        words = "with the settings below" if fit.fits else "nothing fits here; with the smallest settings"
        text = f"{words} {after.value.mid / GIB:.1f} GiB are expected, of {have / GIB:.1f} usable"
        figures.append(Evidence(line=None, text=text))
    patch = patch or finding.patch
    changes: dict[str, object] = {"evidence": (*finding.evidence, *figures), "patch": patch}
    if not ours and finding.place in (None, "activations", "logits", "optimizer"):
        changes["fix_in"] = in_words_of(tool, patch)
    return finding.model_copy(update=changes)


def _plan_of_others(material: Material) -> Plan | None:
    """Make a plan of another tool's settings, where the model is known by name, to ask the estimator about it."""
    settings = material.settings
    model = settings.get("model.reference")
    if not isinstance(model, str):
        return None
    from finetune_exe.workflow.estimates import wished_plan

    try:
        local = _local_model(model, material)
        if local is None:
            find_model(model)  # known by name, so that nothing is asked of the hub
        model = model if local is None else str(local)
        plan = wished_plan(model, method=_method(material), hardware=_machine(material))
    except FineTuneError:
        return None
    for path, value in settings.items():
        if path not in ("model.reference", "method.kind") and value is not None:
            plan = _with_setting(plan, path, value)
    return plan


def _local_model(model: str, material: Material) -> Path | None:
    """Find the folder that a configuration names, as seen from here or from beside it."""
    places = (Path(), *(config.path.parent for config in material.configs))
    return next((place / model for place in places if (place / model / "config.json").is_file()), None)


def _with_setting(plan: Plan, path: str, value: Scalar) -> Plan:
    try:
        return apply_settings(plan, [f"{path}={json.dumps(value)}"])
    except FineTuneError:
        return plan  # the tool's value has no counterpart with us


def _machine(material: Material) -> str | None:
    """Name the GPU's memory, where a failed allocation says it."""
    for hit in material.scan.evidence():
        found = _CAPACITY.search(hit.text)
        if found:
            return f"{round(float(found[1] or found[2]))} GiB"
    return None


def _method(material: Material) -> Literal["lora", "qlora", "full"]:
    kind = str(material.settings.get("method.kind") or "")
    if "qlora" in kind or material.values.get("load_in_4bit") is True or "quantization_bit" in material.values:
        return "qlora"
    adapted = "lora" in kind or "method.lora_rank" in material.settings
    return "lora" if adapted else "full" if kind else "lora"


def _nothing_to_patch(why: str) -> FineTuneError:
    return FineTuneError(
        "L02",
        what=f"there is nothing to patch: {why}",
        where="the diagnosis",
        why="a patch changes a setting in a file that was given",
        fix="give the run's plan.yaml or folder, or the tool's configuration file, beside the log",
    )
