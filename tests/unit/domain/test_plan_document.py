"""The plan as JSON: what another version or a damaged file is told."""

import json
from pathlib import Path

import pytest

from finetune_exe.domain.plan import Plan
from finetune_exe.errors import FineTuneError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "plan.json"


def test_a_plan_of_another_schema_is_refused(tmp_path: Path) -> None:
    content = json.loads(GOLDEN.read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(FineTuneError, match="FT-C06"):
        Plan.read(tmp_path / "plan.json")


@pytest.mark.parametrize("cut", [0, 1000])
def test_a_damaged_plan_is_refused(tmp_path: Path, cut: int) -> None:
    (tmp_path / "plan.json").write_text(GOLDEN.read_text()[:cut] + ("{}" if cut == 0 else ""))
    with pytest.raises(FineTuneError, match=r"FT-C0[67]"):
        Plan.read(tmp_path / "plan.json")


def test_a_value_without_a_decision_is_refused(tmp_path: Path) -> None:
    content = json.loads(GOLDEN.read_text())
    del content["decisions"]["optimizer.learning_rate"]
    (tmp_path / "plan.json").write_text(json.dumps(content))
    with pytest.raises(FineTuneError, match="FT-C07") as caught:
        Plan.read(tmp_path / "plan.json")
    assert "no decision for optimizer.learning_rate" in caught.value.why
