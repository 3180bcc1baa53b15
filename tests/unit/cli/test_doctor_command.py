"""`fine-tune doctor` as scripts use it: its status, and JSON that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.unit.report import sample

from finetune_exe.cli.doctor import command
from finetune_exe.domain.checkup import Checkup
from finetune_exe.errors import GATE, OK, USAGE
from finetune_exe.workflow import doctor

BROKEN = sample.checkup()
SOUND = BROKEN.model_copy(update={"parts": (), "abilities": (), "runs": (), "self_tests": BROKEN.self_tests[:1]})


@pytest.mark.parametrize(("checkup", "status"), [(BROKEN, GATE), (SOUND, OK)])
def test_the_status_says_whether_something_is_wrong(
    checkup: Checkup, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def check_up(paths: Sequence[Path], **options: Any) -> Checkup:
        asked.update(paths=paths, **options)
        return checkup

    monkeypatch.setattr(doctor, "check_up", check_up)
    done = CliRunner().invoke(command, ["runs", "--no-self-tests", "--json"])
    assert done.exit_code == status
    written = json.loads(done.stdout)
    assert written["failures"] == list(checkup.failures)
    assert written["checkup"]["self_tests"][0]["tolerance"] == 1e-5
    assert (asked["paths"], asked["self_tests"]) == ((Path("runs"),), False)
    assert ("nothing is wrong" in CliRunner().invoke(command, []).stdout) == (status == OK)


def test_what_is_not_installed_or_not_finished_is_not_wrong() -> None:
    assert BROKEN.failures == (
        "numpy 1.26.4, wanted >=2.0",
        "PyTorch sees the GPUs",
        "the run in runs/third",
        "padding",
    )


def test_a_model_is_handed_on_and_wants_self_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(doctor, "check_up", lambda paths, **options: asked.append(options["model"]) or SOUND)
    assert CliRunner().invoke(command, ["--model", "embedded"]).exit_code == OK
    assert asked == ["embedded"]
    refused = CliRunner().invoke(command, ["--model", "embedded", "--no-self-tests"])
    assert refused.exit_code == USAGE
    assert "--no-self-tests" in refused.output
