"""The training loop on a model small enough to train in a second."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from tests.unit.training.conftest import MakePlan
from transformers import AutoModelForCausalLM

from finetune_exe.domain.events import AnyEvent, CheckpointSaved, Evaluated, Noticed, RunFinished, StepFinished
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import FineTuneError
from finetune_exe.models import passes as fewer
from finetune_exe.models.forward import LossFunction, batch_of, mean_loss, plan_reading
from finetune_exe.models.load import choose_attention
from finetune_exe.models.methods import METHODS, training_method
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.training import course
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.setup import set_up
from finetune_exe.training.step import learn

EVERY_WEIGHT = 31392
"""Weights of the tiny model."""


def run(
    make: MakePlan, data: PreparedFolder, base: Path, folder: Path, *settings: str, max_seconds: float | None = None
) -> tuple[TrainingRun, list[AnyEvent]]:
    events: list[AnyEvent] = []
    plan = make(*settings)
    return train(plan, data, base=base, run=folder, emit=events.append, max_seconds=max_seconds), events


def weights(folder: Path, summary: TrainingRun) -> dict[str, torch.Tensor]:
    (file,) = (folder / summary.checkpoint).glob("*model.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("method", "packing"), [*((method, "false") for method in METHODS), ("lora", "true"), ("full", "true")]
)
def test_eight_rows_at_once_or_one_after_another_learn_the_same(
    method: str, packing: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    common = (f"method.kind={method}", f"batch.packing={packing}", "schedule.max_steps=4",
              "optimizer.learning_rate=1e-3")  # fmt: skip
    results = {}
    for micro, passes in ((8, 1), (1, 8), (2, 4)):
        sizes = (f"batch.micro_batch_size={micro}", f"batch.gradient_accumulation_steps={passes}")
        folder = tmp_path / f"{micro}x{passes}"
        summary, events = run(make, data, base, folder, *common, *sizes)
        steps = [event for event in events if isinstance(event, StepFinished)]
        learned = torch.cat([tensor.flatten() for _, tensor in sorted(weights(folder, summary).items())])
        results[micro] = [event.loss for event in steps], [event.gradient_norm for event in steps], learned
    for micro in (1, 2):
        assert results[micro][0] == pytest.approx(results[8][0], rel=1e-5)
        assert results[micro][1] == pytest.approx(results[8][1], rel=1e-5)
        # together, not one by one: AdamW turns a gradient that is zero but for rounding into a full step
        assert (results[micro][2] - results[8][2]).norm() <= 1e-5 * results[8][2].norm()


@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_packed_and_padded_runs_learn_the_same(
    checkpointing: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    common = ("schedule.max_steps=6", "batch.micro_batch_size=8", "batch.gradient_accumulation_steps=1",
              "batch.group_by_length=false", f"precision.gradient_checkpointing={checkpointing}")  # fmt: skip
    found = {}
    for packing in ("false", "true"):
        summary, events = run(make, data, base, tmp_path / packing, *common, f"batch.packing={packing}")
        steps = [event for event in events if isinstance(event, StepFinished)]
        found[packing] = [event.loss for event in steps], [event.gradient_norm for event in steps]
        padding = summary.padded_tokens - summary.processed_tokens
        assert 0 <= padding < 8 * len(steps) if packing == "true" else padding > 8 * len(steps)
        assert summary.shared_tokens == sum(event.shared_tokens for event in steps)
        said = [event.message for event in events if isinstance(event, Noticed)]
        if packing == "true":  # every row begins with the template's three tokens and the question's first word
            assert summary.shared_tokens >= 4 * 7 * len(steps)
            shared, processed = steps[0].shared_tokens, steps[0].processed_tokens
            assert [words for words in said if f"{shared} of the {processed} tokens of the first step" in words]
        else:
            assert not summary.shared_tokens
            assert not said
    assert found["true"][0] == pytest.approx(found["false"][0], rel=1e-5)
    assert found["true"][1] == pytest.approx(found["false"][1], rel=1e-4)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_read_with_their_beginning_once_have_the_loss_of_rows_side_by_side(
    split: Literal["train", "validation"], make: MakePlan, data: PreparedFolder, base: Path
) -> None:
    setup = set_up(make("batch.packing=true"), base)
    rows, pad = data.split(split), data.manifest.pad_token_id
    together = mean_loss(setup.losses, rows, pad_token_id=pad, arrangement=setup.arrangement)
    assert setup.arrangement == "beginning once"
    reading = plan_reading(rows, setup.arrangement, device=setup.device)
    assert reading.arrangement == setup.arrangement
    assert sorted(index for batch in reading.batches for index in batch) == list(range(len(rows.lengths)))
    assert together == pytest.approx(mean_loss(setup.losses, rows, pad_token_id=pad), rel=1e-5)


def test_training_lowers_the_loss_and_the_adapter_works_in_plain_peft(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    summary, _ = run(make, data, base, tmp_path, "schedule.max_steps=30", "schedule.epochs=20",
                     "optimizer.learning_rate=1e-2", "batch.micro_batch_size=8")  # fmt: skip
    assert summary.best_validation_loss < summary.initial_validation_loss - 0.5
    ids = torch.tensor([[1, 300, 310, 320, 290]])
    clean = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        before = clean(input_ids=ids).logits
        after = PeftModel.from_pretrained(clean, tmp_path / summary.checkpoint)(input_ids=ids).logits
    assert (after - before).abs().max() > 0.1
    assert {tensor.dtype for tensor in weights(tmp_path, summary).values()} == {torch.float32}


def test_the_summary_agrees_with_the_events(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> None:
    summary, events = run(make, data, base, tmp_path, "schedule.max_steps=6", "checkpoints.evaluations_per_epoch=3",
                          "batch.micro_batch_size=8", "batch.gradient_accumulation_steps=1", "checkpoints.keep_last=1")  # fmt: skip
    steps = [event for event in events if isinstance(event, StepFinished)]
    assert [event.step for event in steps] == list(range(1, summary.num_steps + 1))
    assert summary.learned_tokens == sum(event.learned_tokens for event in steps)
    assert summary.processed_tokens == sum(event.processed_tokens for event in steps) <= summary.padded_tokens
    measured = [event for event in events if isinstance(event, Evaluated)]
    assert measured[0].step == 0
    assert measured[0].validation_loss == summary.initial_validation_loss
    assert [point.validation_loss for point in summary.evaluations] == [event.validation_loss for event in measured[1:]]
    best = min(summary.evaluations, key=lambda point: point.validation_loss)
    assert (summary.best_step, summary.best_validation_loss) == (best.step, best.validation_loss)
    assert isinstance(events[-1], RunFinished)
    kept = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    saved = [f"step-{event.step}" for event in events if isinstance(event, CheckpointSaved)]
    assert kept == {saved[-1], f"step-{summary.best_step}"}


def test_a_run_that_gets_no_better_stops_early_and_keeps_its_best(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = itertools.chain([3.0, 2.0, 2.5], itertools.repeat(2.6))
    monkeypatch.setattr(course, "mean_loss", lambda *_args, **_rest: next(losses))
    summary, _ = run(make, data, base, tmp_path, "schedule.epochs=50", "checkpoints.early_stopping_patience=2",
                     "checkpoints.evaluations_per_epoch=1", "checkpoints.keep_last=1")  # fmt: skip
    assert summary.stop_reason == "early_stopping"
    assert len(summary.evaluations) == 3
    assert (tmp_path / summary.checkpoint).is_dir()
    assert summary.checkpoint == f"checkpoints/step-{summary.evaluations[0].step}"


def test_a_run_out_of_time_ends_in_good_order(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> None:
    summary, events = run(make, data, base, tmp_path, "schedule.epochs=50", max_seconds=1e-6)
    assert summary.stop_reason == "out_of_time"
    assert summary.num_steps == 1 < summary.planned_steps
    assert (tmp_path / summary.checkpoint).is_dir()
    assert isinstance(events[-1], RunFinished)


def test_a_run_out_of_time_keeps_what_it_came_to_even_where_checkpoints_take_long(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on from its last step, which is not its best one."""
    monkeypatch.setattr(course, "QUICK_SECONDS", 0.0)
    monkeypatch.setattr(course, "SHARE_OF_TIME", 0.0)
    monkeypatch.setattr(course.Course, "validation_loss", lambda self: 1.0 + self.tally.steps)
    minutes = iter(range(10_000))
    plan = make("checkpoints.evaluations_per_epoch=4", "batch.micro_batch_size=8", "batch.gradient_accumulation_steps=1",
                "checkpoints.early_stopping_patience=null")  # fmt: skip
    summary = train(plan, data, base=base, run=tmp_path / "run", emit=lambda _: None, max_seconds=30, rehearse=False,
                    clock=lambda: float(next(minutes)))  # fmt: skip
    assert summary.stop_reason == "out_of_time"
    assert summary.best_step < summary.num_steps < summary.planned_steps
    assert find_checkpoints(tmp_path / "run").whole[0].manifest.step == summary.num_steps


def test_numbers_that_are_not_finite_name_the_rows(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-T01\]") as caught:
        run(make, data, base, tmp_path, "optimizer.learning_rate=1", "optimizer.max_grad_norm=null", "schedule.max_steps=400",
            "schedule.epochs=400", "checkpoints.evaluations_per_epoch=0.01", "method.lora_alpha=1e30")  # fmt: skip
    assert "rows.jsonl:" in caught.value.where


def test_every_weight_trains_with_full(make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path) -> None:
    summary, _ = run(
        make, data, base, tmp_path, "method.kind=full", "schedule.max_steps=5", "optimizer.learning_rate=1e-3"
    )
    assert summary.num_trainable_parameters == summary.num_parameters
    before, after = (
        load_file(base / "model.safetensors"),
        load_file(tmp_path / summary.checkpoint / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_the_best_checkpoint_has_the_loss_the_run_reports(
    method: str, dtype: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    """What is evaluated is what was trained, on the same base and to the last bit."""
    settings = (f"method.kind={method}", f"precision.base_dtype={dtype}", "optimizer.learning_rate=1e-2")
    summary, _ = run(make, data, base, tmp_path, *settings, "schedule.max_steps=6")
    plan = make(*settings)
    tuned = training_method(plan.method).load(
        tmp_path / summary.checkpoint, base, plan.method, dtype=plan.precision.base_dtype, device="cpu"
    )
    choose_attention(tuned)
    losses = LossFunction(tuned, plan.precision, device="cpu")
    assert mean_loss(losses, data.split("validation"), pad_token_id=data.manifest.pad_token_id) == (
        summary.best_validation_loss
    )
    assert summary.best_validation_loss < summary.initial_validation_loss
    assert summary.num_parameters - summary.num_trainable_parameters == EVERY_WEIGHT


def test_eight_bit_states_take_an_eighth_and_learn_alike(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    found = {}
    for kind in ("adamw", "adamw_8bit"):
        settings = (f"optimizer.kind={kind}", "method.lora_rank=128", "optimizer.learning_rate=1e-3")
        setup = set_up(make(*settings), base)
        pad = data.manifest.pad_token_id
        setup.losses(batch_of(data.split("train"), [0], pad_token_id=pad, device=setup.device)).nll_N.mean().backward()
        setup.optimizer.step()
        states = [t for state in setup.optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
        learned, events = run(make, data, base, tmp_path / kind, *settings, "schedule.max_steps=8")
        found[kind] = sum(t.nbytes for t in states), [e.loss for e in events if isinstance(e, StepFinished)]
        assert ("bitsandbytes" in learned.versions) == (kind == "adamw_8bit")
    assert found["adamw"][1] != found["adamw_8bit"][1]
    assert found["adamw_8bit"][1] == pytest.approx(found["adamw"][1], rel=5e-3)
    assert found["adamw_8bit"][0] < found["adamw"][0] / 2


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_recomputing_activations_changes_nothing_but_memory(
    method: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    found = {}
    for setting in ("false", "true"):
        _, events = run(make, data, base, tmp_path / setting, f"precision.gradient_checkpointing={setting}",
                        f"method.kind={method}", "schedule.max_steps=3", "optimizer.learning_rate=1e-3")  # fmt: skip
        found[setting] = [event.loss for event in events if isinstance(event, StepFinished)]
    assert found["true"] == pytest.approx(found["false"], rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_fewer_passes_change_gradients_by_rounding_alone(
    method: str, dtype: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The first loss is the same to the bit, those after updates nearly so."""
    found, taken = [], []
    given = (f"method.kind={method}", f"precision.base_dtype={dtype}", "optimizer.learning_rate=1e-3")
    for compute in (fewer.compute_in_fewer_passes, lambda _: 0):
        monkeypatch.setattr(fewer, "compute_in_fewer_passes", lambda model, f=compute: taken.append(f(model)))
        _, events = run(make, data, base, tmp_path / str(len(found)), *given, "schedule.max_steps=4")
        found.append([event.loss for event in events if isinstance(event, StepFinished)])
    assert taken[0] > 0
    assert taken[-1] == 0
    assert found[0][0] == found[1][0]
    assert found[0] == pytest.approx(found[1], rel=1e-6 if dtype == "float32" else 2**-8)


def test_a_gradient_that_is_too_long_is_cut_to_the_longest_and_told_as_it_was(
    make: MakePlan, data: PreparedFolder, base: Path
) -> None:
    setup = set_up(make(), base)
    rows = [batch_of(data.split("train"), range(4), pad_token_id=data.manifest.pad_token_id, device=setup.device)]

    def length() -> float:
        return math.sqrt(sum(float(p.grad.double().square().sum()) for p in setup.trainable if p.grad is not None))

    whole = learn(setup, rows, max_norm=None).gradient_norm
    assert length() == pytest.approx(whole, rel=1e-5)
    assert learn(setup, rows, max_norm=whole / 4).gradient_norm == pytest.approx(whole, rel=1e-6)
    assert length() == pytest.approx(whole / 4, rel=1e-4)
    learn(setup, rows, max_norm=2 * whole)
    assert length() == pytest.approx(whole, rel=1e-5), "a shorter one stays"


def test_a_gradient_that_overflows_float16_is_computed_again_with_a_smaller_scale(
    make: MakePlan, data: PreparedFolder, base: Path
) -> None:
    setup = set_up(make("precision.base_dtype=float16"), base)
    rows = [batch_of(data.split("train"), range(4), pad_token_id=data.manifest.pad_token_id, device=setup.device)]
    usual = learn(setup, rows, max_norm=None)
    before = [parameter.grad.clone() for parameter in setup.trainable if parameter.grad is not None]
    far_too_large = setup.scaler.get_scale() * 2**40
    setup.scaler.load_state_dict({**setup.scaler.state_dict(), "scale": far_too_large})
    found = learn(setup, rows, max_norm=None)
    assert 1 <= setup.scaler.get_scale() < far_too_large
    assert found.loss == pytest.approx(usual.loss, rel=1e-3)
    assert found.gradient_norm == pytest.approx(usual.gradient_norm, rel=2e-2)
    after = [parameter.grad for parameter in setup.trainable if parameter.grad is not None]
    whole = torch.cat([gradient.flatten() for gradient in before])
    assert (torch.cat([gradient.flatten() for gradient in after]) - whole).norm() < 0.05 * whole.norm()


def test_any_seed_that_a_plan_takes_can_be_trained_with(make: MakePlan, base: Path) -> None:
    assert set_up(make(f"seed={(1 << 32) - 1}"), base).trainable
    with pytest.raises(FineTuneError, match=r"error\[FT-C\d\d\].*seed"):
        make(f"seed={1 << 32}")


def test_the_same_seed_gives_the_same_run_bit_for_bit(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    runs = [
        run(make, data, base, tmp_path / str(n), "schedule.max_steps=4", f"seed={seed}")
        for n, seed in enumerate((0, 0, 1))
    ]
    found = [weights(tmp_path / str(n), summary) for n, (summary, _) in enumerate(runs)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_an_adapter_that_offsets_rounding_begins_the_same_with_packing(make: MakePlan, base: Path) -> None:
    """Attention is told of the rows of a pass then, and general text is none of them."""
    offset = ("method.kind=qlora", "method.offset_rounding=true")
    found = []
    for packing in ("false", "true"):
        setup = set_up(make(*offset, f"batch.packing={packing}"), base)
        assert setup.model.training
        found.append(torch.cat([parameter.detach().flatten() for parameter in setup.trainable]))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)
