"""From a question to a plan: the golden plan, what is advised when, and what is declined."""

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.planning.planned import CPU, make_plan, make_profile
from tests.unit.report.golden import GOLDEN, assert_golden

from finetune_exe.domain.plan import Lora, Plan, WarmupFraction
from finetune_exe.domain.plan_yaml import apply_settings, dump_plan, read_plan
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Estimate, Hardware, Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.planning import readiness
from finetune_exe.planning.analyze import analyze, refresh
from finetune_exe.planning.hardware import parse_hardware


@pytest.fixture(autouse=True)
def all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as on a machine where training is installed."""
    monkeypatch.setattr(readiness, "missing_packages", lambda: ())


def test_the_golden_plan() -> None:
    plan = make_plan(
        profile=make_profile(group_by="module"), description="write the one-line docstring of a Python function"
    )
    for name, text in (("plan.yaml", dump_plan(plan)), ("plan.json", plan.pretty_json())):
        assert_golden(name, text)
    assert read_plan(GOLDEN / "plan.yaml") == plan == Plan.read(GOLDEN / "plan.json")


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(3, 10**6),
    characters=st.integers(1, 10**6),
    gigabytes=st.integers(8, 512),
    full=st.booleans(),
    preset=st.sampled_from(["auto", "conservative", "balanced", "aggressive"]),
)
def test_every_plan_is_whole(rows: int, characters: int, gigabytes: int, full: bool, preset: str) -> None:
    """Every setting is defended, the headline ones always, and the plan fits wherever its checks say so."""
    profile = make_profile(num_rows=rows, row_characters_mean=characters / 2, row_characters_p99=characters)
    hardware = CPU.model_copy(update={"memory_bytes": gigabytes << 30})
    plan = make_plan(profile=profile, hardware=hardware, method="full" if full else None, preset=preset)
    assert plan.undefended() == []
    assert plan.changed_by_user() == {}
    headline = {"model.reference", "optimizer.learning_rate", "schedule.epochs", "batch.micro_batch_size"}
    assert headline | (set() if full else {"method.lora_rank"}) <= plan.decisions.keys()
    assert len({check.name for check in plan.readiness}) == len(plan.readiness)
    fits = next(check for check in plan.readiness if check.name == "Memory fits")
    assert fits.passed is (plan.estimates["memory"].value.high <= readiness.usable_memory_bytes(plan))
    assert refresh(plan) == plan


@pytest.mark.parametrize(
    ("preset", "rate", "epochs", "batch", "rank", "warmup"),
    [("conservative", 1e-5, 1, 1, 8, 0.1), ("balanced", 2e-4, 3, 4, 16, 0.03), ("aggressive", 5e-4, 5, 8, 64, 0.01)],
)
def test_presets_are_the_specifications(
    preset: str, rate: float, epochs: float, batch: int, rank: int, warmup: float
) -> None:
    plan = make_plan(profile=make_profile(), preset=preset)
    assert isinstance(plan.method, Lora)
    assert (plan.optimizer.learning_rate, plan.schedule.epochs) == (rate, epochs)
    assert (plan.batch.effective, plan.method.lora_rank) == (batch, rank)
    assert plan.schedule.warmup == WarmupFraction(fraction=warmup)


@pytest.mark.parametrize(
    ("model", "method", "rate"),
    [
        ("llama 3.2 1b", None, 4.9e-4),
        ("llama 3.2 3b", None, 3.6e-4),
        ("llama 3.1 8b", None, 2.9e-4),
        ("llama 3.1 70b", None, 1.7e-4),
        ("qwen3 8b", None, 4.7e-4),
        ("llama 3.1 8b", "full", 2.9e-5),
        ("mistral 7b", None, 2e-4),
    ],
)
def test_learning_rates_are_the_published_ones(model: str, method: str | None, rate: float) -> None:
    plan = make_plan(hardware=parse_hardware("H200"), model=model, method=method)
    assert plan.optimizer.learning_rate == pytest.approx(rate, rel=0.02)
    interval = plan.decisions["optimizer.learning_rate"].interval
    assert interval is not None
    assert interval.contains(plan.optimizer.learning_rate)


def test_few_rows_a_step_widen_the_interval_of_the_rate_downwards() -> None:
    few, many = (
        make_plan(
            profile=make_profile(num_rows=rows), hardware=parse_hardware("A100"), model="Qwen/Qwen2.5-7B-Instruct"
        )
        for rows in (800, 4000)
    )
    few_rate, many_rate = (plan.decisions["optimizer.learning_rate"] for plan in (few, many))
    assert few_rate.value == many_rate.value
    assert few_rate.interval is not None
    assert many_rate.interval is not None
    assert few_rate.interval.low == pytest.approx(few_rate.value * (8 / 128) ** 0.5, rel=0.05)
    assert many_rate.interval.low == pytest.approx(many_rate.value / 2, rel=0.05)
    assert (few_rate.confidence, many_rate.confidence) == ("medium", "high")


def test_only_adapters_are_kept_from_large_batches() -> None:
    many = make_profile(num_rows=60_000)
    gpus = parse_hardware("8xH100")
    adapter = make_plan(profile=many, hardware=gpus, model="Qwen/Qwen2.5-7B-Instruct")
    full = make_plan(profile=many, hardware=gpus, model="Qwen/Qwen2.5-7B-Instruct", method="full")
    assert adapter.batch_of_step.effective == 32
    assert full.batch_of_step.effective == 128
    few = make_plan(profile=make_profile(num_rows=800), hardware=gpus, model="Qwen/Qwen2.5-7B-Instruct", method="full")
    assert few.batch_of_step.effective == 8


def test_steps_are_those_of_the_rows_that_are_trained_on() -> None:
    # 4,000 rows, a tenth held out twice, three passes, 32 rows a step: 3,200 * 3 / 32
    plan = make_plan(profile=make_profile(num_rows=4000))
    assert "about 300 steps" in plan.decisions["batch.micro_batch_size"].reason


def test_the_end_of_each_answer_is_learned_too() -> None:
    short = make_profile(num_rows=1000, answer_characters_p50=0, row_characters_mean=100.0)
    assert "about 1,000 learned tokens" in make_plan(profile=short).decisions["method.lora_rank"].reason


def test_a_narrow_models_learning_rate_is_said_to_be_unsure() -> None:
    plan = make_plan(profile=make_profile())
    assert plan.decisions["optimizer.learning_rate"].confidence == "low"
    assert any("learning rate" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("hardware", "name"),
    [
        (CPU, "SmolLM2-135M-Instruct"),
        (parse_hardware("RTX 4090"), "Qwen2.5-Coder-7B-Instruct"),
        (parse_hardware("RTX 3060"), "Qwen2.5-Coder-1.5B-Instruct"),
        (parse_hardware("T4"), "Qwen2.5-Coder-1.5B-Instruct"),
        (parse_hardware("2"), "SmolLM2-135M-Instruct"),
    ],
)
def test_the_suggested_model_fits_the_machine(hardware: Hardware, name: str) -> None:
    plan = make_plan(profile=make_profile(), hardware=hardware)
    assert plan.model.name == name
    assert plan.decisions["model.reference"].value == plan.model.reference
    assert (
        next(check for check in plan.readiness if check.name == "Memory fits").passed or hardware.gpus[0].name[0] == "a"
    )


def test_a_batch_that_does_not_fit_goes_in_passes_then_recomputes() -> None:
    profile = make_profile(row_characters_p99=30_000)
    roomy, tight = (
        make_plan(profile=profile, hardware=CPU.model_copy(update={"memory_bytes": size << 30})) for size in (512, 8)
    )
    assert roomy.batch.effective == tight.batch.effective == 32
    assert roomy.batch.micro_batch_size > tight.batch.micro_batch_size
    assert not roomy.precision.gradient_checkpointing
    assert tight.precision.gradient_checkpointing
    assert tight.estimates["memory"].value.high <= readiness.usable_memory_bytes(tight)


def test_the_metrics_suit_the_task() -> None:
    labels = make_plan(profile=make_profile(labels=("yes", "no")), description="classify reviews")
    texts = make_plan(profile=make_profile(format="completion"), description="continue my novels")
    assert labels.evaluation.metrics == ("perplexity", "bits_per_byte", "exact_match")
    assert texts.evaluation.metrics == ("perplexity", "bits_per_byte")
    assert labels.data_needs.recommended_samples == 500


def test_a_task_that_is_no_text_is_declined() -> None:
    with pytest.raises(FineTuneError, match="FT-C08") as caught:
        make_plan(description="detect cats in images")
    assert caught.value.exit_status == 3
    assert "images" in caught.value.why


def test_the_kind_of_task_that_is_said_makes_another_plan() -> None:
    words = "go over the tickets of last year"
    read, said = make_plan(description=words), make_plan(description=words, task_type="classification")
    assert (read.task.type, said.task.type) == ("generation", "classification")
    assert read.evaluation.metrics != said.evaluation.metrics
    assert read.data_needs.recommended_samples != said.data_needs.recommended_samples
    assert (read.decisions["task.type"].source, said.decisions["task.type"].source) == ("an assumption", "you")
    hints = ["--task-type" in " ".join(plan.notes) for plan in (read, said)]
    assert hints == [True, False]


def test_a_kind_of_task_that_was_edited_is_no_longer_advised() -> None:
    plan = make_plan(description="go over the tickets of last year")
    edited = refresh(plan.model_copy(update={"task": plan.task.model_copy(update={"type": "summarization"})}))
    assert edited.changed_by_user() == {"task.type": "summarization"}
    assert not any("--task-type" in note for note in edited.notes)


def test_an_edit_is_computed_anew() -> None:
    plan = make_plan(profile=make_profile())
    edited = refresh(apply_settings(plan, ["schedule.epochs=1", "model.reference=gpt2"]))
    assert edited.model.name == "gpt2"
    assert "schedule.epochs" in edited.changed_by_user()
    assert edited.model.shape != plan.model.shape
    assert edited.estimates["duration"].value.mid < plan.estimates["duration"].value.mid
    assert edited.decisions["schedule.epochs"] == plan.decisions["schedule.epochs"]


def test_another_model_by_setting_is_planned_like_one_that_was_wished_for() -> None:
    hardware = parse_hardware("H100")
    spec = TaskSpec(description="write a docstring", data_paths=("rows.jsonl",))
    reference = "meta-llama/Llama-3.1-8B"
    wished = analyze(spec.model_copy(update={"model": reference}), profile=make_profile(), hardware=hardware)
    setting = analyze(spec, profile=make_profile(), hardware=hardware, settings=[f"model.reference={reference}"])
    assert [*setting.settings()] == [*wished.settings()]
    assert setting.model == wished.model
    assert setting.estimates == wished.estimates


def test_a_measured_speed_makes_the_duration() -> None:
    speed = Estimate(value=Interval(low=9, mid=10, high=11), unit="tokens_per_second", reason="probe", source="probe")
    plan = refresh(make_plan(profile=make_profile()), speed=speed)
    assert plan.estimates["speed"] == speed
    assert next(check for check in plan.readiness if check.name == "Done within a day").passed is False


def test_analyze_loads_nothing_heavy() -> None:
    program = (
        "import sys; from finetune_exe.domain.task import TaskSpec; from finetune_exe.planning.analyze import analyze;"
        "from finetune_exe.planning.hardware import detect_hardware;"
        "from finetune_exe.domain.plan_yaml import dump_plan; machine = detect_hardware();"
        "plan = analyze(TaskSpec(description='classify mail'), profile=None, hardware=machine); dump_plan(plan);"
        "heavy = {'numpy', 'torch', 'transformers', 'duckdb', 'rich', 'ruamel', 'tokenizers', 'jinja2'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
