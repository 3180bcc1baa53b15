"""Whether a process is one of several is read from what launchers leave in the environment."""

from __future__ import annotations

import pytest

from finetune_exe.workflow.together import is_one_of_several


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False), ({"WORLD_SIZE": "1"}, False), ({"WORLD_SIZE": "2"}, True), ({"WORLD_SIZE": ""}, False),
        ({"SLURM_STEP_NUM_TASKS": "4"}, True), ({"WORLD_SIZE": "1", "SLURM_STEP_NUM_TASKS": "4"}, False),
        ({"WORLD_SIZE": "many"}, True),
    ],
)  # fmt: skip
def test_what_is_no_number_is_left_to_the_place_where_processes_meet(
    environment: dict[str, str], several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_one_of_several() is several
