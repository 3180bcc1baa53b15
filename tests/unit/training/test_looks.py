"""A few answers and the loss of general text while a run goes on, which change nothing of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.training.conftest import MakePlan
from transformers import AutoModelForCausalLM

from finetune_exe.domain.events import AnyEvent, Evaluated, GeneralTextMeasured, Noticed, Sampled, StepFinished
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training import looks
from finetune_exe.training.looks import choose_questions, general_text, prepare_looks
from finetune_exe.training.loop import train
from finetune_exe.training.setup import set_up

SHORT = ("schedule.max_steps=4", "batch.micro_batch_size=4", "optimizer.learning_rate=1e-2",
         "checkpoints.evaluations_per_epoch=6")  # fmt: skip


def of(events: Sequence[AnyEvent], kind: type) -> list[AnyEvent]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize(
    "method",
    ["method.kind=lora", "method.kind=full", "method.kind=prefix", "method.kind=prompt", "batch.packing=true",
     "precision.gradient_checkpointing=true"],
)  # fmt: skip
def test_answers_are_those_of_the_model_at_that_step_and_the_run_is_the_one_without(
    method: str, make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looks, "QUICK_SECONDS", math.inf)  # a busy machine would leave answers out
    told = {}
    for count in (0, 3):
        events: list[AnyEvent] = []
        plan = make(*SHORT, method, f"checkpoints.samples_per_evaluation={count}")
        train(plan, data, base=base, run=tmp_path / str(count), emit=events.append)
        told[count] = events
    assert [event.loss for event in told[0] if isinstance(event, StepFinished)] == [
        event.loss for event in told[3] if isinstance(event, StepFinished)
    ]
    assert not of(told[0], Sampled)
    seen = [event for event in told[3] if isinstance(event, Sampled)]
    assert [event.step for event in seen] == [event.step for event in told[3] if isinstance(event, Evaluated)]
    assert seen[0].samples != seen[-1].samples
    prompts = [[sample.prompt for sample in event.samples] for event in seen]
    assert prompts == [prompts[0]] * len(seen)
    assert len(set(prompts[0])) == 3
    assert {sample.reference for sample in seen[0].samples} <= answers(data)


def answers(data: PreparedFolder) -> set[str]:
    return {row.conversation["messages"][-1]["content"] for row in data.split("validation").read_rows()}


def test_the_first_answers_are_what_transformers_generates_from_the_base(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    events: list[AnyEvent] = []
    plan = make(*SHORT, "checkpoints.samples_per_evaluation=2")
    train(plan, data, base=base, run=tmp_path, emit=events.append)
    first = next(event for event in events if isinstance(event, Sampled))
    tokenizer, model = load_tokenizer(base, chat_template=None), AutoModelForCausalLM.from_pretrained(base)
    for sample, question in zip(first.samples, choose_questions(data.split("validation"), count=2), strict=True):
        out = model.generate(torch.tensor([question.prompt]), max_new_tokens=looks.ANSWER_TOKENS, do_sample=False,
                             eos_token_id=list(tokenizer.stop_token_ids), pad_token_id=0)  # fmt: skip
        assert sample.answer == tokenizer.decode_answer(out[0, len(question.prompt) :].tolist())


def test_general_text_has_the_loss_that_transformers_gives_it(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path
) -> None:
    events: list[AnyEvent] = []
    train(make(*SHORT), data, base=base, run=tmp_path, emit=events.append)
    measured = [event for event in events if isinstance(event, GeneralTextMeasured)]
    model, text = AutoModelForCausalLM.from_pretrained(base), general_text(load_tokenizer(base, chat_template=None),
                                                                            num_known=400)  # fmt: skip
    assert text is not None
    total = count = 0.0
    for index in range(len(text)):
        ids = torch.tensor([text.sequence(index).tokens.tolist()])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    assert measured[0].step == 0
    assert measured[0].loss == pytest.approx(total / count, rel=1e-4)
    assert measured[-1].loss != measured[0].loss


def test_text_of_unknown_tokens_is_left_out(base: Path) -> None:
    tokenizer = load_tokenizer(base, chat_template=None)
    assert general_text(tokenizer, num_known=3) is None
    some = general_text(tokenizer, num_known=400)
    assert some is not None
    assert len(some) == 10


def test_answers_take_a_small_share_of_the_time(
    make: MakePlan, data: PreparedFolder, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[AnyEvent] = []
    plan = make("checkpoints.samples_per_evaluation=1")
    made = prepare_looks(set_up(plan, base), plan, load_tokenizer(base, chat_template=None), data.split("validation"),
                         emit=events.append)  # fmt: skip
    now, real, costs = [0.0], looks.generate, iter([2.0, 2.0, 0.1, 0.1])

    def slow(*given: Any, **named: Any) -> Any:
        now[0] += next(costs)
        return real(*given, **named)

    monkeypatch.setattr(looks, "generate", slow)
    for step, elapsed in enumerate((1.0, 199.0, 201.0, 202.0, 308.0, 309.0)):
        now[0] = elapsed
        made.look(step, clock=lambda: now[0])
    assert [event.step for event in events if isinstance(event, Sampled)] == [0, 2, 4, 5], (
        "first always; 4 s are 2 % of 200 s, 6 s of 300 s; what is quick is always worth it"
    )
    assert [event.step for event in events if isinstance(event, GeneralTextMeasured)] == [0, 1, 2, 3, 4, 5]


def test_memory_too_small_for_answers_does_not_end_the_run(
    make: MakePlan, data: PreparedFolder, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(looks, "generate", none_left)
    events: list[AnyEvent] = []
    run = train(make(*SHORT, "checkpoints.samples_per_evaluation=2"), data, base=base, run=tmp_path, emit=events.append)
    assert run.num_steps == 4
    assert [event.message for event in events if isinstance(event, Noticed)] == [
        "memory is too small to answer rows during this run"
    ]
