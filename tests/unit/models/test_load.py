"""Where a model is put, said without loading PyTorch where its build tells."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest
import torch

from finetune_exe.models.load import is_built_for_cpu, pick_device


@pytest.mark.parametrize(
    ("version", "platform", "for_cpu"),
    [
        ("2.13.0+cpu", "linux", True),
        ("2.13.0", "linux", False),
        ("2.13.0+cu130", "win32", False),
        ("2.13.0+rocm7.2", "linux", False),
        ("2.13.0", "darwin", True),
    ],
)
@pytest.mark.parametrize("available", [True, False])
def test_only_a_build_with_gpus_is_asked_for_one(
    version: str, platform: str, for_cpu: bool, available: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert is_built_for_cpu() is for_cpu
    assert pick_device() == ("cuda" if available and not for_cpu else "cpu")


def test_what_the_version_says_of_this_build_is_true() -> None:
    if is_built_for_cpu():
        assert torch.version.cuda is None
        assert torch.version.hip is None
