"""Two plots of a search: its course, and which setting mattered."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from finetune_exe.domain.tuning import Tuning, losses

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
    finished, again = losses(tuning.trials, "plan", "search"), losses(tuning.trials, "repeat", "confirm")
    numbers, found = [trial.number for trial, _ in finished], [loss for _, loss in finished]
    axes.step(numbers, list(accumulate(found, min)), where="post", label="best so far")
    axes.scatter(numbers, found, color="tab:blue", label="finished")
    if again:
        numbers, found = [trial.number for trial, _ in again], [loss for _, loss in again]
        axes.scatter(numbers, found, facecolors="none", edgecolors="tab:blue", label="second seed")
    stopped = [trial.number for trial in tuning.trials if trial.state != "finished"]
    if stopped:
        top = max(loss for _, loss in finished)
        axes.scatter(stopped, [top] * len(stopped), marker="x", color="tab:red", label="ended early (no loss)")
    if tuning.plan_loss is not None and tuning.noise is not None:
        low, high = tuning.plan_loss - tuning.noise, tuning.plan_loss + tuning.noise
        axes.axhspan(low, high, color="tab:gray", alpha=0.15, label="plan, within noise")
    axes.locator_params(axis="x", integer=True)
    axes.set(xlabel="trial", ylabel="validation loss (nats)")
    axes.legend(fontsize="small")
