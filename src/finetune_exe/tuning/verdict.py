"""What a search came to: the noise, the best settings, and the plan that says so."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.tuning import SearchedSetting, StudyDesign, Trial, Tuning, Verdict, best_of, loss_of, losses
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.tuning.space import setting_values, with_values
from finetune_exe.units import format_number

_ONE_IN_TEN = (3.078, 1.886, 1.638, 1.533, 1.476, 1.440)
"""Student's t that chance exceeds in one of ten cases, for 1 to 6 degrees of freedom."""
_SHOWN_ALTERNATIVES = 5


def conclude(
    design: StudyDesign, trials: tuple[Trial, ...], *, name: str, importance: Mapping[str, float] | None = None
) -> Tuning:
    """Say whether the best trial beats the plan by more than chance.

    The two are compared with the second seed, on which nothing was chosen. The gain has to exceed what two runs of
    equal settings differ by in one of ten cases.

    Raises:
        FineTuneError: S01 where the plan itself gave no loss.
    """
    best = best_of(trials)
    if best is None or not losses(trials, "plan"):
        raise _no_result(trials, name)
    noise = seed_noise(trials)
    repeated = loss_of(trials, "repeat")
    confirmed = loss_of([trial for trial in trials if trial.values == best.values], "confirm")
    gain = None if repeated is None or confirmed is None else repeated - confirmed
    verdict: Verdict = "cannot_tell"
    if best.role == "plan":
        verdict = "plan_is_best"
    elif gain is not None and noise is not None:
        verdict = "better" if gain > noise else "within_noise"
    planned = {setting.path: setting.planned for setting in design.settings}
    return Tuning(
        inputs=design.inputs,
        name=name,
        design=design,
        trials=trials,
        best=best.values if verdict == "better" else planned,
        verdict=verdict,
        gain=gain,
        noise=noise,
        importance=dict(importance or {}),
    )


def seed_noise(trials: Sequence[Trial]) -> float | None:
    """Measure by how much two runs of equal settings differ, exceeded in one of ten cases.

    With differences d_i of n pairs of seeds this is t_n * sqrt(mean(d_i ** 2)), the one-sided bound for a difference
    of two runs. A winner chosen for a low loss makes its pair's difference larger, never smaller.

    Returns:
        Nats; None where no settings ran with two seeds.

    Source: Student's t for n degrees of freedom.
    """
    losses: dict[tuple[tuple[str, float], ...], list[float]] = defaultdict(list)
    for trial in trials:
        if trial.loss is not None:
            losses[tuple(trial.values.items())].append(trial.loss)
    differences = [first - second for same in losses.values() for first, second in combinations(same, 2)]
    if not differences:
        return None
    bound = _ONE_IN_TEN[min(len(differences), len(_ONE_IN_TEN)) - 1]
    return bound * math.sqrt(sum(difference**2 for difference in differences) / len(differences))


def tuned_plan(plan: Plan, tuning: Tuning) -> Plan:
    """Write the result into the plan: each searched setting's value with what was measured for it and against it."""
    values = setting_values(tuning.design.settings, tuning.best)
    decisions = {setting.path: _decision(plan, tuning, setting) for setting in tuning.design.settings}
    return with_values(plan, values, decisions).model_copy(
        update={"inputs": {**plan.inputs, "tuning": tuning.digest()}}
    )


def within_noise(tuning: Tuning, setting: SearchedSetting) -> Interval:
    """Give the range of values whose trials are within noise of the best; a single one reaches to its neighbours."""
    finished = losses(tuning.trials, "plan", "search")
    limit = min(loss for _, loss in finished) + (tuning.noise or 0.0)
    mid = tuning.best[setting.path]
    good = [mid, *(trial.values[setting.path] for trial, loss in finished if loss <= limit)]
    low, high = min(good), max(good)
    if low == high:
        tried = {trial.values[setting.path] for trial, _ in finished}
        low = max((value for value in tried if value < mid), default=setting.low)
        high = min((value for value in tried if value > mid), default=setting.high)
    return Interval(low=low, mid=mid, high=high)


def _decision(plan: Plan, tuning: Tuning, setting: SearchedSetting) -> Decision:
    better, share = tuning.verdict == "better", tuning.design.share
    advised = plan.decisions[setting.path]
    ran = sum(trial.state != "failed" for trial in tuning.trials)
    part = "" if share == 1 else f", each with {100 * share:.0f} % of the plan's steps"
    return Decision(
        value=setting_values([setting], tuning.best)[setting.path],
        reason=_reason(tuning, setting),
        source=f"measured: {ran} trials on this machine{part}, study {tuning.name}",
        confidence="high" if better and share == 1 else "medium" if better else advised.confidence,
        interval=within_noise(tuning, setting),
        alternatives=_alternatives(tuning, setting),
        would_change="other data, another base model, or a run of another length",
    )


def _reason(tuning: Tuning, setting: SearchedSetting) -> str:
    planned = format_number(setting.planned)
    match tuning.verdict:
        case "better":
            words = f"{tuning.gain:.4f} nats less validation loss than the plan"
            kept = ", whose value this is too" if tuning.best[setting.path] == setting.planned else f"'s {planned}"
            return f"{words}{kept}, with a seed nothing was chosen on; chance alone makes {tuning.noise:.4f}"
        case "plan_is_best":
            return f"nothing tried had less validation loss than the plan's {planned}"
        case "within_noise":
            return (
                f"the plan's own: the best trial gained {tuning.gain:+.4f} nats, chance alone makes {tuning.noise:.4f}"
            )
        case _:
            return f"the plan's own: the noise was not measured, so that no gain over {planned} can be told from chance"


def _alternatives(tuning: Tuning, setting: SearchedSetting) -> tuple[str, ...]:
    """List the values that lost, the closest first, each by its best trial."""
    finished = losses(tuning.trials, "plan", "search")
    reference = next(loss for trial, loss in finished if trial.values == tuning.best)
    lost: dict[float, float] = {}
    for trial, loss in finished:
        value = trial.values[setting.path]
        if value != tuning.best[setting.path]:
            lost[value] = min(loss, lost.get(value, math.inf))
    ranked = sorted(lost.items(), key=lambda item: item[1])[:_SHOWN_ALTERNATIVES]
    named = [f"{format_number(value)}: validation loss {loss:.4f}, {loss - reference:+.4f}" for value, loss in ranked]
    stopped = [trial for trial in tuning.trials if trial.state == "pruned"]
    if stopped:
        named.append(
            "stopped early as worse: " + ", ".join(format_number(trial.values[setting.path]) for trial in stopped)
        )
    return tuple(named)


def _no_result(trials: Sequence[Trial], name: str) -> FineTuneError:
    reasons = "; ".join(f"trial {trial.number}: {trial.reason}" for trial in trials if trial.reason) or "no trial ran"
    return FineTuneError(
        "S01",
        what="the plan itself gave no validation loss, so nothing can be compared with it",
        where=f"{name}, {reasons}",
        why="the first trial is the plan as it stands",
        fix=f"mend the plan first ({typed('fine-tune', 'debug', f'{name}/trials/0')}), or give more --minutes with "
        "--resume",
    )
