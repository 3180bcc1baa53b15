"""Exported scripts train a plan to the losses of this program, step by step.

Every step learns from all rows, so that the order in which programs shuffle them does not matter; and every weight is
trained, so that nothing is drawn at random.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.contracts.peers import peer_python
from tests.tiny import write_model, write_rows
from tests.unit.data.plans import plan_for

from finetune_exe.cli.main import cli
from finetune_exe.domain.plan_yaml import write_plan

pytestmark = pytest.mark.model
NUM_STEPS = 8
SETTINGS = (
    "method.kind=full", "method.masters=float32", "batch.micro_batch_size=64", f"schedule.epochs={NUM_STEPS}",
    "schedule.warmup.kind=steps", "schedule.warmup.steps=0", "optimizer.learning_rate=0.003",
    "checkpoints.evaluations_per_epoch=1", "checkpoints.early_stopping_patience=null",
)  # fmt: skip

PAIR_SETTINGS = ("objective.kind=dpo", "objective.beta=0.3", "method.kind=ia3", "precision.base_dtype=float32")


def run(*words: str | Path) -> None:
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, and the run that this program makes of it."""
    folder = tmp_path_factory.mktemp("exports")
    model = write_model(folder / "model")
    plan = plan_for(write_rows(folder / "rows.jsonl", count=40))
    decision = plan.decisions["model.reference"].model_copy(update={"value": str(model)})
    reference = plan.model.model_copy(update={"reference": str(model)})
    plan = plan.model_copy(update={"model": reference, "decisions": {**plan.decisions, "model.reference": decision}})
    write_plan(plan, folder / "draft.yaml")
    changes = [word for setting in SETTINGS for word in ("--set", setting)]
    run("config", "--plan", folder / "draft.yaml", *changes, "-o", folder / "plan.yaml")
    run("train", folder / "plan.yaml", "--run", folder / "run")
    return folder


def our_losses(folder: Path) -> tuple[list[float], list[float]]:
    """The loss of each step, and the validation loss after each but the last."""
    events = [json.loads(line) for line in (folder / "run" / "events.jsonl").read_text().splitlines()]
    steps = [event["loss"] for event in events if event["event"] == "step"]
    return steps, [event["validation_loss"] for event in events if event["event"] == "evaluated"]


def exported(folder: Path, target: str, python: Path | str) -> str:
    """What the script of a target prints, run as it is."""
    script = folder / f"train_{target}.py"
    run("config", "--plan", folder / "plan.yaml", "--to", target, "-o", script, "--overwrite")
    rows = folder / "run" / "dataset"
    words = [str(python), str(script), str(rows / "train.rows.jsonl"), str(rows / "validation.rows.jsonl"),
             "--output", str(folder / f"{target}-out")]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_python_script_has_our_losses_at_every_step(folder: Path) -> None:
    printed = exported(folder, "python", sys.executable)
    steps, measured = our_losses(folder)
    theirs = [float(loss) for loss in re.findall(r"step \d+/\d+: loss ([\d.]+)", printed)]
    assert len(theirs) == NUM_STEPS
    assert steps[0] - steps[-1] > 0.2, "it learns"
    assert theirs == pytest.approx(steps, abs=1e-4)
    theirs = [float(loss) for loss in re.findall(r"step \d+: validation loss ([\d.]+)", printed)]
    assert theirs[-NUM_STEPS:] == pytest.approx(measured[-NUM_STEPS:], abs=1e-4)


def test_the_trl_script_has_our_losses_at_every_step(folder: Path) -> None:
    python = sys.executable if find_spec("trl") is not None else peer_python("trl")
    printed = exported(folder, "trl", python)
    steps, _ = our_losses(folder)
    theirs = [float(loss) for loss in re.findall(r"'loss': '?([\d.]+)", printed)]
    assert theirs == pytest.approx(steps, abs=2e-3)


@pytest.fixture(scope="module")
def pairs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan that learns from pairs, and the run that this program makes of it; its factors begin at one."""
    folder = tmp_path_factory.mktemp("export-of-pairs")
    model = write_model(folder / "model")
    rows = [
        json.loads(line)["messages"] for line in write_rows(folder / "rows.jsonl", count=40).read_text().splitlines()
    ]
    others = [f"the end of {number % 5}" for number in range(len(rows))]
    pairs = [{"prompt": turns[:-1], "chosen": turns[-1:], "rejected": [{"role": "assistant", "content": other}]}
             for turns, other in zip(rows, others, strict=True)]  # fmt: skip
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    changes = [word for setting in (*PAIR_SETTINGS, *SETTINGS[2:]) for word in ("--set", setting)]
    run("analyze", "answer", "--data", folder / "pairs.jsonl", "--model", model, "--cpu", *changes, "-o",
        folder / "plan.yaml")  # fmt: skip
    run("train", folder / "plan.yaml", "--run", folder / "run")
    return folder


def test_the_trl_script_has_our_losses_of_pairs_at_every_step(pairs_folder: Path) -> None:
    python = sys.executable if find_spec("trl") is not None else peer_python("trl")
    printed = exported(pairs_folder, "trl", python)
    steps, _ = our_losses(pairs_folder)
    theirs = [float(loss) for loss in re.findall(r"'loss': '?([\d.]+)", printed)]
    assert steps[0] == pytest.approx(0.6931, abs=1e-4)
    assert steps[0] - steps[-1] > 0.05, "it learns"
    assert theirs == pytest.approx(steps, abs=2e-3)
