"""Reviews of configuration files: of other programs, and of our own plans."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.review import ConfigurationFinding, ConfigurationReview
from finetune_exe.domain.yaml_tree import Place
from finetune_exe.errors import FineTuneError
from finetune_exe.review.configuration import Configuration, read_configurations
from finetune_exe.review.findings import finding
from finetune_exe.review.fit import Room, can_be_estimated, check_fit
from finetune_exe.review.review import review_configuration

_PLACE = re.compile(r"(?:.*?):(\d+):(\d+)(?:: ([^:]+): (.*))?$", re.DOTALL)
_PLAN = re.compile(r"^(task|model|method|decisions|data_needs):", re.MULTILINE)


def review_files(
    paths: Sequence[Path], *, tool: str | None = None, gpu: str | None = None
) -> tuple[tuple[ConfigurationReview, ...], tuple[FineTuneError, ...]]:
    """Review files one after the other.

    Args:
        paths: The files.
        tool: The program that they are for; None finds out.
        gpu: What they shall fit on; None does not look at memory.

    Returns:
        The reviews, and of several files why some were passed over: they are for no program that is known.

    Raises:
        FineTuneError: C15, C16 where the only file cannot be reviewed; H01 for an unknown GPU.
    """
    room = _room(gpu)
    reviews: list[ConfigurationReview] = []
    passed_over: list[FineTuneError] = []
    for path in paths:
        try:
            reviews += _review_file(path, tool=tool, room=room)
        except FineTuneError as fault:
            if len(paths) == 1:
                raise
            if fault.code == "C16":
                passed_over.append(fault)
            else:
                reviews.append(_unreadable(path, fault))
    return tuple(reviews), tuple(passed_over)


def _review_file(path: Path, *, tool: str | None, room: Room | None) -> list[ConfigurationReview]:
    if tool is None and _is_plan(path):
        return [_review_plan(path)]
    return [_with_fit(configuration, room) for configuration in read_configurations(path, tool=tool)]


def review_one(configuration: Configuration, *, gpu: str | None = None) -> ConfigurationReview:
    """Review a configuration that was read already.

    Args:
        configuration: What the file says.
        gpu: What it shall fit on; None does not look at memory.
    """
    return _with_fit(configuration, _room(gpu))


def _with_fit(configuration: Configuration, room: Room | None) -> ConfigurationReview:
    review = review_configuration(configuration)
    if room is None:
        return review
    if not can_be_estimated(configuration):
        return review.model_copy(update={"not_looked_at": ("memory: the model's dimensions are not known",)})
    findings = sorted((*review.findings, *check_fit(configuration, room)), key=lambda one: (one.line, one.column))
    return review.model_copy(update={"findings": tuple(findings)})


def _room(gpu: str | None) -> Room | None:
    if gpu is None:
        return None
    from finetune_exe.workflow.plans import find_hardware

    hardware = find_hardware(gpu)
    if not hardware.gpus:
        return None
    first = hardware.gpus[0]
    return Room(gpu=first.name, num_gpus=len(hardware.gpus), memory_bytes=first.memory_bytes, bf16=first.bf16)


def _unreadable(path: Path, fault: FineTuneError) -> ConfigurationReview:
    found = tuple(_of_fault(fault, "unreadable"))
    return ConfigurationReview(path=str(path), tool="", title="no program", form="yaml", num_settings=0, findings=found)


def _is_plan(path: Path) -> bool:
    """Say whether a file is one of our own plans."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return False
    try:
        with path.open("rb") as file:
            text = file.read(1 << 20).decode("utf-8", errors="replace")
    except OSError:
        return False
    return {"task", "model", "method"} <= set(_PLAN.findall(text)) and "reference:" in text


def _review_plan(path: Path) -> ConfigurationReview:
    """Review a plan: what cannot be read, what excludes each other, and what its readiness says."""
    from finetune_exe.workflow.plans import open_plan

    plan: Plan | None = None
    try:
        plan = open_plan(path)
        findings = [
            finding("plan", "warning", key=check.name, place=Place(1, 1), what=f"{check.name}: {check.detail}",
                    why="the plan's readiness names it", fix=check.fix or "see fine-tune analyze",
                    source="the plan's readiness")
            for check in plan.fails
        ]  # fmt: skip
    except FineTuneError as fault:
        findings = list(_of_fault(fault, "plan"))
    return ConfigurationReview(
        path=str(path), tool="plan", title="a plan of this program", form="yaml",
        num_settings=len(list(plan.settings())) if plan else 0, findings=tuple(findings),
    )  # fmt: skip


def _of_fault(fault: FineTuneError, code: str) -> Iterator[ConfigurationFinding]:
    """Make one finding of each place that an error names."""
    for part in fault.where.split("\n"):
        match = _PLACE.fullmatch(part.strip())
        place = Place(int(match[1]), int(match[2])) if match else Place(1, 1)
        key, message = (match[3] or "", match[4] or fault.what) if match else ("", fault.what)
        yield finding(code, "error", key=key, place=place, what=f"{key}: {message}" if key else message,
                      why=fault.why, fix=fault.fix, source=f"FT-{fault.code}")  # fmt: skip
