"""Before the first step everything is tried once, and nothing of it stays."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.tiny import write_gpt2
from tests.unit.training.conftest import MakePlan

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.events import AnyEvent, BatchShrunk, StepFinished
from finetune_exe.errors import NO_ROOM, FineTuneError
from finetune_exe.models.forward import Rows
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training import guards, rehearsal
from finetune_exe.training.batches import plan_epoch
from finetune_exe.training.guards import Guards
from finetune_exe.training.loop import train
from finetune_exe.training.rehearsal import CheckpointCost, expected_cost, require_room, run_rehearsal
from finetune_exe.training.setup import Setup, set_up
from finetune_exe.training.state import save_state
from finetune_exe.training.step import Learned, learn

SHORT = ("schedule.max_steps=2", "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=2")


def state(setup: Setup, folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    save_state(setup, folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    "settings",
    [("method.lora_dropout=0.4",), ("method.kind=full",), ("method.kind=prefix",),
     ("optimizer.kind=adamw_8bit", "method.lora_rank=128")],
    ids=["lora", "full", "prefix", "8-bit states"],
)  # fmt: skip
def test_nothing_of_it_stays(
    settings: tuple[str, ...], make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = make(*settings)
    setup, split, pad = set_up(plan, base), data.split("train"), data.manifest.pad_token_id
    before = state(setup, tmp_path / "before")
    watch = Guards(setup=setup, split=split, pad=pad, micro_batch_size=4, planned_size=4, shrunk=lambda *_: None)
    epoch = plan_epoch(split.lengths, plan.batch, seed=0, epoch=0)
    cost = run_rehearsal(setup, watch, epoch, data.split("validation"), pad=pad, folder=tmp_path / "run", max_norm=1.0)
    assert state(setup, tmp_path / "after") == before
    assert not list((tmp_path / "run").iterdir())
    assert cost.num_bytes > cost.model_bytes > 0
    assert setup.model.training


@pytest.mark.parametrize("packing", ["false", "true"])
def test_the_longest_rows_are_tried_and_the_steps_are_those_without_it(
    packing: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(setup: Setup, rows: Sequence[Rows], *, max_norm: float | None) -> Learned:
        seen.append(max(batch.ids_BT.numel() for batch in rows))
        return learn(setup, rows, max_norm=max_norm)

    monkeypatch.setattr(guards, "learn", watched)
    plan, losses = make(*SHORT, "schedule.epochs=1", f"batch.packing={packing}"), []
    for rehearse in (True, False):
        events: list[AnyEvent] = []
        train(plan, data, base=base, run=tmp_path / str(rehearse), emit=events.append, rehearse=rehearse)
        losses.append([event.loss for event in events if isinstance(event, StepFinished)])
    assert losses[0] == losses[1]
    assert seen[0] >= max(seen[1:])


def test_of_passes_whose_rows_begin_alike_the_one_that_computes_most_is_tried(
    make: MakePlan, data: PreparedFolder, base: Path
) -> None:
    setup, split = set_up(make("batch.packing=true"), base), data.split("train")
    watch = Guards(
        setup=setup, split=split, pad=data.manifest.pad_token_id, micro_batch_size=4, planned_size=4,
        shrunk=lambda *_: None,
    )  # fmt: skip
    by_length = np.argsort(split.lengths).tolist()
    alike, unlike = [by_length[-1]] * 4, by_length[-5:-1]
    assert sum(split.lengths[row] for row in alike) >= sum(split.lengths[row] for row in unlike)
    assert rehearsal._longest([unlike[:2], alike, unlike], watch) == unlike


def test_memory_that_runs_out_there_shrinks_the_rows_before_the_first_step(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def once(*given: object, **named: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise MemoryError

    monkeypatch.setattr(rehearsal, "_step_and_look", once)
    events: list[AnyEvent] = []
    train(make(*SHORT), data, base=base, run=tmp_path / "run", emit=events.append)
    assert isinstance(events[0], BatchShrunk)
    assert (events[0].step, events[0].micro_batch_size) == (0, 2)


def test_a_disk_too_small_is_said_before_the_first_step(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "free_bytes", lambda _: 100_000)
    events: list[AnyEvent] = []
    with pytest.raises(FineTuneError, match=r"error\[FT-I11\].*needs .* MiB, and 97.7 KiB are free") as refused:
        train(make(*SHORT), data, base=base, run=tmp_path / "run", emit=events.append)
    assert refused.value.exit_status == NO_ROOM == 78
    assert "checkpoints.keep_last=1" in refused.value.fix
    assert not events
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "settings",
    [(), ("method.kind=full",), ("method.lora_rank=128", "optimizer.kind=adamw_8bit")], ids=["lora", "full", "8-bit"],
)  # fmt: skip
def test_the_size_reckoned_before_loading_is_what_is_then_written_but_for_names(
    settings: tuple[str, ...], make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    plan = make(*settings)
    setup, split, pad = set_up(plan, base), data.split("train"), data.manifest.pad_token_id
    watch = Guards(setup=setup, split=split, pad=pad, micro_batch_size=4, planned_size=4, shrunk=lambda *_: None)
    epoch = plan_epoch(split.lengths, plan.batch, seed=0, epoch=0)
    real = run_rehearsal(setup, watch, epoch, data.split("validation"), pad=pad, folder=tmp_path / "run", max_norm=1.0)
    reckoned = expected_cost(plan)
    assert reckoned is not None
    assert reckoned.num_bytes <= real.num_bytes <= 1.2 * reckoned.num_bytes + 50_000
    assert reckoned.model_bytes <= real.model_bytes <= 1.2 * reckoned.model_bytes + 50_000


def test_the_room_is_for_the_best_the_last_and_the_one_being_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = CheckpointCost(num_bytes=1000, model_bytes=300, seconds=0.0)
    for there, needed in ((0, 4300), (3, 1300), (9, 1300)):
        monkeypatch.setattr(rehearsal, "free_bytes", lambda _, needed=needed: needed)
        require_room(cost, run=tmp_path, keep_last=2, there=there)
        monkeypatch.setattr(rehearsal, "free_bytes", lambda _, needed=needed: needed - 1)
        with pytest.raises(FineTuneError, match="FT-I11"):
            require_room(cost, run=tmp_path, keep_last=2, there=there)


def test_rows_longer_than_the_model_has_positions_for_are_refused(
    make: MakePlan, rows_file: Path, tmp_path: Path
) -> None:
    """One token less than the longest row, padded to a multiple of eight, needs; as many as it needs are enough."""
    bases = {positions: write_gpt2(tmp_path / f"gpt2-{positions}", positions=positions) for positions in (47, 48)}
    plan = make(*SHORT, f"model.reference={bases[48]}", "data.max_length=64", "method.kind=prompt",
                "method.num_virtual_tokens=4", "batch.packing=false", "checkpoints.samples_per_evaluation=2")  # fmt: skip
    prepare(plan, load_tokenizer(bases[48], chat_template=None), tmp_path / "rows")
    data = load_dataset(tmp_path / "rows")
    longest = max(max(data.split(name).lengths) for name in ("train", "validation"))
    assert 40 < longest <= 44
    with pytest.raises(
        FineTuneError, match=r"error\[FT-T02\]: rows go up to \d\d tokens, .* positions for 44 behind the 4"
    ):
        train(plan, data, base=bases[48], run=tmp_path / "run", emit=lambda _: None)
    lora = make(*SHORT, f"model.reference={bases[48]}", "data.max_length=64", "checkpoints.samples_per_evaluation=2")
    assert train(lora, data, base=bases[48], run=tmp_path / "lora", emit=lambda _: None).num_steps == 2
    with pytest.raises(FineTuneError, match=r"--set data.max_length=40"):
        train(lora, data, base=bases[47], run=tmp_path / "short", emit=lambda _: None)


def test_tokens_the_model_does_not_have_are_found_before_the_first_step(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    shutil.copytree(data.path, tmp_path / "rows")
    tokens = np.load(tmp_path / "rows" / "validation.tokens.npy", mmap_mode="r+")
    tokens[5] = 400
    tokens.flush()
    with pytest.raises(FineTuneError, match=r"error\[FT-M11\].*token 400, and the model's go from 0 to 399") as refused:
        train(make(*SHORT), load_dataset(tmp_path / "rows", verify=False), base=base, run=tmp_path / "run",
              emit=lambda _: None)  # fmt: skip
    assert "validation" in refused.value.where
    assert refused.value.exit_status == 65
