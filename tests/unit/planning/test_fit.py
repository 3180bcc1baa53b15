"""The fit: the fastest way to run that fits, and what happens where none does."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.planning.planned import make_plan, make_profile

from finetune_exe.domain.plan import Plan, Qlora
from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.memory import estimate_memory
from finetune_exe.planning import fit, grid
from finetune_exe.planning.fit import WORTH_ROUNDING, fit_plan
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.planning.readiness import usable_memory_bytes
from finetune_exe.units import GIB

LLAMA_8B = "meta-llama/Llama-3.1-8B"


def gpu(gib: float, *, count: int = 1) -> Hardware:
    card = Gpu(name=f"a GPU with {gib:g} GiB", memory_bytes=round(gib * GIB), bf16=True)
    return Hardware(cpu="host", num_cores=0, memory_bytes=0, gpus=(card,) * count)


def planned(hardware: Hardware, model: str = LLAMA_8B, **spec: Any) -> Plan:
    return make_plan(profile=make_profile(row_characters_p99=6000), hardware=hardware, model=model, **spec)


@settings(max_examples=25, deadline=None)
@given(gib=st.floats(16, 200))
def test_the_form_chosen_fits_and_more_memory_never_makes_it_slower(gib: float) -> None:
    small, large = planned(gpu(gib)), planned(gpu(1.3 * gib))
    for plan in (small, large):
        memory = estimate_memory(plan)
        assert memory is not None
        assert memory.value.high <= usable_memory_bytes(plan)
        chosen = plan.considered[0]
        assert chosen.verdict == "chosen"
        paces = [entry.tokens_per_second or 0 for entry in plan.considered if entry.verdict in ("chosen", "slower")]
        assert chosen.tokens_per_second is None or chosen.tokens_per_second >= max(paces)
    whole = WORTH_ROUNDING if small.method.kind == "qlora" and large.method.kind == "lora" else 1.0
    assert small.considered[0].tokens_per_second is None or (
        whole * (large.considered[0].tokens_per_second or 0) >= small.considered[0].tokens_per_second
    )


@pytest.mark.parametrize("gib", [20, 28, 48, 80])
def test_the_rows_of_a_step_stay_the_same_however_they_are_shared_out(gib: float) -> None:
    assert planned(gpu(gib)).batch.effective == planned(gpu(640)).batch.effective


def test_lora_becomes_qlora_where_only_that_fits() -> None:
    assert planned(gpu(80)).method.kind == "lora"
    tight = planned(gpu(14))
    assert tight.method.kind == "qlora"
    assert "4 bit" in tight.decisions["method.kind"].reason
    assert tight.decisions["method.offset_rounding"].value is tight.method.offset_rounding is False
    with pytest.raises(FineTuneError) as refusal:
        planned(gpu(14), method="lora")
    assert refusal.value.code == "C10"


def test_weights_are_rounded_for_more_than_a_little_speed() -> None:
    """On a card on which both fit, LoRA with recomputed activations, QLoRA without, which is a few percent faster."""
    plan = make_plan(description="classify support tickets", hardware=parse_hardware("RTX 4090"), num_rows=3000)
    assert plan.method.kind == "lora"
    rounds = [entry for entry in plan.considered if entry.verdict == "rounds"]
    assert {entry.method for entry in rounds} == {"qlora"}
    pace = plan.considered[0].tokens_per_second
    assert pace is not None
    assert all(pace < (entry.tokens_per_second or 0) <= WORTH_ROUNDING * pace for entry in rounds)


def test_what_becomes_qlora_stays_on_the_values_it_lies_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fit, grid):
        monkeypatch.setattr(module, "own_grid", lambda _: "mxfp4")
    tight = planned(gpu(14))
    assert isinstance(tight.method, Qlora)
    assert tight.method.quantization == tight.decisions["method.quantization"].value == "mxfp4"


def test_a_small_model_that_fits_in_16_bit_is_not_rounded_to_go_faster() -> None:
    small = make_plan(
        description="answer mails", hardware=parse_hardware("RTX 3060"), num_rows=1200, model="Qwen/Qwen2.5-3B-Instruct"
    )
    assert small.model.num_parameters < 6.7e9  # type: ignore[operator]
    assert small.method.kind == "lora"
    paces = {option.kind: option.tokens_per_second for option in small.methods}
    assert paces["qlora"].mid > WORTH_ROUNDING * paces["lora"].mid  # type: ignore[union-attr]


def test_a_setting_the_user_fixed_is_not_touched() -> None:
    plan = planned(gpu(80))
    other = plan.model_copy(update={"precision": plan.precision.model_copy(update={"gradient_checkpointing": True})})
    kept = fit_plan(other, fixed=("precision.gradient_checkpointing", "batch.micro_batch_size"))
    assert kept.precision.gradient_checkpointing
    assert kept.batch.micro_batch_size == plan.batch.micro_batch_size


def test_several_gpus_train_together_and_share_the_step() -> None:
    one, eight = planned(parse_hardware("H100")), planned(parse_hardware("8xH100"))
    assert eight.parallelism.num_gpus == 8
    assert eight.batch.effective * 8 == one.batch.effective
    assert "parallelism.kind" in eight.decisions


def test_a_model_too_large_for_one_gpu_is_cut_up_among_eight() -> None:
    plan = planned(parse_hardware("8xH100"), "meta-llama/Llama-3.1-70B", method="lora")
    assert plan.parallelism.kind == "fsdp"
    assert {entry.verdict for entry in plan.considered} >= {"chosen", "too large"}


@pytest.mark.parametrize(("method", "model"), [("lora", "meta-llama/Llama-3.1-70B"), ("full", LLAMA_8B)])
def test_only_what_the_trainer_can_cut_up_is_planned_so(method: str, model: str) -> None:
    """Weights in bfloat16 with the rest beside them, and states in 8 bit, stay whole in each process."""
    plan = planned(gpu(40, count=8), model, method=method)
    assert plan.parallelism.kind == "fsdp"
    assert plan.can_be_cut_up
    if method == "full":
        assert plan.decisions["method.masters"].value == "float32"
        assert "cut up" in plan.decisions["method.masters"].reason
