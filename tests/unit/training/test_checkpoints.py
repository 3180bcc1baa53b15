"""Writing a checkpoint may end at any moment: what was there before stays whole, and the next start finds it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.unit.training.conftest import MakePlan

from finetune_exe.domain.checkpoint import MANIFEST, CheckpointManifest, DataCursor, Progress
from finetune_exe.errors import IO, FineTuneError
from finetune_exe.training import checkpoints as module
from finetune_exe.training.checkpoints import Checkpoints, find_checkpoints, remove_unfinished
from finetune_exe.training.setup import Setup, set_up

KILLED = 137
CALLS = (("os", "fsync"), ("os", "rename"), ("os", "open"), ("os", "close"), ("shutil", "rmtree"),
         ("tempfile", "mkdtemp"))  # fmt: skip


@pytest.fixture(scope="module")
def setup(make: MakePlan, base: Path) -> Setup:
    return set_up(make(), base)


def manifest(step: int) -> CheckpointManifest:
    return CheckpointManifest(
        inputs={"plan": "p", "dataset": "d", "base": "b"}, step=step, evaluated=True, parent=None, settings={},
        cursor=DataCursor(epoch=0, step_of_epoch=step, micro_batch_size=1), versions={}, num_threads=1,
        progress=Progress(steps=step), files=(),
    )  # fmt: skip


def in_a_fork(work: Callable[[], object]) -> int:
    """Do the work in a copy of this process, and give the exit status of that."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dying_at(number: int) -> Callable[..., Callable[..., object]]:
    """Wrap functions so that the process is gone, with no clean-up, before the call of that number, or after it."""
    calls = 0

    def wrap(function: Callable[..., object]) -> Callable[..., object]:
        def counted(*given: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                os._exit(KILLED)
            result = function(*given, **named)
            calls += 1
            if calls == number:
                os._exit(KILLED)
            return result

        return counted

    return wrap


def test_a_kill_between_any_two_calls_of_a_save_leaves_a_whole_checkpoint(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps 1 and 2 are saved; the save of step 3, which also removes step 1, is killed at each of its calls."""
    kept = Checkpoints(tmp_path / "before", keep_last=2)
    for step in (1, 2):
        kept.save(setup, manifest(step), best_step=2)
    moments, statuses = 0, {KILLED}
    while KILLED in statuses:
        moments += 1
        run = tmp_path / f"killed-{moments}"
        shutil.copytree(tmp_path / "before", run)

        def save(run: Path = run, moment: int = moments) -> None:
            wrap = dying_at(moment)
            for name, call in CALLS:
                owner = getattr(module, name)
                setattr(owner, call, wrap(getattr(owner, call)))
            again = Checkpoints(run, keep_last=2, found=find_checkpoints(run))
            again.save(setup, manifest(3), best_step=2)

        statuses = {in_a_fork(save)}
        found = find_checkpoints(run)
        steps = [checkpoint.manifest.step for checkpoint in found.whole]
        assert steps in ([2, 1], [3, 2, 1], [3, 2]), moments
        assert not found.rejected, moments
        remove_unfinished(run)
        assert {path.name for path in (run / "checkpoints").iterdir()} == {f"step-{step}" for step in steps}
        shutil.rmtree(run)
    assert steps == [3, 2]
    assert moments > 40


@pytest.mark.parametrize("moment", ["learned", "manifest", "rename"])
def test_a_full_disk_keeps_the_earlier_checkpoints_and_says_how_much_is_missing(
    moment: str, setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Checkpoints(tmp_path, keep_last=2)
    kept.save(setup, manifest(1), best_step=1)

    def full(*_given: object, **_named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if moment == "learned":
        monkeypatch.setattr(module, "save_state", full)
    elif moment == "manifest":
        monkeypatch.setattr(Path, "write_text", full)
    else:
        monkeypatch.setattr(os, "rename", full)
    with pytest.raises(FineTuneError, match=r"error\[FT-I12\]") as refused:
        kept.save(setup, manifest(2), best_step=1)
    monkeypatch.undo()
    assert refused.value.exit_status == IO
    assert "were written" in refused.value.what
    assert "free" in refused.value.what
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-1"]
    assert [checkpoint.manifest.step for checkpoint in find_checkpoints(tmp_path).whole] == [1]


def test_every_file_is_on_the_disk_before_the_checkpoint_has_its_name(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched_fsync(handle: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    def watched_rename(source: Path, target: Path) -> None:
        done.append(f"rename {target.name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "rename", watched_rename)
    path = Checkpoints(tmp_path, keep_last=1).save(setup, manifest(1), best_step=1)
    named = done.index("rename step-1")
    assert done[0] == str(tmp_path), "the folder of checkpoints is in the run's folder for good"
    before = {Path(name).name for name in done[:named]}
    assert {file.name for file in path.rglob("*") if file.is_file()} <= before
    assert Path(done[named - 2]).name == MANIFEST
    assert done[named + 1 :] == [str(tmp_path / "checkpoints")]


def test_the_best_and_the_last_are_kept_and_each_names_the_one_before(setup: Setup, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep_last=2)
    for step, best in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 5)):
        kept.save(setup, manifest(step), best_step=best)
        names = {path.name for path in kept.folder.iterdir()}
        assert names == {f"step-{best}", *(f"step-{last}" for last in (step - 1, step) if last)}
    newest, before = find_checkpoints(tmp_path).whole
    assert newest.manifest.parent == before.manifest.digest()


def test_no_file_of_a_checkpoint_can_run_code(setup: Setup, tmp_path: Path) -> None:
    """Neither a pickle nor a zip, in which PyTorch hides one, is among them."""
    parameter = setup.trainable[0]
    parameter.grad = torch.zeros_like(parameter)
    setup.optimizer.step()
    path = Checkpoints(tmp_path, keep_last=1).save(setup, manifest(1), best_step=1)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".safetensors", ".json"}
    assert not [file for file in files if file.read_bytes()[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")]
