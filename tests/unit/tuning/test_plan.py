"""What of a plan is searched, how long that takes, and the plan that comes of it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.unit.report import sample

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan, write_plan
from finetune_exe.domain.tuning import SearchedSetting, StudyDesign, Trial, Tuning
from finetune_exe.domain.values import Decision, Estimate, Interval
from finetune_exe.errors import GATE, USAGE, FineTuneError
from finetune_exe.report.tuning import render_tuning, render_tuning_markdown
from finetune_exe.report.tuning_plots import plot_tuning
from finetune_exe.tuning.budget import EXTRA_RUNS, bound_budget
from finetune_exe.tuning.space import search_space, with_values
from finetune_exe.tuning.verdict import conclude, tuned_plan

RATE, RANK, EPOCHS = "optimizer.learning_rate", "method.lora_rank", "schedule.epochs"


def decided(value: float, low: float, high: float) -> Decision:
    interval = Interval(low=low, mid=min(high, max(low, value)), high=high)
    return Decision(value=value, reason="r", source="s", confidence="low", interval=interval)


def plan_of(*, epochs: float = 2.0, rank: int = 16, low: float = 8, high: float = 64) -> Plan:
    decisions = {EPOCHS: decided(epochs, 1, 5), RANK: decided(rank, low, high)}
    return with_values(sample.plan(), {EPOCHS: epochs, RANK: rank}, decisions)


def refusal(code: str, **wishes: object) -> FineTuneError:
    with pytest.raises(FineTuneError) as refused:
        search_space(plan_of(), num_trials=12, **wishes)  # type: ignore[arg-type]
    assert refused.value.code == code
    return refused.value


def test_the_learning_rate_is_searched_first_and_epochs_only_in_whole_runs() -> None:
    assert [setting.path for setting in search_space(plan_of(), num_trials=12)] == [RATE, RANK]
    assert [setting.path for setting in search_space(plan_of(), num_trials=30)] == [RATE, RANK, EPOCHS]
    assert [setting.path for setting in search_space(plan_of(), num_trials=30, share=0.5)] == [RATE, RANK]


def test_bounds_are_the_plans_own_and_hold_what_the_user_set() -> None:
    rate, rank = search_space(plan_of(), num_trials=12)
    assert (rate.low, rate.high, rate.planned, rate.scale) == (1e-4, 1e-3, 1e-3, "log")
    assert rank.choices == (8, 16, 32, 64)
    edited = with_values(plan_of(), {RATE: 5e-3}, {})
    assert search_space(edited, over=[RATE], num_trials=2)[0].high == 5e-3


@given(rank=st.integers(1, 300), low=st.floats(1, 300), width=st.floats(0, 300))
def test_whole_numbers_are_rising_inside_and_hold_the_plans(rank: int, low: float, width: float) -> None:
    plan = plan_of(rank=rank, low=low, high=low + width)
    if math.floor(max(low + width, rank)) == math.ceil(min(low, rank)):
        with pytest.raises(FineTuneError, match="C12"):
            search_space(plan, over=[RANK], num_trials=2)
        return
    (setting,) = search_space(plan, over=[RANK], num_trials=2)
    assert list(setting.choices) == sorted(set(setting.choices))
    assert rank in setting.choices
    assert min(low, rank) <= setting.low < setting.high <= max(low + width, rank)
    assert all(choice == int(choice) for choice in setting.choices)


def test_a_wish_that_cannot_be_searched_says_why() -> None:
    assert "did you mean optimizer.learning_rate?" in refusal("C12", over=["optimizer.lerning_rate"]).what
    assert "did you mean method.lora_rank?" in refusal("C12", over=["lora_rank"]).what
    assert "no interval" in refusal("C12", over=["optimizer.weight_decay"]).what
    assert "no interval" in refusal("C12", over=["data.deduplicate"]).what
    assert "epochs" in refusal("C12", over=[EPOCHS], share=0.5).what
    assert refusal("C12", over=["nothing"]).exit_status == USAGE


def timed(seconds: float, *, loading: float) -> Plan:
    duration = Estimate(value=Interval(low=seconds / 2, mid=seconds, high=seconds * 2), unit="seconds", reason="r",
                        source="s", parts={"loading": loading, "training": seconds - loading})  # fmt: skip
    return sample.plan().model_copy(update={"estimates": {"duration": duration}})


@given(
    run=st.floats(20, 1e5), loading=st.floats(0, 10), trials=st.integers(2, 60), limit=st.floats(60, 1e6)
)  # fmt: skip
@example(run=217.0, loading=0.0, trials=3, limit=217.0)
def test_a_study_fits_its_time_or_is_refused(run: float, loading: float, trials: int, limit: float) -> None:
    plan = timed(run, loading=loading)
    least = (min(trials, 4) + EXTRA_RUNS) * (loading + 0.1 * (run - loading))
    assume(not 0.999 * least < limit < 1.001 * least)
    if limit < least:
        with pytest.raises(FineTuneError, match="C14") as refused:
            bound_budget(plan, num_trials=trials, seconds=limit, share=None)
        assert refused.value.exit_status == GATE
        return
    budget = bound_budget(plan, num_trials=trials, seconds=limit, share=None)
    assert budget.seconds is not None
    assert budget.seconds.mid <= limit * 1.001
    assert 0.1 <= budget.share <= 1
    assert min(trials, 4) <= budget.num_trials <= trials
    assert budget.num_trials == trials or budget.share == pytest.approx(0.1)


def test_what_is_cut_is_said() -> None:
    assert "%" not in bound_budget(timed(100, loading=5), num_trials=12, seconds=None, share=None).words
    half = bound_budget(timed(100, loading=0), num_trials=8, seconds=500, share=None)
    assert (half.share, half.num_trials) == (0.5, 8)
    assert "50 % of the plan's steps" in half.words
    few = bound_budget(timed(100, loading=0), num_trials=40, seconds=100, share=None)
    assert (few.share, few.num_trials) == (0.1, 8)
    assert "32 of the 40 trials" in few.words
    unknown = bound_budget(sample.plan().model_copy(update={"estimates": {}}), num_trials=5, seconds=60, share=0.3)
    assert (unknown.seconds, unknown.share) == (None, 0.3)


SETTINGS = (
    SearchedSetting(path=RATE, planned=1e-3, low=1e-4, high=1e-3, scale="log", whole=False),
    SearchedSetting(path=RANK, planned=16, low=8, high=64, scale="steps", choices=(8, 16, 32, 64), whole=True),
)


def study(*losses: tuple[str, float, int, float | None]) -> Tuning:
    """A concluded study of trials given as role, learning rate, rank and loss; no loss means pruned."""
    trials = tuple(
        Trial.model_validate({
            "number": number, "role": role, "values": {RATE: rate, RANK: float(rank)}, "loss": loss,
            "state": "finished" if loss is not None else "pruned", "progress": 1.0 if loss is not None else 0.4,
            "seconds": 12.0, "reason": None if loss is not None else "out of memory",
        })
        for number, (role, rate, rank, loss) in enumerate(losses)
    )  # fmt: skip
    design = StudyDesign(settings=SETTINGS, num_trials=6, share=1.0)
    return conclude(design, trials, name="studies/plan", importance={RATE: 0.8, RANK: 0.2})


PLAN = (("plan", 1e-3, 16, 2.50), ("repeat", 1e-3, 16, 2.51))
SEARCHED = (
    ("search", 3e-4, 32, 2.301),
    ("search", 2e-4, 8, 2.30),
    ("search", 1e-4, 64, None),
    ("search", 9e-4, 8, 2.45),
)
BETTER = study(*PLAN, *SEARCHED, ("confirm", 2e-4, 8, 2.31))


def test_the_tuned_plan_has_the_measured_values_and_says_so(tmp_path: Path) -> None:
    tuned = tuned_plan(plan_of(), BETTER)
    write_plan(tuned, tmp_path / "tuned.yaml")
    read = read_plan(tmp_path / "tuned.yaml")
    assert read == tuned
    assert (read.optimizer.learning_rate, read.method) == (2e-4, read.method.model_copy(update={"lora_rank": 8}))
    rate, rank = read.decisions[RATE], read.decisions[RANK]
    assert rate.source == rank.source == "measured: 7 trials on this machine, study studies/plan"
    assert (rate.value, rank.value) == (2e-4, 8)
    assert rate.interval == Interval(low=2e-4, mid=2e-4, high=3e-4)
    assert rank.interval == Interval(low=8, mid=8, high=32)
    assert rate.alternatives[0] == "3e-4: validation loss 2.3010, +0.0010"
    assert rate.alternatives[-1] == "stopped early as worse: 1e-4"
    assert "0.2000 nats" in rate.reason
    assert read.changed_by_user() == {}
    assert read.inputs["tuning"] == BETTER.digest()


def test_a_gain_within_noise_leaves_the_plan_its_values() -> None:
    tuning = study(*PLAN, ("search", 2e-4, 8, 2.49), ("confirm", 2e-4, 8, 2.50))
    assert tuning.verdict == "within_noise"
    tuned = tuned_plan(plan_of(), tuning)
    assert tuned.optimizer.learning_rate == 1e-3
    assert "chance alone" in tuned.decisions[RATE].reason
    assert tuned.decisions[RATE].source.startswith("measured: 4 trials")


def test_a_lone_best_value_has_its_neighbours_for_bounds() -> None:
    tuning = study(*PLAN, ("search", 2e-4, 16, 2.0), ("search", 1e-4, 16, 2.4), ("confirm", 2e-4, 16, 2.01))
    assert tuned_plan(plan_of(), tuning).decisions[RATE].interval == Interval(low=1e-4, mid=2e-4, high=1e-3)


def test_without_a_loss_of_the_plan_there_is_no_result() -> None:
    with pytest.raises(FineTuneError) as refused:
        study(("plan", 1e-3, 16, None))
    assert (refused.value.code, refused.value.exit_status) == ("S01", GATE)
    assert "out of memory" in refused.value.where


def test_the_report_says_verdict_trials_and_reasons() -> None:
    text = render_tuning(BETTER)
    assert "better than the plan: the best trial gained +0.2000 nats" in text
    assert "trial 4, pruned: out of memory" in text
    assert all(word in text for word in ("lora_rank", "2.3010", "-0.2000", "40 %", "WHAT MATTERED"))
    assert max(map(len, text.splitlines())) <= 80
    assert "# SETTINGS SEARCHED" in render_tuning_markdown(BETTER)


def test_a_tuning_is_a_document(tmp_path: Path) -> None:
    BETTER.write(tmp_path / "tuning.json")
    assert Tuning.read(tmp_path / "tuning.json") == BETTER
    assert json.loads((tmp_path / "tuning.json").read_text())["schema"] == 1


def test_plots_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert [path.name for path in plot_tuning(BETTER, tmp_path)] == ["history.svg", "importance.svg"]
    assert all(path.read_text().lstrip().startswith("<?xml") for path in tmp_path.iterdir())
