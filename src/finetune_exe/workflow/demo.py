"""The whole job on the embedded default, sized to the machine it runs on."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Decision, Leaf
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.encode import Sequence
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.training.probe import MachineSpeed
from finetune_exe.workflow.plans import MEASURED, edit_plan, find_hardware, make_plan, measured_estimate
from finetune_exe.workflow.preparing import Note

TASK = "Write the one-line docstring of a Python function"
MAX_LENGTH = 128
MAX_NEW_TOKENS = 32
BATCH = 8
DRAFT = (f"data.max_length={MAX_LENGTH}", f"batch.micro_batch_size={BATCH}", "batch.gradient_accumulation_steps=1")
RESERVE_SECONDS = 30.0
"""For preparing the data, saving, and what no probe foresees."""
SHARE_OF_TRAINING = 0.42
"""Of the time that is left after the probe and the reserve; the rest evaluates."""
SHARE_OF_ROWS = 0.8
"""Of the time for evaluation; the rest looks at what the model kept, refuses and memorised."""
ANSWER_BATCH = 16
MINIMUM_TEST_ROWS, MAXIMUM_TEST_ROWS = 24, 256
TUNED_ANSWER_COST = 0.7
"""Time of a tuned answer over an untuned one, which runs on to the limit."""
EVALUATIONS = 2
MINIMUM_ROWS, MAXIMUM_ROWS = 64, 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of the job fits the time."""

    train_rows: int
    validation_rows: int
    test_rows: int
    train_seconds: float
    """Loading, training steps and the evaluations in between, as predicted."""
    test_seconds: float
    """Reading the test rows and answering them, by both models, as predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo, planned."""

    plan: Plan
    size: Size


def size_run(speed: MachineSpeed, *, tokens_per_row: float, seconds: float) -> Size:
    """Choose rows so that training and evaluation fit.

    Args:
        speed: What the probe measured.
        tokens_per_row: Mean length of a row.
        seconds: Time for training and evaluation together.

    Returns:
        Sizes that are never below what makes a run at all.
    """
    train_seconds = seconds * SHARE_OF_TRAINING
    eval_seconds = seconds - train_seconds
    answers = (1 + TUNED_ANSWER_COST) * (speed.answer_start_seconds + MAX_NEW_TOKENS * speed.answer_seconds_per_token)
    per_row = answers / ANSWER_BATCH + 2 * tokens_per_row / speed.reading_tokens_per_second
    affordable = (eval_seconds * SHARE_OF_ROWS - 2 * speed.load_seconds) / per_row
    test_rows = int(max(MINIMUM_TEST_ROWS, min(MAXIMUM_TEST_ROWS, affordable)))
    validation_rows = max(16, min(32, test_rows // 3))
    validating = (EVALUATIONS + 1) * validation_rows * tokens_per_row / speed.reading_tokens_per_second
    stepping = train_seconds - speed.load_seconds - validating
    train_rows = int(stepping * speed.training_tokens_per_second / tokens_per_row)
    train_rows = max(MINIMUM_ROWS, min(MAXIMUM_ROWS, train_rows))
    return Size(
        train_rows=train_rows,
        validation_rows=validation_rows,
        test_rows=test_rows,
        train_seconds=train_rows * tokens_per_row / speed.training_tokens_per_second + validating + speed.load_seconds,
        test_seconds=test_rows * per_row,
    )


def trim_evaluation(demo: Demo, run: TrainingRun, *, seconds_left: float) -> Plan:
    """Ask for fewer answers where the machine has become slower than it was when it was probed.

    Args:
        demo: The plan and what it foresaw.
        run: What the training measured.
        seconds_left: Time for the evaluation.

    Returns:
        The plan, its number of answers cut to what still fits; at least one batch.
    """
    pace = demo.plan.estimates["speed"].value.mid / (run.processed_tokens / run.seconds)
    per_answer = pace * demo.size.test_seconds / demo.size.test_rows
    affordable = int(seconds_left * SHARE_OF_ROWS / per_answer) // ANSWER_BATCH * ANSWER_BATCH
    wanted = max(ANSWER_BATCH, min(demo.size.test_rows, affordable))
    if wanted == demo.size.test_rows:
        return demo.plan
    return edit_plan(demo.plan, [f"evaluation.max_generations={wanted}"])


def plan_demo(*, minutes: float, note: Note) -> Demo:
    """Probe the machine and plan the demo so that it is over in `minutes`.

    Args:
        minutes: Wall time from now to the end of the evaluation.
        note: Told what takes long.
    """
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.tokenizer import load_tokenizer
    from finetune_exe.training.probe import probe

    started = time.monotonic()
    hardware = find_hardware(None)
    base = model_folder("embedded", progress=note)
    note("reading the standard library of this Python")
    spec = TaskSpec(description=TASK, data_paths=("stdlib",), model="embedded")
    draft = make_plan(spec, hardware=hardware, settings=DRAFT)
    note("timing a few training steps on this machine")
    tokenizer = load_tokenizer(base, chat_template=draft.data.chat_template)
    rows, usable = _example_rows(tokenizer)
    speed = probe(draft, base, rows, tokenizer)
    left = 60 * minutes - (time.monotonic() - started) - RESERVE_SECONDS
    tokens_per_row = sum(len(row.tokens) for row in rows) / len(rows)
    size = size_run(speed, tokens_per_row=tokens_per_row, seconds=max(0.0, left))
    return Demo(plan=_sized(draft, size, speed, usable=usable), size=size)


def _example_rows(tokenizer: ChatTokenizer) -> tuple[list[Sequence], float]:
    """Encode a few functions spread over the standard library; give also the share of them that can be used."""
    from finetune_exe.data.stdlib_corpus import corpus_rows
    from finetune_exe.text.encode import encode
    from finetune_exe.text.formats import format_named

    chatml = format_named("chatml")
    rows: list[Sequence] = []
    seen = kept = 0
    for raw in itertools.islice(corpus_rows(), 0, None, 40):
        conversation = chatml.read(raw.row)
        encoded = (
            conversation
            if isinstance(conversation, RowFault)
            else encode(conversation, tokenizer, max_length=MAX_LENGTH)
        )
        seen += 1
        if not isinstance(encoded, RowFault):
            kept += 1
            rows += encoded
    return rows, kept / seen


def _sized(draft: Plan, size: Size, speed: MachineSpeed, *, usable: float) -> Plan:
    """Write the sizes into the plan, each as a decision with its reason, and the measured pace into its estimates."""
    rows = size.train_rows + size.validation_rows + size.test_rows
    per_second = f"{speed.training_tokens_per_second:.0f} tokens/s"
    chosen: dict[str, tuple[Leaf, str]] = {
        "data.max_rows": (
            round(rows / usable),
            f"{rows} rows of at most {MAX_LENGTH} tokens, as {usable:.0%} are: what this machine trains on at "
            f"{per_second}, and evaluates, in the time given",
        ),
        "data.validation_fraction": (size.validation_rows / rows, "few rows, read often"),
        "data.test_fraction": (size.test_rows / rows, "as many as the time for evaluation allows"),
        "schedule.epochs": (1.0, "every row new: in a short run more rows teach more than repeats"),
        "batch.micro_batch_size": (BATCH, "a short run needs many small steps more than few large ones"),
        "batch.gradient_accumulation_steps": (1, "a batch of short rows fits the memory at once"),
        "checkpoints.evaluations_per_epoch": (float(EVALUATIONS), "each costs time in a short run"),
        "evaluation.max_generations": (size.test_rows, "as many as the time for evaluation allows"),
        "data.max_length": (MAX_LENGTH, "longer functions cost more time than they teach in a short run"),
        "evaluation.max_new_tokens": (MAX_NEW_TOKENS, "a one-line docstring is shorter"),
    }
    plan = edit_plan(draft, [f"{path}={value!r}" for path, (value, _) in chosen.items()])
    decisions = {
        path: Decision(value=value, reason=reason, source=MEASURED, confidence="high")
        for path, (value, reason) in chosen.items()
    }
    unsteady = speed.slowest_step_ratio
    measured = {
        "speed": measured_estimate(
            speed.training_tokens_per_second, "tokens_per_second", unsteady=unsteady, reason="timed training steps"
        ),
        "duration": measured_estimate(
            size.train_seconds, "seconds", unsteady=unsteady,
            reason=f"{size.train_rows} rows at {per_second}, loading and validation",
        ),
    }  # fmt: skip
    return plan.decided(decisions).model_copy(update={"estimates": plan.estimates | measured})
