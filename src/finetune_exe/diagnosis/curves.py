"""Judge the course of a loss by effect size, after its noise is taken out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from finetune_exe.diagnosis.series import Point, Series
from finetune_exe.domain.events import SPIKE

RISE = 0.03
"""Validation loss this far above its minimum is overfitting; train loss that fell by less than this is flat."""
MILD_RISE = 0.01
DIVERGED = 1.3
JUMP = 0.25
MEMORISED = 0.1
MEMORISING_EPOCHS = 2.9
MIN_EVALUATIONS = 3
_MILD_WAIT = 3
_RECENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What one curve shows."""

    label: str
    confidence: float
    evidence: tuple[str, ...]
    """Figures that led to it, a phrase each."""


def judge(series: Series) -> Judgement | None:
    """Name what the curves of a run show, or None where there is too little to say anything.

    The order is from what ends a run to what merely bounds its worth: not finite, zero, diverging, validation worse,
    still falling, flat, nothing wrong.
    """
    train, evaluation = series.train, series.evaluation
    for look in (_not_finite, _hidden, _zero, _diverging):
        found = look(series)
        if found:
            return found
    finite = [loss for loss in evaluation if math.isfinite(loss)]
    if len(finite) >= MIN_EVALUATIONS:
        return _judge_validation(series, finite)
    return _judge_training(series, train) if len(train) >= MIN_EVALUATIONS else None


def smooth(values: Sequence[float]) -> list[float]:
    """Replace each value by the median of its neighbourhood, a twentieth of the run wide."""
    half = min(10, len(values) // 40)
    return [median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def noise(values: Sequence[float]) -> float:
    """Estimate the standard deviation of the scatter around a slow trend.

    The median of |second differences|, scaled for the normal distribution: trends, even steep ones, cancel. Fewer
    than six values cannot tell a bend from scatter: 0.
    """
    if len(values) < 6:
        return 0.0
    seconds = [abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    return median(seconds) / 0.6745 / math.sqrt(6)


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Give the typical value of the first and of the last tenth."""
    width = max(1, len(values) // 10)
    return median(values[:width]), median(values[-width:])


def _not_finite(series: Series) -> Judgement | None:
    bad = [p for p in series.points if p.train_loss is not None and not math.isfinite(p.train_loss)]
    if bad:
        counts = f"{len(bad)} of {len(series.train)} train losses are not finite, the first at {_at(bad[0])}"
        return Judgement(label="nan_loss", confidence=0.95, evidence=(counts,))
    num_bad = _num_bad_evaluations(series)
    if not num_bad or _hidden(series) or _zero(series):
        return None
    counts = f"{num_bad} of {len(series.evaluation)} validation losses are not finite while every train loss is"
    return Judgement(label="nan_eval", confidence=0.9, evidence=(counts,))


def hidden_losses(series: Series) -> list[Point]:
    """List the points whose loss was not finite and was logged as 0: their gradients are not, and some came before.

    Source: transformers' Trainer, logging_nan_inf_filter.
    """
    points = [p for p in series.points if p.train_loss is not None]
    bad = [p for p in points if p.train_loss == 0 and p.grad_norm is not None and not math.isfinite(p.grad_norm)]
    learned = any(p.train_loss for p in points[: points.index(bad[0])]) if bad else False
    return bad if learned and len(bad) > 1 else []


def _hidden(series: Series) -> Judgement | None:
    bad = hidden_losses(series)
    if not bad:
        return None
    said = f"{len(bad)} of {len(series.train)} train losses are logged as 0 with a gradient norm that is no number"
    return Judgement(label="nan_loss", confidence=0.95, evidence=(f"{said}, the first at {_at(bad[0])}",))


def _num_bad_evaluations(series: Series) -> int:
    return sum(not math.isfinite(loss) for loss in series.evaluation)


def _zero(series: Series) -> Judgement | None:
    """Tell a loss with nothing to learn from (0 and no gradient) from a policy objective that hovers around 0."""
    points = [p for p in series.points if p.train_loss is not None]
    tail = points[-max(1, len(points) // 2) :]
    zeros = [p for p in tail if p.train_loss == 0]
    if not zeros or len(zeros) < 0.5 * len(tail):
        if series.rewards and points and abs(median([p.train_loss or 0 for p in points])) < 0.01:
            return _policy(points)
        return None
    norms = [p.grad_norm for p in zeros if p.grad_norm is not None]
    if any(math.isfinite(norm) and norm > 0 for norm in norms):
        return _policy(points)
    dead = f"train loss is exactly 0 at {len(zeros)} of the last {len(tail)} points"
    norm = f", gradient norm {norms[0]:g}" if norms else ""
    unclear = bool(norms) and not math.isfinite(norms[0])  # no number may be hidden behind the 0
    confidence = 0.6 if unclear or not (norms or _num_bad_evaluations(series)) else 0.9
    return Judgement(label="loss_zero_masked", confidence=confidence, evidence=(dead + norm,))


def _policy(points: Sequence[Point]) -> Judgement:
    share = sum(p.train_loss == 0 for p in points) / len(points)
    words = f"{100 * share:.0f} % of the logged losses are exactly 0 while gradients flow, as with a policy objective"
    return Judgement(label="rl_loss_not_informative", confidence=0.8, evidence=(words,))


def _diverging(series: Series) -> Judgement | None:
    points = [p for p in series.points if p.train_loss is not None]
    losses = series.train
    if len(losses) < MIN_EVALUATIONS:
        return None
    smoothed = smooth(losses)
    width = max(1, len(losses) // 10)
    tenths = [median(losses[i : i + width]) for i in range(len(losses) - width + 1)]
    lowest = min(tenths)
    where = tenths.index(lowest) + width // 2
    _, end = _ends(smoothed)
    rate = series.peak_learning_rate
    peak = "" if rate is None else f", peak learning rate {rate:g}"
    rise = end - lowest
    clear = rise > 4 * noise(losses) / math.sqrt(max(1, len(losses) // 10)) and rise > 0.1 * (smoothed[0] - lowest)
    if end > DIVERGED * lowest and clear and lowest > 0:
        times = f"{end / lowest:.2f} times its minimum {lowest:.4g} at {_at(points[where])}"
        said = f"train loss ends at {end:.4g}, {times}{peak}"
        return Judgement(label="divergence", confidence=0.85, evidence=(said,))
    recent = range(max(2, len(losses) - _RECENT), len(losses))
    floor = 0.25 * smoothed[0]
    scatter = 6 * noise(losses) if len(losses) > 4 * _RECENT else 0.0
    usual = {i: max(floor, median(losses[max(0, i - 2 * _RECENT) : i])) for i in recent}
    high = [points[i] for i in recent if losses[i] > max(SPIKE * usual[i], usual[i] + scatter)]
    if len(high) < 2:
        return None
    said = (
        f"{len(high)} of the last {len(recent)} train losses are over {SPIKE:g} times what was usual before them{peak}"
    )
    return Judgement(label="divergence", confidence=0.65, evidence=(said,))


def _judge_validation(series: Series, losses: Sequence[float]) -> Judgement:
    """Judge by three or more validation losses."""
    lowest = min(losses)
    where = list(losses).index(lowest)
    after = len(losses) - 1 - where
    end = losses[-1] if after < 4 else median(losses[-2:])
    rise = end / lowest - 1 if lowest > 0 else 0.0
    first_train, last_train = _ends(series.train) if series.train else (math.inf, 0.0)
    learning = not series.train or last_train < min(first_train, series.train[0])  # the first steps may throw it up
    place = f"evaluation {where + 1} of {len(losses)}"
    shown = f"validation loss ends {100 * rise:.1f} % above its minimum {lowest:.4g} ({place})"
    jumps = _jumps(losses)
    if jumps >= 2:
        said = f"validation loss jumps up by {100 * JUMP:.0f} % or more {jumps} times and comes back"
        return Judgement(label="eval_unstable", confidence=0.75, evidence=(said,))
    clear = after > 0 and median(losses[where + 1 :]) - lowest > 2 * noise(losses) / math.sqrt(after)
    if rise >= RISE and learning and clear:
        trained = f"train loss goes from {first_train:.4g} to {last_train:.4g}"
        confidence = min(0.97, 0.75 + 2 * (rise - RISE))
        return Judgement(label="overfitting", confidence=confidence, evidence=(shown, trained))
    if rise >= MILD_RISE and after >= _MILD_WAIT and learning and clear and _above_neighbours(losses, where):
        return Judgement(label="mild_overfitting", confidence=0.7, evidence=(shown,))
    split = max(1, math.ceil(len(losses) * 2 / 3))
    gained = 1 - lowest / min(losses[:split]) if min(losses[:split]) > 0 else 0.0
    if after == 0 and gained >= RISE:
        said = f"the last validation loss is the lowest, {100 * gained:.1f} % under what the first two thirds reached"
        return Judgement(label="undertrained", confidence=0.75, evidence=(said,))
    flat = lowest > (1 - RISE) * losses[0] and last_train > (1 - RISE) * first_train
    if flat and len(series.train) >= _RECENT:
        fell = f"validation loss fell by {100 * (1 - lowest / losses[0]):.1f} % since its first value {losses[0]:.4g}"
        trained = f"train loss goes from {first_train:.4g} to {last_train:.4g}"
        return Judgement(label="plateau", confidence=0.7, evidence=(fell, trained))
    return Judgement(label="healthy", confidence=0.8, evidence=(shown,))


def _above_neighbours(losses: Sequence[float], where: int) -> bool:
    """Say whether what follows a minimum lies above what surrounds it, not only above one lucky value."""
    usual, later = median(losses[max(0, where - 1) : where + 2]), losses[where + 1 :]
    return median(later) - usual > 2 * noise(losses) / math.sqrt(len(later)) and losses[-1] > usual


def _jumps(losses: Sequence[float]) -> int:
    """Count rises of a quarter or more over the evaluation before that are undone later."""
    ups = (i for i in range(1, len(losses)) if losses[i] >= (1 + JUMP) * losses[i - 1] > 0)
    return sum(any(later <= losses[i - 1] * (1 + JUMP / 2) for later in losses[i + 1 :]) for i in ups)


def _judge_training(series: Series, losses: Sequence[float]) -> Judgement:
    """Judge by train losses alone."""
    first, last = _ends(losses)
    start = median(losses[: min(10, max(1, len(losses) // 10))])
    few = "no" if not series.evaluation else f"only {len(series.evaluation)}"
    unseen = f"{few} validation loss{'es' if len(series.evaluation) > 1 else ''} logged"
    shown = f"train loss goes from {start:.4g} to {last:.4g}"
    within_noise = start - last < 2 * noise(losses) * math.sqrt(2 / max(1, min(10, len(losses) // 10)))
    if last > (1 - RISE) * start or (within_noise and last > (1 - 2 * RISE) * start and len(losses) >= 2 * _RECENT):
        return Judgement(label="plateau", confidence=0.7, evidence=(shown, unseen))
    if last <= MEMORISED * first and (series.epochs or 0) >= MEMORISING_EPOCHS:
        passes = f"{shown} in {series.epochs:.3g} epochs"
        return Judgement(label="memorisation_suspected", confidence=0.55, evidence=(passes, unseen))
    return Judgement(label="train_only_falling", confidence=0.7, evidence=(shown, unseen))


def _at(point: Point) -> str:
    if point.step is not None:
        return f"step {point.step:g}"
    return "an unknown step" if point.epoch is None else f"epoch {point.epoch:g}"
