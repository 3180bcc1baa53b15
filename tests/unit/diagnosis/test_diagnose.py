"""From a file, a folder, a stream or a sentence to findings with evidence."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from tests.unit.report.golden import GOLDEN, assert_golden

from finetune_exe.diagnosis.diagnose import diagnose
from finetune_exe.domain.diagnosis import Diagnosis
from finetune_exe.domain.events import (
    BatchShrunk,
    Evaluated,
    Event,
    Noticed,
    RunFinished,
    RunStopped,
    StepFinished,
    StepSkipped,
)
from finetune_exe.errors import FineTuneError

CASES = Path(__file__).resolve().parents[3] / ".." / "shared" / "truth" / "cases.dev.jsonl"
LOG = """\
{'loss': 1.92, 'grad_norm': 0.61, 'learning_rate': 0.0002, 'epoch': 0.1}
[rank0]: Traceback (most recent call last):
[rank0]:   File "/app/train.py", line 12, in <module>
[rank0]:     trainer.train()
[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. token=abcdefgh1234
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""


def ask(text: str, context: str | None = None) -> Diagnosis:
    return diagnose([Path("-")], stdin=io.BytesIO(text.encode()), context=context)


def labels(diagnosis: Diagnosis) -> list[str]:
    return [finding.label for finding in diagnosis.findings]


def write_events(path: Path, events: list[Event]) -> None:
    path.write_bytes(b"\n".join(msgspec.json.encode(event) for event in events) + b"\n")


def events(losses: list[float]) -> list[Event]:
    rest = {"num_steps": 9, "learning_rate": 1e-3, "gradient_norm": 1.0, "learned_tokens": 1, "processed_tokens": 1,
            "padded_tokens": 1, "step_seconds": 1.0}  # fmt: skip
    return [StepFinished(seconds=i, step=i, epoch=i / 10, loss=loss, **rest) for i, loss in enumerate(losses, 1)]


def test_the_document_is_the_golden_one(tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(LOG)
    made = diagnose([log]).model_copy(update={"subject": "train.log"})
    assert_golden("diagnosis.json", made.pretty_json())
    assert Diagnosis.read(GOLDEN / "diagnosis.json") == made


def test_evidence_names_the_line_and_no_secret() -> None:
    finding = ask(LOG).findings[0]
    assert finding.label == "oom"
    assert finding.evidence[0].line == 5
    assert "abcdefgh1234" not in finding.evidence[0].text
    assert finding.patch["batch.micro_batch_size"] == 1


def test_a_rate_is_scaled_from_the_one_that_was_used() -> None:
    log = "\n".join(
        f"{{'loss': {v}, 'learning_rate': 0.0002, 'epoch': {i / 10}}}" for i, v in enumerate([1] * 20 + [9] * 9, 1)
    )
    finding = ask(log).findings[0]
    assert finding.label == "lr_divergence"
    assert finding.patch["optimizer.learning_rate"] == pytest.approx(6e-5)


def test_a_handled_warning_gives_way_to_the_exception() -> None:
    text = "UserWarning: None of the inputs have requires_grad=True.\nOSError: [Errno 28] No space left on device\n"
    assert labels(ask(text))[:2] == ["disk_full", "requires_grad_missing"]


def test_a_timeout_gives_way_to_what_caused_it() -> None:
    text = (
        "[rank1]: torch.OutOfMemoryError: CUDA out of memory.\n[Rank 0] Watchdog caught collective operation timeout\n"
    )
    assert labels(ask(text))[0] == "oom"


def test_an_exception_nobody_knows_is_quoted() -> None:
    diagnosis = ask('Traceback (most recent call last):\n  File "x.py", line 1\nmylib.FrobError: the frob is loose\n')
    assert labels(diagnosis) == ["unknown_error"]
    assert diagnosis.findings[0].evidence[0].text == "mylib.FrobError: the frob is loose"
    assert diagnosis.findings[0].confidence < 0.5


def test_a_bar_without_a_total_is_progress_and_no_empty_dataset() -> None:
    bar = "Generating train split: 0 examples [00:00, ? examples/s]\n"
    assert labels(ask(bar + "ZeroDivisionError: division by zero\n"))[0] == "unknown_error"
    assert labels(ask("The dataset is empty: 0 examples\n"))[0] == "dataset_format"


def test_a_run_refused_for_numbers_that_overflow_is_named() -> None:
    refused = "error[FT-T01]: the base's numbers are not finite in float16\n"
    assert labels(ask(refused))[0] == "nan_loss"


def test_words_without_meaning_to_us_are_said_to_be_so() -> None:
    assert labels(ask("I like trains\n")) == ["not_recognised"]


def test_a_sentence_is_enough() -> None:
    assert labels(diagnose([], context="The validation loss rises while the training loss falls"))[0] == "overfitting"
    assert labels(ask("it does not work", context="training is extremely slow"))[0] == "slow_training"


def test_a_quoted_answer_that_repeats_itself_is_seen() -> None:
    assert labels(ask("the answer was: the cat sat the cat sat the cat sat the cat sat the cat sat"))[0] == "repetition"


def test_a_run_folder_is_read_from_its_events(tmp_path: Path) -> None:
    measured: list[Event] = [
        Evaluated(seconds=1.0, step=20 + i, epoch=1.0, validation_loss=loss, best=False)
        for i, loss in enumerate((1.0, 1.3, 1.6), 1)
    ]
    falling = events([3 - i / 10 for i in range(20)])
    write_events(tmp_path / "events.jsonl", [*falling, *measured])
    assert labels(diagnose([tmp_path])) == ["overfitting", "interrupted"]
    done = RunFinished(seconds=9.0, stop_reason="finished", best_step=1, best_validation_loss=1.0)
    write_events(tmp_path / "events.jsonl", [*falling, *measured, done])
    assert labels(diagnose([tmp_path])) == ["overfitting"]


def test_what_the_run_itself_noticed_is_evidence(tmp_path: Path) -> None:
    shrunk = BatchShrunk(seconds=3.0, step=7, micro_batch_size=2, gradient_accumulation_steps=4, reason="memory")
    skipped = StepSkipped(seconds=3.0, step=9, num_steps=9, reason="not finite", rows=("a.jsonl:3",))
    write_events(tmp_path / "events.jsonl", [*events([3 - i / 10 for i in range(20)]), shrunk, skipped])
    found = {finding.label: finding.evidence[0].text for finding in diagnose([tmp_path]).findings if finding.evidence}
    assert "2 rows at a time" in found["oom"]
    assert "a.jsonl:3" in found["nan_loss"]


def test_a_run_that_is_not_over_is_judged_and_said_to_be_so(tmp_path: Path) -> None:
    write_events(tmp_path / "events.jsonl", events([3 - i / 10 for i in range(20)]))
    assert labels(diagnose([tmp_path])) == ["train_only_falling", "interrupted"]


def test_what_a_run_noticed_is_no_complaint_of_its_user(tmp_path: Path) -> None:
    said = "rows of a pass that begin alike have their beginning computed once: 73 of the 206 tokens of the first step are saved"
    write_events(
        tmp_path / "events.jsonl", [Noticed(seconds=1.0, message=said), *events([3 - i / 10 for i in range(20)])]
    )
    assert labels(diagnose([tmp_path])) == ["train_only_falling", "interrupted"]


def test_a_run_that_was_stopped_says_so_first(tmp_path: Path) -> None:
    stopped = RunStopped(seconds=9.0, step=20, reason="SIGTERM")
    write_events(tmp_path / "events.jsonl", [*events([3 - i / 10 for i in range(20)]), stopped])
    first, second = diagnose([tmp_path]).findings
    assert (first.label, second.label) == ("interrupted", "train_only_falling")
    assert [evidence.text for evidence in first.evidence] == ["stopped by SIGTERM after step 20"]


def test_a_damaged_plan_beside_the_run_is_named_and_passed_over(tmp_path: Path) -> None:
    write_events(tmp_path / "events.jsonl", [*events([1.0, float(2), 9.0, 9.0]), Noticed(seconds=1.0, message="hello")])
    (tmp_path / "plan.yaml").write_text("task: [")
    assert "plan.yaml (left out" in diagnose([tmp_path]).subject


def test_a_folder_of_another_program_is_read_whole_and_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.log").write_bytes(b"\x00\x01" * 99)
    (tmp_path / "train.log").write_text("KeyError: 'messages'\n")
    (tmp_path / "config.yaml").write_text("stage: sft\nfinetuning_type: lora\nlearning_rate: 0.0002\n")
    (tmp_path / "notes.yaml").write_text("a: 1\n")
    made = diagnose([tmp_path])
    assert labels(made)[0] == "dataset_format"
    assert made.tool == "llamafactory"
    assert "weights.log (left out" in made.subject
    assert "notes" not in made.subject


def test_the_newest_checkpoint_of_another_trainer_is_found(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-40"
    checkpoint.mkdir()
    history = [{"step": i, "loss": 3 - i / 20} for i in range(40)]
    (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": history, "num_train_epochs": 1}))
    assert labels(diagnose([tmp_path])) == ["train_only_falling"]


@pytest.mark.parametrize("make", ["missing", "empty_folder", "empty_json", "binary", "no_events"])
def test_nothing_to_read_is_an_error(tmp_path: Path, make: str) -> None:
    path = tmp_path / {"empty_folder": "run", "empty_json": "trainer_state.json", "no_events": "events.jsonl"}.get(
        make, "x.log"
    )
    if make == "empty_folder":
        path.mkdir()
    elif make not in ("missing", "no_events"):
        path.write_bytes(b"" if make == "empty_json" else b"\x00\x01" * 99)
    with pytest.raises(FineTuneError) as caught:
        diagnose([path])
    assert caught.value.code == "L01"


def test_no_input_at_all_is_an_error() -> None:
    with pytest.raises(FineTuneError, match="no file and no description"):
        diagnose([])


def test_real_failures_are_named_as_their_threads_say() -> None:
    if not CASES.exists():
        pytest.skip("the real failed runs are not on this machine")
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    right = [labels(ask(c["log"], c["context"] or None))[0] in {c["label"], *c["also"]} for c in cases]
    assert sum(right) / len(right) >= 0.9


def test_a_short_log_of_nothing_but_metrics_is_read_as_numbers_and_not_as_a_tale() -> None:
    lines = [f"{{'loss': {2.4 + 0.001 * (-1) ** i}, 'learning_rate': 0.0002, 'epoch': {i / 20}}}" for i in range(1, 50)]
    findings = diagnose([Path("-")], stdin=io.BytesIO("\n".join(lines).encode())).findings
    assert findings[0].label == "plateau"
