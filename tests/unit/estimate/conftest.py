"""A plan with data that the estimates are tried on."""

from collections.abc import Callable
from typing import Any

import pytest

from finetune_exe.domain.plan import Batch, DataChoice, Full, Plan, Precision
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.planning.analyze import analyze


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """Make a plan of 4,800 rows of 900 characters; keywords name what differs."""
    profile = DataProfile(
        format="alpaca", format_evidence=("columns",), num_rows=4800, num_unreadable=0, num_turns_mean=2.0,
        prompt_characters_p50=700, answer_characters_p50=200, answer_characters_p95=400, row_characters_mean=900.0,
        row_characters_p99=2900, distinct_answers=4700,
    )  # fmt: skip

    def build(
        model: str = "embedded",
        *,
        hardware: Hardware | None = None,
        half: bool = True,
        checkpointing: bool = False,
        full: bool = False,
        rows: int = 4,
        max_length: int = 1024,
        **changes: Any,
    ) -> Plan:
        machine = hardware or Hardware(cpu="cpu", num_cores=2, memory_bytes=1 << 36, cpu_features=("avx512_bf16",))
        spec = TaskSpec(description="write a docstring", model=model)
        plan = analyze(spec, profile=profile, hardware=machine)
        changes = {
            "batch": Batch(micro_batch_size=rows),
            "data": DataChoice(max_length=max_length),
            "precision": Precision(base_dtype="bfloat16" if half else "float32", gradient_checkpointing=checkpointing),
            **({"method": Full()} if full else {}),
            **changes,
        }
        return plan.model_copy(update=changes)

    return build
