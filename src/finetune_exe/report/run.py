"""What a training run did, and how well it was predicted."""

from __future__ import annotations

from finetune_exe.domain.run import TrainingRun
from finetune_exe.report.boxes import sparkline
from finetune_exe.report.numbers import format_interval, format_quantity
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Verbatim, render_markdown, render_text
from finetune_exe.units import (
    format_count,
    format_duration,
    format_gib,
    format_number,
    format_parameters,
    format_percent,
)

_STOP_REASONS = {
    "finished": "all planned steps done",
    "early_stopping": "the validation loss fell no further",
    "out_of_time": "the time was up",
}


def render_run(run: TrainingRun) -> str:
    """Write the course of a run, what it took, and each prediction beside its measurement."""
    return render_text(_run_page(run))


def render_run_markdown(run: TrainingRun) -> str:
    """Write the same as Markdown."""
    return render_markdown(_run_page(run))


def _run_page(run: TrainingRun) -> list[Block]:
    return [
        Title("TRAINING RUN", (
            Field("Run", run.run_name), Field("Stopped", _stop(run)), Field("Best", _best(run)),
            Field("Checkpoint", run.checkpoint),
        )),
        Heading("VALIDATION LOSS"), *_course(run),
        Heading("MEASURED"), _measured(run),
        *_scores(run),
    ]  # fmt: skip


def _stop(run: TrainingRun) -> str:
    reason = _STOP_REASONS[run.stop_reason]
    return f"{reason}, step {run.num_steps} of {run.planned_steps} ({run.num_epochs:.2f} epochs)"


def _best(run: TrainingRun) -> str:
    before, best = run.initial_validation_loss, run.best_validation_loss
    change = f"{format_percent(abs(1 - best / before))} " if before else ""
    side = "below" if best <= before else "ABOVE"
    return f"step {run.best_step}, validation loss {best:.4f}, {change}{side} the untrained {before:.4f}"


def _course(run: TrainingRun) -> list[Block]:
    losses = [run.initial_validation_loss, *(point.validation_loss for point in run.evaluations)]
    return [Verbatim(f"{losses[0]:.4f} {sparkline(losses)} {losses[-1]:.4f}")]


def _measured(run: TrainingRun) -> Table:
    padding = 1 - run.processed_tokens / run.padded_tokens if run.padded_tokens else 0.0
    once = run.shared_tokens / run.padded_tokens if run.padded_tokens else 0.0
    speed = run.learned_tokens / run.seconds if run.seconds else 0.0
    trained = f"{format_parameters(run.num_trainable_parameters)} of {format_parameters(run.num_parameters)}"
    share = run.num_trainable_parameters / run.num_parameters if run.num_parameters else 0.0
    rows = (
        ("Trained parameters", f"{trained} ({format_percent(share)})"),
        ("Last training loss", f"{run.final_train_loss:.4f}"),
        ("Learned tokens", f"{format_count(run.learned_tokens)}, {format_quantity(speed, 'tokens_per_second')}"),
        ("Padding", format_percent(padding)),
        *([("Shared beginnings", f"{format_percent(once)} of the tokens not computed again")] if once else []),
        ("Time in steps", format_duration(run.seconds)),
        ("Time in all", format_duration(run.total_seconds)),
        (
            "Peak memory",
            f"{format_gib(run.peak_memory_bytes)} {'(GPU)' if run.hardware.gpus else '(RAM of the process)'}",
        ),
        ("Machine", _machine(run)),
        (
            "Versions",
            ", ".join(f"{name} {version}" for name, version in sorted(run.versions.items())) or "not recorded",
        ),
    )
    return Table(header=("Measure", "Value"), rows=rows)


def _machine(run: TrainingRun) -> str:
    hardware = run.hardware
    names = ", ".join(gpu.name for gpu in hardware.gpus) or f"{hardware.cpu}, {format_number(hardware.num_cores)} cores"
    return f"{names}, {format_gib(hardware.accelerator_memory_bytes)}"


def _scores(run: TrainingRun) -> list[Block]:
    if not run.scores:
        return []
    rows = tuple(
        (
            score.name,
            format_interval(score.predicted, score.unit),
            format_quantity(score.measured, score.unit),
            "yes" if score.inside else "NO",
        )
        for score in run.scores
    )
    table = Table(header=("Prediction", "Predicted", "Measured", "Inside"), rows=rows)
    if run.num_steps == run.planned_steps:
        return [Heading("PREDICTIONS SCORED"), table]
    steps = f"{run.planned_steps:,} steps"
    whole = f"Duration is that of all {steps}, reckoned from the {run.num_steps:,} that were made"
    if all(score.name != "duration" for score in run.scores):
        whole = f"Duration is not scored: {run.num_steps:,} of {steps} say too little of it"
    return [Heading("PREDICTIONS SCORED"), table, Bullet(whole)]
