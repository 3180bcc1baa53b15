"""A run under way is told what `fine-tune debug` would say of it, with the setting that mends it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.report import sample

from finetune_exe.domain.events import (
    AnyEvent,
    BatchShrunk,
    Diagnosed,
    Evaluated,
    GeneralTextMeasured,
    Sample,
    Sampled,
    StepFinished,
    encode_event,
)
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


def looked(folder: Path, general: list[float], answers: list[tuple[str, ...]]) -> list[Diagnosed]:
    """Give the diagnoses of a run that is sound but for what looks at it showed."""
    write_plan(sample.plan(), folder / "plan.yaml")
    events: list[AnyEvent] = []

    def emit(event: AnyEvent) -> None:
        events.append(event)
        with (folder / "events.jsonl").open("ab") as file:
            file.write(encode_event(event) + b"\n")

    watcher = Watcher(folder, emit)
    for number, (loss, said) in enumerate(zip(general, answers, strict=True)):
        step = 10 * number
        watcher(GeneralTextMeasured(seconds=step, step=step, loss=loss))
        samples = tuple(Sample(prompt=f"question {place}", answer=text, reference=f"right {place}", stopped=True)
                        for place, text in enumerate(said))  # fmt: skip
        watcher(Sampled(seconds=step, step=step, samples=samples))
        falling_loss = 2.0 - 0.05 * number
        watcher(Evaluated(seconds=step, step=step, epoch=number / 5, validation_loss=falling_loss, best=True))
    return [event for event in events if isinstance(event, Diagnosed)]


SOUND = ("one answer", "another answer", "a third answer")
LOOPING = ("the end of the end of " * 6, "no more no more no more no more no more no more", "a third answer")
SAME = ("yes, it is so",) * 3


def mends(found: Diagnosed) -> bool:
    """Whether the setting it advises is one of the plan's, and the learning rate is to fall."""
    plan = sample.plan()
    rate = found.patch.get("optimizer.learning_rate")
    known = {path for path, _, _ in plan.settings()}
    return known >= found.patch.keys() and isinstance(rate, float) and rate < plan.optimizer.learning_rate


def test_forgetting_is_told_with_the_settings_that_mend_it(tmp_path: Path) -> None:
    (found,) = looked(tmp_path, [2.0, 2.1, 2.6, 3.0], [SOUND] * 4)
    assert found.label == "catastrophic_forgetting"
    assert found.step == 30
    assert any("general text" in text for text in found.evidence)
    assert mends(found)


@pytest.mark.parametrize("collapsed", [LOOPING, SAME], ids=["loops", "one answer to everything"])
def test_collapse_is_told_with_the_settings_that_mend_it(collapsed: tuple[str, ...], tmp_path: Path) -> None:
    (found,) = looked(tmp_path, [2.0] * 5, [SOUND, SOUND, SOUND, collapsed, collapsed])
    assert found.label == "repetition"
    assert found.step == 40, "once is no collapse"
    assert mends(found)


@pytest.mark.parametrize("answers", [[SOUND] * 5, [LOOPING] * 5, [SAME] * 5, [SOUND, SOUND, LOOPING, SOUND, LOOPING]])
def test_a_model_that_answers_as_its_base_did_has_not_collapsed(answers: list[tuple[str, ...]], tmp_path: Path) -> None:
    assert looked(tmp_path, [2.0, 2.2, 2.0, 2.1, 2.0], answers) == []


def test_underfitting_is_told_with_the_settings_that_mend_it(tmp_path: Path) -> None:
    found = {event.label: event for event in watched(tmp_path, [2.2] * 80, [2.2] * 8)}
    (event,) = [found[label] for label in ("underfitting", "plateau") if label in found]
    assert event.patch
