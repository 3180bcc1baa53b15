"""The whole job by hand on a user's own file: analyze, edit, dataset, train, eval, debug, config."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.conftest import Done, FineTune, contents, in_a_process
from tests.tiny import write_rows

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.events import StepFinished, read_events
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.errors import EXISTS, GATE, IO, NO_ROOM, OK, RESUMABLE, USAGE
from finetune_exe.planning.hardware import detect_hardware

TASK = "reply to short requests"
OPTIONS = (
    "--set",
    "data.group_by=topic",
    "--set",
    "precision.base_dtype=float32",
    "--set",
    "evaluation.max_new_tokens=8",
)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with rows, a plan that a person edited, and the run it gave."""
    folder = tmp_path_factory.mktemp("job")
    write_rows(folder / "rows.jsonl")
    with (folder / "rows.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "no answer"}], "topic": "x"}\nno row at all\n')
    command = ("analyze", TASK, "--data", "rows.jsonl", "--model", tiny_model, *OPTIONS)
    planned = in_a_process(*command, folder=folder)
    assert planned.status == OK, planned.err
    (folder / "analyze.txt").write_text(planned.out, encoding="utf-8")
    plan = folder / "plan.yaml"
    text = plan.read_text(encoding="utf-8")
    assert "\n  epochs: 3.0" in text
    plan.write_text(text.replace("\n  epochs: 3.0", "\n  epochs: 2.0", 1), encoding="utf-8")
    for name, arguments in (("train", ("train", "plan.yaml")), ("eval", ("eval", "runs/plan"))):
        done = in_a_process(*arguments, folder=folder)
        assert done.status == OK, done.err
        assert "Traceback" not in done.err
        (folder / f"{name}.txt").write_text(done.out, encoding="utf-8")
    return folder


@pytest.fixture
def copy(job: Path, tmp_path: Path) -> Path:
    """The same folder for a test that changes it."""
    shutil.copytree(job, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_the_plan_report_has_the_form_and_the_commands(job: Path) -> None:
    report = (job / "analyze.txt").read_text(encoding="utf-8")
    headings = ["FINE-TUNING PLAN", "TRAINING OVERVIEW", "TASK ANALYSIS", "DATASET REQUIREMENTS", "TRAINING CONFIGURATION",
                "HYPERPARAMETERS", "EVALUATION PLAN", "COMMANDS", "Fine-Tuning Status: ● Plan Complete"]  # fmt: skip
    places = [report.index(heading) for heading in headings]
    assert places == sorted(places)
    assert "\nfine-tune train plan.yaml\n" in report
    assert "\x1b" not in report


def test_an_edit_is_reported_as_yours_with_the_advice_it_replaced(job: Path) -> None:
    plan = read_plan(job / "runs" / "plan" / "plan.yaml")
    changed = plan.changed_by_user()
    assert changed["schedule.epochs"] == 2.0
    assert changed.keys() <= {"schedule.epochs", "precision.base_dtype", "evaluation.max_new_tokens"}
    assert "epochs: 2.0  # yours; advised 3:" in (job / "runs" / "plan" / "plan.yaml").read_text(encoding="utf-8")
    run = TrainingRun.read(job / "runs" / "plan" / "run.json")
    assert run.num_epochs == pytest.approx(2.0)


def test_a_report_of_an_edited_plan_says_changed_by_you(copy: Path, fine_tune: FineTune) -> None:
    done = fine_tune("analyze", TASK, "--data", "rows.jsonl", "--set", "optimizer.learning_rate=3e-3", "--overwrite")
    (row,) = [line for line in done.out.splitlines() if line.startswith("| learning_rate |")]
    assert "0.003" in row
    assert "changed by you; advised" in " ".join(done.out.split())


def test_every_row_is_accounted_for(job: Path) -> None:
    dataset = PreparedDataset.read(job / "runs" / "plan" / "dataset" / "manifest.json")
    assert (dataset.seen, dataset.kept) == (62, 60)
    assert {drop.code: (drop.count, drop.first) for drop in dataset.dropped} == {
        "no_assistant": (1, "rows.jsonl:61"), "malformed_line": (1, "rows.jsonl:62"),
    }  # fmt: skip
    assert sum(split.num_rows for split in dataset.splits.values()) == 60
    assert dataset.mask_proof.num_proven == 60
    assert dataset.mask_proof.end_of_turn_learned


def test_no_topic_is_on_two_sides(job: Path) -> None:
    sides = {}
    for name in ("train", "validation", "test"):
        lines = (job / "runs" / "plan" / "dataset" / f"{name}.rows.jsonl").read_text(encoding="utf-8").splitlines()
        sides[name] = {json.loads(line)["group"] for line in lines}
    assert not sides["train"] & sides["validation"]
    assert not sides["train"] & sides["test"]
    assert not sides["validation"] & sides["test"]
    assert sum(map(len, sides.values())) == 12


def test_the_run_folder_alone_tells_the_story(job: Path) -> None:
    run = job / "runs" / "plan"
    summary = TrainingRun.read(run / "run.json")
    steps = [event for event in read_events(run / "events.jsonl") if isinstance(event, StepFinished)]
    assert summary.stop_reason in ("finished", "early_stopping")
    assert len(steps) == summary.num_steps
    saved = contents(run / summary.checkpoint)
    assert contents(run / "model") == {
        name: held for name, held in saved.items() if name != "manifest.json" and not name.startswith("state/")
    }
    assert {score.name for score in summary.scores} == {"memory", "duration", "speed"}
    assert summary.inputs["dataset"] == PreparedDataset.read(run / "dataset" / "manifest.json").digest()
    assert not [name for name in contents(run) if Path(name).name.startswith(".")]


def test_the_evaluation_is_of_the_held_out_rows(job: Path) -> None:
    run = job / "runs" / "plan"
    evaluation = Evaluation.read(run / "evaluation.json")
    dataset = PreparedDataset.read(run / "dataset" / "manifest.json")
    assert evaluation.num_rows == dataset.splits["test"].num_rows
    assert [comparison.metric for comparison in evaluation.comparisons] == [
        "perplexity",
        "bits_per_byte",
        "chrf",
        "rouge_l",
    ]
    assert evaluation.inputs["run"] == TrainingRun.read(run / "run.json").digest()
    report = (job / "eval.txt").read_text(encoding="utf-8")
    assert report.startswith("EVALUATION")
    assert "Verdict:" in report


def test_debug_reads_the_run(job: Path, fine_tune: FineTune) -> None:
    done = fine_tune("debug", job / "runs" / "plan", "--json")
    assert done.status == OK
    assert {"label", "confidence", "evidence", "cause", "fix"} <= done.json["findings"][0].keys()


def test_config_writes_a_script_that_is_python(job: Path, fine_tune: FineTune) -> None:
    for target in ("python", "trl"):
        done = fine_tune("config", "--plan", job / "plan.yaml", "--to", target)
        assert done.status == OK
        compile(done.out, f"{target}.py", "exec")
        assert "2.0" in done.out
    done = fine_tune("config", "--plan", job / "plan.yaml", "-o", "again.yaml")
    assert done.status == OK
    again, plan = read_plan(Path("again.yaml")), read_plan(job / "plan.yaml")
    assert list(again.settings()) == list(plan.settings())
    assert again.decisions == plan.decisions


def test_eval_gate_and_json(copy: Path, fine_tune: FineTune) -> None:
    done = fine_tune("eval", "runs/plan", "--gate", "--json", "--set", "evaluation.max_generations=2")
    assert done.status == (OK if done.json["verdict"] == "ready" else GATE)
    assert done.json["evaluation"]["generation"]["num_rows"] == 2
    assert Evaluation.model_validate_json(json.dumps(done.json["evaluation"]))
    refused = fine_tune("eval", "runs/plan", "--set", "seed=3")
    assert refused.status == 2


def test_other_test_rows_are_refused(copy: Path, fine_tune: FineTune) -> None:
    before = contents(copy)
    refused = fine_tune("train", "plan.yaml", "--run", "third", "--set", "data.test_digest=sha256:00000000")
    assert (refused.status, "error[FT-D09]" in refused.err) == (65, True), refused.err
    assert contents(copy) == before
    assert fine_tune("dataset", "--plan", "plan.yaml", "--set", "seed=7").status == OK
    shutil.rmtree(copy / "runs" / "plan" / "dataset")
    shutil.copytree(copy / "dataset", copy / "runs" / "plan" / "dataset")
    refused = fine_tune("eval", "runs/plan")
    assert (refused.status, "not the one that the run was trained on" in refused.err) == (65, True), refused.err


def test_json_events_are_one_object_a_line(copy: Path, fine_tune: FineTune) -> None:
    done = fine_tune("train", "plan.yaml", "--run", "second", "--json", "--set", "schedule.max_steps=2")
    assert done.status == OK
    lines = [json.loads(line) for line in done.out.splitlines()]
    events = [line["event"] for line in lines[:-1]]
    assert (events[0], events[-1]) == ("run_started", "run_finished")
    assert TrainingRun.model_validate_json(json.dumps(lines[-1]["run"])).num_steps == 2
    assert done.out.encode().startswith((copy / "second" / "events.jsonl").read_bytes())


def test_a_prepared_dataset_is_taken_over_when_nothing_changed(copy: Path, fine_tune: FineTune) -> None:
    assert fine_tune("dataset", "--plan", "plan.yaml").status == OK
    before = contents(copy / "dataset")
    again = fine_tune("dataset", "--plan", "plan.yaml")
    assert again.status == OK
    assert "up to date" in again.err
    assert contents(copy / "dataset") == before
    changed = fine_tune("dataset", "--plan", "plan.yaml", "--set", "seed=7")
    assert changed.status == EXISTS
    assert contents(copy / "dataset") == before
    with (copy / "rows.jsonl").open("a") as file:
        file.write(
            '{"messages": [{"role": "user", "content": "new"}, {"role": "assistant", "content": "row"}], "topic": "y"}\n'
        )
    assert fine_tune("dataset", "--plan", "plan.yaml").status == EXISTS
    done = fine_tune("dataset", "--plan", "plan.yaml", "--overwrite", "--json")
    assert done.json["dataset"]["seen"] == 63


def test_a_second_run_is_refused_and_overwrite_replaces_it(copy: Path, fine_tune: FineTune) -> None:
    before = contents(copy)
    refused = fine_tune("train", "plan.yaml")
    assert refused.status == EXISTS
    assert contents(copy) == before
    done = fine_tune("train", "plan.yaml", "--overwrite", "--set", "schedule.max_steps=1")
    assert done.status == OK, done.err
    assert TrainingRun.read(copy / "runs" / "plan" / "run.json").num_steps == 1
    assert not (copy / "runs" / "plan" / "evaluation.json").exists()
    assert [path.name for path in (copy / "runs").iterdir()] == ["plan"]


def test_a_run_that_cannot_begin_gives_back_the_one_it_was_to_replace(copy: Path, fine_tune: FineTune) -> None:
    before = contents(copy)
    done = fine_tune("train", "plan.yaml", "--overwrite", "--set", "data.group_by=topik")
    assert done.status == 65
    assert "did you mean 'topic'?" in done.err
    assert contents(copy) == before


def test_a_run_that_was_killed_before_it_began_gives_back_the_one_it_was_to_replace(
    copy: Path, fine_tune: FineTune
) -> None:
    """As `kill -9` leaves it while the rows of the new run are prepared."""
    before = contents(copy)
    run = copy / "runs" / "plan"
    run.rename(run.with_name(".plan.replaced"))
    run.mkdir()
    (run / "plan.yaml").write_text("half a plan")
    done = fine_tune("train", "plan.yaml")
    assert done.status == EXISTS
    assert "that run is back" in done.err
    assert contents(copy) == before


def test_a_run_out_of_time_ends_in_good_order(copy: Path, fine_tune: FineTune) -> None:
    options = ("--set", "schedule.epochs=500", "--set", "checkpoints.early_stopping_patience=null")
    done = fine_tune("train", "plan.yaml", "--run", "short", "--max-minutes", "0.0001", *options)
    assert done.status == OK, done.err
    summary = TrainingRun.read(copy / "short" / "run.json")
    assert summary.stop_reason == "out_of_time"
    assert summary.num_steps < summary.planned_steps
    assert (copy / "short" / "model" / "adapter_model.safetensors").is_file()
    assert "time" in done.out.split("VALIDATION LOSS")[0]
    assert "To go on: fine-tune train short/plan.yaml --run short --resume" in done.out
    assert {score.name for score in summary.scores} == {"memory", "speed"}
    assert "Duration is not scored" in done.out


@pytest.mark.skipif(bool(detect_hardware().gpus), reason="needs a machine without a GPU")
def test_a_plan_for_a_gpu_that_is_trained_on_a_processor_is_not_scored(copy: Path, fine_tune: FineTune) -> None:
    model = str(read_plan(copy / "plan.yaml").model.reference)
    planned = fine_tune(
        "analyze", TASK, "--data", "rows.jsonl", "--model", model, "--gpu", "RTX 4090", "-o", "gpu.yaml"
    )
    assert planned.status == OK, planned.err
    done = fine_tune("train", "gpu.yaml", "--max-minutes", "0.0001", "--set", "precision.base_dtype=float32")
    assert done.status == OK, done.err
    assert "the plan is for RTX 4090 24GB, and this machine trains on" in done.err
    summary = TrainingRun.read(copy / "runs" / "gpu" / "run.json")
    assert (summary.scores, summary.hardware.gpus) == ((), ())
    assert "RTX 4090" not in done.out
    assert "(RAM of the process)" in done.out


def hear_ctrl_c() -> None:
    """Undo what a shell does to background jobs: it has them ignore the signal, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "finetune_exe", *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=hear_ctrl_c,
    )  # fmt: skip


def wait_for_steps(events: Path, process: subprocess.Popen[str]) -> Iterator[int]:
    """Yield the number of events written so far until the process ends or a minute has passed."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        yield events.read_bytes().count(b'"event":"step"') if events.exists() else 0
        time.sleep(0.02)


def test_ctrl_c_saves_and_leaves_and_resume_goes_on(copy: Path, fine_tune: FineTune) -> None:
    options = ("--set", "schedule.epochs=60", "--set", "checkpoints.early_stopping_patience=null")
    process = started(copy, "train", "plan.yaml", "--run", "long", *options)
    for steps in wait_for_steps(copy / "long" / "events.jsonl", process):
        if steps >= 5:
            break
    second = fine_tune("train", "plan.yaml", "--run", "long", "--resume")
    assert second.status == EXISTS, second.err
    assert f"process {process.pid}" in second.err
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == RESUMABLE, err
    assert "Traceback" not in err
    assert "error[FT-T11]" in err
    assert out == ""
    run = copy / "long"
    assert not (run / "run.json").exists()
    made = [event.step for event in read_events(run / "events.jsonl") if isinstance(event, StepFinished)]
    assert f"step-{made[-1]}" in {path.name for path in (run / "checkpoints").iterdir()}
    assert not list(copy.glob(".*.lock"))
    assert fine_tune("debug", "long").status == OK
    again = fine_tune("train", "plan.yaml", "--run", "long")
    assert again.status == EXISTS
    assert "fine-tune train long/plan.yaml --run long --resume" in again.err
    changed = fine_tune("train", "plan.yaml", "--run", "long", "--resume", *options, "--set", "seed=7")
    assert changed.status == USAGE
    assert "seed" in changed.err
    short = ("--max-minutes", "0.0001")
    done = fine_tune("train", "long/plan.yaml", "--run", "long", "--resume", *short)
    assert done.status == OK, done.err
    summary = TrainingRun.read(run / "run.json")
    assert (summary.resumed, summary.stop_reason) == (1, "out_of_time")
    # Ctrl-C may come before the last step was evaluated: then that is what the resumed run does first.
    assert summary.num_steps - made[-1] in {0, 1}
    steps = [event.step for event in read_events(run / "events.jsonl") if isinstance(event, StepFinished)]
    assert steps == list(range(1, summary.num_steps + 1))
    assert {path.name for path in (run / "model").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


def test_rows_that_changed_since_do_not_go_unnoticed(copy: Path, fine_tune: FineTune) -> None:
    options = ("--set", "schedule.epochs=9", "--set", "checkpoints.early_stopping_patience=null", "--run", "short")
    assert fine_tune("train", "plan.yaml", *options, "--max-minutes", "0.0001").status == OK
    (copy / "rows.jsonl").write_text((copy / "rows.jsonl").read_text() + "\n")
    refused = fine_tune("train", "plan.yaml", *options, "--resume")
    assert refused.status == USAGE
    assert "rows.jsonl" in refused.err
    assert "--allow-data-change" in refused.err
    done = fine_tune("train", "plan.yaml", *options, "--resume", "--allow-data-change")
    assert done.status == OK, done.err
    summary = TrainingRun.read(copy / "short" / "run.json")
    assert summary.stop_reason == "finished"
    assert any("rows.jsonl" in remark for remark in summary.remarks)
    over = fine_tune("train", "plan.yaml", *options, "--resume")
    assert over.status == OK
    assert "finished" in over.err


def test_a_disk_too_small_is_said_before_the_model_is_loaded(
    copy: Path, fine_tune: FineTune, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_exe.training.rehearsal.free_bytes", lambda _: 1000)
    refused = fine_tune("train", "plan.yaml", "--run", "short")
    assert refused.status == NO_ROOM
    assert "error[FT-I11]" in refused.err
    assert "training" not in refused.err.split("error[")[0]
    assert not (copy / "short").exists()


def with_small_files(limit: int) -> None:
    """Let the operating system refuse to write more than so many bytes into one file, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


@pytest.mark.parametrize(
    ("limit", "what"),
    [pytest.param(4_000, "plan", id="the plan"), pytest.param(10_240, "dataset", id="the dataset"),
     pytest.param(40_000, "checkpoint", id="a checkpoint")],
)  # fmt: skip
def test_a_full_disk_is_said_and_leaves_nothing_half_written(limit: int, what: str, copy: Path) -> None:
    before = contents(copy)
    process = subprocess.run(
        [sys.executable, "-m", "finetune_exe", "train", "plan.yaml", "--run", "full"],
        cwd=copy, capture_output=True, text=True, check=False, timeout=120, preexec_fn=lambda: with_small_files(limit),
    )  # fmt: skip
    done = Done(status=process.returncode, out=process.stdout, err=process.stderr)
    assert done.status == IO, done.err
    assert f"error[FT-{'I12' if what == 'checkpoint' else 'I01'}]" in done.err
    assert "Traceback" not in done.err
    assert contents(copy) == before
    assert not (copy / "full").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(copy: Path, fine_tune: FineTune) -> None:
    (copy / "locked").mkdir()
    (copy / "locked").chmod(0o500)
    done = fine_tune("train", "plan.yaml", "--run", "locked/run")
    assert done.status == IO
    assert "error[FT-I01]" in done.err


def test_a_reader_that_goes_away_is_no_fault(job: Path) -> None:
    process = started(job, "config", "--plan", "plan.yaml", "--to", "python")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=30)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_model_leaves_with_its_card(job: Path) -> None:
    asked = ("export", "runs/plan", "--to", "gguf", "--type", "f32", "--anyway", "a test of ours")
    done = in_a_process(*asked, "--json", folder=job)
    assert done.status == OK, done.err
    assert done.json["export"]["form"] == "gguf"
    assert done.json["folder"] == "runs/plan/export/gguf"
    names = {path.name for path in (job / "runs/plan/export/gguf").iterdir()}
    assert names >= {"README.md", "export.json", "Modelfile", "plan-f32.gguf"}
    assert in_a_process(*asked, folder=job).status == EXISTS
    assert in_a_process("export", "runs/plan", "--anyway", "because", folder=job).status == USAGE
    assert (
        in_a_process("export", "runs/plan", "--type", "q3_k", "--anyway", "a test of ours", folder=job).status == USAGE
    )
