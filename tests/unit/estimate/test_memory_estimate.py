"""Memory: sums, floors, directions, and a traced run of the field's most used model."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune_exe.domain.plan import Lora, Plan
from finetune_exe.estimate.memory import CPU_RUNTIME_BYTES, estimate_memory
from finetune_exe.estimate.parameters import count_lora_parameters, count_parameters
from finetune_exe.knowledge.gpus import find_gpu
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.units import MIB

MODELS = st.sampled_from(["embedded", "qwen2.5 0.5b", "llama 3.2 1b", "llama 3.1 8b", "gpt2"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(model=MODELS, half=st.booleans(), checkpointing=st.booleans(), full=st.booleans(), rows=st.integers(1, 32))
def test_parts_add_up_and_nothing_is_below_the_physical_floor(
    plan_of: Callable[..., Plan], model: str, half: bool, checkpointing: bool, full: bool, rows: int
) -> None:
    plan = plan_of(model, half=half, checkpointing=checkpointing, full=full, rows=rows)
    memory = estimate_memory(plan)
    assert memory is not None
    assert sum(memory.parts.values()) == pytest.approx(memory.value.mid, abs=1)
    shape = plan.model.shape
    assert shape is not None
    weights = count_parameters(shape)
    floor = 16 * weights if full else weights * (2 if half else 4) + 16 * count_lora_parameters(shape, rank=16)
    assert memory.value.low >= floor


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"rows": 1}, {"rows": 8}),
        ({"max_length": 128}, {"max_length": 512}),
        ({"checkpointing": True}, {"checkpointing": False}),
        ({"half": True}, {"half": False}),
        ({"full": False}, {"full": True}),
        ({"method": Lora(lora_rank=8)}, {"method": Lora(lora_rank=64)}),
        ({"method": Lora(lora_dropout=0.0)}, {"method": Lora(lora_dropout=0.1)}),
        ({"model": "embedded"}, {"model": "llama 3.2 1b"}),
    ],
)
def test_every_setting_moves_it_the_right_way(
    plan_of: Callable[..., Plan], less: dict[str, object], more: dict[str, object]
) -> None:
    small, large = estimate_memory(plan_of(**less)), estimate_memory(plan_of(**more))
    assert small is not None
    assert large is not None
    assert small.value.low < large.value.low
    assert small.value.mid < large.value.mid
    assert small.value.high < large.value.high


def test_llama_8b_with_checkpointing_holds_what_a_traced_step_holds(plan_of: Callable[..., Plan]) -> None:
    """A dispatch-mode count of live bytes on meta tensors, 1 x 2048 tokens, rank 16, all logits: 19,348 MiB.

    Here logits come in slices: 12 bytes each are not held, for 128,256 words.
    """
    plan = plan_of("llama 3.1 8b", hardware=parse_hardware("A100"), checkpointing=True, rows=1, max_length=2048)
    memory = estimate_memory(plan.model_copy(update={"profile": None}))
    assert memory is not None
    assert memory.value.contains(19_348 * MIB - 12 * 128_256 * 2_048)


def test_only_a_processor_counts_the_program_itself(plan_of: Callable[..., Plan]) -> None:
    here, there = estimate_memory(plan_of()), estimate_memory(plan_of(hardware=parse_hardware("T4")))
    assert here is not None
    assert there is not None
    assert here.parts["runtime"] == CPU_RUNTIME_BYTES
    assert "runtime" not in there.parts
    assert find_gpu("T4").memory_gib == 16


def test_nothing_is_said_of_what_is_not_known(plan_of: Callable[..., Plan]) -> None:
    assert estimate_memory(plan_of("someone/unknown-model")) is None
