"""Every exporter writes all of a plan, in force or named as not in force."""

from __future__ import annotations

import ast
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from ruamel.yaml import YAML
from tests.unit.report.golden import assert_golden

from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    Checkpoints,
    DataChoice,
    DataNeeds,
    Dpo,
    EvaluationChoice,
    Full,
    Ia3,
    Lora,
    Optimizer,
    Parallelism,
    Plan,
    Precision,
    Prefix,
    Prompt,
    Qlora,
    Schedule,
    Task,
    WarmupSteps,
)
from finetune_exe.domain.task import DataProfile
from finetune_exe.domain.values import Decision, Gpu, Hardware, Leaf
from finetune_exe.errors import FineTuneError
from finetune_exe.export.configuration_file import ConfigurationFile
from finetune_exe.export.excerpt import USUAL, config_excerpt
from finetune_exe.export.exporter import Exporter
from finetune_exe.export.run_length import run_length
from finetune_exe.export.source import literal
from finetune_exe.export.targets import EXPORTERS, find_exporter
from finetune_exe.export.trainer_keys import evaluation_share
from finetune_exe.text.render import PLAIN_TEMPLATE

SCRIPTS = [entry for entry in EXPORTERS if entry.name in ("python", "trl", "unsloth")]
FILES = [entry for entry in EXPORTERS if isinstance(entry, ConfigurationFile)]


PROFILE = DataProfile(
    format="chatml", format_evidence=(), num_rows=1000, num_unreadable=0, num_turns_mean=2.0, prompt_characters_p50=9,
    answer_characters_p50=9, answer_characters_p95=9, row_characters_mean=18.0, row_characters_p99=20, distinct_answers=900,
)  # fmt: skip


def plan(**groups: object) -> Plan:
    """A plan with the given groups in place of the defaults, every leaf defended."""
    draft = Plan.model_construct(
        task=Task(description='sort \'em "all"\n\x1b[31m', type="classification"),
        model=groups.pop("model", BaseModelChoice(reference="Qwen/Qwen2.5-0.5B-Instruct", name="x", revision="abc")),
        profile=groups.pop("profile", PROFILE),
        hardware=Hardware(cpu="x", num_cores=2, memory_bytes=1 << 34),
        data_needs=DataNeeds(minimum_samples=1, recommended_samples=2, reason="r", source="s", quality_checks=()),
        **groups,
    )
    decisions = {
        path: Decision(value=value, reason="r", source="s", confidence="high") for path, value in draft.undefended()
    }
    return Plan.model_validate({**dict(draft), "decisions": decisions})


MUTATIONS: dict[str, dict[str, object]] = {
    "model.reference": {"model": BaseModelChoice(reference="Qwen/Qwen2.5-3B-Instruct", name="x", revision="abc")},
    "objective.kind": {"objective": Dpo()},
    "objective.beta": {"objective": Dpo(beta=0.3)},
    "method.kind": {"method": Full()},
    "method.lora_rank": {"method": Lora(lora_rank=8)},
    "method.lora_alpha": {"method": Lora(lora_alpha=8.0)},
    "method.lora_dropout": {"method": Lora(lora_dropout=0.05)},
    "method.target_modules": {"method": Lora(target_modules=("q_proj", "v_proj"))},
    "method.use_rslora": {"method": Lora(use_rslora=True)},
    "method.use_dora": {"method": Lora(use_dora=True)},
    "method.lora_plus_ratio": {"method": Lora(lora_plus_ratio=16.0)},
    "method.trained_tokens": {"method": Lora(trained_tokens=("<|tool|>",))},
    "method.masters": {"method": Full(masters="split")},
    "method.quantization": {"method": Qlora(quantization="q4_0")},
    "method.double_quantization": {"method": Qlora(double_quantization=False)},
    "method.offset_rounding": {"method": Qlora(offset_rounding=True)},
    "method.num_virtual_tokens": {"method": Prefix(num_virtual_tokens=9)},
    "optimizer.kind": {"optimizer": Optimizer(kind="adamw_8bit")},
    "optimizer.learning_rate": {"optimizer": Optimizer(learning_rate=3.3e-4)},
    "optimizer.weight_decay": {"optimizer": Optimizer(weight_decay=0.01)},
    "optimizer.beta1": {"optimizer": Optimizer(beta1=0.8)},
    "optimizer.beta2": {"optimizer": Optimizer(beta2=0.95)},
    "optimizer.max_grad_norm": {"optimizer": Optimizer(max_grad_norm=None)},
    "schedule.kind": {"schedule": Schedule(kind="linear")},
    "schedule.decay_fraction": {"schedule": Schedule(decay_fraction=0.1)},
    "schedule.epochs": {"schedule": Schedule(epochs=1.5)},
    "schedule.max_steps": {"schedule": Schedule(max_steps=77)},
    "schedule.warmup.kind": {"schedule": Schedule(warmup=WarmupSteps(steps=20))},
    "batch.micro_batch_size": {"batch": Batch(micro_batch_size=2)},
    "batch.gradient_accumulation_steps": {"batch": Batch(gradient_accumulation_steps=3)},
    "batch.group_by_length": {"batch": Batch(group_by_length=False)},
    "batch.packing": {"batch": Batch(packing=True)},
    "precision.base_dtype": {"precision": Precision(base_dtype="bfloat16")},
    "precision.tf32": {"precision": Precision(tf32=False)},
    "precision.checkpoint_every_layers": {"precision": Precision(checkpoint_every_layers=2)},
    "precision.gradient_checkpointing": {"precision": Precision(gradient_checkpointing=True)},
    "parallelism.kind": {"parallelism": Parallelism(kind="fsdp")},
    "parallelism.num_gpus": {"parallelism": Parallelism(num_gpus=4)},
    "checkpoints.evaluations_per_epoch": {"checkpoints": Checkpoints(evaluations_per_epoch=2.0)},
    "checkpoints.keep_last": {"checkpoints": Checkpoints(keep_last=1)},
    "checkpoints.save_every_minutes": {"checkpoints": Checkpoints(save_every_minutes=5.0)},
    "checkpoints.save_every_steps": {"checkpoints": Checkpoints(save_every_steps=50)},
    "checkpoints.samples_per_evaluation": {"checkpoints": Checkpoints(samples_per_evaluation=0)},
    "checkpoints.go_back_on_spike": {"checkpoints": Checkpoints(go_back_on_spike=True)},
    "checkpoints.early_stopping_patience": {"checkpoints": Checkpoints(early_stopping_patience=None)},
    "seed": {"seed": 7},
    "data.max_length": {"data": DataChoice(max_length=333)},
    "data.chat_template": {"data": DataChoice(chat_template="plain")},
    "data.paths": {"data": DataChoice(paths=("a.jsonl",))},
    "data.format": {"data": DataChoice(format="alpaca")},
    "data.max_rows": {"data": DataChoice(max_rows=9)},
    "data.group_by": {"data": DataChoice(group_by="user")},
    "data.validation_fraction": {"data": DataChoice(validation_fraction=0.2)},
    "data.test_fraction": {"data": DataChoice(test_fraction=0.2)},
    "data.deduplicate": {"data": DataChoice(deduplicate=False)},
    "data.on_too_long": {"data": DataChoice(on_too_long="refuse")},
    "data.drop": {"data": DataChoice(drop=("refusal",))},
    "data.fix": {"data": DataChoice(fix=("mojibake",))},
    "data.keep_similar_together": {"data": DataChoice(keep_similar_together=False)},
    "data.stratify_by": {"data": DataChoice(stratify_by="length")},
    "data.detectable_difference": {"data": DataChoice(detectable_difference=0.3)},
    "data.validation_paths": {"data": DataChoice(validation_paths=("v.jsonl",))},
    "data.test_paths": {"data": DataChoice(test_paths=("t.jsonl",))},
    "data.canaries": {"data": DataChoice(canaries=(1, 4))},
    "data.on_leak": {"data": DataChoice(on_leak="keep")},
    "data.test_digest": {"data": DataChoice(test_digest="0123abcd")},
    "evaluation.metrics": {"evaluation": EvaluationChoice(metrics=("chrf",))},
    "evaluation.max_generations": {"evaluation": EvaluationChoice(max_generations=5)},
    "evaluation.max_new_tokens": {"evaluation": EvaluationChoice(max_new_tokens=9)},
    "evaluation.num_samples": {"evaluation": EvaluationChoice(num_samples=1)},
    "evaluation.confidence_level": {"evaluation": EvaluationChoice(confidence_level=0.9)},
}
BEFORE = {
    "method.quantization": Qlora(), "method.double_quantization": Qlora(), "method.offset_rounding": Qlora(),
    "method.num_virtual_tokens": Prefix(), "method.masters": Full(),
}  # fmt: skip
"""The method a mutation starts from, where it is not LoRA."""
LEFT_TO_OTHERS = {
    path for path in MUTATIONS
    if path.split(".")[0] in ("data", "evaluation") and path not in ("data.max_length", "data.chat_template")
}  # fmt: skip


def text(entry: Exporter, content: Plan) -> str:
    return entry.export(content)[0].text


def commands(entry: Exporter, content: Plan) -> list[str]:
    """The lines that are to be typed."""
    return [line for line in text(entry, content).splitlines() if line.startswith("#   ") and " = " not in line]


def in_force(entry: Exporter, content: Plan) -> str:
    """The file without its comments."""
    if isinstance(entry, ConfigurationFile):
        return repr(YAML(typ="safe").load(text(entry, content)))
    return ast.unparse(ast.parse(text(entry, content)))


UNKNOWN_METHOD = r"cannot train method\.kind=prefix"


def refusal(entry: Exporter, path: str) -> str | None:
    """What a trainer says that has not the method, or the optimizer, that a mutation is about."""
    if path.startswith("objective."):
        able = ("plan", "trl", "axolotl", "llamafactory", "ms-swift")
        return None if entry.name in able else rf"--to {entry.name} is not written for objective\.kind=dpo"
    if path == "optimizer.kind" and entry.name == "mlx":
        return r"has no optimizer\.kind=adamw_8bit"
    few = entry.name == "unsloth" or (isinstance(entry, ConfigurationFile) and "prefix" not in entry.methods)
    return UNKNOWN_METHOD if few and path == "method.num_virtual_tokens" else None


_BY_SCRIPTS_ONLY = (
    "method.masters", "method.lora_plus_ratio", "method.trained_tokens", "precision.checkpoint_every_layers",
    "precision.tf32", "schedule.decay_fraction", "batch.packing",
)  # fmt: skip
_BY_TRANSFORMERS_NOT = tuple(path for path in _BY_SCRIPTS_ONLY if path != "precision.tf32")
_PROCESSES = ("parallelism.kind", "parallelism.num_gpus")
_BY_TRAINERS = (
    "checkpoints.keep_last", "checkpoints.early_stopping_patience", "batch.group_by_length",
)  # fmt: skip
NOT_EXPRESSED = {
    "python": (*_PROCESSES, "method.masters"),
    "trl": _BY_SCRIPTS_ONLY[:4],
    "unsloth": (*_PROCESSES, *_BY_SCRIPTS_ONLY[:5], "batch.packing", "method.double_quantization"),
    "axolotl": (*_PROCESSES, *_BY_TRANSFORMERS_NOT),
    "llamafactory": (*_PROCESSES, "data.chat_template", *_BY_TRANSFORMERS_NOT),
    "ms-swift": (*_PROCESSES, "data.chat_template", *_BY_TRANSFORMERS_NOT),
    "torchtune": (
        "data.chat_template", "checkpoints.evaluations_per_epoch", "parallelism.kind",
        "method.double_quantization",
        *_BY_SCRIPTS_ONLY, *_BY_TRAINERS,
    ),
    "litgpt": (
        "method.use_dora", "optimizer.max_grad_norm", "precision.gradient_checkpointing",
        "parallelism.kind", "schedule.kind",
        *_BY_SCRIPTS_ONLY, *_BY_TRAINERS,
    ),
    "mlx": (
        *_PROCESSES, "data.chat_template", "optimizer.max_grad_norm", "method.double_quantization", *_BY_SCRIPTS_ONLY,
        *_BY_TRAINERS,
    ),
}  # fmt: skip
"""What a trainer has no key for; it must be named in the file."""
_SAID_TO_A_SERVICE = {
    "seed", "schedule.epochs", "batch.micro_batch_size", "batch.gradient_accumulation_steps", "parallelism.num_gpus",
}  # fmt: skip
NOT_EXPRESSED = {
    name: (*paths, "method.quantization", "method.offset_rounding") for name, paths in NOT_EXPRESSED.items()
}
NOT_EXPRESSED["openai"] = tuple(path for path in MUTATIONS if path not in _SAID_TO_A_SERVICE)
WHEN_ROWS_ARE_WRITTEN = (("litgpt", "data.chat_template"), ("openai", "data.max_length"))
BY_COMMAND = {"torchtune": ("parallelism.num_gpus",), "mlx": ("model.reference", "precision.base_dtype")}
"""What stands in a command alone."""
IN_STEPS = ("torchtune", "litgpt", "mlx")
"""Trainers that are told the length of a run in steps, which follow from the number of rows."""


def unchanged(path: str) -> Plan:
    objective = {"objective": Dpo()} if path == "objective.beta" else {}
    return plan(method=BEFORE.get(path, Lora()), **objective)


def test_the_mutations_cover_every_setting() -> None:
    plans = [plan(method=method) for method in (Lora(), Qlora(), Prefix(), Prompt(), Ia3(), Full())]
    plans.append(plan(objective=Dpo()))
    paths = {path for content in plans for path, _, _ in content.settings()}
    assert paths - set(MUTATIONS) == {"schedule.warmup.fraction"}


@pytest.mark.parametrize("entry", EXPORTERS, ids=lambda entry: entry.name)
@pytest.mark.parametrize("path", MUTATIONS)
def test_every_setting_changes_the_text(entry: Exporter, path: str) -> None:
    refused = refusal(entry, path)
    if refused is not None:
        with pytest.raises(FineTuneError, match=f"FT-O03.*{refused}"):
            text(entry, plan(**MUTATIONS[path]))
        return
    assert text(entry, plan(**MUTATIONS[path])) != text(entry, unchanged(path))


@pytest.mark.parametrize("entry", [*SCRIPTS, *FILES], ids=lambda entry: entry.name)
@pytest.mark.parametrize("path", MUTATIONS)
def test_a_setting_is_in_force_or_named_as_left_out(entry: Exporter, path: str) -> None:
    if refusal(entry, path) is not None:
        return
    changed = plan(**MUTATIONS[path])
    value: Leaf = {setting: value for setting, value, _ in changed.settings()}[path]
    before = path in LEFT_TO_OTHERS or (entry.name, path) in WHEN_ROWS_ARE_WRITTEN
    if before:
        assert f"#   {path} = {value!r} (applied by" in text(entry, changed)
        assert entry.name in IN_STEPS or in_force(entry, changed) == in_force(entry, unchanged(path))
    elif (entry.name, path) == ("openai", "schedule.epochs"):
        assert "#   schedule.epochs = 1.5\n" in text(entry, changed), "the service knows whole passes alone"
        assert "n_epochs: 2\n" in text(entry, changed)
    elif path in BY_COMMAND.get(entry.name, ()):
        assert f"{path} =" not in text(entry, changed)
        assert commands(entry, changed) != commands(entry, unchanged(path))
    elif path.startswith(
        ("checkpoints.save_every", "checkpoints.samples", "checkpoints.go_back")
    ) or path in NOT_EXPRESSED.get(entry.name, ()):
        assert f"#   {path} = {value!r}\n" in text(entry, changed)
        assert in_force(entry, changed) == in_force(entry, unchanged(path))
    else:
        assert f"{path} =" not in text(entry, changed)
        assert in_force(entry, changed) != in_force(entry, unchanged(path))


@pytest.mark.parametrize("entry", SCRIPTS, ids=lambda entry: entry.name)
@pytest.mark.parametrize("path", MUTATIONS)
def test_a_script_compiles(entry: Exporter, path: str) -> None:
    if refusal(entry, path) is None:
        compile(text(entry, plan(**MUTATIONS[path])), entry.name, "exec")


def test_a_script_for_several_processes_says_how_to_start_it() -> None:
    script = text(find_exporter("trl"), plan(parallelism=Parallelism(kind="ddp", num_gpus=4)))
    assert "torchrun --nproc_per_node 4 train_trl.py" in script
    assert "EFFECTIVE_BATCH_SIZE = 16" in script
    shards = Parallelism(kind="fsdp", num_gpus=4)
    assert "parallelism.kind = 'fsdp'" in text(find_exporter("trl"), plan(method=Qlora(), parallelism=shards))


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("name", ["axolotl", "llamafactory", "ms-swift", "trl"])
def test_deepspeed_is_told_the_trainers_own_numbers(name: str, stage: Literal[2, 3]) -> None:
    kind: Literal["deepspeed_zero2", "deepspeed_zero3"] = "deepspeed_zero2" if stage == 2 else "deepspeed_zero3"
    content = plan(
        parallelism=Parallelism(kind=kind, num_gpus=4), precision=Precision(base_dtype="bfloat16"),
        batch=Batch(micro_batch_size=2, gradient_accumulation_steps=3), optimizer=Optimizer(max_grad_norm=None),
    )  # fmt: skip
    files = {file.name: file.text for file in find_exporter(name).export(content)}
    script = find_exporter(name) in SCRIPTS
    tree = ast.parse(next(iter(files.values()))) if script else None
    if tree is None:
        assert YAML(typ="safe").load(next(iter(files.values())))["deepspeed"] == "deepspeed.json"
        told = json.loads(files["deepspeed.json"])
    else:
        (told,) = [
            ast.literal_eval(value) for node in ast.walk(tree) if isinstance(node, ast.Dict)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and key.value == "deepspeed"
        ]  # fmt: skip
    assert told["zero_optimization"]["stage"] == stage
    assert told["train_batch_size"] == 2 * 3 * 4
    assert (told["train_micro_batch_size_per_gpu"], told["gradient_accumulation_steps"]) == (2, 3)
    assert (told["bf16"], told["fp16"], told["gradient_clipping"]) == ({"enabled": True}, {"enabled": False}, 0.0)
    assert "parallelism.kind" not in next(iter(files.values()))
    plain = find_exporter(name).export(plan())
    assert not any("deepspeed" in file.text or "deepspeed" in file.name for file in plain)


@pytest.mark.parametrize("entry", SCRIPTS[:2], ids=lambda entry: entry.name)
def test_bitsandbytes_is_asked_for_where_it_is_needed(entry: Exporter) -> None:
    needing = [plan(method=Qlora()), plan(optimizer=Optimizer(kind="adamw_8bit"))]
    assert ["bitsandbytes" in text(entry, content).split('"""')[1] for content in (plan(), *needing)] == [
        False,
        True,
        True,
    ]


def test_warm_up_by_share_and_by_steps_are_told_apart() -> None:
    by_steps = plan(schedule=Schedule(warmup=WarmupSteps(steps=20)))
    assert 'WARMUP = {"fraction": 0.03}' in text(find_exporter("python"), plan())
    assert 'WARMUP = {"steps": 20}' in text(find_exporter("python"), by_steps)
    assert '"warmup_steps": 0.03' in text(find_exporter("trl"), plan())
    assert '"warmup_steps": 20' in text(find_exporter("trl"), by_steps)


def test_the_places_a_model_comes_from() -> None:
    script = find_exporter("python")
    embedded = text(script, plan(model=BaseModelChoice(reference="embedded", name="SmolLM2")))
    assert 'MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"' in embedded
    gguf = text(script, plan(model=BaseModelChoice(reference="models/tiny.gguf", name="tiny")))
    assert 'MODEL = "models"' in gguf
    assert 'GGUF = {"gguf_file": "tiny.gguf"}' in gguf
    assert 'REVISION = "abc"' in text(script, plan())


def test_the_places_a_template_comes_from() -> None:
    script = find_exporter("python")
    assert f"CHAT_TEMPLATE = {literal(PLAIN_TEMPLATE)}" in text(script, plan(data=DataChoice(chat_template="plain")))
    assert 'CHAT_TEMPLATE = Path("my.jinja").read_text' in text(script, plan(data=DataChoice(chat_template="my.jinja")))


@pytest.mark.parametrize("entry", SCRIPTS, ids=lambda entry: entry.name)
def test_words_of_the_user_are_data_and_never_code(entry: Exporter) -> None:
    evil = "x\"\nimport pty\n#'''\x1b[2J\u202e"
    content = plan(model=BaseModelChoice(reference=evil, name="x"), data=DataChoice(paths=(evil,), chat_template=evil))
    script = text(entry, content)
    assert not set(script) & {"\x1b", "\u202e"}
    assert "pty" not in {
        name.name for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Import) for name in node.names
    }
    model = next(
        node
        for node in ast.parse(script).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL"
    )
    assert ast.literal_eval(model.value) == evil


@pytest.mark.parametrize(
    "odd", ["x\nevil: true", "a b; touch x", "$(touch x)", "x\x1b[2J", "x\u2028evil: true", 'it\'s "x"']
)
@pytest.mark.parametrize("entry", [entry for entry in FILES if entry.name != "torchtune"], ids=lambda entry: entry.name)
def test_words_of_the_user_are_data_in_files_too(entry: ConfigurationFile, odd: str) -> None:
    content = plan(model=BaseModelChoice(reference=odd, name="x", revision=odd), data=DataChoice(paths=(odd,)))
    written = text(entry, content)
    assert all(character.isprintable() or character == "\n" for character in written)
    usual = set(YAML(typ="safe", pure=True).load(text(entry, plan())))
    assert set(YAML(typ="safe", pure=True).load(written)) == usual
    for line in entry.commands(content):
        words = shlex.split(line, comments=True)
        assert "touch" not in words, line
        assert "downloads" in line or odd not in line or any(odd in word for word in words)


@pytest.mark.parametrize("per_epoch", [2.0, 3.0, 6.0, 7.0, 12.0])
def test_the_last_step_is_measured(per_epoch: float) -> None:
    """As transformers counts: the steps between two evaluations are the share of all, rounded up."""
    share = evaluation_share(
        plan(schedule=Schedule(epochs=1.0), checkpoints=Checkpoints(evaluations_per_epoch=per_epoch))
    )
    for between in (1, 7, 100, 4_321):
        assert math.ceil(between * per_epoch * share) == between


@pytest.mark.parametrize(
    "value", ["a", 'say "x"', "it's", "both ' and \"", "\\", "ü\x1b\u2028", {"a": ["b", 1]}, None, 1e-05, ("x",)]
)
def test_a_literal_reads_back_as_what_it_was(value: object) -> None:
    assert ast.literal_eval(literal(value)) == value


def test_the_plan_target_reads_back(tmp_path: Path) -> None:
    from finetune_exe.domain.plan_yaml import read_plan

    content = plan(optimizer=Optimizer(learning_rate=3e-4))
    path = tmp_path / "plan.yaml"
    path.write_text(text(find_exporter("plan"), content), encoding="utf-8")
    assert read_plan(path) == content


def test_the_configuration_in_the_plan_report_is_the_golden_one() -> None:
    plans = (plan(), plan(method=Full(), schedule=Schedule(max_steps=50)), plan(method=Qlora()), plan(method=Prefix()),
             plan(method=Prompt()), plan(method=Ia3(), precision=Precision(base_dtype="float16")))  # fmt: skip
    excerpts = [config_excerpt(content) for content in plans]
    for excerpt in excerpts:
        compile(excerpt, "excerpt", "exec")
        assert max(map(len, excerpt.splitlines())) <= 80
    assert_golden("report_config_excerpt.txt", "----\n".join(excerpts))


def test_what_the_excerpt_leaves_out_is_what_the_libraries_take_by_themselves() -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    defaults = {**vars(peft.LoraConfig()), **vars(transformers.TrainingArguments)}
    assert {
        name: repr(float(defaults[name]) if "." in code else defaults[name]) for name, code in USUAL.items()
    } == USUAL
    assert all(f"{name}={code}" not in config_excerpt(plan()) for name, code in USUAL.items())
    own = plan(method=Lora(lora_dropout=0.1), optimizer=Optimizer(beta2=0.95))
    assert "lora_dropout=0.1" in config_excerpt(own)
    assert "adam_beta2=0.95" in config_excerpt(own)


@pytest.mark.parametrize(("typed", "meant"), [("TRL", "trl"), ("pyhton", "python"), ("plam", "plan")])
def test_an_unknown_target_is_refused_with_the_nearest_one(typed: str, meant: str) -> None:
    with pytest.raises(FineTuneError) as caught:
        find_exporter(typed)
    assert caught.value.code == "O03"
    assert f"did you mean {meant}?" in caught.value.what
    assert all(f"--to {entry.name}" in caught.value.fix for entry in EXPORTERS)


def test_every_exporter_says_what_it_is_and_names_its_file() -> None:
    assert len({entry.name for entry in EXPORTERS}) == len(EXPORTERS)
    for entry in EXPORTERS:
        files = entry.export(plan())
        assert files[0].name in entry.describe
        assert all(file.text.endswith("\n") for file in files)


@pytest.mark.parametrize(
    ("target", "found"),
    [("torchtune", lambda keys: keys["model"]["lora_alpha"] / keys["model"]["lora_rank"]),
     ("litgpt", lambda keys: keys["lora_alpha"] / keys["lora_r"]),
     ("mlx", lambda keys: keys["lora_parameters"]["scale"])],
)  # fmt: skip
@pytest.mark.parametrize("rslora", [False, True])
def test_the_scale_of_the_adapters_is_the_plans(target: str, found: Callable[[Any], float], rslora: bool) -> None:
    """PEFT scales by alpha / rank, and rsLoRA by alpha / sqrt(rank); these trainers know the first alone."""
    content = plan(method=Lora(lora_rank=16, lora_alpha=24.0, use_rslora=rslora))
    keys = YAML(typ="safe").load(text(find_exporter(target), content))
    assert found(keys) == pytest.approx(24 / 4 if rslora else 24 / 16)


@pytest.mark.parametrize("target", ["torchtune", "litgpt", "mlx", "axolotl", "unsloth"])
def test_a_model_in_a_gguf_file_is_refused(target: str) -> None:
    with pytest.raises(FineTuneError, match=r"(?s)FT-O03.*GGUF"):
        text(find_exporter(target), plan(model=BaseModelChoice(reference="m/tiny.gguf", name="x")))


def test_torchtune_refuses_a_model_it_has_no_function_for() -> None:
    with pytest.raises(FineTuneError, match=r"(?s)FT-O03.*no function that builds other/model.*Llama-3.2-1B"):
        text(find_exporter("torchtune"), plan(model=BaseModelChoice(reference="other/model", name="x")))
    with pytest.raises(FineTuneError, match=r"(?s)FT-O03.*float16"):
        text(find_exporter("torchtune"), plan(precision=Precision(base_dtype="float16")))


def test_layers_that_no_switch_can_name_are_said_to_be_left_out() -> None:
    some = plan(method=Lora(target_modules=("q_proj", "gate_proj")))
    for target in ("litgpt", "torchtune"):
        assert "#   method.target_modules = ('q_proj', 'gate_proj')\n" in text(find_exporter(target), some)


@pytest.mark.parametrize(("rows", "size", "passes"), [(1000, 8, 1), (40, 4, 2), (20, 2, 4), (9, 1, 8)])
def test_mlx_is_given_no_batch_that_its_validation_rows_cannot_fill(rows: int, size: int, passes: int) -> None:
    """It refuses to begin otherwise; the rows of a step stay as many."""
    content = plan(profile=PROFILE.model_copy(update={"num_rows": rows}), batch=Batch(micro_batch_size=8))
    keys = YAML(typ="safe").load(text(find_exporter("mlx"), content))
    assert (keys["batch_size"], keys["grad_accumulation_steps"]) == (size, passes)
    assert keys["iters"] == run_length(content, target="mlx", processes=1).num_steps * passes


@pytest.mark.parametrize(
    ("gpu", "wanted", "written"),
    [
        ("RTX 4090 24GB", True, {"axolotl": "tf32: auto", "llamafactory": "tf32: true", "ms-swift": "tf32: true"}),
        ("V100 SXM 16GB", True, {"axolotl": "tf32: auto", "llamafactory": None, "ms-swift": None}),
        ("a GPU with 24 GiB", True, {"axolotl": "tf32: auto", "llamafactory": None, "ms-swift": None}),
        ("RTX 4090 24GB", False, dict.fromkeys(("axolotl", "llamafactory", "ms-swift"), "tf32: false")),
    ],
)
def test_tf32_is_asked_for_only_where_the_gpu_has_it(gpu: str, wanted: bool, written: dict[str, str | None]) -> None:
    hardware = Hardware(cpu="x", num_cores=2, memory_bytes=0, gpus=(Gpu(name=gpu, memory_bytes=1 << 34, bf16=True),))
    of = plan(precision=Precision(tf32=wanted)).model_copy(update={"hardware": hardware})
    for name, line in written.items():
        text = find_exporter(name).export(of)[0].text
        assert [found for found in text.splitlines() if "tf32" in found] == ([line] if line else []), name


def test_what_every_trainer_does_is_not_called_inexpressible() -> None:
    head = find_exporter("axolotl").export(plan())[0].text
    assert "checkpoint_every_layers" not in head
    assert "decay_fraction" not in head
