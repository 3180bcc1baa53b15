"""Go on with an interrupted run exactly where it was, or say why that cannot be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from finetune_exe.domain.checkpoint import CheckpointManifest
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.events import read_events
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.values import Leaf
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.models.fingerprint import fingerprint, is_base
from finetune_exe.training.checkpoints import Checkpoint, Found, find_checkpoints

HARMLESS = ("checkpoints.", "evaluation.", "data.paths", "model.reference")
"""Settings that change no step: when it is measured, kept and judged, and where the same files lie."""
_SOMETIMES = {
    "checkpoints.go_back_on_spike": "the same steps unless a loss spikes",
    "checkpoints.early_stopping_patience": "the same steps, but perhaps more or fewer",
    "checkpoints.evaluations_per_epoch": "the same steps; where they stop early, elsewhere",
}
"""Those of the harmless that may change how far the steps go, or lead back."""
ALLOW_PLAN_CHANGE, ALLOW_DATA_CHANGE = "--allow-plan-change", "--allow-data-change"
ROUNDING = (
    "batch.micro_batch_size",
    "batch.gradient_accumulation_steps",
    "parallelism.num_gpus",
    "parallelism.kind",
    "batch.packing",
    "precision.gradient_checkpointing",
)
"""Settings that change how a step is computed but not what: the same but for rounding, and where processes learn
together for what dropout leaves out."""


class Change(NamedTuple):
    """One thing that is no longer as it was."""

    name: str
    before: str
    now: str
    effect: str
    """What it would do to the run."""
    flag: str | None
    """Option by which the user says that the run may go on with it; None where it may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Where a run goes on."""

    checkpoint: Checkpoint
    found: Found
    remarks: tuple[str, ...]
    """What is not as it was, for the summary."""
    lost_seconds: float
    """Wall time between the checkpoint and the interruption."""


def find_resumption(run: Path) -> Resumption | None:
    """Find the newest checkpoint that can be trusted; None where the run saved none yet.

    Raises:
        FineTuneError: T12 where there are checkpoints but none can be trusted.
    """
    found = find_checkpoints(run)
    if found.rejected and not found.whole:
        raise FineTuneError(
            "T12",
            what=f"none of the {len(found.rejected)} checkpoints can be trusted",
            where="; ".join(f"{path}: {why}" for path, why in found.rejected),
            why="to go on from damaged weights, or from the beginning without a word, is not what was asked for",
            fix="restore one from a copy, or train again from the beginning with --overwrite instead of --resume",
        )
    if not found.whole:
        return None
    newest = found.whole[0]
    remarks = [f"{path.name} was passed over: {why}" for path, why in found.rejected]
    return Resumption(
        checkpoint=newest,
        found=found,
        remarks=tuple(remarks),
        lost_seconds=max(0.0, _last_seconds(run / "events.jsonl") - newest.manifest.progress.total_seconds),
    )


def with_remarks(resumption: Resumption, remarks: Sequence[str]) -> Resumption:
    """Add what else is to be remembered of taking the run up again."""
    return dataclasses.replace(resumption, remarks=(*resumption.remarks, *remarks))


def plan_changes(manifest: CheckpointManifest, plan: Plan) -> Iterator[Change]:
    """Compare the settings of a checkpoint with those of a plan.

    A setting that the version which wrote the checkpoint did not have yet was at its default.
    """
    now, then = {path: value for path, value, _ in plan.settings()}, _settings_then(manifest, plan)
    rows = _effective(then) == _effective(now)
    for path in sorted(then.keys() | now.keys()):
        before, after = then.get(path), now.get(path)
        if before == after:
            continue
        if path.startswith(HARMLESS):
            effect, flag = _SOMETIMES.get(path, "changes no step"), ALLOW_PLAN_CHANGE
        elif path in ROUNDING and rows:
            effect, flag = f"the same steps but for {_what_differs(path)}", ALLOW_PLAN_CHANGE
        else:
            effect, flag = "other steps: another run", None
        yield Change(path, _shown(before), _shown(after), effect, flag)


def _settings_then(manifest: CheckpointManifest, plan: Plan) -> dict[str, Leaf]:
    return {path: default for path, _, default in plan.settings()} | manifest.settings


def content_changes(manifest: CheckpointManifest, *, base: Path, dataset: PreparedDataset) -> Iterator[Change]:
    """Compare the content of the base model and of the prepared rows."""
    effect = "other content: another run"
    then = manifest.inputs
    if not is_base(base, then["base"]):
        yield Change("the base model", then["base"][:12], fingerprint(base)[:12], effect, None)
    if not dataset.is_named(then["dataset"]):
        yield Change("the prepared rows", then["dataset"][:12], dataset.digest()[:12], effect, None)


def version_changes(manifest: CheckpointManifest, versions: Mapping[str, str], num_threads: int) -> tuple[str, ...]:
    """Say which packages and how many threads are not those the checkpoint was made with."""
    names = sorted(manifest.versions.keys() | versions.keys())
    pairs = [(name, manifest.versions.get(name, "none"), versions.get(name, "none")) for name in names]
    pairs += [("threads", str(manifest.num_threads), str(num_threads))]
    return tuple(f"{name} was {before} and is {now}" for name, before, now in pairs if before != now)


def insist_unchanged(changes: Sequence[Change], *, flags: Collection[str], run: Path) -> tuple[str, ...]:
    """Refuse to go on with what has changed, with a table of it; where all of it is allowed, give it as remarks.

    Args:
        changes: What is not as it was.
        flags: Options by which the user allowed changes.
        run: The run's folder.

    Raises:
        FineTuneError: T13 where something changed that may not, or may only if the user says so.
    """
    if all(change.flag in flags for change in changes):
        return tuple(f"{change.name} was {change.before}, now {change.now}" for change in changes)
    forbidden = [change.name for change in changes if change.flag is None]
    missing = sorted({change.flag for change in changes if change.flag} - set(flags))
    raise FineTuneError(
        "T13",
        what=f"{len(changes)} thing{'s' if len(changes) > 1 else ''} changed since this run was interrupted",
        where="\n".join([str(run), *_table(changes)]),
        why=f"with another {', '.join(forbidden)} it would be another run"
        if forbidden
        else "the run would no longer be quite the one that was begun, so the change has to be wanted",
        fix="begin a new run with --run OTHER, or put back what changed"
        if forbidden
        else f"add {' '.join(missing)} to go on, which is recorded; or go on as it was: {resume_command(run)}",
    )


def resume_command(run: Path) -> str:
    """Give the command that takes a run up again as it was begun."""
    return typed("fine-tune", "train", run / "plan.yaml", "--run", run, "--resume")


def verified_best(resumption: Resumption, note: Callable[[str], None]) -> tuple[int, float | None]:
    """Give step and loss of the best evaluation whose checkpoint can be trusted."""
    progress = resumption.checkpoint.manifest.progress
    whole = {kept.manifest.step for kept in resumption.found.whole}
    if progress.best_step in whole or not progress.points:
        return progress.best_step, progress.best_loss
    left = [point for point in progress.points if point.step in whole]
    best = min(left, key=lambda point: point.validation_loss, default=None)
    note(f"the best checkpoint, step-{progress.best_step}, cannot be used; " + (
        f"step-{best.step} takes its place" if best else "the next evaluation takes its place"
    ))  # fmt: skip
    return (best.step, best.validation_loss) if best else (0, None)


def _last_seconds(events: Path) -> float:
    written = read_events(events) if events.is_file() else []
    return written[-1].seconds if written else 0.0


def _effective(settings: Mapping[str, Leaf]) -> int | None:
    """Count the rows of a step, those of all processes."""
    sizes = [size for path in ROUNDING[:3] if isinstance(size := settings.get(path), int)]
    return math.prod(sizes) if len(sizes) == 3 else None


def _what_differs(path: str) -> str:
    return "rounding and dropout" if path.startswith("parallelism.") else "rounding"


def _shown(value: Leaf) -> str:
    return "not set" if value is None else ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _table(changes: Sequence[Change]) -> Iterator[str]:
    """Write the changes as lines under each other."""
    rows = [("setting", "then", "now", "effect"), *(change[:4] for change in changes)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        yield "    " + "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
