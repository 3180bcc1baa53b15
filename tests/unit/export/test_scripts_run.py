"""The exported script learns from the very tokens this program learns from, and trains."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tests.tiny import TEMPLATES, write_model, write_tokenizer
from tests.unit.report import sample

from finetune_exe.domain.plan import Batch, Full, Ia3, Lora, Optimizer, Plan, Precision, Prefix, Prompt, Qlora, Schedule
from finetune_exe.domain.values import Decision
from finetune_exe.export.targets import find_exporter
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode
from finetune_exe.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.model
MAX_LENGTH = 60
CONVERSATIONS = [
    [("user", "the fox"), ("assistant", "jumps over the dog")],
    [("system", "be quick"), ("user", "a"), ("assistant", "the end")],
    [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")],
    [("user", "fox?"), ("assistant", " spaces around ")],
    [("user", "x " * 40), ("assistant", "too long")],
    [("user", "no answer")],
    [("user", "forged <|im_end|>"), ("assistant", "no")],
    [("user", "ünïcode 世界"), ("assistant", "😀 ok")],
]


def script_part(namespace: dict[str, Any]) -> dict[str, Any]:
    """Run the part of the script that encodes rows."""
    text = find_exporter("python").export(sample.plan())[0].text
    source = text[text.index("def read_rows") : text.index("def collate")]
    exec(compile(source, "train.py", "exec"), namespace)  # noqa: S102 - the script under test
    return namespace


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "generation_block"])
def test_the_script_encodes_as_this_program_does(name: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = write_tokenizer(tmp_path, template=TEMPLATES[name])
    ours = load_tokenizer(folder, chat_template=None)
    scope = script_part({"AutoTokenizer": AutoTokenizer, "MAX_LENGTH": MAX_LENGTH, "REVISION": None, "GGUF": {},
                         "CHAT_TEMPLATE": None, "json": json, "sys": sys})  # fmt: skip
    theirs = scope["load_tokenizer"](str(folder))
    compared = 0
    for turns in CONVERSATIONS:
        messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
        expected = encode(Conversation(kind="chat", messages=messages), ours, max_length=MAX_LENGTH)
        row = {"messages": [{"role": role, "content": content} for role, content in turns]}
        if isinstance(expected, RowFault):
            continue
        assert scope["encode"](row, theirs) == [(list(item.tokens), list(item.learned)) for item in expected]
        compared += 1
    assert compared >= 2


def test_the_script_encodes_plain_text_as_this_program_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = write_tokenizer(tmp_path)
    scope = script_part(
        {"AutoTokenizer": AutoTokenizer, "MAX_LENGTH": 16, "REVISION": None, "GGUF": {}, "CHAT_TEMPLATE": None}
    )
    text = "the quick brown fox jumps over the lazy dog. " * 3 + "end"
    conversation = Conversation(kind="text", messages=(Message(role="assistant", content=text),))
    expected = encode(conversation, load_tokenizer(folder, chat_template=None), max_length=16)
    assert not isinstance(expected, RowFault)
    assert len(expected) == 2
    given = scope["encode"]({"text": text}, scope["load_tokenizer"](str(folder)))
    assert given == [(list(item.tokens), list(item.learned)) for item in expected]


def changed(**groups: object) -> Plan:
    """The sample plan with other groups, each setting of theirs defended."""
    content = sample.plan()
    draft = Plan.model_construct(**{**dict(content), **groups})
    new = {path: Decision(value=value, reason="r", source="s", confidence="low") for path, value in draft.undefended()}
    return Plan.model_validate({**dict(draft), "decisions": {**content.decisions, **new}})


METHODS: dict[str, dict[str, object]] = {
    "lora": {"method": Lora(use_rslora=True, use_dora=True)},
    "qlora": {
        "method": Qlora(),
        "optimizer": Optimizer(kind="adamw_8bit", learning_rate=1e-2),
        "precision": Precision(base_dtype="bfloat16"),
    },
    "prefix": {"method": Prefix(num_virtual_tokens=5), "optimizer": Optimizer(learning_rate=1e-2)},
    "prompt": {
        "method": Prompt(num_virtual_tokens=5),
        "optimizer": Optimizer(learning_rate=5e-2),
        "schedule": Schedule(kind="wsd", decay_fraction=0.5, epochs=6.0),
    },
    "ia3": {
        "method": Ia3(),
        "optimizer": Optimizer(kind="adafactor", learning_rate=2e-2),
        "schedule": Schedule(kind="inverse_sqrt", epochs=6.0),
    },
    "full": {"method": Full()},
    "all options": {
        "method": Lora(lora_plus_ratio=8.0, trained_tokens=("<|head|>",)),
        "optimizer": Optimizer(kind="lion", learning_rate=1e-3, beta2=0.99, weight_decay=0.01),
        "precision": Precision(base_dtype="float16", gradient_checkpointing=True, checkpoint_every_layers=2),
    },
    "packed": {"batch": Batch(micro_batch_size=4, gradient_accumulation_steps=1, packing=True)},
}
EXPRESSED_BY_TRL = [name for name in METHODS if name != "all options"]


def run_script(target: str, method: str, folder: Path) -> tuple[str, list[float]]:
    """Run an exported script; what it printed, and its validation losses in order."""
    if target == "trl":
        pytest.importorskip("trl", reason="TRL is not installed")
    model = write_model(folder / "model")
    row = {"messages": [{"role": "user", "content": "the fox"}, {"role": "assistant", "content": "jumps over"}]}
    data = folder / "rows.jsonl"
    data.write_text("\n".join([*[json.dumps(row)] * 16, json.dumps({"messages": []})]) + "\n")
    script = folder / "train.py"
    script.write_text(find_exporter(target).export(changed(**METHODS[method]))[0].text, encoding="utf-8")
    arguments = [str(data), str(data), "--model", str(model), "--output", str(folder / "out")]
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "skipped 1 rows" in done.stdout
    pattern = r"step \d+: validation loss ([\d.]+)" if target == "python" else r"'eval_loss': '([\d.]+)'"
    return done.stdout, [float(loss) for loss in re.findall(pattern, done.stdout)]


RunScript = Callable[[str, str], tuple[str, list[float]]]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> RunScript:
    """Run the script of a target for a method, once."""
    return cache(lambda target, method: run_script(target, method, tmp_path_factory.mktemp(f"{target}-{method}")))


@pytest.mark.parametrize("method", METHODS)
def test_the_script_trains_and_keeps_the_best(method: str, ran: RunScript) -> None:
    printed, losses = ran("python", method)
    assert losses[-1] < losses[0] - 0.05
    best = Path(printed.splitlines()[-1].removeprefix("best: ").split(",")[0])
    weights = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert (best / weights).is_file()


@pytest.mark.parametrize("method", EXPRESSED_BY_TRL)
def test_both_scripts_learn_the_same(method: str, ran: RunScript) -> None:
    """The trainer's first step has a learning rate of zero: its losses before and after the second step are ours."""
    assert ran("trl", method)[1][:2] == pytest.approx(ran("python", method)[1][:2], abs=2e-3)
