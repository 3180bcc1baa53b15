"""Learning from pairs of answers, from rows to a model that ranks them."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.tiny import write_model
from tests.unit.training.conftest import SMALL
from tests.unit.training.processes import together

from finetune_exe.data.prepare import prepare
from finetune_exe.data.token_counts import encode_sample
from finetune_exe.domain.events import AnyEvent, Evaluated, PairsJudged, StepFinished
from finetune_exe.domain.plan import Lora, Plan, Precision
from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import FineTuneError
from finetune_exe.export.trainer_rows import TrainerName
from finetune_exe.knowledge.rules import rule
from finetune_exe.models.forward import LossFunction, Rows, batch_of, mean_loss
from finetune_exe.models.load import choose_attention, load_base, load_model
from finetune_exe.models.merge import merge_checkpoint
from finetune_exe.models.methods import training_method
from finetune_exe.models.packing import Arrangement
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.models.ranks import Ranks
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training import probe
from finetune_exe.training.checkpoints import find_checkpoints
from finetune_exe.training.loop import train
from finetune_exe.training.preflight import check_trainable
from finetune_exe.training.resume import find_resumption
from finetune_exe.workflow.export_rows import export_for_trainer
from finetune_exe.workflow.plans import edit_plan, make_plan

BETA = 0.3
FAULTS = {
    "no_rejected_answer": {"prompt": "say fox", "chosen": "the fox", "rejected": ""},
    "same_answers": {"prompt": "say dog now", "chosen": "the dog", "rejected": "the dog"},
}


def write_pairs(path: Path, *, count: int = 60) -> Path:
    """Rows whose better answer names the topic, and whose worse one is about the end."""
    topics = ("fox", "dog", "user", "lazy", "quick", "brown", "over", "jump")
    rows: list[dict[str, Any]] = [
        {"prompt": f"say {topics[n % 8]} {n}", "chosen": f"the {topics[n % 8]} said {n % 7}",
         "rejected": f"the end of {n % 5}" + " lazy" * (n % 3)}
        for n in range(count)
    ]  # fmt: skip
    path.write_text("\n".join(map(json.dumps, [*rows, *FAULTS.values()])) + "\n")
    return path


@pytest.fixture(scope="module")
def pairs_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("pairs-model") / "tiny", seed=2)


@pytest.fixture(scope="module")
def plan(pairs_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    file = write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.jsonl")
    spec = TaskSpec(description="answer well", data_paths=(str(file),), model=str(pairs_base))
    settings = ("data.format=preference", "objective.kind=dpo", f"objective.beta={BETA}", "batch.micro_batch_size=4",
                "precision.base_dtype=float32", "method.lora_dropout=0.0", "schedule.max_steps=20",
                "optimizer.learning_rate=5e-3", "checkpoints.evaluations_per_epoch=1")  # fmt: skip
    return make_plan(spec, hardware=SMALL, settings=settings)


@pytest.fixture(scope="module")
def pairs(plan: Plan, pairs_base: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    folder = tmp_path_factory.mktemp("prepared-pairs") / "dataset"
    prepare(plan, load_tokenizer(pairs_base, chat_template=None), folder)
    return load_dataset(folder)


def test_each_row_is_its_better_and_then_its_worse_answer(pairs: PreparedFolder, pairs_base: Path) -> None:
    tokenizer = load_tokenizer(pairs_base, chat_template=None)
    split = pairs.split("train")
    rows = split.read_rows()
    assert len(split) == len(rows) == pairs.manifest.splits["train"].num_rows
    for index in range(len(split)):
        conversation = rows[split.rows[index]].conversation
        better, worse = split.members(index)
        assert (better.tokens == split.sequence(index).tokens).all()
        said = [tokenizer.decode_answer(view.tokens[view.learned].tolist()) for view in (better, worse)]
        assert said[0].startswith(conversation["messages"][-1]["content"])
        assert said[1].startswith(conversation["rejected"][-1]["content"])
        start = int(better.learned.argmax())
        assert start == int(worse.learned.argmax())
        assert (better.tokens[:start] == worse.tokens[:start]).all()


def exported(pairs: PreparedFolder, base: Path, output: Path, trainer: TrainerName) -> list[dict[str, Any]]:
    tokenizer = load_tokenizer(base, chat_template=None)
    written = export_for_trainer(pairs.path, output, trainer=trainer, tokenizer=tokenizer, overwrite=False)
    assert not written.left_out
    return [json.loads(line) for line in (output / written.files["train"]).read_text().splitlines()]


def test_other_trainers_are_given_both_answers_behind_one_question(
    pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    rows = [row.conversation for row in pairs.split("train").read_rows()]
    ranked = exported(pairs, pairs_base, tmp_path / "ranked", "llamafactory")
    two = exported(pairs, pairs_base, tmp_path / "two", "ms-swift")
    for row, of_ranked, of_two in zip(rows, ranked, two, strict=True):
        *asked, better = row["messages"]
        (worse,) = row["rejected"]
        assert of_ranked == {"messages": asked, "chosen": better, "rejected": worse}
        assert of_two == {"messages": [*asked, better], "rejected_messages": [*asked, worse]}


def test_pairs_as_texts_hold_the_very_tokens_that_are_learned_here(
    pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    tokenizer, split = load_tokenizer(pairs_base, chat_template=None), pairs.split("train")
    rows = exported(pairs, pairs_base, tmp_path / "rows", "axolotl")
    for index in range(len(split)):
        row = rows[split.rows[index]]
        for view, answer in zip(split.members(index), (row["chosen"], row["rejected"]), strict=True):
            assert (
                tokenizer.encode(row["prompt"]).ids == view.tokens[~view.learned][: int(view.learned.argmax())].tolist()
            )
            assert tokenizer.encode(answer).ids == view.tokens[view.learned].tolist()


@pytest.mark.parametrize("trainer", ["torchtune", "litgpt", "mlx", "openai"])
def test_a_trainer_of_answers_is_given_no_pairs(
    trainer: TrainerName, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(FineTuneError, match=r"FT-O04"):
        exported(pairs, pairs_base, tmp_path / "rows", trainer)


def test_rows_that_are_no_pair_are_counted(pairs: PreparedFolder) -> None:
    found = {drop.code: drop.count for drop in pairs.manifest.dropped}
    assert found["same_answers"] == 1
    assert sum(found.values()) == 2
    assert pairs.manifest.seen == 62


def adapted(base: Path) -> tuple[Any, LossFunction]:
    """A model whose adapter changes what it says."""
    method = Lora(lora_rank=4)
    torch.manual_seed(0)
    model = load_base(base, method, dtype="float32", device="cpu")
    model = training_method(method).attach(model, method, base=base, base_name="x")
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval(), LossFunction(model, Precision(), device="cpu")


def answers_likelihood(model: Any, view: Any) -> float:
    """Sum of log-probabilities of the learned tokens, through transformers' own forward pass."""
    ids = torch.tensor(view.tokens.tolist())[None]
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].double(), dim=-1)
    chosen = logs.gather(1, ids[0, 1:, None])[:, 0]
    return float(chosen[torch.tensor(view.learned.tolist())[1:]].sum())


def test_the_loss_is_the_paper_s(pairs: PreparedFolder, pairs_base: Path, tmp_path: Path) -> None:
    """Equation 7, with a second whole model as the reference and the adapter folded into the first."""
    model, losses = adapted(pairs_base)
    split, pad = pairs.split("train"), pairs.manifest.pad_token_id
    preference = PreferenceLoss(losses, beta=BETA)
    indices = [0, 3, 5]
    with torch.no_grad():
        ours = preference(batch_of(split, indices, pad_token_id=pad, device="cpu")).nll_N.tolist()
    margins = preference.take_margins()
    training_method(Lora()).save(model, tmp_path / "saved")
    now = merge_checkpoint(tmp_path / "saved", pairs_base, Lora(lora_rank=4), dtype="float32", device="cpu")
    then = load_model(pairs_base, dtype="float32", device="cpu").eval()
    gains = []
    for index in indices:
        better, worse = split.members(index)
        ahead = [answers_likelihood(each, better) - answers_likelihood(each, worse) for each in (now, then)]
        gains.append(BETA * (ahead[0] - ahead[1]))
    assert ours == pytest.approx([math.log1p(math.exp(-gain)) for gain in gains], rel=1e-4)
    assert margins is not None
    assert margins.margin == pytest.approx(sum(gains) / 3, rel=1e-3, abs=1e-5)
    assert margins.accuracy == pytest.approx(sum(gain > 0 for gain in gains) / 3)
    assert preference.take_margins() is None


def test_an_adapter_that_has_learned_nothing_is_undecided(pairs: PreparedFolder, pairs_base: Path) -> None:
    method = Lora(lora_rank=4)
    model = load_base(pairs_base, method, dtype="float32", device="cpu")
    model = training_method(method).attach(model, method, base=pairs_base, base_name="x")
    preference = PreferenceLoss(LossFunction(model, Precision(), device="cpu"), beta=BETA)
    loss = mean_loss(preference, pairs.split("validation"), pad_token_id=pairs.manifest.pad_token_id)
    assert loss == pytest.approx(math.log(2), rel=1e-6)


def test_the_reference_has_no_dropout_of_its_own(pairs: PreparedFolder, pairs_base: Path) -> None:
    """A model such as GPT-2 drops out while it trains; what it is held against does not."""
    model, losses = adapted(pairs_base)
    for block in model.get_base_model().model.layers:
        block.mlp = torch.nn.Sequential(block.mlp, torch.nn.Dropout(0.5))
    preference = PreferenceLoss(losses, beta=BETA)
    rows = batch_of(pairs.split("train"), [0, 3, 5], pad_token_id=pairs.manifest.pad_token_id, device="cpu")
    ahead: list[tuple[bool, torch.Tensor]] = []
    compute = preference._ahead
    preference._ahead = lambda rows: ahead.append((model.training, compute(rows))) or ahead[-1][1]  # type: ignore[method-assign,func-returns-value]
    model.train()
    for _ in range(2):
        preference(rows)
    assert [training for training, _ in ahead] == [True, False, True, False]
    assert torch.equal(ahead[1][1], ahead[3][1])
    assert not torch.equal(ahead[0][1], ahead[2][1])
    assert model.training


@pytest.mark.parametrize("arrangement", ["end to end", "beginning once"])
def test_packed_pairs_have_the_losses_and_gradients_of_padded_ones(
    arrangement: Arrangement, pairs: PreparedFolder, pairs_base: Path
) -> None:
    """Also where rows that begin alike change places; the two of a pair share all of their question but its last token."""
    found = {}
    split, indices = pairs.split("train"), [7, 0, 3, 5]
    for how in ("side by side", arrangement):
        model, losses = adapted(pairs_base)
        choose_attention(model, packing=True)
        preference = PreferenceLoss(losses, beta=BETA)
        rows = batch_of(split, indices, pad_token_id=pairs.manifest.pad_token_id, device="cpu", arrangement=how)
        assert rows.num_rows == 2 * preference.weight(rows) == 2 * len(indices)
        nll_P = preference(rows).nll_N
        nll_P.sum().backward()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        found[how] = nll_P.detach(), torch.cat([gradient.flatten() for gradient in gradients]), rows
    (nll_P, gradient, _), (packed_nll_P, packed_gradient, packed) = found.values()
    assert torch.allclose(packed_nll_P, nll_P, rtol=1e-4)
    assert (packed_gradient - gradient).norm() < 1e-4 * gradient.norm()
    members = [split.members(index)[0] for index in indices]
    questions = sum(int(member.learned.argmax()) - 1 for member in members)
    assert (packed.num_shared >= questions) == (arrangement == "beginning once")


def test_packed_pairs_train_as_padded_ones_do(
    plan: Plan, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    def steps(*, packing: bool) -> list[StepFinished]:
        batch = plan.batch.model_copy(update={"packing": packing, "group_by_length": False})
        schedule = plan.schedule.model_copy(update={"max_steps": 3})
        events: list[AnyEvent] = []
        train(plan.model_copy(update={"batch": batch, "schedule": schedule}), pairs, base=pairs_base,
              run=tmp_path / str(packing), emit=events.append)  # fmt: skip
        return [event for event in events if isinstance(event, StepFinished)]

    padded, packed = steps(packing=False), steps(packing=True)
    assert [step.loss for step in packed] == pytest.approx([step.loss for step in padded], rel=1e-4)
    assert [step.processed_tokens for step in packed] == [step.processed_tokens for step in padded]
    assert all(step.shared_tokens > 0.3 * step.processed_tokens for step in packed)


def rank_share(
    ranks: Ranks, *, plan: str, data: str, base: str, run: str, stop_after: int | None = None
) -> dict[str, list[list[float]]]:
    """Learn from pairs as one of several processes, or go on, and tell what became of them."""
    events: list[AnyEvent] = []

    def asked_to_stop() -> str | None:
        return "SIGTERM" if len(course(events)["steps"]) == stop_after else None

    train(Plan.model_validate_json(plan), load_dataset(Path(data), verify=False), base=Path(base), run=Path(run),
          emit=events.append, asked_to_stop=asked_to_stop, resumption=find_resumption(Path(run)))  # fmt: skip
    return course(events)


def course(events: list[AnyEvent]) -> dict[str, list[list[float]]]:
    return {
        "steps": [[event.loss, event.gradient_norm] for event in events if isinstance(event, StepFinished)],
        "validation": [[event.step, event.validation_loss] for event in events if isinstance(event, Evaluated)],
        "judged": [[event.step, event.accuracy, event.margin] for event in events if isinstance(event, PairsJudged)],
    }


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ddp", ()),
        ("fsdp", ("batch.packing=false",)),
        ("fsdp", ("batch.packing=true", "precision.gradient_checkpointing=true")),
    ],
)
def test_two_processes_learn_from_pairs_what_one_learns(
    kind: str, settings: tuple[str, ...], plan: Plan, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    """Also in the last step of an epoch, for which the second process has no pair: 48 are three times 14, and 6."""
    assert len(pairs.split("train")) % 14 <= 7
    alone = edit_plan(plan, ("schedule.max_steps=5", "batch.micro_batch_size=7", "batch.gradient_accumulation_steps=2",
                             *settings))  # fmt: skip
    spread = edit_plan(alone, ("batch.gradient_accumulation_steps=1", f"parallelism.kind={kind}",
                               "parallelism.num_gpus=2"))  # fmt: skip
    events: list[AnyEvent] = []
    train(alone, pairs, base=pairs_base, run=tmp_path / "alone", emit=events.append)
    one, other = together(
        rank_share, tmp_path / "told", count=2, plan=spread.model_dump_json(by_alias=True), data=str(pairs.path),
        base=str(pairs_base), run=str(tmp_path / "together"),
    )  # fmt: skip
    assert one == other
    for name, wanted in course(events).items():
        assert one[name] == [pytest.approx(line, rel=1e-4, abs=1e-6) for line in wanted], name
    first, second = (learned(tmp_path / run) for run in ("alone", "together"))
    assert (first - second).norm() <= 1e-5 * first.norm()


def learned(run: Path) -> torch.Tensor:
    (file,) = find_checkpoints(run).whole[0].path.glob("*model.safetensors")
    return torch.cat([tensor.flatten() for _, tensor in sorted(load_file(file).items())])


def test_parts_of_a_model_go_on_with_pairs_as_if_they_had_not_been_stopped(
    plan: Plan, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    parts = edit_plan(plan, ("schedule.max_steps=4", "method.lora_dropout=0.2", "batch.gradient_accumulation_steps=1",
                             "parallelism.kind=fsdp", "parallelism.num_gpus=2"))  # fmt: skip
    given = {"plan": parts.model_dump_json(by_alias=True), "data": str(pairs.path), "base": str(pairs_base)}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    wanted = together(rank_share, tmp_path / "a", count=2, run=str(whole), **given)
    for stopped in together(rank_share, tmp_path / "b", count=2, run=str(broken), stop_after=2, **given):
        assert stopped["code"] == "T11"
    found = together(rank_share, tmp_path / "c", count=2, run=str(broken), **given)
    assert [told["steps"] for told in found] == [told["steps"][2:] for told in wanted]
    assert torch.equal(learned(broken), learned(whole))


def test_pairs_are_timed_as_they_are_learned(plan: Plan, pairs_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(pairs_base, chat_template=None)
    rows = encode_sample(plan.data.paths, tokenizer, max_length=99, num_rows=8, format_name="preference", paired=True)
    sequences = [sequence for row in itertools.islice(rows, 8) for sequence in row]
    timed: list[Rows] = []
    monkeypatch.setattr(probe, "_learn_once", lambda setup, batch, max_norm: timed.append(batch))
    one_pair = edit_plan(plan, ("batch.micro_batch_size=1", "batch.packing=false"))
    assert probe.time_steps(one_pair, pairs_base, sequences, tokenizer, num_steps=4).tokens_per_second > 0
    together = {sequence.tokens: sequences[place ^ 1].tokens for place, sequence in enumerate(sequences)}
    for batch in timed:
        better, worse = (tuple(ids_T.tolist()) for ids_T in batch.ids_BT)
        assert any(worse[: len(other)] == other for own, other in together.items() if better[: len(own)] == own)


def test_training_on_pairs_ranks_them(plan: Plan, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path) -> None:
    events: list[AnyEvent] = []
    summary = train(plan, pairs, base=pairs_base, run=tmp_path, emit=events.append)
    assert summary.initial_validation_loss == pytest.approx(math.log(2), rel=1e-6)
    assert summary.best_validation_loss < 0.5 * summary.initial_validation_loss
    judged = [event for event in events if isinstance(event, PairsJudged)]
    validated = [event for event in judged if event.split == "validation"]
    assert len(validated) == sum(isinstance(event, Evaluated) for event in events)
    assert len(judged) - len(validated) == sum(isinstance(event, StepFinished) for event in events) == 20
    assert validated[-1].accuracy > 0.9
    assert validated[-1].margin > 0.5 > validated[0].margin


@pytest.mark.parametrize("sizes", [(1, 4), (2, 2)])
def test_pairs_at_once_or_one_after_another_learn_the_same(
    sizes: tuple[int, int], plan: Plan, pairs: PreparedFolder, pairs_base: Path, tmp_path: Path
) -> None:
    def losses(micro: int, passes: int) -> list[float]:
        batch = plan.batch.model_copy(update={"micro_batch_size": micro, "gradient_accumulation_steps": passes})
        schedule = plan.schedule.model_copy(update={"max_steps": 3})
        changed = plan.model_copy(update={"batch": batch, "schedule": schedule})
        events: list[AnyEvent] = []
        train(changed, pairs, base=pairs_base, run=tmp_path / f"{micro}", emit=events.append)
        return [event.loss for event in events if isinstance(event, StepFinished)]

    assert losses(*sizes) == pytest.approx(losses(4, 1), rel=1e-4)


@pytest.mark.parametrize("kind", ["full", "prefix", "prompt"])
def test_a_method_without_a_reference_is_refused(kind: str, plan: Plan) -> None:
    from finetune_exe.domain.plan import METHOD_TYPES

    with pytest.raises(FineTuneError, match=rf"error\[FT-T02\].*method\.kind={kind}"):
        check_trainable(plan.model_copy(update={"method": METHOD_TYPES[kind]()}))  # type: ignore[index]


def test_an_adapter_that_is_not_nothing_at_the_start_leaves_no_reference(plan: Plan) -> None:
    from finetune_exe.domain.plan import Qlora

    with pytest.raises(FineTuneError, match=r"error\[FT-T02\].*offsetting rounding") as caught:
        check_trainable(plan.model_copy(update={"method": Qlora(offset_rounding=True)}))
    assert "method.offset_rounding=false" in caught.value.fix
    check_trainable(plan.model_copy(update={"method": Qlora()}))


@pytest.mark.parametrize("setting", ["data.format=null", "data.on_too_long=truncate_prompt"])
def test_settings_that_leave_no_pairs_are_refused(setting: str, plan: Plan) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-C11\].*pair"):
        edit_plan(plan, (setting,))


def test_the_learning_rate_for_pairs_is_advised(pairs_base: Path, plan: Plan) -> None:
    spec = TaskSpec(description="answer well", data_paths=plan.data.paths, model=str(pairs_base))
    advised = make_plan(spec, hardware=SMALL, settings=("data.format=preference", "objective.kind=dpo"))
    assert advised.optimizer.learning_rate == 1e-5
    assert advised.decisions["objective.beta"].value == 0.1
    with_signs = make_plan(spec, hardware=SMALL, settings=("data.format=preference", "objective.kind=dpo",
                                                           "optimizer.kind=lion"))  # fmt: skip
    assert with_signs.optimizer.learning_rate == pytest.approx(1e-5 * rule("lion")["learning_rate"])
