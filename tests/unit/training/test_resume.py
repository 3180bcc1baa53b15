"""An interrupted run that is taken up again is the uninterrupted one, bit for bit, or says why it cannot be."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan

from finetune_exe.domain.checkpoint import MANIFEST
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.events import (
    AnyEvent,
    CheckpointSaved,
    Evaluated,
    RunResumed,
    RunStarted,
    RunStopped,
    StepFinished,
)
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import RESUMABLE, FineTuneError
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training.checkpoints import fault_of, find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.resume import (
    ALLOW_PLAN_CHANGE,
    Change,
    content_changes,
    find_resumption,
    insist_unchanged,
    plan_changes,
    version_changes,
)
from finetune_exe.training.setup import set_up
from finetune_exe.training.state import restore_state, save_state

STEPS = 9
ROWS = ("batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2")
COMMON = (*ROWS, f"schedule.max_steps={STEPS}", "checkpoints.evaluations_per_epoch=2", "optimizer.learning_rate=1e-2",
          "checkpoints.keep_last=9", "checkpoints.early_stopping_patience=null")  # fmt: skip


class Run:
    """A run that can be stopped at a step and taken up again."""

    def __init__(self, plan: Plan, data: PreparedFolder, base: Path, folder: Path) -> None:
        self.plan, self.data, self.base, self.folder = plan, data, base, folder
        self.events: list[AnyEvent] = []

    def start(self, *, stop_after: int | None = None, plan: Plan | None = None) -> TrainingRun:
        def asked() -> str | None:
            return "SIGTERM" if stop_after is not None and self.losses and max(self.losses) >= stop_after else None

        return train(
            plan or self.plan, self.data, base=self.base, run=self.folder, emit=self.events.append,
            resumption=find_resumption(self.folder), asked_to_stop=asked,
        )  # fmt: skip

    def stop(self, step: int) -> FineTuneError:
        with pytest.raises(FineTuneError) as stopped:
            self.start(stop_after=step)
        assert stopped.value.code == "T11"
        return stopped.value

    @property
    def losses(self) -> dict[int, float]:
        return {event.step: event.loss for event in self.events if isinstance(event, StepFinished)}

    def learned(self, step: int) -> dict[str, torch.Tensor]:
        folder = self.folder / "checkpoints" / f"step-{step}"
        tensors = {}
        for file in sorted(folder.rglob("*.safetensors")):
            tensors |= {f"{file.name}:{name}": tensor for name, tensor in load_file(file).items()}
        return tensors


NewRun = Callable[..., Run]


@pytest.fixture
def new(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> NewRun:
    def made(name: str, *settings: str) -> Run:
        return Run(make(*COMMON, *settings), data, base, tmp_path / name)

    return made


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(("method.lora_dropout=0.3",), id="lora, accumulating, with dropout"),
        pytest.param(("method.kind=full", "batch.group_by_length=false"), id="full, rows in random order"),
        pytest.param(("method.lora_rank=128", "optimizer.kind=adamw_8bit", "precision.base_dtype=bfloat16"),
                     id="8-bit states, bfloat16"),
        pytest.param(("method.kind=prefix",), id="prefix"),
        pytest.param(("method.kind=qlora", "method.offset_rounding=true"), id="qlora that offsets its rounding"),
        pytest.param(("batch.packing=true",), id="packed"),
        pytest.param(("method.kind=full", "method.masters=split", "precision.base_dtype=bfloat16"), id="full in bfloat16"),
        pytest.param(("method.kind=full", "method.masters=stochastic", "precision.base_dtype=bfloat16"),
                     id="full, rounded at random"),
        pytest.param(("optimizer.kind=adafactor", "method.kind=full"), id="adafactor"),
        pytest.param(("optimizer.kind=lion", "method.lora_plus_ratio=8"), id="lion, LoRA+"),
    ],
)  # fmt: skip
def test_resumed_twice_is_uninterrupted_bit_for_bit(settings: tuple[str, ...], new: NewRun) -> None:
    """Once in the middle of an epoch, once where an evaluation was due that the signal kept from being made."""
    whole, broken = new("whole", *settings), new("broken", *settings)
    expected = whole.start()
    every = [event.step for event in whole.events if isinstance(event, Evaluated)][1]
    assert broken.stop(2).exit_status == RESUMABLE
    broken.stop(every * 2)
    summary = broken.start()
    assert broken.losses == whole.losses
    assert same(broken.learned(STEPS), whole.learned(STEPS))
    taken = {"total_seconds", "seconds", "peak_memory_bytes", "run_name", "resumed", "lost_seconds"}
    assert summary.model_dump(exclude=taken) == expected.model_dump(exclude=taken)
    assert (summary.resumed, expected.resumed) == (2, 0)
    assert summary.total_seconds >= summary.seconds > 0


def test_a_run_that_was_killed_loses_what_came_after_its_checkpoint_and_makes_it_again(new: NewRun) -> None:
    whole, broken = new("whole"), new("broken")
    whole.start()

    class KilledError(BaseException):
        pass

    def die_late(event: AnyEvent) -> None:
        broken.events.append(event)
        if isinstance(event, StepFinished) and event.step == 5:
            raise KilledError

    with pytest.raises(KilledError):
        train(broken.plan, broken.data, base=broken.base, run=broken.folder, emit=die_late)
    kept = find_checkpoints(broken.folder).whole[0].manifest.step
    assert kept < 5
    before = dict(broken.losses)
    broken.events.clear()
    broken.start()
    assert min(broken.losses) == kept + 1
    assert {**before, **broken.losses} == whole.losses
    assert same(broken.learned(STEPS), whole.learned(STEPS))


def test_random_numbers_of_every_kind_go_on_where_they_were(make: MakePlan, base: Path, tmp_path: Path) -> None:
    """Also those that no step of ours draws, as a model's own code may."""

    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: S311 - the global ones

    setup = set_up(make(), base)
    draw()
    save_state(setup, tmp_path)
    wanted = draw()
    assert draw() != wanted
    restore_state(setup, tmp_path)
    assert draw() == wanted


def test_the_scale_of_float16_goes_on_where_it_was(make: MakePlan, base: Path, tmp_path: Path) -> None:
    setup = set_up(make("precision.base_dtype=float16"), base)
    told = {**setup.scaler.state_dict(), "scale": 1024.0, "_growth_tracker": 7}
    setup.scaler.load_state_dict(told)
    save_state(setup, tmp_path)
    setup.scaler.load_state_dict({**told, "scale": 2.0, "_growth_tracker": 0})
    restore_state(setup, tmp_path)
    assert setup.scaler.state_dict() == told


def test_the_events_of_a_stop_and_of_going_on(new: NewRun) -> None:
    run = new("run")
    fault = run.stop(4)
    assert isinstance(run.events[-1], RunStopped)
    assert isinstance(run.events[-2], CheckpointSaved)
    assert (run.events[-1].step, run.events[-1].reason) == (4, "SIGTERM")
    assert "--resume" in fault.fix
    (saved,) = find_checkpoints(run.folder).whole
    run.events.clear()
    run.start()
    assert isinstance(run.events[0], RunResumed)
    assert run.events[0].step == 4
    assert run.events[0].seconds > saved.manifest.progress.total_seconds
    assert [event.seconds for event in run.events] == sorted(event.seconds for event in run.events)
    assert not [event for event in run.events if isinstance(event, RunStarted)]


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "has another content": lambda folder: flip_a_bit(folder / "adapter_model.safetensors"),
    "state/trained.safetensors has another content": lambda folder: flip_a_bit(folder / "state/trained.safetensors"),
    "has 9 bytes where": lambda folder: (folder / "state/optimizer.safetensors").write_bytes(b"truncated"),
    "has 0 bytes where": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b""),
    "random.safetensors cannot be read": lambda folder: (folder / "state/random.safetensors").unlink(),
    "manifest.json is missing": lambda folder: (folder / MANIFEST).unlink(),
    "no readable CheckpointManifest": lambda folder: (folder / MANIFEST).write_text("{garbage"),
    "is that of step": lambda folder: shutil.copy(sorted(folder.parent.glob("step-*"))[0] / MANIFEST, folder),
    "rest.json has": lambda folder: shutil.copy(
        sorted(folder.parent.glob("step-*"))[0] / "state/rest.json", folder / "state"
    ),
    "is not in the manifest": lambda folder: (folder / "state/more.safetensors").write_bytes(b"x"),
}


@pytest.fixture(scope="module")
def stopped(make: MakePlan, data: PreparedFolder, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with three checkpoints, stopped after step 7."""
    run = Run(make(*COMMON), data, base, tmp_path_factory.mktemp("stopped") / "run")
    run.stop(7)
    return run


@pytest.fixture
def copy(stopped: Run, tmp_path: Path) -> Run:
    shutil.copytree(stopped.folder, tmp_path / "run")
    return Run(stopped.plan, stopped.data, stopped.base, tmp_path / "run")


@pytest.mark.parametrize("why", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_passed_over(why: str, copy: Run) -> None:
    newest, second, *_ = find_checkpoints(copy.folder).whole
    DAMAGE[why](newest.path)
    assert why in (fault_of(newest.path) or "")
    found = find_resumption(copy.folder)
    assert found is not None
    assert found.checkpoint.path == second.path
    assert found.remarks[0].startswith(f"{newest.path.name} was passed over: ")
    assert why in found.remarks[0]


def test_what_was_passed_over_stands_in_the_summary_and_is_written_again(copy: Run, stopped: Run, new: NewRun) -> None:
    newest = find_checkpoints(copy.folder).whole[0]
    flip_a_bit(newest.path / "state/trained.safetensors")
    (copy.folder / "checkpoints" / "latest").symlink_to("step-999")
    summary = copy.start()
    assert "step-7 was passed over" in summary.remarks[0]
    whole = new("whole")
    whole.start()
    assert same(copy.learned(STEPS), whole.learned(STEPS))


def test_where_no_checkpoint_can_be_trusted_nothing_begins_anew_by_itself(copy: Run) -> None:
    for kept in find_checkpoints(copy.folder).whole:
        (kept.path / MANIFEST).write_text("{")
    with pytest.raises(FineTuneError, match=r"error\[FT-T12\]: none of the \d checkpoints") as refused:
        find_resumption(copy.folder)
    assert refused.value.exit_status == 65
    assert "--overwrite" in refused.value.fix


def test_the_best_checkpoint_is_replaced_where_it_cannot_be_trusted(copy: Run) -> None:
    progress = find_checkpoints(copy.folder).whole[0].manifest.progress
    flip_a_bit(copy.folder / "checkpoints" / f"step-{progress.best_step}" / "adapter_model.safetensors")
    summary = copy.start()
    assert (copy.folder / summary.checkpoint).is_dir()
    assert fault_of(copy.folder / summary.checkpoint) is None
    assert any(f"step-{progress.best_step}" in remark for remark in summary.remarks)


def test_without_any_evaluated_checkpoint_left_the_next_evaluation_is_the_best(new: NewRun) -> None:
    """And the run is not stale, though more evaluations than its patience lie behind it."""
    run = new("run", "checkpoints.save_every_steps=1", "checkpoints.early_stopping_patience=1")
    run.stop(4)
    newest, *others = find_checkpoints(run.folder).whole
    assert newest.manifest.step not in {point.step for point in newest.manifest.progress.points}
    for other in others:
        flip_a_bit(other.path / "state/trained.safetensors")
    summary = run.start()
    assert summary.best_step > 4
    assert fault_of(run.folder / summary.checkpoint) is None


def test_a_resumed_run_counts_the_steps_to_its_next_checkpoint_from_the_one_it_took_up(new: NewRun) -> None:
    settings = ("checkpoints.save_every_steps=4", "checkpoints.evaluations_per_epoch=0.01")
    whole, broken = new("whole", *settings), new("broken", *settings)
    whole.start()
    broken.stop(5)
    broken.start()
    saved = [[event.step for event in run.events if isinstance(event, CheckpointSaved)] for run in (whole, broken)]
    assert saved == [[4, 8, 9], [4, 5, 9]]


def test_every_change_of_a_setting_is_listed_and_only_harmless_ones_may_be_allowed(copy: Run, make: MakePlan) -> None:
    manifest = find_checkpoints(copy.folder).whole[0].manifest
    now = make(*COMMON, "optimizer.learning_rate=3e-3", "seed=5", "evaluation.num_samples=1",
               "batch.micro_batch_size=1", "batch.gradient_accumulation_steps=8")  # fmt: skip
    changes = {change.name: change for change in plan_changes(manifest, now)}
    assert {name for name, change in changes.items() if change.flag is None} == {"optimizer.learning_rate", "seed"}
    assert {name for name, change in changes.items() if change.flag} >= {
        "evaluation.num_samples",
        "batch.micro_batch_size",
    }
    assert (changes["optimizer.learning_rate"].before, changes["optimizer.learning_rate"].now) == ("0.01", "0.003")
    with pytest.raises(FineTuneError, match=r"error\[FT-T13\]") as refused:
        insist_unchanged(list(changes.values()), flags=[ALLOW_PLAN_CHANGE], run=copy.folder)
    assert refused.value.exit_status == 2
    lines = refused.value.where.splitlines()
    assert any("optimizer.learning_rate" in line and "0.01" in line and "0.003" in line for line in lines)
    assert not list(plan_changes(manifest, copy.plan))


def test_what_a_change_may_do_is_said_where_it_does_something(copy: Run, make: MakePlan) -> None:
    manifest = find_checkpoints(copy.folder).whole[0].manifest
    now = make(*COMMON, "checkpoints.go_back_on_spike=true", "checkpoints.early_stopping_patience=1",
               "checkpoints.keep_last=3")  # fmt: skip
    effects = {change.name: change.effect for change in plan_changes(manifest, now)}
    assert effects == {
        "checkpoints.go_back_on_spike": "the same steps unless a loss spikes",
        "checkpoints.early_stopping_patience": "the same steps, but perhaps more or fewer",
        "checkpoints.keep_last": "changes no step",
    }


def test_a_setting_that_an_older_version_did_not_have_was_at_its_default(new: NewRun, make: MakePlan) -> None:
    run = new("run", "method.kind=qlora")
    run.stop(4)
    file = find_checkpoints(run.folder).whole[0].path / MANIFEST
    content = json.loads(file.read_text())
    del content["settings"]["method.offset_rounding"], content["settings"]["batch.packing"]
    file.write_text(json.dumps(content))
    manifest = find_checkpoints(run.folder).whole[0].manifest
    assert not list(plan_changes(manifest, run.plan))
    (change,) = plan_changes(manifest, make(*COMMON, "method.kind=qlora", "method.offset_rounding=true"))
    assert change == ("method.offset_rounding", "False", "True", "other steps: another run", None)
    assert run.start().num_steps == STEPS


def test_rows_that_an_older_version_described_are_the_same_rows(copy: Run, base: Path, tmp_path: Path) -> None:
    """It wrote fewer keys into their description, by whose digest the checkpoint names them."""
    content = json.loads((copy.data.path / "manifest.json").read_text())
    del content["inputs"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    older = PreparedDataset.read(tmp_path / "manifest.json")
    digest = hashlib.sha256(
        json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    ).hexdigest()[:32]
    manifest = find_checkpoints(copy.folder).whole[0].manifest
    manifest = manifest.model_copy(update={"inputs": {**manifest.inputs, "dataset": digest}})
    assert older.digest() != digest
    assert not list(content_changes(manifest, base=base, dataset=older))
    (changed,) = content_changes(manifest, base=base, dataset=older.model_copy(update={"max_length": 7}))
    assert changed.name == "the prepared rows"


def test_another_number_of_rows_in_a_step_is_another_run(copy: Run, make: MakePlan) -> None:
    manifest = find_checkpoints(copy.folder).whole[0].manifest
    (change,) = plan_changes(manifest, make(*COMMON, "batch.micro_batch_size=8"))
    assert change.flag is None


def test_an_allowed_change_has_to_be_wanted_and_is_remembered(copy: Run) -> None:
    changes = [Change("evaluation.num_samples", "3", "1", "changes no step", ALLOW_PLAN_CHANGE)]
    with pytest.raises(FineTuneError, match=r"error\[FT-T13\]") as refused:
        insist_unchanged(changes, flags=[], run=copy.folder)
    assert ALLOW_PLAN_CHANGE in refused.value.fix
    assert "--resume" in refused.value.fix
    assert insist_unchanged(changes, flags=[ALLOW_PLAN_CHANGE], run=copy.folder) == (
        "evaluation.num_samples was 3, now 1",
    )


def test_other_rows_or_another_base_are_never_allowed(copy: Run, base: Path, tmp_path: Path) -> None:
    manifest = find_checkpoints(copy.folder).whole[0].manifest
    dataset = copy.data.manifest
    assert not list(content_changes(manifest, base=base, dataset=dataset))
    shutil.copytree(base, tmp_path / "other")
    flip_a_bit(tmp_path / "other" / "model.safetensors")
    changes = list(
        content_changes(manifest, base=tmp_path / "other", dataset=dataset.model_copy(update={"inputs": {}}))
    )
    assert [change.name for change in changes] == ["the base model", "the prepared rows"]
    assert all(change.flag is None for change in changes)


def test_other_versions_are_said_and_recorded(copy: Run) -> None:
    newest = find_checkpoints(copy.folder).whole[0]
    manifest = newest.manifest
    assert version_changes(manifest, manifest.versions, manifest.num_threads) == ()
    threads = manifest.num_threads
    assert version_changes(manifest, manifest.versions, threads + 1) == (f"threads was {threads} and is {threads + 1}",)
    content = json.loads((newest.path / MANIFEST).read_text())
    content["versions"]["torch"] = "1.0.0"
    (newest.path / MANIFEST).write_text(json.dumps(content))
    summary = copy.start()
    assert any(remark.startswith("torch was 1.0.0 and is") for remark in summary.remarks)
