"""Plans as YAML: exact round trips, edits that become the user's, faults with their place."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    DataChoice,
    DataNeeds,
    Full,
    Lora,
    Optimizer,
    Plan,
    Schedule,
    Task,
    WarmupFraction,
    WarmupSteps,
)  # fmt: skip
from finetune_exe.domain.plan_yaml import apply_settings, dump_plan, read_plan, write_plan
from finetune_exe.domain.values import Decision, Hardware
from finetune_exe.errors import FineTuneError

TEXT = st.text(max_size=30)
SHARE = st.floats(min_value=1e-9, max_value=0.49)


def make_plan(description: str = "a task", reason: str = "because it is so", **groups: Any) -> Plan:
    fields = {
        "task": Task(description=description, type="generation"),
        "model": BaseModelChoice(reference="embedded", name="small"),
        "hardware": Hardware(cpu="a processor", num_cores=2, memory_bytes=1 << 33),
        "data_needs": DataNeeds(
            minimum_samples=50, recommended_samples=1000, reason="r", source="s", quality_checks=("c",)
        ),
        **groups,
    }
    bare = Plan.model_construct(**fields)
    decisions = {
        path: Decision(value=value, reason=reason, source="a test", confidence="low")
        for path, value, default in bare.settings()
        if value != default
    }
    return Plan(**fields, decisions=decisions)


plans = st.builds(
    make_plan,
    description=TEXT,
    reason=TEXT,
    notes=st.lists(TEXT, max_size=3).map(tuple),
    data=st.builds(
        DataChoice, paths=st.lists(TEXT, max_size=3).map(tuple), group_by=st.none() | TEXT, validation_fraction=SHARE
    ),
    method=st.builds(Full)
    | st.builds(Lora, lora_rank=st.integers(1, 512), target_modules=st.lists(TEXT, max_size=2).map(tuple)),
    optimizer=st.builds(Optimizer, learning_rate=st.floats(1e-30, 1), max_grad_norm=st.none() | st.floats(1e-9, 1e30)),
    schedule=st.builds(
        Schedule,
        epochs=st.floats(1e-3, 1e20),
        warmup=st.builds(WarmupFraction, fraction=SHARE) | st.builds(WarmupSteps, steps=st.integers(0, 10**20)),
    ),
    batch=st.builds(Batch, micro_batch_size=st.integers(1, 64)),
    seed=st.integers(0, 2**32 - 1),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=plans)
def test_a_plan_reads_back_exactly(plan: Plan, tmp_path: Path) -> None:
    write_plan(plan, tmp_path / "plan.yaml")
    again = read_plan(tmp_path / "plan.yaml")
    assert again == plan
    assert again.digest() == plan.digest()


def edited(tmp_path: Path, old: str, new: str, plan: Plan | None = None) -> Path:
    text = dump_plan(plan or make_plan())
    assert old in text
    path = tmp_path / "plan.yaml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_an_edit_that_nobody_defended_becomes_the_users(tmp_path: Path) -> None:
    plan = read_plan(edited(tmp_path, "weight_decay: 0.0", "weight_decay: 1e-2"))
    assert plan.optimizer.weight_decay == 0.01
    assert plan.decisions["optimizer.weight_decay"].source == "you"
    assert plan.changed_by_user() == {}


def test_an_edit_of_an_advised_value_stays_beside_the_advice(tmp_path: Path) -> None:
    advised = make_plan(optimizer=Optimizer(learning_rate=3e-4))
    plan = read_plan(edited(tmp_path, "learning_rate: 0.0003", "learning_rate: 5e-5", advised))
    assert plan.changed_by_user() == {"optimizer.learning_rate": 5e-5}
    assert "yours; advised 3e-4: because it is so" in dump_plan(plan)


def test_a_users_value_edited_again_is_still_the_users(tmp_path: Path) -> None:
    plan = apply_settings(make_plan(), ["seed=3"])
    again = read_plan(edited(tmp_path, "seed: 3", "seed: 4", plan))
    assert again.decisions["seed"].value == 4
    assert again.changed_by_user() == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("weight_decay: 0.0", "weight_dekay: 0.0", "optimizer.weight_dekay: unknown key; did you mean weight_decay?"),
        ("lora_rank: 16", "lora_rnk: 16", "method.lora_rnk: unknown key; did you mean lora_rank?"),
        ("lora_rank: 16", "lora_rank: sixteen", 'method.lora_rank: expected a whole number, found "sixteen"'),
        ("lora_rank: 16", "lora_rank: 16.5", "method.lora_rank: expected a whole number, found 16.5"),
        ("lora_rank: 16", "lora_rank: 0", "method.lora_rank: must be greater than or equal to 1, found 0"),
        (
            "kind: lora",
            "kind: lorra",
            "method.kind: expected 'lora', 'qlora', 'full', 'prefix', 'prompt', 'ia3', found \"lorra\"; did you mean lora?",
        ),
        ("kind: cosine", "kind: cosin", "did you mean cosine?"),
        ("learning_rate: 0.0002", 'learning_rate: "2e-4"', 'learning_rate: expected a number, found "2e-4"'),
        ("learning_rate: 0.0002", "learning_rate: 1e999", 'learning_rate: expected a number, found "1e999"'),
        ("deduplicate: true", "deduplicate: yes", 'data.deduplicate: expected true or false, found "yes"'),
        ("paths: []", "paths: data.jsonl", 'data.paths: expected a list, found "data.jsonl"'),
        ("target_modules: all-linear", "target_modules: 5", "'all-linear', found 5 or expected a list, found 5"),
        ("epochs: 3.0", "epohcs: 3.0", "schedule.epohcs: unknown key; did you mean epochs?"),
        ("task:", "taks:", "task: is missing"),
        ("type: generation", "type: generator", "did you mean generation?"),
        ("batch:\n", "batch: 5\nbach:\n", "batch: expected a group of settings, found 5"),
    ],
)
def test_a_fault_is_told_with_its_place_and_what_was_meant(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(FineTuneError) as caught:
        read_plan(path)
    assert caught.value.code == "C02"
    assert said in caught.value.where
    line_number = int(caught.value.where.removeprefix(f"{path}:").split(":")[0])
    line = path.read_text().splitlines()[line_number - 1]
    assert new.splitlines()[0].strip() in line or "task:" in old


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = edited(tmp_path, "epochs: 3.0", "epochs: three")
    path.write_text(path.read_text().replace("seed: 0", "sede: 0").replace("beta1: 0.9", "beta1: 2"))
    with pytest.raises(FineTuneError) as caught:
        read_plan(path)
    assert caught.value.what.startswith("3 keys or values")
    told = [line.split(": ")[1] for line in caught.value.where.splitlines()]
    assert told == ["optimizer.beta1", "schedule.epochs", "sede"]


def test_a_plan_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe")
    for name in ("plan.yaml", "absent.yaml"):
        with pytest.raises(FineTuneError, match="FT-C01"):
            read_plan(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\nschedule:", "\n schedule:", "not indented as those it belongs to"),
        ("  description: a task", '  description: "a task', "a quote is opened and never closed"),
        ("  description: a task", "  description: sort: mails", "put the value in quotes"),
        ("  epochs:", "\tepochs:", "a tab stands where YAML wants spaces"),
    ],
)
def test_a_slip_of_yaml_is_told_in_words(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(FineTuneError) as caught:
        read_plan(edited(tmp_path, old, new))
    assert caught.value.code == "C01"
    assert said in caught.value.what


def test_a_plan_of_another_form_is_refused_and_one_that_says_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError) as caught:
        read_plan(edited(tmp_path, "schema: 1", "schema: 2"))
    assert caught.value.code == "C06"
    assert caught.value.what == "Plan has schema 2; this version reads schema 1"
    assert read_plan(edited(tmp_path, "schema: 1\n", "")) == read_plan(edited(tmp_path, "schema: 1", "schema: 1"))


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["method.kind=full"], {"method": Full()}),
        (["method.lora_rank=8", "method.lora_dropout=0.1"], {"method": Lora(lora_rank=8, lora_dropout=0.1)}),
        (["schedule.warmup.steps=20"], {"schedule": Schedule(warmup=WarmupSteps(steps=20))}),
        (["schedule.warmup.steps=20", "schedule.warmup.fraction=0.1"],
         {"schedule": Schedule(warmup=WarmupFraction(fraction=0.1))}),
        (["schedule.kind=linear"], {"schedule": Schedule(kind="linear")}),
        (["data.paths=[a.jsonl, b.csv]"], {"data": DataChoice(paths=("a.jsonl", "b.csv"))}),
        (["data.paths=a.jsonl"], {"data": DataChoice(paths=("a.jsonl",))}),
        (["data.test_paths=t.jsonl"], {"data": DataChoice(test_paths=("t.jsonl",))}),
        (["optimizer.max_grad_norm=null"], {"optimizer": Optimizer(max_grad_norm=None)}),
        (["seed=7"], {"seed": 7}),
    ],
)  # fmt: skip
def test_settings_are_applied_as_the_users(assignments: list[str], expected: dict[str, object]) -> None:
    plan = apply_settings(make_plan(), assignments)
    assert {name: getattr(plan, name) for name in expected} == expected
    present = {path for path, _, _ in plan.settings()}
    for assignment in assignments:
        path = assignment.partition("=")[0]
        assert path not in present or plan.decisions[path].source == "you"


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("optimizer.lr=1", "is no setting"),
        ("learning_rate=1e-4", "did you mean optimizer.learning_rate"),
        ("optimizer.lr=1e-4", "did you mean optimizer.learning_rate?"),
        ("optimizer.learning_rate", "gives no value"),
        ("optimizer.learning_rate=fast", 'expected a number, found "fast"'),
        ("optimizer.learning_rate=-1", "must be greater than 0"),
        ("optimizer.learning_rate=[", "expected"),
        ("method.kind=loraa", "expected 'lora', 'qlora', 'full', 'prefix'"),
        ("schedule.warmup.kind=steps", "steps: is missing"),
        ("task.type=chat", "is no setting"),
    ],
)
def test_a_setting_without_effect_is_refused(assignment: str, said: str) -> None:
    with pytest.raises(FineTuneError) as caught:
        apply_settings(make_plan(), [assignment])
    assert caught.value.code == "C04"
    assert said in caught.value.what


def test_a_setting_of_another_method_is_refused() -> None:
    with pytest.raises(FineTuneError, match="belongs to method"):
        apply_settings(make_plan(method=Full()), ["method.lora_rank=8"])
