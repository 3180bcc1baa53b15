"""Run folders as they are left by good runs, by killed ones and by failing disks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny import write_model, write_rows

from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.plans import make_plan
from finetune_exe.workflow.resuming import run_exists
from finetune_exe.workflow.run_lock import locked
from finetune_exe.workflow.run_states import find_runs, run_state
from finetune_exe.workflow.runs import train_plan, trained_elsewhere

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    spec = TaskSpec(description="answer", data_paths=(str(write_rows(folder / "rows.jsonl")),),
                    model=str(write_model(folder / "tiny")))  # fmt: skip
    plan = make_plan(
        spec, hardware=Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30),
        settings=("schedule.max_steps=3", "precision.base_dtype=float32", "checkpoints.save_every_steps=1"),
    )  # fmt: skip
    train_plan(plan, folder / "good", emit=lambda _: None, progress=lambda *_: None, note=lambda _: None)
    return folder / "good"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def weights(run: Path) -> Path:
    return next((run / "checkpoints").glob("*/*.safetensors"))


def truncate(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def test_a_good_run_is_finished_and_nothing_is_wrong(run: Path) -> None:
    state = run_state(run)
    assert (state.state, state.problems, state.fix) == ("finished", (), None)
    assert state.num_checkpoints == len(list((run / "checkpoints").iterdir()))


def test_a_killed_run_is_unfinished_and_says_how_far_it_came(run: Path) -> None:
    (run / "run.json").unlink()
    shutil.rmtree(run / "model")
    (run / "checkpoints" / ".step-3.ab12").mkdir()
    (run / "checkpoints" / ".step-3.ab12" / "x").write_bytes(b"0" * 2_000_000)
    state = run_state(run)
    assert state.state == "unfinished"
    assert state.problems == (
        "the last was step 3 of 3",
        "checkpoints/.step-3.ab12: left by a process that was killed, 2.0 MB",
    )
    assert state.fix == (
        f"fine-tune train {run / 'plan.yaml'} --run {run} --resume; or see why it ended: fine-tune debug {run}"
    )


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda run: truncate(weights(run), 100), "has 100 bytes where the manifest says"),
        (lambda run: truncate(weights(run), 0), "has 0 bytes where the manifest says"),
        (lambda run: weights(run).unlink(), "cannot be read"),
        (lambda run: flip_a_bit(weights(run)), "has another content than the manifest says"),
        (lambda run: (first(run) / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda run: (first(run) / "manifest.json").write_text("{"), "manifest.json: "),
        (lambda run: (run / "run.json").write_text("{"), "run.json"),
        (lambda run: (run / "plan.yaml").write_text("task: ["), "plan.yaml"),
        (lambda run: truncate(run / "dataset" / "train.tokens.npy", 200), "dataset"),
        (lambda run: shutil.rmtree(run / "model"), "model"),
    ],
)
def test_what_is_damaged_is_named(run: Path, damage: Damage, named: str) -> None:
    damage(run)
    state = run_state(run)
    assert state.state == "damaged"
    assert named in state.problems[0]
    assert state.fix


def first(run: Path) -> Path:
    return min((run / "checkpoints").glob("step-*"))


def test_a_damaged_checkpoint_of_an_unfinished_run_is_passed_over(run: Path) -> None:
    (run / "run.json").unlink()
    flip_a_bit(weights(run))
    whole = len(list((run / "checkpoints").iterdir())) - 1
    state = run_state(run)
    assert whole >= 1
    assert (state.state, state.num_checkpoints) == ("unfinished", whole)
    assert "another content than the manifest says; --resume passes it over" in state.problems[1]
    assert "--resume" in (state.fix or "")


def test_a_run_with_no_checkpoint_to_trust_has_to_begin_again(run: Path) -> None:
    (run / "run.json").unlink()
    for folder in (run / "checkpoints").iterdir():
        (folder / "manifest.json").unlink()
    state = run_state(run)
    assert (state.state, state.num_checkpoints) == ("damaged", 0)
    assert "--overwrite" in (state.fix or "")


def test_a_run_under_way_is_left_alone(run: Path) -> None:
    (run / "run.json").unlink()
    with locked(run, pytest.fail):
        state = run_state(run)
    assert state.state == "unfinished"
    assert f"process {os.getpid()} trains into it now" in state.problems[0]
    assert state.fix is None
    assert "trains into it" not in run_state(run).problems[0]


def test_runs_are_found_below_a_folder_and_nothing_else(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "more" / "deeper" / "second")
    (tmp_path / "empty").mkdir()
    assert find_runs(tmp_path) == [tmp_path / "more" / "deeper" / "second", run]
    assert find_runs(run) == [run]
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(FineTuneError, match=r"error\[FT-L01\]"):
            find_runs(path)


def test_a_plan_for_the_processor_says_how_a_gpu_is_left_alone() -> None:
    plain = Hardware(cpu="EPYC", num_cores=2, memory_bytes=1 << 34)
    with_gpu = plain.model_copy(update={"gpus": (Gpu(name="L4", memory_bytes=24 << 30, bf16=True),)})
    there = trained_elsewhere(plain, with_gpu)
    assert "the plan is for EPYC, and this machine trains on L4: its predictions are not scored" in there
    assert 'CUDA_VISIBLE_DEVICES=""' in there
    assert "CUDA_VISIBLE_DEVICES" not in trained_elsewhere(with_gpu, plain)


@pytest.mark.parametrize("resumable", [False, True])
def test_a_run_that_is_there_says_where_another_may_be_put(resumable: bool) -> None:
    fault = run_exists(Path("runs/plan"), resumable=resumable)
    assert "another folder with --run" in fault.fix
    assert ("--resume" in fault.fix) == resumable
