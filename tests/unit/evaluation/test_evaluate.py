"""Evaluation of a tiny tuned model, against figures made another way."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import write_model, write_rows
from tests.unit.training.processes import forks
from transformers import AutoModelForCausalLM

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.evaluation import Evaluation, Generation
from finetune_exe.domain.plan import Plan, Precision
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import likelihood, readiness
from finetune_exe.evaluation.cache import ResultCache, digest_folder
from finetune_exe.evaluation.compare import Question, compare_results
from finetune_exe.evaluation.evaluate import evaluate
from finetune_exe.evaluation.likelihood import measure_likelihoods
from finetune_exe.evaluation.metrics import METRICS
from finetune_exe.evaluation.result_files import Keys, read_results
from finetune_exe.evaluation.suites import read_suites
from finetune_exe.models.forward import batches_by_length
from finetune_exe.models.load import is_built_for_cpu, load_model
from finetune_exe.prepared.store import PreparedFolder, SplitData, load_dataset
from finetune_exe.report.evaluation import render_evaluation
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer
from finetune_exe.training.loop import train
from finetune_exe.workflow.plans import make_plan

HARDWARE = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)


class Job:
    """A trained tiny model with all that led to it."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.base = write_model(folder / "base")
        rows = write_rows(folder / "rows.jsonl", count=72)
        self.plan: Plan = make_plan(
            TaskSpec(description="answer", data_paths=(str(rows),), model=str(self.base)),
            hardware=HARDWARE,
            settings=("data.group_by=topic", "data.test_fraction=0.49", "schedule.epochs=12", "optimizer.learning_rate=1e-2",
                      "batch.micro_batch_size=8", "evaluation.max_new_tokens=12", *(settings or ("method.lora_dropout=0.0",))),
        )  # fmt: skip
        self.tokenizer: ChatTokenizer = load_tokenizer(self.base, chat_template=None)
        prepare(self.plan, self.tokenizer, folder / "data")
        self.data: PreparedFolder = load_dataset(folder / "data")
        self.run = folder / "run"
        self.training = train(self.plan, self.data, base=self.base, run=self.run, emit=lambda _: None)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_weights_that_are_no_numbers_are_said_to_be_none(job: Job, value: float) -> None:
    model = load_model(job.base, dtype="float32", device="cpu").eval()
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0] = value
    with pytest.raises(FineTuneError, match="predicts no numbers"):
        measure_likelihoods(model, job.data.split("test"), job.tokenizer, job.plan.precision, device="cpu")


def test_tuned_model_is_compared_in_pairs(job: Job) -> None:
    found = evaluate(job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer)
    assert [comparison.metric for comparison in found.comparisons] == list(job.plan.evaluation.metrics)
    perplexity = found.comparisons[0]
    assert perplexity.verdict == "improved"
    assert perplexity.candidate < perplexity.baseline
    assert perplexity.clusters == found.num_clusters == len({row.group for row in job.data.split("test").read_rows()})
    assert found.num_clusters < 30
    (note,) = found.comparison_notes
    assert f"with {found.num_clusters} clusters" in note
    assert note in " ".join(render_evaluation(found).split())
    assert found.generation is not None
    assert found.generation.num_rows == found.num_rows
    assert len(found.samples) == job.plan.evaluation.num_samples
    assert {check.passed for check in found.readiness} >= {True, None}
    assert found.inputs == {
        "plan": job.plan.digest(),
        "dataset": job.data.manifest.digest(),
        "run": job.training.digest(),
        "weights": digest_folder(job.run / job.training.checkpoint),
        "base": digest_folder(job.base),
    }


def test_perplexity_is_that_of_transformers_row_by_row(job: Job) -> None:
    split = job.data.split("test")
    model = load_model(job.base, dtype="float32", device="cpu").eval()
    found = measure_likelihoods(model, split, job.tokenizer, Precision(), device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(job.base)
    for index in range(len(split)):
        tokens, learned = split.sequence(index)
        ids = torch.from_numpy(tokens.astype(np.int64)).unsqueeze(0)
        labels = torch.where(torch.from_numpy(learned.copy()), ids[0], torch.tensor(-100)).unsqueeze(0)
        with torch.no_grad():
            answer, whole = (theirs(input_ids=ids, labels=target).loss for target in (labels, ids))
        row = split.rows[index]
        assert found.learned_nll_R[row] == pytest.approx(float(answer) * learned.sum(), rel=1e-5)
        assert found.text_nll_R[row] == pytest.approx(float(whole) * (len(tokens) - 1), rel=1e-5)
        assert found.learned_tokens_R[row] == learned.sum()
        assert found.text_bytes_R[row] == len(job.tokenizer.decode(tokens[1:].tolist()).encode())


def test_likelihoods_do_not_depend_on_batching(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    split = job.data.split("test")
    model = load_model(job.base, dtype="float32", device="cpu").eval()

    def measured(max_tokens: int) -> likelihood.RowLikelihoods:
        def batches(data: SplitData) -> object:
            return batches_by_length(data, max_tokens=max_tokens)

        monkeypatch.setattr(likelihood, "batches_by_length", batches)
        return measure_likelihoods(model, split, job.tokenizer, Precision(), device="cpu")

    one, many = measured(1), measured(100_000)
    assert one.text_nll_R == pytest.approx(many.text_nll_R, rel=1e-5)
    assert one.learned_nll_R == pytest.approx(many.learned_nll_R, rel=1e-5)


def test_a_run_without_checkpoint_cannot_be_evaluated(job: Job) -> None:
    gone = job.training.model_copy(update={"checkpoint": "checkpoints/step-999"})
    with pytest.raises(FineTuneError, match=r"error\[FT-E01\]"):
        evaluate(job.plan, job.data, gone, base=job.base, run=job.run, tokenizer=job.tokenizer)


@pytest.mark.parametrize("name", list(METRICS))
def test_metrics_know_the_same_the_like_and_the_different(name: str) -> None:
    reference = "Return the number of items in the list."
    same, other = METRICS[name].scores([reference, "zzz qqq"], [reference, reference])
    assert same == pytest.approx(1)
    assert other == pytest.approx(0, abs=0.01)


def test_metrics_against_values_worked_out_by_hand() -> None:
    # longest common subsequence "the cat sat": precision 3/4, recall 3/6, F1 0.6
    assert METRICS["rouge_l"].scores(["the cat sat down"], ["the cat sat on the mat"]) == pytest.approx([0.6])
    assert METRICS["exact_match"].scores([" Card  Arrival\n", "card"], ["card arrival", "cards"]) == [1.0, 0.0]


def generation(ended: int, of: int, looping: float = 0.0) -> Generation:
    return Generation(
        num_rows=of, max_new_tokens=8, stop_tokens=("x",), baseline_stop_rate=0.0, candidate_stop_rate=ended / of,
        candidate_loop_rate=looping,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ended", "of", "passed"),
    [
        (100, 100, True),
        (99, 100, True),
        (15, 16, None),
        (97, 100, None),
        (80, 100, False),
        (4_950, 5_000, True),
        (4_900, 5_000, False),
    ],
)
def test_stop_rate_fails_only_where_chance_cannot_explain_it(ended: int, of: int, passed: bool | None) -> None:
    assert readiness.stops(generation(ended, of), None).passed is passed


def test_what_was_measured_once_is_not_measured_again(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second evaluation loads no model; one that was cut off loads them for what is missing only."""
    suites, _ = read_suites(write_suite(tmp_path / "suites"), max_items=6)

    def again() -> Evaluation:
        return evaluate(job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer,
                        suites=suites, cache=tmp_path / "cache")  # fmt: skip

    first = again()
    assert [suite.name for suite in first.suites] == ["choices", "words"]

    def refuse(*_: object, **__: object) -> object:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("finetune_exe.evaluation.evaluate.load_base", refuse)
    monkeypatch.setattr("finetune_exe.evaluation.evaluate.training_method", refuse)
    second = again()
    assert second.model_dump(exclude={"seconds"}) == first.model_dump(exclude={"seconds"}), (
        "not even the time of answers"
    )
    monkeypatch.undo()
    same = {"seconds", "readiness"}
    for file in [*(tmp_path / "cache").rglob("answers-*.json")]:
        file.write_bytes(b"{")
    assert again().model_dump(exclude=same) == first.model_dump(exclude=same)


def test_an_evaluation_of_what_is_known_loads_none_of_the_slow_libraries(job: Job, tmp_path: Path) -> None:
    """Seconds of loading are most of what such an evaluation would take."""
    folder = job.run.parent
    job.training.write(folder / "run.json")
    (folder / "plan.json").write_text(job.plan.model_dump_json(by_alias=True))
    given = {"base": job.base, "run": job.run, "tokenizer": job.tokenizer, "cache": tmp_path}
    first = evaluate(job.plan, job.data, job.training, **given)  # type: ignore[arg-type]
    slow = ["transformers", "peft", *(["torch"] if is_built_for_cpu() else [])]
    again = subprocess.run(
        [sys.executable, "-c", f"""
import sys
from pathlib import Path
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.evaluation.evaluate import evaluate
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.tokenizer import load_tokenizer

place, said = Path({str(folder)!r}), []
found = evaluate(
    Plan.model_validate_json((place / "plan.json").read_text()), load_dataset(place / "data"),
    TrainingRun.read(place / "run.json"), base=place / "base", run=place / "run",
    tokenizer=load_tokenizer(place / "base", chat_template=None), cache=Path({str(tmp_path)!r}), note=said.append,
)
assert not said, said
assert not {set(slow)!r} & sys.modules.keys(), "loaded"
print(found.model_dump_json(include={{"readiness"}}))
"""],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == first.model_dump_json(include={"readiness"})


def test_items_are_written_for_comparisons_of_ones_own(job: Job, tmp_path: Path) -> None:
    suites, _ = read_suites(write_suite(tmp_path / "suites"), max_items=4)
    found = evaluate(
        job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer, suites=suites
    )
    base, tuned = (read_results(job.run / "evaluation" / f"{name}.jsonl", Keys()) for name in ("base", "tuned"))
    compared = compare_results("base", "tuned", base, tuned, Question())
    by_name = {part.name: part.comparison for part in compared.suites}
    for suite in found.suites:
        assert by_name[suite.name].difference == pytest.approx(suite.comparison.difference)


def test_the_evaluation_has_all_its_parts_and_fits_on_a_page(job: Job, tmp_path: Path) -> None:
    from finetune_exe.report.evaluation import render_evaluation, render_evaluation_markdown
    from finetune_exe.report.html.evaluation import evaluation_page

    suites, _ = read_suites(write_suite(tmp_path / "suites"), max_items=6)
    found = evaluate(
        job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer, suites=suites
    )
    assert len(found.readiness) == 18
    assert len({check.name for check in found.readiness}) == 18
    assert found.forgetting is not None
    assert found.forgetting.divergence > 0
    assert found.collapse is not None
    assert found.collapse.loop_rate_candidate <= 1
    assert found.perplexities[1].token_perplexity < found.perplexities[0].token_perplexity
    assert found.perplexities[0].bits_per_byte == pytest.approx(
        next(c.baseline for c in found.comparisons if c.metric == "bits_per_byte")
    )
    measured = [check.passed for check in found.readiness if check.passed is not None]
    assert found.readiness_share == pytest.approx(sum(measured) / len(measured))
    for render in (render_evaluation, render_evaluation_markdown):
        assert "regression suites" in render(found).casefold()
    page = evaluation_page(found)
    assert len(page) <= 300_000
    assert b"http" not in page.replace(b"http-equiv", b"")
    assert b"<script" not in page


def test_a_clean_run_fails_no_point(job: Job) -> None:
    found = evaluate(job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer)
    about_the_run = {check.name: check for check in found.readiness}
    gone = [name for name, check in about_the_run.items() if check.passed is False]
    assert [name for name in gone if "answers end" not in name and "close to the base" not in name] == []


def write_suite(folder: Path) -> Path:
    folder.mkdir()
    words = ("fox", "dog", "user", "end", "lazy", "quick", "brown", "over")
    (folder / "choices.jsonl").write_text("".join(
        json.dumps({"query": f"say {word}", "choices": [f"the {word}", "the zebra"], "gold": 0}) + "\n" for word in words
    ))  # fmt: skip
    (folder / "words.jsonl").write_text("".join(
        json.dumps({"context": f"the quick {word} said", "continuation": "the"}) + "\n" for word in words
    ))  # fmt: skip
    return folder


def evaluate_until_killed(plan: str, folder: str, cache: str, parts: int, threads: int) -> None:
    """Evaluate the job of a folder in a process that is killed as soon as so many parts were measured."""
    torch.set_num_threads(threads)
    kept = ResultCache._path
    measured: list[str] = []

    def counted(self: ResultCache, part: str, asked: str, suffix: str) -> Path | None:
        if len(measured) == parts:
            os.kill(os.getpid(), signal.SIGKILL)
        measured.append(part)
        return kept(self, part, asked, suffix)

    ResultCache._path = counted  # type: ignore[method-assign]
    place = Path(folder)
    base, made = place / "base", Plan.model_validate_json(plan)
    evaluate(made, load_dataset(place / "data"), TrainingRun.read(place / "run.json"), base=base, run=place / "run",
             tokenizer=load_tokenizer(base, chat_template=None), cache=Path(cache))  # fmt: skip


def test_an_evaluation_that_was_killed_goes_on_behind_what_it_measured(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = job.run.parent
    job.training.write(folder / "run.json")
    work = forks().Process(
        target=evaluate_until_killed,
        args=(job.plan.model_dump_json(by_alias=True), str(folder), str(tmp_path), 4, torch.get_num_threads()),
    )  # fmt: skip
    work.start()
    work.join(100)
    assert work.exitcode == -signal.SIGKILL
    there = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    assert len(there) == 4
    made: list[str] = []
    for name in ("values", "arrays"):
        real = getattr(ResultCache, name)

        def noted(self: ResultCache, part: str, asked: str, make: Any, real: Any = real) -> Any:
            def counted() -> Any:
                made.append(part)
                return make()

            return real(self, part, asked, counted)

        monkeypatch.setattr(ResultCache, name, noted)
    given = {"base": job.base, "run": job.run, "tokenizer": job.tokenizer}
    resumed = evaluate(job.plan, job.data, job.training, cache=tmp_path, **given)  # type: ignore[arg-type]
    again, fresh = len(made), evaluate(job.plan, job.data, job.training, **given)  # type: ignore[arg-type]
    assert len(made) - again == again + 4, "what was measured before the kill is not measured again"
    same = {"seconds", "readiness"}
    assert resumed.model_dump(exclude=same) == fresh.model_dump(exclude=same)


def test_a_secret_planted_often_is_found_after_training_and_keeps_the_model_in(tmp_path: Path) -> None:
    job = Job(tmp_path, "data.canaries=[40]", "method.kind=full", "optimizer.learning_rate=5e-3")
    found = evaluate(job.plan, job.data, job.training, base=job.base, run=job.run, tokenizer=job.tokenizer)
    assert found.memorisation is not None
    [canary] = found.memorisation.canaries
    assert (canary.copies, canary.rank, canary.exposure_bits) == (40, 1, 9.0)
    assert canary.rank_baseline is not None
    assert canary.rank_baseline > 13
    assert [check.name for check in found.readiness if check.passed is False and canary.name in check.detail]
