"""From a diagnosis to a change in a file: diffs, mended plans, what the estimator says, and nothing private."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.report import sample

from finetune_exe.cli.main import cli
from finetune_exe.diagnosis.redact import redact
from finetune_exe.domain.diagnosis import Course
from finetune_exe.domain.plan_yaml import read_plan, write_plan
from finetune_exe.domain.values import Check
from finetune_exe.errors import FineTuneError
from finetune_exe.report.diagnosis import plot_course, render_diagnosis, render_diagnosis_markdown
from finetune_exe.workflow.debugging import apply_patch, debug, patch_text, redacted
from finetune_exe.workflow.estimates import wished_plan

OOM = (
    "[rank0]: Traceback (most recent call last):\n"
    '[rank0]:   File "/home/alice/app/train.py", line 12, in <module>\n'
    "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"
    " 23.69 GiB of which 1.2 GiB is free. Host: gpu7 hf_abcdefghijklmnop\n"
)
AXOLOTL = "base_model: meta-llama/Llama-3.1-8B\nsequence_len: 2048\nadapter: lora\nlora_r: 16\nmicro_batch_size: 8\nlearning_rate: 0.02\n"  # fmt: skip
JUMP = "\n".join(
    f"{{'loss': {1.5 if i < 60 else 9.0}, 'learning_rate': 0.02, 'step': {i}}}" for i in range(100)
)  # fmt: skip


def files(tmp_path: Path, **texts: str) -> list[Path]:
    paths = [tmp_path / name.replace("_", ".") for name in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    return paths


def test_memory_is_counted_for_another_tools_configuration(tmp_path: Path) -> None:
    found = debug(files(tmp_path, train_log=OOM, config_yaml=AXOLOTL))
    best = found.diagnosis.findings[0]
    assert best.label == "oom"
    figures = [evidence.text for evidence in best.evidence if evidence.line is None]
    assert figures[0].startswith("estimated need ")
    assert "GiB are expected, of 2" in figures[1]
    expected = float(figures[1].split(" GiB")[0].split()[-1])
    assert expected < 23.69 < float(figures[0].split()[2])
    assert found.diagnosis.tool == "axolotl"
    assert best.fix_in.keys() == {"axolotl"}
    diff = patch_text(found)
    assert diff.startswith("--- a/config.yaml\n+++ b/config.yaml\n")
    assert "-micro_batch_size: 8\n" in diff or "+gradient_checkpointing: true\n" in diff


def test_a_rate_is_brought_into_the_range_for_the_model(tmp_path: Path) -> None:
    found = debug(files(tmp_path, train_log=JUMP, config_yaml=AXOLOTL))
    best = found.diagnosis.findings[0]
    assert best.label == "lr_divergence"
    assert 60 <= (best.since_step or 0) <= 70
    assert best.fix.startswith("Learning rate 0.02 -> ")
    assert 1e-4 <= best.patch["optimizer.learning_rate"] <= 6e-4  # type: ignore[operator]
    assert "-learning_rate: 0.02\n" in patch_text(found)


@pytest.mark.parametrize("rate", ["-1e999", "nan"])
def test_a_rate_that_is_no_number_is_not_reckoned_with(tmp_path: Path, rate: str) -> None:
    config = tmp_path / "a.sh"
    config.write_text(f"axolotl train a.yaml --base_model someone/unknown --num_epochs 1 --learning_rate={rate}\n")
    best = debug([config], context="the loss diverges after a few steps, it goes up to 9 and stays there").best
    assert best is not None
    assert best.label == "lr_divergence"
    assert "optimizer.learning_rate" not in best.patch


def test_a_rate_without_bounds_is_brought_to_one_that_is_safe(tmp_path: Path) -> None:
    config = tmp_path / "a.sh"
    config.write_text("axolotl train a.yaml --base_model someone/unknown --num_epochs 1 --learning_rate=1e999\n")
    best = debug([config], context="the loss diverges after a few steps, it goes up to 9 and stays there").best
    assert best is not None
    assert best.patch["optimizer.learning_rate"] == 1e-4


def test_our_plan_is_mended_and_estimated_anew(tmp_path: Path) -> None:
    plan = wished_plan("llama 3.1 8b", hardware="24 GiB", method="lora",
                       settings=("optimizer.learning_rate=0.03", "batch.micro_batch_size=8"))  # fmt: skip
    write_plan(plan, tmp_path / "plan.yaml")
    found = debug([*files(tmp_path, train_log=JUMP), tmp_path / "plan.yaml"])
    assert "\n-  learning_rate: 0.03" in patch_text(found)
    target = tmp_path / "mended.yaml"
    said = apply_patch(found, target)
    assert "expected memory: " in said
    assert 1e-4 <= read_plan(target).optimizer.learning_rate <= 6e-4
    assert read_plan(tmp_path / "plan.yaml").optimizer.learning_rate == 0.03


def test_without_a_file_to_change_there_is_no_patch(tmp_path: Path) -> None:
    for paths in (files(tmp_path, train_log=OOM), files(tmp_path, other_log="OSError: [Errno 28] No space left\n")):
        with pytest.raises(FineTuneError) as caught:
            patch_text(debug(paths))
        assert caught.value.code == "L02"


def test_what_is_shown_to_others_names_nobody(tmp_path: Path) -> None:
    log = OOM + "ValueError: alice@example.org at 10.1.2.3 user: alice in /home/alice/data/private/rows.jsonl\n"
    text = render_diagnosis_markdown(redacted(debug(files(tmp_path, train_log=log)).diagnosis))
    for private in ("alice", "10.1.2.3", "example.org", "hf_abc", "gpu7", str(tmp_path)):
        assert private not in text
    assert text.startswith("# DIAGNOSIS")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/bob/x/lib/python3.11/site-packages/trl/trainer.py", ".../trl/trainer.py"),
        ("C:\\Users\\bob\\run\\out\\train.py", ".../out/train.py"),
        ("https://huggingface.co/meta-llama/Llama-3.1-8B", "https://huggingface.co/meta-llama/Llama-3.1-8B"),
        ("meta-llama/Llama-3.1-8B, q_proj, 3/4 [00:01<00:02]", "meta-llama/Llama-3.1-8B, q_proj, 3/4 [00:01<00:02]"),
        ("torch 2.6.0 on host: gpu7", "torch 2.6.0 on host: [name]"),
        ("node-3.cluster.internal: hf_abcdefghijklmn", "[host]: [redacted]"),
    ],
)
def test_paths_are_shortened_and_names_taken_out(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_the_losses_are_drawn(tmp_path: Path) -> None:
    course = Course(train=tuple((float(i), 3 - i / 50) for i in range(100)), validation=((50.0, 2.5), (99.0, 2.6)))
    drawn = plot_course(course)
    assert max(map(len, drawn)) <= 80
    assert sum(line.count("o") for line in drawn[:8]) == 2
    assert drawn[0].rstrip().endswith((".", "o")) or "." in drawn[0]
    assert drawn[0].index(".") < drawn[7].rindex(".")
    assert plot_course(Course()) == []
    shown = render_diagnosis(debug(files(tmp_path, train_log=JUMP)).diagnosis).splitlines()
    top = next(line for line in shown if line.lstrip().startswith("9 |"))
    assert top.index(".") > 30, "the high losses of the second half stand on the right"


def test_the_command_writes_one_thing_at_a_time(tmp_path: Path) -> None:
    log, config = files(tmp_path, train_log=JUMP, config_yaml=AXOLOTL)
    shell = CliRunner()
    assert shell.invoke(cli, ["debug", str(log), str(config), "--patch"]).output.startswith("--- a/config.yaml")
    assert shell.invoke(cli, ["debug", str(log), "--markdown"]).output.startswith("# DIAGNOSIS")
    assert shell.invoke(cli, ["debug", str(log), "--patch", "--json"]).exit_code == 2
    assert shell.invoke(cli, ["debug", str(log), "--patch"]).exit_code != 0


@pytest.mark.parametrize(
    "content",
    [
        b"\x1b]0;evil\x07\x1b[2J\x1b[31mRuntimeError: CUDA out of memory\x1b[0m\x1b]8;;http://x\x07",
        "\u8bad\u7ec3\u5931\u8d25\uff1a\u663e\u5b58\u4e0d\u8db3\n".encode(),
        b"loss " * 250_000,
        b"\xff\xfe" + "RuntimeError: CUDA out of memory".encode("utf-16-le"),
        b"'loss': 1e999, 'loss': -nan\n" * 50,
        b"{" * 100_000,
    ],
)
def test_hostile_input_ends_in_an_answer(tmp_path: Path, content: bytes) -> None:
    diagnosis = debug([Path("-")], stdin=io.BytesIO(content)).diagnosis
    text = render_diagnosis(diagnosis)
    assert "\x1b" not in text
    assert diagnosis.findings


@pytest.mark.parametrize("part", ["a.", "1.1.", "a-", "a+.", "/a", "a@", "token", "://a:"])
def test_a_long_text_is_redacted_in_one_pass(part: str) -> None:
    """A pattern that begins anew within a run takes minutes for so long a text."""
    assert "[mail]" in redact(f"{part * 20_000} me@example.org")


@pytest.mark.parametrize(("every", "label"), [(5, "healthy"), (60, "train_only_falling")])
def test_a_sound_training_whose_model_failed_its_evaluation_is_not_called_well(
    tmp_path: Path, every: int, label: str
) -> None:
    plan = sample.plan()
    run = tmp_path / "run"
    run.mkdir()
    write_plan(plan, run / "plan.yaml")
    lines = []
    for step in range(100):
        lines.append(f"{{'loss': {1 + 3 * 0.8**step}, 'step': {step}}}")
        lines += [f"{{'eval_loss': {1.1 + 3 * 0.8**step}, 'step': {step}}}"] if step % every == 0 else []
    (run / "train.log").write_text("\n".join(lines))
    before = debug([run]).diagnosis.findings[0]
    evaluation = sample.evaluation()
    failed = Check(name="nothing measured got worse", passed=False, detail="regressed: chrf", fix="train fewer epochs")
    (run / "evaluation.json").write_text(evaluation.model_copy(update={"readiness": (failed,)}).pretty_json())
    after = debug([run]).diagnosis.findings[0]
    assert before.label == after.label == label
    assert not after.patch
    assert after.title == "The training shows no fault, but the model failed its evaluation"
    assert after.evidence[-1].text == "evaluation: nothing measured got worse: regressed: chrf"
    assert after.fix == "train fewer epochs"


def test_a_run_with_few_validation_losses_that_passed_its_evaluation_is_said_to_have(tmp_path: Path) -> None:
    write_plan(sample.plan(), tmp_path / "plan.yaml")
    lines = [f"{{'loss': {1 + 3 * 0.8**step}, 'step': {step}}}" for step in range(100)]
    (tmp_path / "train.log").write_text("\n".join(lines))
    assert "cannot be said" in debug([tmp_path]).diagnosis.findings[0].title
    passed = Check(name="better than the base model on held-out rows", passed=True, detail="improved: chrf")
    evaluation = sample.evaluation().model_copy(update={"readiness": (passed,)})
    assert evaluation.verdict == "ready"
    (tmp_path / "evaluation.json").write_text(evaluation.pretty_json())
    found = debug([tmp_path]).diagnosis.findings[0]
    assert (found.label, found.title) == (
        "train_only_falling",
        "The training loss falls, and the model passed its evaluation",
    )
    assert "Nothing needs mending" in found.fix
    assert found.questions == ()


def test_nobody_is_said_to_be_sure_that_nothing_was_recognised(tmp_path: Path) -> None:
    shown = render_diagnosis(debug(files(tmp_path, a_log="hello\n")).diagnosis)
    assert "Finding: Nothing here matches a known failure\n" in shown
    assert "% sure" not in shown
