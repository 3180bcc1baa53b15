"""Every setting of a plan changes something that can be seen; one that changed nothing would be a lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from tests.tiny import write_model, write_rows
from tests.unit.models.gridded import on_grid

from finetune_exe.data.prepare import prepare
from finetune_exe.domain.dataset import SPLITS
from finetune_exe.domain.events import AnyEvent, Evaluated, Sampled, StepFinished
from finetune_exe.domain.method_kinds import METHOD_NAMES
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.evaluate import evaluate
from finetune_exe.models.locate import model_folder
from finetune_exe.prepared.store import PreparedFolder, load_dataset
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training import course
from finetune_exe.training.batches import plan_epoch
from finetune_exe.training.loop import train
from finetune_exe.training.preflight import check_trainable
from finetune_exe.training.setup import set_up
from finetune_exe.workflow.plans import make_plan

Seen = Mapping[str, Any]
USUAL = (
    "data.group_by=topic", "data.validation_fraction=0.2", "data.test_fraction=0.3", "data.max_length=128",
    "precision.base_dtype=float32", "optimizer.learning_rate=1e-2", "method.lora_dropout=0.0",
    "batch.micro_batch_size=4", "batch.gradient_accumulation_steps=1", "batch.packing=false", "schedule.epochs=3.0", "schedule.max_steps=6",
    "checkpoints.evaluations_per_epoch=4.0", "checkpoints.keep_last=2", "checkpoints.samples_per_evaluation=0",
    "evaluation.max_new_tokens=4",
    "evaluation.max_generations=6", "evaluation.metrics=[perplexity, chrf]",
)  # fmt: skip


FAULTY_ANSWERS = ("the fox said so. \n", "I'm sorry, but I can't help with that.")


class Bench:
    """One dataset and one run, against which a changed plan is held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = [write_model(folder / f"model-{seed}", seed=seed) for seed in (0, 1)]
        on_grid(self.models[0], "q4_1")
        self.rows = write_rows(folder / "rows.jsonl")
        lines = self.rows.read_text().splitlines()
        others = [json.loads(line) for line in lines[:6]]
        for row in others:
            row["messages"][1]["content"] = f"{row['topic']} jump over the lazy end"
        faulty = [json.dumps({"messages": [{"role": "user", "content": "say fox"}, {"role": "assistant", "content": said}],
                              "topic": "fox"}) for said in FAULTY_ANSWERS]  # fmt: skip
        self.rows.write_text("\n".join([*lines, *lines[:6], *map(json.dumps, others), *faulty]) + "\n")
        (folder / "fewer.jsonl").write_text("\n".join(lines[:50]) + "\n")
        leaking = json.loads(lines[0])
        leaking["messages"][1]["content"] = "quite another answer"
        new = {
            "messages": [{"role": "user", "content": "jump over it"}, {"role": "assistant", "content": "said the fox"}]
        }
        (folder / "held_out.jsonl").write_text(f"{json.dumps(leaking)}\n{json.dumps(new)}\n")
        self.pairs = folder / "pairs.jsonl"
        sound = [json.loads(line)["messages"] for line in lines]
        pairs = [{"prompt": one["content"], "chosen": two["content"], "rejected": "no"} for one, two in sound]
        self.pairs.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
        self._seen: dict[tuple[str, tuple[str, ...]], Seen] = {}
        self._data: PreparedFolder | None = None
        self._count = 0

    def plan(self, *settings: str) -> Plan:
        rows = self.pairs if "data.format=preference" in settings else self.rows
        spec = TaskSpec(description="answer", data_paths=(str(rows),), model=str(self.models[0]))
        hardware = Hardware(cpu="test", num_cores=1, memory_bytes=8 << 30)
        kind = next((value[12:] for value in settings if value.startswith("method.kind=")), "lora")
        low_rank = kind in ("lora", "qlora")
        usual = (setting for setting in USUAL if low_rank or not setting.startswith("method."))
        named = (setting.replace("{folder}", str(self.folder)) for setting in settings)
        return make_plan(spec, hardware=hardware, settings=(*usual, *named))

    def look(self, phase: Callable[[Bench, Plan], Seen], *settings: str) -> Seen:
        """Observe a phase under these settings; what was seen once is remembered."""
        key = (phase.__name__, settings)
        if key not in self._seen:
            self._seen[key] = phase(self, self.plan(*settings))
        return self._seen[key]

    def fresh(self) -> Path:
        self._count += 1
        return self.folder / f"made-{self._count}"

    @property
    def data(self) -> PreparedFolder:
        if self._data is None:
            folder = self.fresh()
            prepare(self.plan(), load_tokenizer(self.models[0], chat_template=None), folder)
            self._data = load_dataset(folder)
        return self._data

    def setting(self, path: str) -> str:
        """Write the changed setting; {name} stands for a file of this bench."""
        value = CASES[path].value
        return f"{path}={json.dumps(str(self.folder / value[1:-1])) if value.startswith('{') else value}"


def dataset(bench: Bench, plan: Plan) -> Seen:
    """What the prepared dataset holds; an error code where it cannot be made."""
    tokenizer = load_tokenizer(model_folder(plan.model.reference), chat_template=plan.data.chat_template)
    try:
        made = prepare(plan, tokenizer, bench.fresh())
    except FineTuneError as fault:
        return {"error": fault.code, "key": None}
    return {
        "error": None,
        "key": made.key,
        "format": made.format,
        "seen": made.seen,
        "dropped": {drop.code: drop.count for drop in made.dropped},
        "altered": {change.code: change.count for change in made.altered},
        "sizes": {name: made.splits[name].num_rows for name in SPLITS},
        "content": [made.splits[name].digest for name in SPLITS],
    }


def batches(bench: Bench, plan: Plan) -> Seen:
    """Which rows meet."""
    steps = plan_epoch(bench.data.split("train").lengths, plan.batch, seed=plan.seed, epoch=0)
    return {"steps": len(steps), "passes": [[len(rows) for rows in step] for step in steps], "order": steps}


def start(bench: Bench, plan: Plan) -> Seen:
    """Whether training may begin; the error code where it may not."""
    try:
        check_trainable(plan)
    except FineTuneError as fault:
        return {"refused": fault.code}
    return {"refused": None}


def model(bench: Bench, plan: Plan) -> Seen:
    """The model as it is trained."""
    setup = set_up(plan, model_folder(plan.model.reference))
    moving = {str(parameter.dtype) for parameter in setup.model.parameters() if parameter.requires_grad}
    frozen = {str(parameter.dtype) for parameter in setup.model.parameters() if not parameter.requires_grad}
    scales = {module.scaling["default"] for module in setup.model.modules() if isinstance(module, LoraLayer)}
    inner = setup.model if plan.method.kind == "full" else setup.model.get_base_model()
    return {
        "trainable": setup.num_trainable_parameters,
        "frozen": frozen,
        "moving": moving,
        "rounds": torch.backends.cuda.matmul.fp32_precision,
        "layers": [layer.gradient_checkpointing for layer in inner.model.layers],
        "scales": scales,
        "recomputes": inner.is_gradient_checkpointing,
    }


def loss(bench: Bench, plan: Plan) -> Seen:
    """What the loss is made of."""
    found = set_up(plan, model_folder(plan.model.reference)).losses
    return {"kind": type(found), "beta": getattr(found, "beta", None)}


def training(bench: Bench, plan: Plan) -> Seen:
    """The course of a run."""
    events: list[AnyEvent] = []
    run = bench.fresh()
    summary = train(plan, bench.data, base=model_folder(plan.model.reference), run=run, emit=events.append)
    steps = [event for event in events if isinstance(event, StepFinished)]
    (weights,) = (run / summary.checkpoint).glob("*model.safetensors")
    return {
        "summary": summary,
        "run": run,
        "num_steps": summary.num_steps,
        "rates": [event.learning_rate for event in steps],
        "losses": [event.loss for event in steps],
        "tokens": [event.learned_tokens for event in steps],
        "padded": summary.padded_tokens,
        "initial": summary.initial_validation_loss,
        "evaluated": [event.step for event in events if isinstance(event, Evaluated)],
        "sampled": [len(event.samples) for event in events if isinstance(event, Sampled)],
        "kept": sorted(path.name for path in (run / "checkpoints").iterdir()),
        "weights": {name: tensor.tolist() for name, tensor in load_file(weights).items()},
    }


def spiking(bench: Bench, plan: Plan) -> Seen:
    """A run in which a step counts as a spike, whatever its loss."""
    events: list[AnyEvent] = []
    with mock.patch.object(course, "usual_loss", return_value=1e-9):
        summary = train(plan, bench.data, base=model_folder(plan.model.reference), run=bench.fresh(),
                        emit=events.append)  # fmt: skip
    return {"undone": summary.skipped_steps, "num_steps": summary.num_steps}


def evaluation(bench: Bench, plan: Plan) -> Seen:
    """What the evaluation of one and the same run says."""
    done = bench.look(training)
    summary, run = done["summary"], done["run"]
    assert isinstance(summary, TrainingRun)
    base = model_folder(plan.model.reference)
    found = evaluate(plan, bench.data, summary, base=base, run=run, tokenizer=load_tokenizer(base, chat_template=None))
    assert found.generation is not None
    first = found.comparisons[0]
    assert first.ci_low is not None
    assert first.ci_high is not None
    return {
        "metrics": [comparison.metric for comparison in found.comparisons],
        "answers": found.generation.num_rows,
        "answered": [sample.candidate for sample in found.samples],
        "samples": len(found.samples),
        "width": first.ci_high - first.ci_low,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Changing a setting to `value` changes `differs`, and leaves `same` as it was."""

    value: str
    phase: Callable[[Bench, Plan], Seen]
    differs: str
    same: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    """Settings that hold on both sides."""
    also: tuple[str, ...] = ()
    """Settings that the value cannot go without."""


PATIENT = ("optimizer.learning_rate=0.9", "schedule.max_steps=40", "schedule.epochs=20.0")
WIDE_ENOUGH = ("method.lora_rank=128",)
"""States of fewer than 4,096 numbers stay in float32."""
ALL_IN_HALF = ("method.kind=full", "precision.base_dtype=bfloat16")
PAIRS = ("objective.kind=dpo", "data.format=preference")
UNGROUPED = ("data.group_by=null",)
HELD_OUT = ("data.group_by=null", "data.validation_paths={folder}/held_out.jsonl")
CASES: dict[str, Case] = {
    "model.reference": Case(value="{model-1}", phase=training, differs="initial", same=("rates", "tokens")),
    "data.paths": Case(value="{fewer.jsonl}", phase=dataset, differs="content"),
    "data.format": Case(value="alpaca", phase=dataset, differs="format", same=("seen",)),
    "data.chat_template": Case(value="plain", phase=dataset, differs="content", same=("sizes",)),
    "data.max_length": Case(value="34", phase=dataset, differs="dropped"),
    "data.on_too_long": Case(value="truncate_prompt", phase=dataset, differs="dropped", beside=("data.max_length=34",)),
    "data.max_rows": Case(value="30", phase=dataset, differs="dropped", same=("seen",)),
    "data.group_by": Case(value="null", phase=dataset, differs="content", same=("seen", "dropped")),
    "data.validation_fraction": Case(value="0.4", phase=dataset, differs="sizes", same=("dropped",)),
    "data.test_fraction": Case(value="0.1", phase=dataset, differs="sizes", same=("dropped",)),
    "data.deduplicate": Case(value="false", phase=dataset, differs="dropped", same=("seen",)),
    "data.drop": Case(value="[refusal]", phase=dataset, differs="dropped", same=("seen",)),
    "data.fix": Case(value="[surrounding_space]", phase=dataset, differs="altered", same=("seen", "dropped")),
    "data.keep_similar_together": Case(
        value="false", phase=dataset, differs="content", same=("seen", "dropped"), beside=UNGROUPED
    ),
    "data.stratify_by": Case(value="length", phase=dataset, differs="content", same=("dropped",), beside=UNGROUPED),
    "data.detectable_difference": Case(value="0.9", phase=dataset, differs="sizes", same=("dropped",)),
    "data.validation_paths": Case(value="{held_out.jsonl}", phase=dataset, differs="sizes"),
    "data.test_paths": Case(value="{held_out.jsonl}", phase=dataset, differs="sizes"),
    "data.canaries": Case(value="[2]", phase=dataset, differs="content", same=("dropped",)),
    "data.on_leak": Case(value="keep", phase=dataset, differs="dropped", same=("seen",), beside=HELD_OUT),
    "data.test_digest": Case(value="sha256:00000000", phase=dataset, differs="error"),
    "objective.kind": Case(value="dpo", phase=loss, differs="kind", also=("data.format=preference",)),
    "objective.beta": Case(value="0.5", phase=loss, differs="beta", same=("kind",), beside=PAIRS),
    "method.kind": Case(value="full", phase=model, differs="trainable"),
    "method.lora_rank": Case(value="4", phase=model, differs="trainable"),
    "method.lora_alpha": Case(value="8.0", phase=model, differs="scales", same=("trainable",)),
    "method.lora_dropout": Case(value="0.5", phase=training, differs="losses", same=("rates", "initial")),
    "method.target_modules": Case(value="[q_proj]", phase=model, differs="trainable", same=("scales",)),
    "method.use_rslora": Case(value="true", phase=model, differs="scales", same=("trainable",)),
    "method.use_dora": Case(value="true", phase=model, differs="trainable", same=("scales",)),
    "method.lora_plus_ratio": Case(value="16.0", phase=training, differs="weights", same=("rates", "initial")),
    "method.trained_tokens": Case(value="[<|im_end|>]", phase=model, differs="trainable", same=("scales",)),
    "method.masters": Case(value="float32", phase=model, differs="moving", same=("trainable",), beside=ALL_IN_HALF),
    "method.quantization": Case(
        value="nf4",
        phase=training,
        differs="initial",
        same=("rates",),
        beside=("method.kind=qlora", "model.reference={folder}/model-0-q4_1"),
    ),
    "method.double_quantization": Case(
        value="false", phase=training, differs="initial", same=("rates",), beside=("method.kind=qlora",)
    ),
    "method.offset_rounding": Case(
        value="true", phase=training, differs="initial", same=("rates",), beside=("method.kind=qlora",)
    ),
    "method.num_virtual_tokens": Case(value="7", phase=model, differs="trainable", beside=("method.kind=prefix",)),
    "optimizer.kind": Case(
        value="adamw_8bit", phase=training, differs="weights", same=("rates", "initial"), beside=WIDE_ENOUGH
    ),
    "optimizer.learning_rate": Case(value="1e-3", phase=training, differs="rates", same=("initial",)),
    "optimizer.weight_decay": Case(value="0.5", phase=training, differs="weights", same=("rates",)),
    "optimizer.beta1": Case(value="0.5", phase=training, differs="weights", same=("rates",)),
    "optimizer.beta2": Case(value="0.9", phase=training, differs="weights", same=("rates",)),
    "optimizer.max_grad_norm": Case(value="1e-3", phase=training, differs="weights", same=("rates",)),
    "schedule.kind": Case(value="linear", phase=training, differs="rates", same=("num_steps",)),
    "schedule.decay_fraction": Case(
        value="0.5", phase=training, differs="rates", same=("num_steps",), beside=("schedule.kind=wsd",)
    ),
    "schedule.epochs": Case(value="0.3", phase=training, differs="num_steps", also=("schedule.max_steps=null",)),
    "schedule.max_steps": Case(value="3", phase=training, differs="num_steps"),
    "schedule.warmup.kind": Case(
        value="steps", phase=training, differs="rates", same=("num_steps",), also=("schedule.warmup.steps=4",)
    ),
    "schedule.warmup.fraction": Case(value="0.6", phase=training, differs="rates", same=("num_steps",)),
    "schedule.warmup.steps": Case(value="4", phase=training, differs="rates", same=("num_steps",)),
    "batch.micro_batch_size": Case(value="2", phase=batches, differs="passes"),
    "batch.gradient_accumulation_steps": Case(value="2", phase=batches, differs="passes"),
    "batch.group_by_length": Case(value="false", phase=batches, differs="order", same=("steps",)),
    "batch.packing": Case(value="true", phase=training, differs="padded", same=("rates", "num_steps")),
    "precision.base_dtype": Case(value="bfloat16", phase=model, differs="frozen", same=("trainable",)),
    "precision.gradient_checkpointing": Case(value="true", phase=model, differs="recomputes", same=("trainable",)),
    "precision.tf32": Case(value="false", phase=model, differs="rounds", same=("trainable",)),
    "precision.checkpoint_every_layers": Case(
        value="2", phase=model, differs="layers", beside=("precision.gradient_checkpointing=true",)
    ),
    "parallelism.kind": Case(value="ddp", phase=start, differs="refused", also=("parallelism.num_gpus=2",)),
    "parallelism.num_gpus": Case(value="2", phase=start, differs="refused", also=("parallelism.kind=fsdp",)),
    "checkpoints.evaluations_per_epoch": Case(value="1.0", phase=training, differs="evaluated", same=("losses",)),
    "checkpoints.keep_last": Case(value="1", phase=training, differs="kept", same=("losses", "evaluated")),
    "checkpoints.save_every_minutes": Case(value="1e-6", phase=training, differs="kept", same=("losses", "evaluated")),
    "checkpoints.save_every_steps": Case(value="1", phase=training, differs="kept", same=("losses", "evaluated")),
    "checkpoints.samples_per_evaluation": Case(
        value="2", phase=training, differs="sampled", same=("losses", "weights")
    ),
    "checkpoints.go_back_on_spike": Case(
        value="true", phase=spiking, differs="undone", same=("num_steps",), beside=("checkpoints.save_every_steps=1",)
    ),
    "checkpoints.early_stopping_patience": Case(value="1", phase=training, differs="num_steps", beside=PATIENT),
    "evaluation.metrics": Case(value="[perplexity, rouge_l]", phase=evaluation, differs="metrics"),
    "evaluation.max_generations": Case(value="2", phase=evaluation, differs="answers", same=("metrics",)),
    "evaluation.max_new_tokens": Case(value="1", phase=evaluation, differs="answered", same=("answers", "width")),
    "evaluation.num_samples": Case(value="1", phase=evaluation, differs="samples", same=("answers", "width")),
    "evaluation.confidence_level": Case(value="0.6", phase=evaluation, differs="width", same=("answers",)),
    "seed": Case(value="1", phase=training, differs="losses", same=("rates", "num_steps")),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


def test_every_setting_has_a_case(bench: Bench) -> None:
    variants = [bench.plan("schedule.warmup.steps=3"), bench.plan(*PAIRS)]
    variants += [bench.plan(f"method.kind={kind}") for kind in METHOD_NAMES]
    settings = {path for plan in variants for path, _, _ in plan.settings()}
    assert settings == set(CASES)


@pytest.mark.parametrize("path", CASES)
def test_a_changed_setting_changes_what_it_should(path: str, bench: Bench) -> None:
    case = CASES[path]
    before = bench.look(case.phase, *case.beside)
    after = bench.look(case.phase, *case.beside, bench.setting(path), *case.also)
    assert before[case.differs] != after[case.differs]
    for name in case.same:
        assert before[name] == after[name], name


def test_the_seed_also_decides_the_split(bench: Bench) -> None:
    assert bench.look(dataset)["content"] != bench.look(dataset, "seed=1")["content"]


def test_the_same_plan_gives_the_same_of_everything(bench: Bench) -> None:
    """Without this, differences found above could be chance."""
    for phase in (dataset, batches, model):
        assert bench.look(phase) == phase(bench, bench.plan())
    again = training(bench, bench.plan())
    for name in ("rates", "losses", "tokens", "initial", "evaluated", "kept", "weights"):
        assert bench.look(training)[name] == again[name]
    assert bench.look(evaluation) == evaluation(bench, bench.plan())


def test_every_data_setting_is_in_the_key_of_the_dataset(bench: Bench) -> None:
    """A dataset made otherwise must never be taken for up to date."""
    keys = {bench.look(dataset)["key"]}
    cases = [path for path in CASES if path.startswith("data.") and path != "data.format"]
    keys |= {bench.look(dataset, bench.setting(path))["key"] for path in cases}
    assert len(keys) == 1 + len(cases)
