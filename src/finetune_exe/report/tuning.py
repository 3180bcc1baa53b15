"""What a search for better settings came to."""

from __future__ import annotations

from itertools import accumulate

from finetune_exe.domain.tuning import Trial, Tuning, loss_of, losses
from finetune_exe.report.boxes import progress_bar, sparkline
from finetune_exe.report.numbers import UNKNOWN, format_measure
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Verbatim, render_markdown, render_text
from finetune_exe.units import format_duration, format_number

_ROLES = {"plan": "the plan", "repeat": "plan, 2nd seed", "search": "search", "confirm": "best, 2nd seed"}


def render_tuning(tuning: Tuning) -> str:
    """Write the verdict, the advised values, every trial and which setting mattered."""
    return render_text(_tuning_page(tuning))


def render_tuning_markdown(tuning: Tuning) -> str:
    """Write the same as Markdown."""
    return render_markdown(_tuning_page(tuning))


def _tuning_page(tuning: Tuning) -> list[Block]:
    seconds = sum(trial.seconds for trial in tuning.trials)
    fields = [Field("Study", tuning.name), Field("Verdict", _verdict(tuning))]
    fields += [Field("Trials", _counted(tuning)), Field("Time in trials", format_duration(seconds))]
    if tuning.design.share < 1:
        part = f"each trial made {100 * tuning.design.share:.0f} % of the plan's steps"
        fields.append(Field("Note", f"{part}; the whole run may want other values"))
    return [
        Title("SETTINGS SEARCHED", tuple(fields)),
        Heading("ADVISED VALUES"), _values(tuning), *_edges(tuning),
        Heading("TRIALS"), _trials(tuning), *_course(tuning),
        *_reasons(tuning),
        *_importance(tuning),
    ]  # fmt: skip


def _verdict(tuning: Tuning) -> str:
    gain = "" if tuning.gain is None else f"{tuning.gain:+.4f} nats with a seed nothing was chosen on"
    noise = "not measured" if tuning.noise is None else f"{tuning.noise:.4f}"
    match tuning.verdict:
        case "better":
            return f"better than the plan: the best trial gained {gain} (noise {noise})"
        case "within_noise":
            return f"the plan stands: the best trial gained {gain}, within the noise {noise}"
        case "plan_is_best":
            return f"the plan stands: no trial had a lower validation loss (noise {noise})"
        case _:
            return "cannot tell: the runs that measure the noise did not finish, so the plan stands"


def _counted(tuning: Tuning) -> str:
    counts = [
        (state, sum(trial.state == state for trial in tuning.trials)) for state in ("finished", "pruned", "failed")
    ]
    return ", ".join(f"{count} {state}" for state, count in counts if count)


def _values(tuning: Tuning) -> Table:
    rows = tuple(
        (
            setting.path,
            format_number(setting.planned),
            format_number(tuning.best[setting.path]),
            f"{format_number(setting.low)} to {format_number(setting.high)}",
        )
        for setting in tuning.design.settings
    )
    return Table(header=("Setting", "Plan", "Advised", "Searched"), rows=rows)


def _edges(tuning: Tuning) -> list[Block]:
    return [
        Bullet(f"{path}: the best trial lies at the edge of what was searched, so that beyond it may be better; widen "
               f"decisions, {path}, interval in the plan and begin a new study")
        for path in tuning.at_the_edge
    ]  # fmt: skip


def _trials(tuning: Tuning) -> Table:
    paths = [setting.path for setting in tuning.design.settings]
    best = tuning.best_trial
    rows = tuple(
        (
            f"{trial.number}{' *' if best is not None and trial.number == best.number else ''}",
            _ROLES[trial.role],
            *(format_number(trial.values[path]) for path in paths),
            format_measure(trial.loss) if trial.loss is None else f"{trial.loss:.4f}",
            _against(trial, tuning),
            f"{100 * trial.progress:.0f} %",
        )
        for trial in tuning.trials
    )
    names = [path.rpartition(".")[2] for path in paths]
    return Table(header=("#", "Run", *names, "Loss", "To plan", "Done"), rows=rows)


def _against(trial: Trial, tuning: Tuning) -> str:
    """Give the loss less that of the plan with the same seed."""
    plan_loss = loss_of(tuning.trials, "repeat" if trial.role in ("repeat", "confirm") else "plan")
    return UNKNOWN if trial.loss is None or plan_loss is None else f"{trial.loss - plan_loss:+.4f}"


def _course(tuning: Tuning) -> list[Block]:
    """Show the lowest loss so far, trial by trial."""
    lowest = list(accumulate((loss for _, loss in losses(tuning.trials, "plan", "search")), min))
    return [Verbatim(f"best so far: {lowest[0]:.4f} {sparkline(lowest)} {lowest[-1]:.4f}")] if lowest else []


def _reasons(tuning: Tuning) -> list[Block]:
    ended = [Bullet(f"trial {trial.number}, {trial.state}: {trial.reason}") for trial in tuning.trials if trial.reason]
    return [Heading("ENDED EARLY"), *ended] if ended else []


def _importance(tuning: Tuning) -> list[Block]:
    if not tuning.importance:
        return []
    rows = tuple((path, progress_bar(share)) for path, share in tuning.importance.items())
    return [Heading("WHAT MATTERED (PED-ANOVA)"), Table(header=("Setting", "Share"), rows=rows)]
