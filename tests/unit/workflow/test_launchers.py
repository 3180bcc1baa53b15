"""What launchers print is what runs: scripts are parsed, and run where a stand-in of the system can be had."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from tests.unit.training.conftest import SMALL

from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.errors import BAD_DATA, OK, RESUMABLE, FineTuneError
from finetune_exe.knowledge.gpus import find_gpu
from finetune_exe.workflow.launchers import LAUNCHERS, Job, ray_cluster
from finetune_exe.workflow.launchers.skypilot import accelerator

H100 = find_gpu("H100").gpu
CLUSTER = SMALL.model_copy(update={"gpus": (H100,) * 16})
Make = Callable[..., Job]


def job(*, hardware: Hardware = CLUSTER, processes: int = 16, machines: int = 2, folder: Path = Path()) -> Job:
    return Job(
        plan=Path("my plans/plan.yaml"), run=folder / "runs/it's", processes=processes, machines=machines,
        hardware=hardware, here=lambda: 7, options=("--set", "task.description=a $(touch x) b", "--json"),
    )  # fmt: skip


def told(line: str) -> list[str]:
    """Give the words that a shell makes of the arguments of fine-tune."""
    words = shlex.split(line)
    return words[words.index("train") :]


WORDS = ["train", "my plans/plan.yaml", "--run", "runs/it's", "--set", "task.description=a $(touch x) b", "--json"]


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_launcher_hands_the_command_on_as_it_was_typed(name: str) -> None:
    script = LAUNCHERS[name].script(job())
    (line,) = [line for line in script.splitlines() if "train" in line and "plan.yaml" in line]
    assert told(line)[: len(WORDS)] == WORDS


@pytest.mark.parametrize("name", ["local", "torchrun", "slurm", "ray"])
def test_scripts_are_good_shell(name: str) -> None:
    done = subprocess.run(
        ["bash", "-n"], input=LAUNCHERS[name].script(job()), text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("odd", ["x\ntouch canary", "50%A", "a;b", "FIRST_NODE RANK_OF_NODE", "\x07\r\t", "'\"$(x)"])
@pytest.mark.parametrize("name", LAUNCHERS)
def test_no_name_leaves_its_word(name: str, odd: str, tmp_path: Path) -> None:
    script = LAUNCHERS[name].script(dataclasses.replace(job(), run=tmp_path / odd))
    if name == "skypilot":
        task = YAML(typ="safe", pure=True).load(script)
        assert re.fullmatch(r"[a-z0-9._-]+", task["name"])
        script = task["run"]
    if name == "slurm":
        options = script[: script.index("set -euo pipefail")].splitlines()
        assert all(line.startswith("#") for line in options)
        assert re.fullmatch(r"#SBATCH --output=[\w.-]+\.%j\.log", next(line for line in options if "output" in line))
    assert told(script)[: len(WORDS)] == [*WORDS[:3], str(tmp_path / odd), *WORDS[4:]]


def test_a_batch_script_asks_for_what_the_job_takes() -> None:
    lines = LAUNCHERS["slurm"].script(job()).splitlines()
    assert lines[0] == "#!/bin/bash"
    wanted = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH")}
    assert {"--nodes=2", "--ntasks-per-node=8", "--gpus-per-task=1", "--signal=TERM@120"} <= wanted
    plain = LAUNCHERS["slurm"].script(job(hardware=SMALL, processes=2, machines=1))
    assert "--ntasks-per-node=2" in plain
    assert "gpus" not in plain


def test_a_task_file_is_yaml_that_rents_what_the_plan_is_for() -> None:
    task = YAML(typ="safe", pure=True).load(LAUNCHERS["skypilot"].script(job()))
    assert task["num_nodes"] == 2
    assert task["resources"] == {"accelerators": {"H100": 8}}
    assert task["workdir"] == "."
    checked = subprocess.run(["bash", "-n"], input=task["run"], text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert '--node-rank "$SKYPILOT_NODE_RANK" --master-addr "$FIRST_NODE"' in task["run"]
    plain = YAML(typ="safe", pure=True).load(LAUNCHERS["skypilot"].script(job(hardware=SMALL, processes=1, machines=1)))
    assert plain["resources"] == {"cpus": "2+"}


@pytest.mark.parametrize(
    ("name", "short"),
    [("H100 SXM 80GB", "H100"), ("A100 PCIe 80GB", "A100-80GB"), ("A100 SXM 40GB", "A100"), ("L4 24GB", "L4"),
     ("RTX 4090 24GB", "RTX4090"), ("NVIDIA GeForce RTX 3090", "RTX3090")],
)  # fmt: skip
def test_gpus_have_the_names_that_skypilot_knows(name: str, short: str) -> None:
    """Names as `sky gpus list` writes them."""
    assert accelerator(name) == short


@pytest.mark.parametrize(("name", "program"), [("slurm", "sbatch"), ("skypilot", "sky")])
def test_a_system_that_is_not_there_is_named(
    name: str, program: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FineTuneError, match=r"error\[FT-X01\]"):
        LAUNCHERS[name].launch(job(folder=tmp_path), print)
    assert not list(tmp_path.iterdir())


def program(folder: Path, name: str, text: str) -> None:
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{text}")
    file.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "stand_in", "ending"), [("slurm", "sbatch", "slurm.sh"), ("skypilot", "sky", "sky.yaml")]
)
def test_a_job_is_handed_over_as_a_file_and_a_refusal_is_told(
    name: str, stand_in: str, ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program(tmp_path, stand_in, "import sys\nprint('Submitted batch job 7')\n")
    notes: list[str] = []
    assert LAUNCHERS[name].launch(job(folder=tmp_path), notes.append) == 0
    assert (tmp_path / "runs" / f"it's.{ending}").read_text() == LAUNCHERS[name].script(job(folder=tmp_path))
    assert len(notes) == 1
    program(tmp_path, stand_in, "import sys\nsys.exit('invalid partition')\n")
    with pytest.raises(FineTuneError, match=r"error\[FT-T23\]") as caught:
        LAUNCHERS[name].launch(job(folder=tmp_path), notes.append)
    assert name == "skypilot" or "invalid partition" in caught.value.why


def test_more_processes_than_gpus_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_exe.planning import hardware

    gpu = Gpu(name="L4", memory_bytes=24 << 30, bf16=True)
    for number, visible, there in ((1, None, 1), (0, None, 0), (4, "2", 1), (4, "1", 1), (4, "0,1", 2), (4, "", 0),
                                   (4, "-1", 0), (1, "0,1", 1)):  # fmt: skip
        here = SMALL.model_copy(update={"gpus": (gpu,) * number})
        monkeypatch.setattr(hardware, "detect_hardware", lambda here=here: here)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(FineTuneError, match=r"error\[FT-T02\]") as caught:
            LAUNCHERS["torchrun"].launch(job(), print)
        assert f"this machine has {there}" in caught.value.what


def test_local_trains_here() -> None:
    assert LAUNCHERS["local"].launch(job(), print) == 7


class FakeRay:
    """Hands out what processes came to, one at a time, or nothing where the wait is too short for it."""

    class exceptions:  # noqa: N801 - as in ray
        class RayActorError(Exception):
            pass

    def __init__(self, ended: list[tuple[float, tuple[int, str, int, str]]]) -> None:
        self.ended = ended

    def wait(self, waiting: list[int], *, num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        after, (rank, *_) = self.ended[0]
        if after > timeout:
            return [], waiting
        return [rank], [other for other in waiting if other != rank]

    def get(self, reference: int) -> tuple[int, str, int, str]:
        return self.ended.pop(0)[1]


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ([(1.0, (1, "b", RESUMABLE, "lost")), (30.0, (0, "a", BAD_DATA, "error[FT-D01]"))], BAD_DATA),
        ([(1.0, (0, "a", BAD_DATA, "error[FT-D01]")), (30.0, (1, "b", RESUMABLE, "lost"))], BAD_DATA),
        ([(1.0, (1, "b", RESUMABLE, "lost")), (99.0, (0, "a", OK, ""))], RESUMABLE),
        ([(50.0, (1, "b", OK, "")), (50.0, (0, "a", OK, ""))], OK),
    ],
    ids=["the cause ends late", "the others hang", "nobody tells why", "all is well"],
)
def test_the_cause_is_waited_for_where_only_those_that_followed_have_ended(
    ended: list[tuple[float, tuple[int, str, int, str]]], status: int
) -> None:
    notes: list[str] = []
    assert ray_cluster.RayCluster()._watch(FakeRay(list(ended)), [0, 1], notes.append) == status
    assert ("error[FT-D01]" in notes) == (status == BAD_DATA)
