"""Two processes by the command line, as torchrun and as SLURM start them: one run folder, and a loss is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.conftest import Done, FineTune, in_a_process
from tests.tiny import write_rows

from finetune_exe.domain.events import StepFinished, read_events
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import OK, RESUMABLE, USAGE

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
SETTINGS = ("precision.base_dtype=float32", "schedule.max_steps=4", "batch.micro_batch_size=2",
            "batch.gradient_accumulation_steps=4", "method.lora_dropout=0.0")  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path, tiny_model: Path, fine_tune: FineTune) -> Path:
    write_rows(tmp_path / "rows.jsonl")
    options = [word for setting in SETTINGS for word in ("--set", setting)]
    done = fine_tune("analyze", "answer", "--data", "rows.jsonl", "--model", tiny_model, "--cpu", *options)
    assert done.status == OK, done.err
    return tmp_path / "plan.yaml"


def losses(run: Path) -> list[float]:
    return [event.loss for event in read_events(run / "events.jsonl") if isinstance(event, StepFinished)]


def test_two_processes_by_torchrun_leave_the_run_of_one(plan: Path, fine_tune: FineTune) -> None:
    assert fine_tune("train", plan, "--run", "one").status == OK
    command = ("train", plan, "--run", "two", "--json", "--launch", "torchrun", "--processes", "2")
    printed = fine_tune(*command, "--dry-run").out
    assert json.loads(printed)["script"].startswith("torchrun --nproc-per-node 2 ")
    done = in_a_process(*command, folder=plan.parent, environment=ENVIRONMENT)
    assert done.status == OK, done.err
    assert losses(Path("two")) == pytest.approx(losses(Path("one")), rel=1e-5)
    one, two = (TrainingRun.read(Path(run) / "run.json") for run in ("one", "two"))
    assert two.best_validation_loss == pytest.approx(one.best_validation_loss, rel=1e-5)
    assert two.learned_tokens == one.learned_tokens
    assert sorted(map(str, (path.relative_to("two") for path in Path("two").rglob("*")))) == sorted(
        map(str, (path.relative_to("one") for path in Path("one").rglob("*")))
    )
    told = [json.loads(line) for line in done.out.splitlines()]
    steps = [line["step"] for line in told if line.get("event") == "step"]
    assert steps == [1, 2, 3, 4], "only the first process speaks"
    assert told[-1]["run"]["num_steps"] == 4


STAND_INS = {
    "scontrol": "print('127.0.0.1')",
    "srun": """
import os, subprocess, sys
command = [word for word in sys.argv[1:] if not word.startswith("--kill")]
place = lambda rank: {**os.environ, "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": "2"}
tasks = [subprocess.Popen(command, env=place(rank)) for rank in range(2)]
sys.exit(max(task.wait() for task in tasks))
""",
    "sbatch": """
import os, subprocess, sys
job = {**os.environ, "SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "here", "SLURM_NTASKS": "2"}
sys.exit(subprocess.run(["bash", sys.argv[1]], env=job).returncode)
""",
}


def test_a_batch_script_trains_in_the_tasks_of_slurm(plan: Path) -> None:
    for name, text in STAND_INS.items():
        file = plan.parent / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!{sys.executable}\n{text}")
        file.chmod(0o755)
    path = f"{plan.parent / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = in_a_process("train", plan, "--run", "batch", "--launch", "slurm", "--processes", "2", folder=plan.parent,
                        environment={**ENVIRONMENT, "PATH": path})  # fmt: skip
    assert done.status == OK, done.err
    run = TrainingRun.read(plan.parent / "batch" / "run.json")
    assert run.num_steps == 4


def ended_by(number: signal.Signals, plan: Path, *, whom: Callable[[int], int]) -> Done:
    """Train in two processes by torchrun, and send a signal once a step was made."""
    command = [sys.executable, "-m", "finetune_exe", "train", str(plan), "--run", "long", "--launch", "torchrun",
               "--processes", "2", "--set", "schedule.max_steps=5000", "--set", "schedule.epochs=5000"]  # fmt: skip
    with subprocess.Popen(command, cwd=plan.parent, env={**os.environ, **ENVIRONMENT}, stderr=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        events = plan.parent / "long" / "events.jsonl"
        deadline = time.monotonic() + 100
        while not (events.is_file() and b'"event":"step"' in events.read_bytes()):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(whom(process.pid), number)
        _, told = process.communicate(timeout=100)
    return Done(status=process.returncode, out="", err=told)


def test_a_killed_process_ends_the_training_and_is_named(plan: Path) -> None:
    done = ended_by(signal.SIGKILL, plan, whom=rank_one)
    assert done.status == RESUMABLE
    assert "error[FT-T21]: the training was ended from outside: process 1 by SIGKILL" in done.err


@pytest.mark.parametrize("alone", [False, True], ids=["the command", "one process"])
def test_processes_that_are_asked_to_stop_save_and_say_so_once(alone: bool, plan: Path) -> None:
    done = ended_by(signal.SIGTERM, plan, whom=rank_one if alone else lambda command: command)
    assert done.status == RESUMABLE
    assert done.err.count("error[FT-T11]") == 1
    assert list((plan.parent / "long" / "checkpoints").glob("step-*/manifest.json"))


def rank_one(parent: int) -> int:
    """Find the second process of a training by what its environment says."""
    for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError("there is no second process")


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (("--launch", "local", "--processes", "2"), USAGE, "cannot start 2 processes"),
        (("--launch", "torchrun", "--processes", "4", "--machines", "2"), USAGE, "on 2 machines"),
        (("--launch", "slurm", "--processes", "3", "--machines", "2"), USAGE, "on 2 machines"),
        (("--processes", "3", "--dry-run"), USAGE, "8 rows of a step cannot be shared out evenly to 3 processes"),
        (("--launch", "mpi"), USAGE, "mpi"),
    ],
)
def test_what_cannot_be_started_is_refused(
    options: tuple[str, ...], status: int, said: str, plan: Path, fine_tune: FineTune
) -> None:
    done = fine_tune("train", plan, *options)
    assert done.status == status
    assert said in done.err
    assert not Path("runs").exists()


def test_the_rows_of_a_step_are_shared_out(plan: Path, fine_tune: FineTune) -> None:
    done = fine_tune("train", plan, "--processes", "2", "--dry-run", "--max-minutes", "5", "--set", "seed=3")
    assert done.out.strip().endswith(
        "--max-minutes 5.0 --set seed=3 --set parallelism.kind=ddp --set parallelism.num_gpus=2 "
        "--set batch.micro_batch_size=2 --set batch.gradient_accumulation_steps=2"
    )
