"""What is written for other trainers is accepted by their own parsers."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from tests.contracts.peers import arguments_of, ask_peer, fields_of, source_of
from tests.tiny import TEMPLATES, write_model, write_tokenizer
from tests.tiny import write_rows as write_rows_of_topics
from tests.unit.export.test_exporters import PROFILE, plan

from finetune_exe.data.encoded import as_pair
from finetune_exe.domain.plan import (
    BaseModelChoice,
    Batch,
    Dpo,
    Full,
    Lora,
    Optimizer,
    Plan,
    Precision,
    Qlora,
    Schedule,
    WarmupSteps,
)
from finetune_exe.export.targets import find_exporter
from finetune_exe.export.torchtune_models import TORCHTUNE_MODELS
from finetune_exe.export.trainer_rows import TRAINER_ROWS
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

pytestmark = pytest.mark.peer
BF16 = Precision(base_dtype="bfloat16")
PLANS: dict[str, Plan] = {
    "lora": plan(precision=BF16),
    "qlora": plan(
        method=Qlora(double_quantization=False), optimizer=Optimizer(kind="paged_adamw_8bit"), precision=BF16
    ),
    "full": plan(method=Full(), precision=BF16),
    "options": plan(
        method=Lora(target_modules=("q_proj", "v_proj"), use_dora=True, lora_dropout=0.1),
        schedule=Schedule(kind="linear", max_steps=70, warmup=WarmupSteps(steps=5)),
        batch=Batch(micro_batch_size=2, gradient_accumulation_steps=4, group_by_length=False),
        precision=Precision(gradient_checkpointing=True),
        optimizer=Optimizer(max_grad_norm=None, weight_decay=0.01),
    ),
}
PAIRS = plan(objective=Dpo(beta=0.3), precision=BF16, method=Lora(lora_dropout=0.1), batch=Batch(group_by_length=False))
TURNS = (
    Message(role="user", content="the fox"), Message(role="assistant", content="jumps over"),
    Message(role="user", content="and then?"), Message(role="assistant", content="the end"),
)  # fmt: skip
PAIR = Conversation(kind="chat", messages=TURNS, rejected=(Message(role="assistant", content="lazy dog"),))
WITHOUT_8_BIT = [name for name in PLANS if name != "qlora"]


def write_rows(folder: Path) -> None:
    """Rows as `fine-tune dataset --export` writes them."""
    (folder / "data").mkdir()
    row = {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "jumps"}]}
    for name in ("train", "validation", "valid", "val"):
        (folder / "data" / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")


def write_for(target: str, content: Plan, folder: Path) -> Path:
    files = find_exporter(target).export(content)
    for file in files:
        (folder / file.name).write_text(file.text, encoding="utf-8")
    return folder / files[0].name


AXOLOTL = """
import yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
given = yaml.safe_load(open(sys.argv[1]))
result = {"unknown": sorted(set(given) - set(AxolotlInputConfig.model_fields))}
able = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1, "compute_capability": "sm_86"}
checked = validate_config(DictDefault(given), capabilities=able, env_capabilities={"torch_version": "2.10.0"})
result["kept"] = {name: checked[name] for name in ("learning_rate", "sequence_len", "micro_batch_size", "warmup_ratio", "warmup_steps")}
"""


@pytest.mark.parametrize("name", PLANS)
def test_axolotl_accepts_the_file(name: str, tmp_path: Path) -> None:
    content = PLANS[name]
    result = ask_peer("axolotl", AXOLOTL, write_for("axolotl", content, tmp_path))
    assert result["unknown"] == []
    assert result["kept"]["learning_rate"] == content.optimizer.learning_rate
    assert result["kept"]["sequence_len"] == content.data.max_length
    assert result["kept"]["micro_batch_size"] == content.batch.micro_batch_size


AXOLOTL_PAIRS = """
import yaml
from datasets import Dataset
from transformers import AutoTokenizer
from axolotl.core.trainers.dpo import DPOStrategy
from axolotl.core.trainers.dpo.trainer import AxolotlDPOTrainer
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
able = {"bf16": True, "fp8": False, "tf32": True, "n_gpu": 1, "n_node": 1, "compute_capability": "sm_86"}
checked = validate_config(DictDefault(yaml.safe_load(open(sys.argv[1]))), capabilities=able, env_capabilities={"torch_version": "2.10.0"})
trainer = AxolotlDPOTrainer.__new__(AxolotlDPOTrainer)
trainer._tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
args = DPOStrategy.get_training_args_class()(output_dir="x", bf16=False, use_cpu=True, **DPOStrategy.set_training_args_kwargs(checked))
row = trainer._prepare_dataset(Dataset.from_list(json.loads(sys.argv[3])), trainer._tokenizer, args, "train")[0]
result = {"rl": checked["rl"], "beta": checked["rl_beta"], "drops": not args.disable_dropout,
          "ids": [row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]]}
"""


def test_axolotl_learns_from_pairs_the_very_tokens_this_program_learns(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tiny", template=TEMPLATES["chatml"])
    tokenizer = load_tokenizer(folder, chat_template=None)
    write = TRAINER_ROWS["axolotl"].write_pair
    assert write is not None
    path = write_for("axolotl", PAIRS, tmp_path)
    found = ask_peer("axolotl", AXOLOTL_PAIRS, path, folder, json.dumps(write(PAIR, tokenizer)))
    assert (found["rl"], found["beta"]) == ("dpo", 0.3)
    assert not found["drops"], "as the file says: an adapter's dropout is off"
    assert "lora_dropout = 0.1" in path.read_text()
    assert found["ids"] == pair_tokens(tokenizer)


def pair_tokens(tokenizer: ChatTokenizer) -> list[list[int]]:
    """What is given, and what is learned of the better and of the worse answer."""
    pair = as_pair(PAIR)
    assert not isinstance(pair, RowFault)
    sides = [encode(side, tokenizer, max_length=200) for side in pair]
    found: list[list[int]] = []
    for side in sides:
        assert not isinstance(side, RowFault)
        start = side[0].learned.index(True)
        learned = [token for token, flag in zip(side[0].tokens, side[0].learned, strict=True) if flag]
        found = found or [list(side[0].tokens[:start])]
        found.append(learned)
    return found


AXOLOTL_TOKENS = """
import yaml
from transformers import AutoTokenizer
from axolotl.prompt_strategies.chat_template import load
from axolotl.utils.dict import DictDefault
given = yaml.safe_load(open(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
strategy = load(tokenizer, DictDefault(given), ds_cfg=DictDefault(given["datasets"][0]))
rows = [strategy.tokenize_prompt(row) for row in json.loads(sys.argv[3])]
result = [[list(row["input_ids"]), list(row["labels"])] for row in rows]
"""


def test_axolotl_learns_the_very_tokens_this_program_learns(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tiny", template=TEMPLATES["chatml"])
    tokenizer = load_tokenizer(folder, chat_template=None)
    first = Message(role="assistant", content="jumps over", learn=False)
    row = Conversation(kind="chat", messages=(TURNS[0], first, *TURNS[2:]))
    rows = TRAINER_ROWS["axolotl"].write(row, tokenizer)
    [(ids, labels)] = ask_peer(
        "axolotl", AXOLOTL_TOKENS, write_for("axolotl", plan(), tmp_path), folder, json.dumps(rows)
    )
    ours = encode(row, tokenizer, max_length=200)
    assert not isinstance(ours, RowFault)
    assert ids == list(ours[0].tokens)
    assert labels == [token if learned else -100 for token, learned in zip(ids, ours[0].learned, strict=True)]


LLAMA_FACTORY = """
from llamafactory.hparams.parser import _parse_train_args, read_args
model, data, training, tuning, _ = _parse_train_args(read_args())
from llamafactory.data.parser import get_dataset_list
found = get_dataset_list(data.dataset, data.dataset_dir)
result = {"rate": training.learning_rate, "epochs": training.num_train_epochs, "kind": tuning.finetuning_type,
          "warmup": training.warmup_ratio if training.warmup_ratio else training.warmup_steps,
          "length": data.cutoff_len, "rows": [entry.dataset_name for entry in found]}
"""


@pytest.mark.parametrize("name", PLANS)
def test_llama_factory_accepts_the_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = PLANS[name]
    content = content.model_copy(update={"precision": Precision()})  # bf16 is refused without a GPU
    write_rows(tmp_path)
    path = write_for("llamafactory", content, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = ask_peer("llamafactory", LLAMA_FACTORY, path)
    assert result["rate"] == content.optimizer.learning_rate
    assert result["epochs"] == content.schedule.epochs
    assert result["kind"] == ("full" if name == "full" else "lora")
    assert result["warmup"] == (5 if name == "options" else 0.03)
    assert result["length"] == content.data.max_length
    assert result["rows"] == ["data/train.jsonl"]


LLAMA_FACTORY_PAIRS = """
from transformers import AutoTokenizer
from llamafactory.hparams.parser import _parse_train_args, read_args
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.model import load_tokenizer
model, data, training, tuning, _ = _parse_train_args(read_args())
parts = load_tokenizer(model)
template = get_template_and_fix_tokenizer(parts["tokenizer"], data)
row = get_dataset(template, model, data, training, stage="rm", **parts)["train_dataset"][0]
result = {"stage": tuning.stage, "beta": tuning.pref_beta, "loss": tuning.pref_loss, "reference": tuning.ref_model,
          "sides": [[row[f"{side}_input_ids"], row[f"{side}_labels"]] for side in ("chosen", "rejected")]}
"""


def test_llama_factory_learns_from_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tokens are ours and one more: the line end that the template puts behind the end of a turn."""
    folder = write_model(tmp_path / "tiny")
    tokenizer = load_tokenizer(folder, chat_template=None)
    content = PAIRS.model_copy(
        update={"precision": Precision(), "model": BaseModelChoice(reference=str(folder), name="x")}
    )
    (tmp_path / "data").mkdir()
    write = TRAINER_ROWS["llamafactory"].write_pair
    assert write is not None
    written = write(PAIR, tokenizer)
    assert not isinstance(written, RowFault)
    for name in ("train", "validation"):
        (tmp_path / "data" / f"{name}.jsonl").write_text(json.dumps(written[0]) + "\n", encoding="utf-8")
    path = write_for("llamafactory", content, tmp_path)
    monkeypatch.chdir(tmp_path)
    found = ask_peer("llamafactory", LLAMA_FACTORY_PAIRS, path)
    assert (found["stage"], found["beta"], found["loss"], found["reference"]) == ("dpo", 0.3, "sigmoid", None)
    asked, *answers = pair_tokens(tokenizer)
    for (ids, labels), answer in zip(found["sides"], answers, strict=True):
        assert ids[: len(asked) + len(answer)] == asked + answer
        assert tokenizer.decode(ids[len(asked) + len(answer) :]) in ("", "\n")
        assert labels == [-100] * len(asked) + ids[len(asked) :]


MS_SWIFT = """
import dataclasses, yaml
from swift.arguments import SftArguments
given = yaml.safe_load(open(sys.argv[1]))
result = sorted(set(given) - {field.name for field in dataclasses.fields(SftArguments)})
"""


@pytest.mark.parametrize("name", PLANS)
def test_ms_swift_knows_every_key(name: str, tmp_path: Path) -> None:
    assert ask_peer("ms-swift", MS_SWIFT, write_for("ms-swift", PLANS[name], tmp_path)) == []


MS_SWIFT_PAIRS = """
import dataclasses, yaml
from swift.arguments import RLHFArguments
from swift.template import TemplateInputs
given = yaml.safe_load(open(sys.argv[1]))
sides = TemplateInputs.from_dict(json.loads(sys.argv[2])[0])
result = {"unknown": sorted(set(given) - {field.name for field in dataclasses.fields(RLHFArguments)}),
          "kind": given["rlhf_type"], "beta": given["beta"],
          "sides": [[[turn["role"], turn["content"]] for turn in side.messages] for side in (sides.chosen, sides.rejected)]}
"""


def test_ms_swift_knows_every_key_for_pairs_and_reads_both_answers(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "tiny", template=TEMPLATES["chatml"]), chat_template=None)
    write = TRAINER_ROWS["ms-swift"].write_pair
    assert write is not None
    path = write_for("ms-swift", PAIRS, tmp_path)
    found = ask_peer("ms-swift", MS_SWIFT_PAIRS, path, json.dumps(write(PAIR, tokenizer)))
    assert found["unknown"] == []
    assert (found["kind"], found["beta"]) == ("dpo", 0.3)
    turns = [[turn.role, turn.content] for turn in PAIR.messages]
    assert found["sides"] == [turns, [*turns[:-1], ["assistant", "lazy dog"]]]


TORCHTUNE = """
from omegaconf import OmegaConf
from torchtune import config
for path in sys.argv[1:]:
    config.validate(OmegaConf.load(path))
result = "ok"
"""
TORCHTUNE_ROWS = """
from omegaconf import OmegaConf
from torchtune import config
from torchtune.data import Message
class Words:
    def __call__(self, sample, inference=False):
        messages = sample["messages"]
        return {"tokens": [ord(letter) for turn in messages for letter in turn.text_content],
                "mask": [turn.masked for turn in messages for letter in turn.text_content]}
row = config.instantiate(OmegaConf.load(sys.argv[1]).dataset, Words())[0]
result = [chr(token) for token, label in zip(row["tokens"], row["labels"]) if label != -100]
"""


@pytest.mark.parametrize("name", WITHOUT_8_BIT)
def test_torchtune_accepts_the_file_for_every_model(name: str, tmp_path: Path) -> None:
    paths = []
    for number, reference in enumerate(TORCHTUNE_MODELS):
        folder = tmp_path / str(number)
        folder.mkdir()
        model = BaseModelChoice(reference=reference, name="x")
        paths.append(write_for("torchtune", PLANS[name].model_copy(update={"model": model}), folder))
    assert ask_peer("torchtune", TORCHTUNE, *paths) == "ok"


def test_torchtune_learns_the_answers_of_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path)
    path = write_for("torchtune", PLANS["lora"], tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "".join(ask_peer("torchtune", TORCHTUNE_ROWS, path)) == "jumps"


LITGPT = """
from jsonargparse import capture_parser
from litgpt.utils import CLI
from litgpt.finetune import lora, full
kind = {"lora": lora, "full": full}[sys.argv[2]]
parser = capture_parser(lambda: CLI(kind.setup))
given = parser.parse_args(["--config", sys.argv[1]])
made = parser.instantiate_classes(given)
kind.validate_args(made.train, made.eval)
result = {"steps": made.train.max_steps, "rows": made.data.get_splits()[0], "prompt": made.data.prompt_style.apply("a b"),
          "masked": made.data.mask_prompt, "passes": made.train.gradient_accumulation_iters(made.devices)}
"""


@pytest.mark.parametrize("name", PLANS)
def test_litgpt_accepts_the_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path)
    path = write_for("litgpt", PLANS[name], tmp_path)
    monkeypatch.chdir(tmp_path)
    result = ask_peer("litgpt", LITGPT, path, "full" if name == "full" else "lora")
    assert result["steps"] == (70 if name == "options" else 600)
    assert result["passes"] == PLANS[name].batch.gradient_accumulation_steps
    assert result["prompt"] == "a b"
    assert result["masked"] is True
    assert len(result["rows"]) == 1


LITGPT_TOKENS = """
from pathlib import Path
from litgpt.data.base import SFTDataset
from litgpt.prompts import Default
from litgpt.tokenizer import Tokenizer
rows = SFTDataset(json.loads(sys.argv[2]), Tokenizer(Path(sys.argv[1])), Default(), max_seq_length=200, mask_prompt=True)
result = [[row["input_ids"].tolist(), row["labels"].tolist()] for row in (rows[i] for i in range(len(rows)))]
"""


@pytest.mark.parametrize("name", ["chatml", "trims_content", "brackets"])
def test_litgpt_learns_the_very_tokens_this_program_learns(name: str, tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tiny", template=TEMPLATES[name])
    if "bos_token" in TEMPLATES[name]:  # as models have it whose template writes one
        told = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**told, "add_bos_token": True}))
    tokenizer = load_tokenizer(folder, chat_template=None)
    rows = TRAINER_ROWS["litgpt"].write(Conversation(kind="chat", messages=TURNS), tokenizer)
    for number, (ids, labels) in zip((2, 4), ask_peer("litgpt", LITGPT_TOKENS, folder, json.dumps(rows)), strict=True):
        ours = encode(Conversation(kind="chat", messages=TURNS[:number]), tokenizer, max_length=200)
        assert not isinstance(ours, RowFault)
        last = ours[-1].ranges[-1]
        assert ids == list(ours[-1].tokens[: last.end])
        assert labels == [-100] * last.start + ids[last.start :]


MLX = """
import types, yaml
import mlx.core as mx
import mlx.optimizers as optimizers
from mlx_lm import lora
from mlx_lm.tuner.utils import build_schedule
given = yaml.load(open(sys.argv[1]), lora.yaml_loader)
schedule = build_schedule(given["lr_schedule"])
optimizer = optimizers.AdamW(learning_rate=schedule, **given["optimizer_config"]["adamw"])
steps = given["iters"] // given["grad_accumulation_steps"]
result = {"unknown": sorted(set(given) - set(lora.CONFIG_DEFAULTS)), "kind": given["fine_tune_type"], "steps": steps,
          "rates": [float(schedule(mx.array(step))) for step in range(steps)]}
"""


@pytest.mark.parametrize("name", WITHOUT_8_BIT)
def test_mlx_accepts_the_file_and_its_schedule_is_the_plans(name: str, tmp_path: Path) -> None:
    content = PLANS[name]
    result = ask_peer("mlx", MLX, write_for("mlx", content, tmp_path))
    assert result["unknown"] == []
    assert result["kind"] == {"lora": "lora", "full": "full", "options": "dora"}[name]
    rates, warm = result["rates"], 5 if name == "options" else 18
    assert len(rates) == result["steps"] == (70 if name == "options" else 600)
    peak = content.optimizer.learning_rate
    assert rates[0] == 0
    assert rates[warm] == pytest.approx(peak, rel=1e-3)
    assert max(rates) == pytest.approx(peak, rel=1e-3)
    left = 2 / (len(rates) - warm)
    assert rates[-1] <= peak * left * (1 + 1e-6), "its fall begins a step late: of a line, two steps are left"


MLX_TRAINS = """
import types, yaml
from mlx_lm import lora
given = yaml.load(open(sys.argv[1]), lora.yaml_loader)
measured = []
class Listener(lora.TrainingCallback):
    def on_val_loss_report(self, report):
        measured.append(report["val_loss"])
lora.get_reporting_callbacks = lambda *_, **__: Listener()
lora.run(types.SimpleNamespace(**{**lora.CONFIG_DEFAULTS, **given}))
result = measured
"""


def test_mlx_trains_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a model of random weights in the form that MLX reads; the validation loss falls."""
    write_model(tmp_path / "model")
    (tmp_path / "data").mkdir()
    rows = [json.loads(line) for line in write_rows_of_topics(tmp_path / "rows.jsonl").read_text().splitlines()]
    for name, part in (("train", rows[:48]), ("valid", rows[48:])):
        lines = [json.dumps({"messages": row["messages"]}) + "\n" for row in part]
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    content = plan(
        method=Lora(lora_rank=8), optimizer=Optimizer(learning_rate=2e-2), schedule=Schedule(max_steps=24),
        profile=PROFILE.model_copy(update={"num_rows": 60}),
    )  # fmt: skip
    path = write_for("mlx", content, tmp_path)
    monkeypatch.chdir(tmp_path)
    measured = ask_peer("mlx", MLX_TRAINS, path)
    assert measured[-1] < measured[0] - 0.2
    assert (tmp_path / "run" / "adapters.safetensors").is_file()


def test_unsloth_knows_what_its_script_says() -> None:
    script = ast.parse(find_exporter("unsloth").export(PLANS["options"])[0].text)
    loader = source_of("unsloth", "unsloth/models/loader.py")
    lora = source_of("unsloth", "unsloth/models/llama.py")
    settings = fields_of(source_of("trl", "trl/trainer/sft_config.py"), "SFTConfig")
    settings |= fields_of(source_of("trl", "trl/trainer/base_config.py"), "_BaseConfig")
    settings |= fields_of(source_of("transformers", "transformers/training_args.py"), "TrainingArguments")
    known = {
        "from_pretrained": arguments_of(loader, "FastLanguageModel", "from_pretrained"),
        "get_peft_model": arguments_of(lora, "FastLlamaModel", "get_peft_model") | {"use_dora"},
        "SFTConfig": settings,
    }
    called = {ast.unparse(node.func).split(".")[-1]: node for node in ast.walk(script) if isinstance(node, ast.Call)}
    for name, names in known.items():
        assert {word.arg for word in called[name].keywords if word.arg} <= names, name
    constants = {ast.unparse(node.targets[0]): node.value for node in script.body if isinstance(node, ast.Assign)}
    assert {key.value for key in constants["SETTINGS"].keys} <= settings  # type: ignore[attr-defined]
    assert {key.value for key in constants["ADAPTER"].keys} <= known["get_peft_model"]  # type: ignore[attr-defined]
