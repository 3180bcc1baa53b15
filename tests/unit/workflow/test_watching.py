"""A run under way is told what `fine-tune debug` would say of it, with the setting that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report import sample

from finetune_exe.domain.events import AnyEvent, BatchShrunk, Diagnosed, Evaluated, StepFinished, encode_event
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.workflow.watching import Watcher


def watched(folder: Path, train: list[float], validation: list[float]) -> list[Diagnosed]:
    """Give the diagnoses of a run with these losses, the validation losses spread evenly over the steps."""
    write_plan(sample.plan(), folder / "plan.yaml")
    events: list[AnyEvent] = []

    def emit(event: AnyEvent) -> None:
        events.append(event)
        with (folder / "events.jsonl").open("ab") as file:
            file.write(encode_event(event) + b"\n")

    watcher = Watcher(folder, emit)
    every = len(train) // len(validation)
    for step, loss in enumerate(train, start=1):
        watcher(StepFinished(
            seconds=step, step=step, num_steps=len(train), epoch=3 * step / len(train), loss=loss, learning_rate=1e-4,
            gradient_norm=1.0, learned_tokens=9, processed_tokens=9, padded_tokens=9, step_seconds=1.0,
        ))  # fmt: skip
        if step % every == 0:
            measured = validation[step // every - 1]
            watcher(Evaluated(seconds=step, step=step, epoch=step / 10, validation_loss=measured, best=False))
    return [event for event in events if isinstance(event, Diagnosed)]


def falling(start: float, end: float, count: int) -> list[float]:
    return [start + (end - start) * number / (count - 1) for number in range(count)]


def test_overfitting_is_told_once_with_the_settings_that_mend_it(tmp_path: Path) -> None:
    rising = [2.0, 1.7, 1.6, 1.75, 1.9, 2.1, 2.3, 2.5]
    (found,) = [event for event in watched(tmp_path, falling(2.2, 0.3, 80), rising) if event.label == "overfitting"]
    assert found.step < 80, "it is said while the run could still be stopped"
    assert any("above its minimum" in text for text in found.evidence)
    assert found.patch
    assert {path for path, _, _ in sample.plan().settings()} >= found.patch.keys()


def test_a_loss_that_rises_is_told_as_diverging(tmp_path: Path) -> None:
    losses = [*falling(2.0, 1.0, 30), *falling(1.0, 9.0, 50)]
    labels = [event.label for event in watched(tmp_path, losses, [2.0, 1.5, 1.0, 4.0, 9.0])]
    assert {"divergence", "lr_divergence"} & set(labels)


def test_a_sound_run_is_left_in_peace(tmp_path: Path) -> None:
    assert watched(tmp_path, falling(2.2, 1.2, 80), falling(2.2, 1.4, 8)) == []


@pytest.mark.parametrize("said", ["CUDA out of memory. Tried to allocate 2.10 GiB", ""])
def test_memory_that_ran_out_comes_with_the_sizes_that_fit(said: str, tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    watcher = Watcher(tmp_path, events.append)
    watcher(BatchShrunk(seconds=1.0, step=5, micro_batch_size=2, gradient_accumulation_steps=8, reason=said))
    _, found = events
    assert isinstance(found, Diagnosed)
    assert found.label == "oom"
    assert found.patch == {"batch.micro_batch_size": 2, "batch.gradient_accumulation_steps": 8}
