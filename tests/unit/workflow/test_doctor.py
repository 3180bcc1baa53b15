"""What is installed is held against what is wanted; machines that cannot do what they should are named."""

from __future__ import annotations

import importlib.util
import os
from importlib import metadata
from pathlib import Path

import pytest
import torch

from finetune_exe.domain.values import Gpu, Hardware
from finetune_exe.training.abilities import torch_abilities
from finetune_exe.workflow import doctor
from finetune_exe.workflow.doctor import check_up, installed_parts

PLAIN = Hardware(cpu="test", num_cores=4, memory_bytes=8 << 30, disk_free_bytes=100 << 30)


def quiet(*_: object) -> None:
    """Be told nothing."""


def test_parts_are_those_of_the_metadata() -> None:
    wanted = (
        "click>=8.1",
        "numpy>=99",
        "no-such-package>=1",
        'torch>=2.10; extra == "train"',
        'ray>=99; extra == "ray"',
        'pytest>=9; extra == "dev"',
        'winreg-tool>=1; sys_platform == "win32"',
    )
    parts = {part.name: {package.name: package for package in part.packages} for part in installed_parts(wanted)}
    assert {name: list(packages) for name, packages in parts.items()} == {
        "core": ["click", "numpy", "no-such-package"],
        "train": ["torch"],
        "ray": ["ray"],
    }
    assert parts["core"]["click"].suffices
    assert parts["core"]["click"].version == metadata.version("click")
    assert not parts["core"]["numpy"].suffices
    assert parts["core"]["no-such-package"].version is None
    assert [part.is_complete for part in installed_parts(wanted)] == [False, True, False]


def test_an_old_package_is_a_failure_and_an_optional_part_that_is_absent_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = ("numpy>=99", 'no-such-package>=1; extra == "hub"', 'torch>=99; extra == "train"')
    parts = installed_parts(wanted)
    monkeypatch.setattr(doctor, "installed_parts", lambda: parts)
    monkeypatch.setattr(doctor, "detect_hardware", lambda: PLAIN)
    found = check_up(self_tests=False, progress=quiet, note=quiet).failures
    numpy, torch_version = metadata.version("numpy"), metadata.version("torch")
    assert found[:2] == (f"numpy {numpy}, wanted >=99", f"torch {torch_version}, wanted >=99")


def test_without_pytorch_it_still_looks_and_says_what_training_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "torch" else find_spec(name))
    checkup = check_up(progress=quiet, note=quiet)
    assert checkup.self_tests == ()
    training = next(check for check in checkup.abilities if check.name == "training")
    assert (training.passed, training.detail) == (None, "not installed: torch")
    assert training.fix == 'pip install "finetune-exe[train]"'


def test_little_room_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "detect_hardware", lambda: PLAIN.model_copy(update={"disk_free_bytes": 1 << 30}))
    assert "room for runs" in check_up(self_tests=False, progress=quiet, note=quiet).failures


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("FINETUNE_EXE_CACHE", str(tmp_path / "cache"))
    assert "the cache can be written" in check_up(self_tests=False, progress=quiet, note=quiet).failures


def test_a_gpu_that_pytorch_does_not_see_fails_with_the_command_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    gpus = (Gpu(name="NVIDIA L4", memory_bytes=24 << 30, bf16=True),)
    (found,) = [
        check
        for check in torch_abilities(PLAIN.model_copy(update={"gpus": gpus}))
        if check.name == "PyTorch sees the GPUs"
    ]
    assert found.passed is False
    assert "0 of 1" in found.detail
    assert found.fix is not None
    assert "pip install torch" in found.fix


def test_more_threads_than_cores_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    found = {check.name: check for check in torch_abilities(PLAIN)}["threads for training"]
    assert (found.passed, found.fix) == (False, "export OMP_NUM_THREADS=4")
