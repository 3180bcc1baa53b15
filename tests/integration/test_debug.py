"""Runs made to fail on purpose are named, and what the patch says mends them."""

from __future__ import annotations

import errno
import json
import random
from pathlib import Path

import pytest
from tests.integration.conftest import FineTune

from finetune_exe.errors import EXISTS, OK

WORDS = ["alpha", "beta", "gamma", "delta", "apple", "stone", "river", "cloud", "tiger", "lemon"]
SLOW = ("precision.base_dtype=float32", "method.kind=full", "batch.micro_batch_size=16",
        "batch.gradient_accumulation_steps=1", "data.keep_similar_together=false",
        "checkpoints.early_stopping_patience=null")  # fmt: skip


@pytest.fixture
def plan(fine_tune: FineTune, tiny_model: Path, tmp_path: Path) -> Path:
    """Write a plan for sixty rows whose answers cannot be learned, only learned by heart."""
    rng = random.Random(0)  # noqa: S311
    with (tmp_path / "rows.jsonl").open("w") as file:
        for i in range(60):
            answer = " ".join(rng.choice(WORDS) for _ in range(6))
            turns = [
                {"role": "user", "content": f"what is {WORDS[i % 10]} {i}"},
                {"role": "assistant", "content": answer},
            ]
            file.write(json.dumps({"messages": turns}) + "\n")
    options = [option for setting in SLOW for option in ("--set", setting)]
    done = fine_tune("analyze", "reply to requests", "--data", "rows.jsonl", "--model", tiny_model, *options)
    assert done.status == OK, done.err
    return tmp_path / "plan.yaml"


def edited(plan: Path, **lines: str) -> Path:
    """Change values in the plan as a person does, by their keys."""
    text = plan.read_text()
    for key, value in lines.items():
        start = text.index(f"\n  {key}: ") + 1
        end = text.index("\n", start)
        comment = text[start:end].partition(" #")[1:]
        text = text[:start] + f"  {key}: {value}" + "".join(comment) + text[end:]
    path = plan.with_name("edited.yaml")
    path.write_text(text)
    return path


def found(fine_tune: FineTune, *arguments: str | Path) -> list[str]:
    done = fine_tune("debug", *arguments, "--json")
    assert done.status == OK, done.err
    return [finding["label"] for finding in done.json["findings"]]


def test_learning_by_heart_is_seen_and_the_patch_stops_in_time(fine_tune: FineTune, plan: Path) -> None:
    path = edited(plan, learning_rate="0.02", epochs="24.0", evaluations_per_epoch="0.5")
    assert fine_tune("train", path, "--run", "runs/over").status == OK
    assert found(fine_tune, "runs/over")[0] == "overfitting"
    done = fine_tune("debug", "runs/over", "--apply", "mended.yaml")
    assert fine_tune("debug", "runs/over", "--apply", "mended.yaml").status == EXISTS
    assert done.status == OK, done.err
    assert "expected memory" in done.out
    assert fine_tune("train", "mended.yaml", "--run", "runs/mended").status == OK
    assert "overfitting" not in found(fine_tune, "runs/mended")
    diff = fine_tune("debug", "runs/over", "--patch").out
    assert diff.startswith("--- a/plan.yaml")
    assert "\n-  epochs: 24.0" in diff


def test_a_rate_a_hundred_times_too_high_is_seen_and_mended(fine_tune: FineTune, plan: Path) -> None:
    path = edited(plan, learning_rate="1.0", max_grad_norm="null", epochs="8.0", evaluations_per_epoch="0.5")
    assert fine_tune("train", path, "--run", "runs/hot").status == OK
    assert found(fine_tune, "runs/hot")[0] in ("lr_divergence", "divergence")
    assert fine_tune("debug", "runs/hot", "--apply", "mended.yaml").status == OK
    assert fine_tune("train", "mended.yaml", "--run", "runs/mended").status == OK
    assert not {"lr_divergence", "divergence", "nan_loss"} & set(found(fine_tune, "runs/mended"))


def test_a_full_disk_is_named_from_what_the_command_printed(
    fine_tune: FineTune, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_exe.training.checkpoints import Checkpoints

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoints/step-1")

    monkeypatch.setattr(Checkpoints, "save", full)
    done = fine_tune("train", edited(plan, epochs="1.0"), "--run", "runs/full")
    assert done.status != OK
    (tmp_path / "train.log").write_text(done.out + done.err)
    assert found(fine_tune, "train.log")[0] == "disk_full"


def test_a_probe_finds_nothing_wrong_with_a_sound_run(fine_tune: FineTune, plan: Path) -> None:
    path = edited(plan, learning_rate="0.01", epochs="2.0")
    assert fine_tune("train", path, "--run", "runs/sound").status == OK
    probed = set(found(fine_tune, "runs/sound", "--probe"))
    assert not probed & {"loss_zero_masked", "no_learning_wrong_template", "requires_grad_missing",
                         "adapter_not_applied", "lr_divergence", "underfitting"}  # fmt: skip
    copy = Path("runs/sound/plan.yaml")
    assert "kind: none" in copy.read_text()
    copy.write_text(copy.read_text().replace("kind: none", "kind: ddp").replace("num_gpus: 1", "num_gpus: 2"))
    assert set(found(fine_tune, "runs/sound", "--probe")) == probed, "one process looks into a run of several"


def test_a_probe_sees_a_rate_that_moves_nothing_and_rows_rendered_otherwise(
    fine_tune: FineTune, plan: Path, tiny_model: Path
) -> None:
    path = edited(plan, learning_rate="1.0e-08", epochs="1.0")
    assert fine_tune("train", path, "--run", "runs/still").status == OK
    copy = Path("runs/still/plan.yaml")
    Path("other.jinja").write_text("{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}")
    copy.write_text(copy.read_text().replace("chat_template: null", "chat_template: other.jinja"))
    labels = found(fine_tune, "runs/still", "--probe")
    assert {"underfitting", "no_learning_wrong_template"} <= set(labels)


def test_a_probe_needs_a_run_of_ours(fine_tune: FineTune, tmp_path: Path) -> None:
    (tmp_path / "x.log").write_text("loss is nan\n")
    assert "error[FT-E01]" in fine_tune("debug", "x.log", "--probe").err
