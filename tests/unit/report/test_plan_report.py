"""The plan report beside the form it is held to."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from tests.unit.planning.planned import make_plan
from tests.unit.report import sample
from tests.unit.report.golden import assert_golden

from finetune_exe.domain.plan import Dpo, Full, Plan
from finetune_exe.domain.task import TaskType
from finetune_exe.domain.values import Check, Decision, Gpu, Hardware
from finetune_exe.evaluation.tasks import TASK_METRICS
from finetune_exe.export.excerpt import config_excerpt
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.report.boxes import display_width
from finetune_exe.report.plan import render_plan, render_plan_markdown

SPEC = Path(__file__).resolve().parents[3] / ".." / "shared" / "SPEC.md"


def written(plan: Plan) -> str:
    return render_plan(plan, config=sample.CONFIG, commands=sample.COMMANDS)


def field(report: str, label: str) -> str:
    """The value of a field in a box, its continuation lines joined."""
    inside = [line.strip("│").strip() for line in report.splitlines() if line.startswith("│")]
    start = next(number for number, line in enumerate(inside) if line.startswith(f"{label}:"))
    parts = [inside[start].removeprefix(f"{label}:").strip()]
    for line in inside[start + 1 :]:
        if not line or ": " in line:
            break
        parts.append(line)
    return " ".join(parts)


def test_the_report_is_the_golden_one() -> None:
    assert_golden("report_plan.txt", written(sample.plan()))


def test_the_markdown_is_the_golden_one() -> None:
    text = render_plan_markdown(sample.plan(), config=sample.CONFIG, commands=sample.COMMANDS)
    assert_golden("report_plan.md", text)


def test_every_line_of_the_form_is_there_in_order() -> None:
    """Each line of SPEC's template is found after the one before it, with every placeholder filled."""
    if not SPEC.exists():
        pytest.skip("the specification is not beside this checkout")
    template = (
        SPEC.read_text(encoding="utf-8").split("## OUTPUT FORMAT\n\n```\n")[1].split("\n```\n\n## QUICK COMMANDS")[0]
    )
    report = written(sample.plan()).splitlines()
    position = 0
    for line in filter(None, template.splitlines()):
        pattern = _as_pattern(line)
        found = next((n for n in range(position, len(report)) if re.fullmatch(pattern, report[n])), None)
        assert found is not None, f"{line!r} ({pattern}) is not in the report after line {position}"
        position = found + 1
    assert position == len(report)


def _as_pattern(line: str) -> str:
    frame = line.startswith("│")
    words = line.strip("│").rstrip() if frame else line
    words = words.replace("[X]GB", "[X]").replace("[X] hours", "[X]")
    filled = re.sub(r"\\\[(?!●)[^\]]*\\\]", lambda _: ".+", re.escape(words)).replace("████████░░", "[█░]{10}")
    return f"│{filled} *│" if frame else filled


def test_the_form_is_missed_when_a_line_is_missing() -> None:
    assert not re.fullmatch(_as_pattern("| Type | [a/b] |"), "| Method | chat |")
    assert re.fullmatch(
        _as_pattern("│  Status: [●] Config Ready           │"), "│  Status: [●] Config Ready           │"
    )


def test_headings_stand_in_their_order_over_rules_of_the_right_length() -> None:
    lines = written(sample.plan()).splitlines()
    headings = [above for above, line in pairwise(lines) if line == "─" * 36]
    assert headings == [
        "NOTES", "TRAINING OVERVIEW", "TASK ANALYSIS", "DATASET REQUIREMENTS", "TRAINING CONFIGURATION", "HYPERPARAMETERS",
        "EVALUATION PLAN", "SOURCES", "COMMANDS",
    ]  # fmt: skip
    assert lines[0] == "FINE-TUNING PLAN"
    assert lines.count("═" * 39) == 2
    assert {display_width(line) for line in lines if line[:1] in "┌│└" and line} == {39}
    assert lines[-1] == "Fine-Tuning Status: ● Plan Complete"


def test_the_explanation_shows_what_was_weighed_and_every_reason() -> None:
    plan = sample.plan()
    short, whole = (
        render_plan(plan, config="", commands=(), explain=explain).replace("\n", " ") for explain in (False, True)
    )
    for name in ("FINE-TUNING METHODS", "BASE MODELS", "WAYS TO RUN THAT WERE WEIGHED"):
        assert name not in short
        assert name in whole
    assert "checkpointing" in whole
    assert "too large" in whole
    assert "; small" in " ".join(whole.replace("|", " ").split())


def test_it_keeps_within_eighty_columns() -> None:
    assert max(map(display_width, written(sample.plan()).splitlines())) <= 80


def test_the_first_page_is_less_than_half_of_the_whole() -> None:
    plan = make_plan(description="answer support mails", hardware=parse_hardware("RTX 4090"))
    first, whole = (
        len(render_plan(plan, config=config_excerpt(plan), commands=sample.COMMANDS, explain=explain).splitlines())
        for explain in (False, True)
    )
    assert first <= 145
    assert whole > 2 * first


def test_without_notes_there_is_no_notes_section() -> None:
    assert "NOTES" not in written(sample.plan().model_copy(update={"notes": ()}))


def test_readiness_counts_only_what_was_measured_and_says_what_fails() -> None:
    checks = (
        Check(name="memory", passed=False, detail="needs 24 GiB of 16 GiB"),
        Check(name="data", passed=True, detail="-"),
        Check(name="licence", passed=None, detail="-"),
    )
    report = written(sample.plan().model_copy(update={"readiness": checks}))
    assert field(report, "Readiness") == "█████░░░░░ 50%"
    assert "[○] Not Ready" in report
    assert "24 GiB" in report
    assert "Config Ready" not in report
    assert "nothing" in written(sample.plan().model_copy(update={"readiness": ()}))


def test_memory_is_called_ram_only_without_a_gpu() -> None:
    plan = sample.plan()
    assert field(written(plan), "VRAM Required") == "1.90 GiB (1.60 to 2.40; RAM, no GPU)"
    gpu = Hardware(
        cpu="x", num_cores=8, memory_bytes=1 << 36, gpus=(Gpu(name="RTX 4090", memory_bytes=24 << 30, bf16=True),)
    )
    assert field(written(plan.model_copy(update={"hardware": gpu})), "VRAM Required") == "1.90 GiB (1.60 to 2.40)"


def test_what_cannot_be_estimated_is_said() -> None:
    report = written(sample.plan().model_copy(update={"estimates": {}, "profile": None}))
    assert field(report, "VRAM Required").startswith("not known")
    assert field(report, "Est. Duration") == "not known: the model's dimensions are not"
    assert "none given yet" in report


def test_a_setting_changed_by_the_user_keeps_the_advice_beside_it() -> None:
    rows = " ".join(written(sample.plan()).split())
    assert "| learning_rate | 0.001 | changed by you; advised 4.9e-4 because ten times" in rows


def test_every_decision_is_given_with_its_reason_and_source() -> None:
    plan = sample.plan()
    text = render_plan_markdown(plan, config="", commands=(), explain=True)
    for path, decision in plan.decisions.items():
        if path not in ("data.paths", "data.format"):
            assert decision.reason in text, path
            assert all(source in text for source in decision.source.split("; ")), path


def test_the_first_page_shows_what_the_user_chose_and_what_is_unsure_and_counts_the_rest() -> None:
    plan = sample.plan()
    sure = Decision(value=2, reason="surely", source="s", confidence="high")
    unsure, own = (sure.model_copy(update=more) for more in ({"confidence": "low"}, {"source": "you"}))
    for decision, shown in ((sure, False), (unsure, True), (own, True)):
        page = written(plan.model_copy(update={"decisions": {**plan.decisions, "checkpoints.keep_last": decision}}))
        assert ("| checkpoints.keep_last | 2 |" in page) == shown
        assert ("2 more, each with its reason: --explain" in page) == shown
        assert ("3 more, each with its reason: --explain" in page) != shown


def test_each_source_is_listed_once_and_every_number_leads_to_one() -> None:
    text = written(sample.plan())
    page, _, listed = text.partition("SOURCES\n")
    cited = {int(number) for group in re.findall(r"\[([\d, ]+)\]", page) for number in group.split(", ")}
    listed = listed.partition("COMMANDS")[0]
    assert cited == {int(number) for number in re.findall(r"\[(\d+)\]", listed)} == set(range(1, len(cited) + 1))
    sources = re.split(r"; (?=\[\d+\])", " ".join(listed.split()[1:]))
    assert len({source.partition("] ")[2] for source in sources}) == len(cited)


@pytest.mark.parametrize("task", list(TASK_METRICS))
def test_metrics_of_the_kind_of_task_are_announced(task: TaskType) -> None:
    def announced(type: TaskType) -> str:
        plan = sample.plan()
        page = written(plan.model_copy(update={"task": plan.task.model_copy(update={"type": type})}))
        return page[page.index("EVALUATION PLAN") : page.index("Test Set")]

    own_alone = task not in ("generation", "rewriting")
    assert (announced(task) != announced("generation")) == own_alone


def test_of_pairs_it_is_announced_that_the_better_answer_must_be_the_likelier() -> None:
    plan = sample.plan()
    assert "Better answer is likelier" not in written(plan)
    assert "Better answer is likelier" in written(plan.model_copy(update={"objective": Dpo()}))


def test_full_fine_tuning_has_no_rank() -> None:
    plan = sample.plan()
    decisions = plan.decisions | {"method.kind": Decision(value="full", reason="r", source="s", confidence="high")}
    report = written(plan.model_copy(update={"method": Full(), "decisions": decisions}))
    assert "Method: full" in report
    assert "| lora_rank | none | Full has no low-rank adapter" in report


def test_control_characters_of_the_data_do_not_reach_the_terminal() -> None:
    plan = sample.plan()
    task = plan.task.model_copy(
        update={"description": "\x1b[2J\x1b]0;pwned\x07label\r\n│ fake", "evidence": ("\u202eevil",)}
    )
    for text in (
        written(plan.model_copy(update={"task": task, "notes": ("\x1b[31mred",)})),
        render_plan(plan, config="x = '\x1b[1m'\n", commands=("echo \x1b[0m",)),
    ):
        assert not set(text) & {"\x1b", "\r", "\x07", "\u202e"}
