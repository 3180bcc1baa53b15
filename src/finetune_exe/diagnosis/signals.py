"""What a course of losses shows: each signal with the step where it began and how large it is.

Pure: a series in, signals out. Medians and median deviations throughout, so that single odd values, noise and uneven
logging do not count. `curves.judge` picks the one label that says most; this lists all that can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from finetune_exe.diagnosis.curves import DIVERGED, MIN_EVALUATIONS, RISE, hidden_losses, noise, smooth
from finetune_exe.diagnosis.series import Point, Series

_SPIKE_DEVIATIONS = 8.0
_SPIKE_RISE = 0.25
_STAIR = 0.08
_UNSTEADY = 0.3
_SLOWER = 0.7
_MEMORY_GROWTH = 1.2
_NORM_GROWTH = 10.0
_SCALE = 3.0
FORGOTTEN = 0.25
"""Nats a token that general text may lose, as much as its divergence may be for a model to count as ready.

Source: PEFT's comparison of methods (knowledge/methods.toml): the loss on Wikipedia rises by 0.03 to 0.05 with sound
settings and by 0.31 at too high a rate."""
_KNEW = 5.0
"""Loss of general text in nats a token above which a model knew nothing of it that it could forget."""
_FEW = 8
_EXCURSION = 1.5
_CLEAR = 4.0
_GUESSING = 13.8
"""Loss in nats of guessing among a million tokens, more than any vocabulary has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing a series shows."""

    name: str
    step: float | None
    """Where it began; None where no step was logged."""
    effect: float
    """How large it is; `text` says of what."""
    text: str
    line: int | None = None
    """Line of the file in which it began."""


def signals(series: Series) -> tuple[Signal, ...]:
    """List what the series of a run show, what ends a run before what bounds its worth."""
    return tuple(signal for look in _LOOKS for signal in look(series))


def _not_finite(series: Series) -> Iterator[Signal]:
    for name, key in (("train loss", "train_loss"), ("validation loss", "eval_loss"), ("gradient norm", "grad_norm")):
        values = _values(series, key)
        bad = [point for point, value in values if not math.isfinite(value)]
        if bad:
            share = len(bad) / len(values)
            text = f"{len(bad)} of {len(values)} {name} values are not finite"
            yield _began(f"{name.replace(' ', '_')}_not_finite", bad[0], effect=share, text=text)


def _hidden(series: Series) -> Iterator[Signal]:
    """Find losses that the program wrote down as 0 because they were no numbers."""
    bad = hidden_losses(series)
    if bad:
        before = [p.train_loss for p in series.points if p.train_loss][-1]
        text = f"loss 0 with gradient norm {bad[0].grad_norm} stands for a loss that is no number, after {before:.4g}"
        yield _began("train_loss_not_finite", bad[0], effect=len(bad) / len(series.train), text=text)


def _overfitting(series: Series) -> Iterator[Signal]:
    found = _finite(series, "eval_loss")
    if len(found) < MIN_EVALUATIONS:
        return
    losses = [loss for _, loss in found]
    lowest = min(losses)
    where = losses.index(lowest)
    after = losses[where + 1 :]
    if not after or lowest <= 0:
        return
    rise = median(after[-2:]) / lowest - 1
    clear = median(after) - lowest > 2 * noise(losses) / math.sqrt(len(after))
    if rise >= RISE and clear:
        text = f"validation loss rises {100 * rise:.1f} % above its minimum {lowest:.4g}"
        yield _began("overfitting", found[where][0], effect=rise, text=text)


def _divergence(series: Series) -> Iterator[Signal]:
    found = _finite(series, "train_loss")
    if len(found) < _FEW:
        return
    losses = smooth([loss for _, loss in found])
    lowest = min(losses)
    where = losses.index(lowest)
    end = median(losses[-max(1, len(losses) // 10) :])
    scatter = noise([loss for _, loss in found])
    if lowest <= 0 or end < DIVERGED * lowest or end - lowest < 6 * scatter:
        return
    begun = next(i for i in range(where, len(losses)) if losses[i] > lowest + 0.25 * (end - lowest))
    text = f"train loss rises to {end / lowest:.2f} times its minimum {lowest:.4g}"
    yield _began("divergence", found[begun][0], effect=end / lowest, text=text)


def _excursion(series: Series) -> Iterator[Signal]:
    """Find a train loss that first rises far above where it began: the steps were too large, even if it came back."""
    found = _finite(series, "train_loss")
    if len(found) < _FEW:
        return
    raw = [loss for _, loss in found]
    losses = smooth(raw)
    start = median(losses[: max(1, min(3, len(losses) // 10))])
    high = [i for i in range(1, len(losses)) if losses[i] > _EXCURSION * start]
    climbed = [i for i in range(1, len(raw)) if raw[i] > _EXCURSION * raw[0]]
    if raw[0] < start and climbed and median(raw[i] for i in climbed) - raw[0] > _CLEAR * noise(raw):
        start, high = raw[0], climbed  # the very first step threw it up
    summed = any(_scales(series))
    guessing = [i for i in range(len(losses)) if losses[i] > _GUESSING and not summed]
    if len(guessing) >= max(3, len(losses) // 20) and len(high) < 3 and min(losses) < 0.5 * max(losses):
        text = f"{len(guessing)} train losses are above {_GUESSING}, worse than guessing among all tokens there are"
        effect = max(losses) / _GUESSING
        yield _began("excursion", found[guessing[0]][0], effect=effect, text=text)
    if start > 0 and len(high) >= max(3, len(losses) // 20):
        peak = max(losses[i] for i in high)
        text = f"train loss climbs to {peak / start:.1f} times where it began, over {len(high)} points"
        yield _began("excursion", found[high[0]][0], effect=peak / start, text=text)


def _spikes(series: Series) -> Iterator[Signal]:
    found = _finite(series, "train_loss")
    if len(found) < 2 * _FEW:
        return
    losses = [loss for _, loss in found]
    usual = _running_median(losses)
    spread = median([abs(loss - level) for loss, level in zip(losses, usual, strict=True)]) / 0.6745
    high = [
        i for i, (loss, level) in enumerate(zip(losses, usual, strict=True))
        if i and loss - level > max(_SPIKE_DEVIATIONS * spread, _SPIKE_RISE * level)
    ]  # fmt: skip
    if any(usual[i] > 0 for i in high) and len(high) <= len(losses) // 4:
        largest = max(losses[i] / usual[i] for i in high if usual[i] > 0)
        text = f"{len(high)} train losses stand out, the largest {largest:.2g} times its neighbours"
        yield _began("spikes", found[high[0]][0], effect=largest, text=text)


def _staircase(series: Series) -> Iterator[Signal]:
    found = [(point, loss) for point, loss in _finite(series, "train_loss") if point.epoch is not None]
    if len(found) < 3 * _FEW:
        return
    last = int(max(point.epoch or 0 for point, _ in found))
    drops = []
    for boundary in range(1, last + 1):
        before = [loss for p, loss in found if boundary - 0.4 <= (p.epoch or 0) <= boundary]
        after = [loss for p, loss in found if boundary < (p.epoch or 0) <= boundary + 0.4]
        if len(before) < 3 or len(after) < 3:
            continue
        half = len(before) // 2
        within = median(before[:half]) - median(before[half:])
        drop = median(before[half:]) - median(after[: max(1, len(after) // 2)])
        level = median(before)
        if level > 0:
            drops.append((boundary, (drop - max(0.0, within)) / level))
    steep = [(boundary, drop) for boundary, drop in drops if drop > _STAIR]
    if steep and len(steep) >= 0.6 * len(drops):
        first = next(p for p, _ in found if (p.epoch or 0) > steep[0][0])
        size = median([drop for _, drop in steep])
        text = f"train loss falls by {100 * size:.0f} % at {len(steep)} of {len(drops)} epoch borders, and not between"
        yield _began("staircase", first, effect=size, text=text)


def _plateau(series: Series) -> Iterator[Signal]:
    found = _finite(series, "train_loss")
    if len(found) < 2 * _FEW:
        return
    losses = smooth([loss for _, loss in found])
    start = median(losses[: max(1, len(losses) // 20)])
    end = median(losses[-max(1, len(losses) // 4) :])
    if start > 0 and abs(start - end) < RISE * start:
        change = (start - end) / start
        text = f"train loss changes by {100 * change:.1f} % over the whole run"
        yield _began("plateau", found[0][0], effect=change, text=text)


def _forgetting(series: Series) -> Iterator[Signal]:
    """Hold the loss of general text against that before the first step; two measurements in a row decide."""
    found = _finite(series, "general_loss")
    if len(found) < 3:
        return
    before = found[0][1]
    lost = min(loss for _, loss in found[-2:]) - before
    if lost > FORGOTTEN and before < _KNEW:
        begun = next(point for point, loss in found if loss - before > FORGOTTEN)
        text = f"the loss of general text went from {before:.3f} to {found[-1][1]:.3f} nats a token"
        yield _began("forgetting", begun, effect=lost, text=text)


def _still_falling(series: Series) -> Iterator[Signal]:
    found = _finite(series, "eval_loss")
    losses = [loss for _, loss in found]
    if len(losses) < MIN_EVALUATIONS or losses[-1] != min(losses):
        return
    split = max(1, math.ceil(len(losses) * 2 / 3))
    best = min(losses[:split])
    gained = 1 - losses[-1] / best if best > 0 else 0.0
    if gained >= RISE:
        text = f"the last third of the run still lowered validation loss by {100 * gained:.1f} %"
        yield _began("undertrained", found[split - 1][0], effect=gained, text=text)


def _unsteady(series: Series) -> Iterator[Signal]:
    losses = [loss for _, loss in _finite(series, "train_loss")]
    level = median(losses) if len(losses) >= 2 * _FEW else 0.0
    if level > 0 and noise(losses) > _UNSTEADY * level:
        share = noise(losses) / level
        text = f"train loss scatters by {100 * share:.0f} % of its level from one point to the next"
        yield Signal(name="instability", step=None, effect=share, text=text)


def _norms(series: Series) -> Iterator[Signal]:
    found = _finite(series, "grad_norm")
    if len(found) < 2 * _FEW:
        return
    norms = smooth([norm for _, norm in found])
    early, late = median(norms[: len(norms) // 3]), median(norms[-len(norms) // 5 :])
    if early > 0 and late > _NORM_GROWTH * early:
        begun = next(i for i, norm in enumerate(norms) if norm > 3 * early)
        text = f"gradient norm grows {late / early:.0f} times, from {early:.3g} to {late:.3g}"
        yield _began("gradient_growth", found[begun][0], effect=late / early, text=text)
    if late == 0:
        yield _began("no_gradient", found[-1][0], effect=0.0, text="the gradient norm is exactly 0")


def _pace(series: Series) -> Iterator[Signal]:
    for key, name, worse in (("throughput", "slowdown", -1), ("memory", "memory_growth", 1)):
        found = _finite(series, key)
        if len(found) < 2 * _FEW:
            continue
        values = [value for _, value in found]
        early, late = median(values[len(values) // 10 : len(values) // 3]), median(values[-len(values) // 4 :])
        if early > 0 and (late < _SLOWER * early if worse < 0 else late > _MEMORY_GROWTH * early):
            begun = next(i for i, v in enumerate(smooth(values)) if (v - early) * worse > 0.5 * abs(late - early))
            text = f"{key} goes from {early:.3g} to {late:.3g}"
            yield _began(name, found[begun][0], effect=late / early, text=text)


def _scales(series: Series) -> Iterator[Signal]:
    """Hold train loss against the validation loss measured next to it: sums of accumulated passes are too large."""
    ratios: list[tuple[float | None, float]] = []
    recent: list[float] = []
    for point in series.points:
        if point.train_loss is not None and math.isfinite(point.train_loss):
            recent = [*recent[-4:], point.train_loss]
        if point.eval_loss is not None and math.isfinite(point.eval_loss) and recent and point.eval_loss > 0:
            ratios.append((point.step, median(recent) / point.eval_loss))
    if len(ratios) >= 2 and median([ratio for _, ratio in ratios]) > _SCALE:
        ratio = median([ratio for _, ratio in ratios])
        text = f"train loss is {ratio:.1f} times the validation loss measured beside it"
        yield Signal(name="loss_scale_mismatch", step=ratios[0][0], effect=ratio, text=text)


_LOOKS: tuple[Callable[[Series], Iterator[Signal]], ...] = (
    _not_finite, _hidden, _divergence, _excursion, _overfitting, _spikes, _staircase, _plateau, _forgetting,
    _still_falling, _unsteady, _norms, _pace, _scales,
)  # fmt: skip


def _began(name: str, point: Point, *, effect: float, text: str) -> Signal:
    return Signal(name=name, step=point.step, line=point.line, effect=effect, text=text)


def _values(series: Series, key: str) -> list[tuple[Point, float]]:
    pairs = ((point, getattr(point, key)) for point in series.points)
    return [(point, value) for point, value in pairs if value is not None]


def _finite(series: Series, key: str) -> list[tuple[Point, float]]:
    return [(point, value) for point, value in _values(series, key) if math.isfinite(value)]


def _running_median(values: Sequence[float]) -> list[float]:
    """Give the median of the nine values around each."""
    return [median(values[max(0, i - 4) : i + 5]) for i in range(len(values))]
