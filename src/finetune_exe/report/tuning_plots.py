"""Two plots of a search: its course, and which setting mattered."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.domain.tuning import Tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tuning(tuning: Tuning, folder: Path) -> tuple[Path, ...]:
    """Draw the trials and the importance of the settings as SVG files.

    Args:
        tuning: What the search came to.
        folder: Where `history.svg` and `importance.svg` are put.

    Returns:
        The files written; none where matplotlib is not installed, the first alone where no importance is known.
    """
    if find_spec("matplotlib") is None:
        return ()
    from matplotlib.figure import Figure

    files = [folder / "history.svg"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    _history(tuning, figure)
    figure.savefig(files[0], metadata={"Date": None})
    if tuning.importance:
        files.append(folder / "importance.svg")
        figure = Figure(figsize=(7, 0.8 + 0.5 * len(tuning.importance)), layout="constrained")
        axes = figure.subplots()
        names = list(reversed(tuning.importance))
        axes.barh(names, [tuning.importance[name] for name in names], color="tab:blue")
        axes.set(xlim=(0, 1), xlabel="share in what made trials good (PED-ANOVA)")
        figure.savefig(files[1], metadata={"Date": None})
    return tuple(files)


def _history(tuning: Tuning, figure: Figure) -> None:
    axes = figure.subplots()
    finished = [(trial.number, trial.loss) for trial in tuning.trials
                if trial.role in ("plan", "search") and trial.loss is not None]  # fmt: skip
    again = [(trial.number, trial.loss) for trial in tuning.trials
             if trial.role in ("repeat", "confirm") and trial.loss is not None]  # fmt: skip
    losses = [loss for _, loss in finished]
    numbers = [number for number, _ in finished]
    axes.step(numbers, [min(losses[: count + 1]) for count in range(len(losses))], where="post", label="best so far")
    axes.scatter(numbers, losses, color="tab:blue", label="finished")
    if again:
        axes.scatter(*zip(*again, strict=True), facecolors="none", edgecolors="tab:blue", label="second seed")
    stopped = [trial.number for trial in tuning.trials if trial.state != "finished"]
    if stopped:
        top = max(losses)
        axes.scatter(stopped, [top] * len(stopped), marker="x", color="tab:red", label="ended early (no loss)")
    if tuning.plan_loss is not None and tuning.noise is not None:
        low, high = tuning.plan_loss - tuning.noise, tuning.plan_loss + tuning.noise
        axes.axhspan(low, high, color="tab:gray", alpha=0.15, label="plan, within noise")
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="trial", ylabel="validation loss (nats)")
    axes.legend(fontsize="small")
