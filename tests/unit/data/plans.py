"""Plans that differ in their data only, and files to go with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_exe.domain.plan import BaseModelChoice, DataChoice, DataNeeds, Plan, Task
from finetune_exe.domain.values import Decision, Hardware


def plan_for(*paths: Path | str, seed: int = 0, **settings: Any) -> Plan:
    """Make a plan for the files with these settings of its `data` group."""
    chosen = {"paths": tuple(map(str, paths)), **settings}
    decisions = {f"data.{name}": value for name, value in chosen.items()} | ({"seed": seed} if seed else {})
    return Plan(
        task=Task(description="answer", type="qa"),
        model=BaseModelChoice(reference="tiny", name="tiny"),
        data=DataChoice(**chosen),
        seed=seed,
        hardware=Hardware(cpu="any", num_cores=1, memory_bytes=1 << 30),
        data_needs=DataNeeds(
            minimum_samples=3, recommended_samples=9, reason="a test", source="a test", quality_checks=()
        ),
        decisions={
            path: Decision(value=value, reason="a test", source="you", confidence="high")
            for path, value in {"model.reference": "tiny", **decisions}.items()
        },
    )


def alpaca_rows(count: int) -> list[dict[str, Any]]:
    """Make distinct good rows."""
    return [{"instruction": f"What is {n} plus {n}?", "input": "", "output": f"It is {2 * n}."} for n in range(count)]


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
