"""Plans and profiles that several tests use."""

from typing import Any

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.task import DataProfile, TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.planning.analyze import analyze

CPU = Hardware(cpu="a processor", num_cores=2, memory_bytes=16 << 30, cpu_features=("avx2", "avx512f", "avx512_bf16"))


def make_profile(**changes: Any) -> DataProfile:
    fields: dict[str, Any] = {
        "format": "alpaca",
        "format_evidence": ("columns instruction and output",),
        "num_rows": 4800,
        "num_unreadable": 0,
        "num_turns_mean": 2.0,
        "prompt_characters_p50": 700,
        "answer_characters_p50": 70,
        "answer_characters_p95": 140,
        "row_characters_mean": 900.0,
        "row_characters_p99": 2900,
        "distinct_answers": 4700,
    }
    return DataProfile(**{**fields, **changes})


def make_plan(
    *, profile: DataProfile | None = None, hardware: Hardware = CPU, description: str = "write a docstring", **spec: Any
) -> Plan:
    asked = TaskSpec(description=description, data_paths=("rows.jsonl",) if profile else (), **spec)
    return analyze(asked, profile=profile, hardware=hardware)
