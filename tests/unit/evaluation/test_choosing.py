"""Labels and preferred answers, judged by likelihood, against plain passes, closed forms and the loss of the training."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny import write_model

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.plan import Lora, Precision
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.evaluation.choosing import Choices, choose, label_choices, pair_choices, ranking, sureness
from finetune_exe.evaluation.questions import Questions
from finetune_exe.models.forward import LossFunction, mean_loss
from finetune_exe.models.load import load_base, load_model
from finetune_exe.models.methods import training_method
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.workflow.plans import make_plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("choosing") / "tiny")


def questions(folder: Path, labels: list[str]) -> Questions:
    tokenizer = load_tokenizer(folder, chat_template=None)
    prompts = [tuple(tokenizer.encode(f"user the fox {n} assistant ").ids) for n in range(len(labels))]
    return Questions(rows=list(range(len(labels))), prompts=prompts, references=labels, conversations=[], opened=[])


def plan_of(kind: str) -> Any:
    return SimpleNamespace(task=SimpleNamespace(type=kind), profile=None)


def test_labels_are_as_likely_as_in_a_pass_of_their_own(folder: Path) -> None:
    model, tokenizer = (
        load_model(folder, dtype="float32", device="cpu").eval(),
        load_tokenizer(folder, chat_template=None),
    )
    asked = questions(folder, ["fox", "the dog", "fox", "lazy end"] * 3)
    choices = label_choices(plan_of("classification"), asked, tokenizer)
    assert choices.right == (1 - 1, 2, 0, 1) * 3
    logs = choose(model, choices, pad_token_id=0)
    for number in (0, 5):
        for label, found in zip(["fox", "lazy end", "the dog"], logs[number], strict=True):
            answer = [*tokenizer.encode(label).ids, tokenizer.stop_token_ids[0]]
            ids = torch.tensor([[*asked.prompts[number], *answer]])
            with torch.no_grad():
                shares = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
            places = range(ids.shape[1] - len(answer), ids.shape[1])
            assert found == pytest.approx(sum(float(shares[n - 1, ids[0, n]]) for n in places), rel=1e-5)


def test_labels_of_the_data_that_no_question_has_stand_behind_it_too(folder: Path) -> None:
    plan = SimpleNamespace(
        task=SimpleNamespace(type="classification"), profile=SimpleNamespace(labels=("fox", "over ", "dog"))
    )
    asked = questions(folder, ["fox", "dog"] * 4)
    choices = label_choices(plan, asked, load_tokenizer(folder, chat_template=None))  # type: ignore[arg-type]
    assert {len(group.branches) for group in choices.groups} == {3}
    assert choices.right == (1, 0) * 4


@pytest.mark.parametrize(
    ("kind", "labels"), [("qa", ["a", "b"]), ("classification", ["a"]), ("classification", [str(n) for n in range(99)])]
)
def test_what_has_no_labels_is_not_asked(folder: Path, kind: str, labels: list[str]) -> None:
    tokenizer = load_tokenizer(folder, chat_template=None)
    assert label_choices(plan_of(kind), questions(folder, labels), tokenizer) == Choices()


def test_sureness_in_closed_form() -> None:
    """Of two labels: the base always half sure; the tuned nine tenths sure, and right in eight of ten."""
    right = tuple(int(n % 10 < 2) for n in range(200))
    choices = Choices(rows=tuple(range(200)), right=right)
    half, sure = [[0.0, 0.0]] * 200, [[math.log(0.9), math.log(0.1)]] * 200
    [compared], [error] = sureness(choices, half, sure, [str(n) for n in range(200)], level=0.95)
    assert (compared.metric, compared.higher_is_better, compared.verdict) == ("brier", False, "improved")
    assert compared.baseline == pytest.approx(0.5)
    assert compared.candidate == pytest.approx(0.8 * 2 * 0.1**2 + 0.2 * 2 * 0.9**2)
    assert error.candidate == pytest.approx(0.9 - 0.8)
    assert sureness(Choices(rows=(1,), right=(0,)), half[:1], sure[:1], ["1", "2"], level=0.95) == ((), ())


def write_pairs(path: Path) -> Path:
    words = ("fox", "dog", "user", "end", "lazy", "quick", "brown", "over")
    rows = [
        {"prompt": f"say {word} {n}", "chosen": f"the {word} said {n}", "rejected": f"over {n} " + "lazy " * (n % 3 + 1)}
        for n in range(8) for word in words
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rewards_are_those_of_the_loss_that_was_trained(folder: Path, tmp_path: Path) -> None:
    plan = make_plan(
        TaskSpec(description="answer well", data_paths=(str(write_pairs(tmp_path / "pairs.jsonl")),), model=str(folder)),
        hardware=Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30),
        settings=("data.format=preference", "objective.kind=dpo", "precision.base_dtype=float32", "data.test_fraction=0.4"),
    )  # fmt: skip
    prepare(plan, load_tokenizer(folder, chat_template=None), tmp_path / "data")
    test = load_dataset(tmp_path / "data").split("test")
    method = Lora(lora_rank=4)
    model = load_base(folder, method, dtype="float32", device="cpu")
    model = training_method(method).attach(model, method, base=folder, base_name="x")
    torch.manual_seed(5)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data = 0.3 * torch.randn_like(weight)
    loss = PreferenceLoss(LossFunction(model, Precision(), device="cpu"), beta=0.2)
    mean_loss(loss, test, pad_token_id=0)
    theirs = loss.take_margins()
    assert theirs is not None
    choices = pair_choices(test)
    after = choose(model.eval(), choices, pad_token_id=0)
    with model.disable_adapter():
        before = choose(model, choices, pad_token_id=0)
    [compared], [accuracy, margin] = ranking(choices, before, after, ["c"] * 99, beta=0.2, level=0.95)
    assert len(choices.rows) == len(test) > 15
    assert accuracy.candidate == pytest.approx(theirs.accuracy)
    assert margin.candidate == pytest.approx(theirs.margin, rel=1e-3)
    assert 0.2 < theirs.accuracy < 1
    assert compared.candidate == np.mean([better > worse for better, worse in after])


def test_rows_that_are_no_pairs_are_not_ranked() -> None:
    assert pair_choices(SimpleNamespace(paired=False)) == Choices()  # type: ignore[arg-type]
