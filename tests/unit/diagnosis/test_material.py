"""Event files, adapters, answers and suspicious settings, each against files written by other means."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.diagnosis.artefacts import look_at_adapter, look_at_answers
from finetune_exe.diagnosis.checks import suspicions
from finetune_exe.diagnosis.match import Hit
from finetune_exe.diagnosis.series import read_trainer_state
from finetune_exe.diagnosis.tensorboard import read_event_file
from finetune_exe.errors import FineTuneError

Values = dict[str, str | int | float | bool | None]


def field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([number << 3 | kind]) + content


def message(number: int, content: bytes) -> bytes:
    return field(number, 2, bytes([len(content) & 127 | 128, len(content) >> 7]) + content)


def event(step: int, tag: str, value: float, *, tensor: bool = False) -> bytes:
    """Write one record by hand, as the format's description says."""
    scalar = message(8, message(5, struct.pack("<f", value))) if tensor else field(2, 5, struct.pack("<f", value))
    summary = message(5, message(1, message(1, tag.encode()) + scalar))
    record = field(1, 1, struct.pack("<d", 1.7e9)) + field(2, 0, bytes([step & 127 | 128, step >> 7])) + summary
    return struct.pack("<QI", len(record), 0) + record + b"\0\0\0\0"


def test_losses_are_read_from_event_files(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1700000000.host.1.0"
    records = [event(i, "train/loss", 3 - i / 100, tensor=i % 2 == 0) for i in range(1, 201)]
    records += [event(100, "eval/loss", 1.5), event(200, "train/grad_norm", 0.25), event(3, "other", 9.0)]
    path.write_bytes(b"".join(records) + b"\x40\0\0")
    series = read_event_file(path)
    assert series.train == pytest.approx([3 - i / 100 for i in range(1, 201)], rel=1e-6)
    assert series.evaluation == [1.5]
    assert series.points[-1].grad_norm == 0.25
    assert series.points[99].step == 100


@given(st.binary(max_size=600))
def test_no_bytes_break_the_event_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("events") / "tfevents"
    path.write_bytes(struct.pack("<QI", len(content), 0) + content + b"\0\0\0\0" + content)
    assert len(read_event_file(path).train) < 600


def adapter(tmp_path: Path, values: np.ndarray, dtype: str = "F32") -> Path:
    path = tmp_path / "adapter_model.safetensors"
    raw = values.tobytes()
    names = {f"layers.{i}.q_proj.lora_{side}.weight": side for i in range(2) for side in "AB"}
    header = {name: {"dtype": dtype, "shape": [len(values), 1], "data_offsets": [i * len(raw), (i + 1) * len(raw)]}
              for i, name in enumerate(names)}  # fmt: skip
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + raw * len(names))
    return path


def found(hits: object) -> list[str]:
    return [hit.label for hit in hits if isinstance(hit, Hit)]  # type: ignore[attr-defined]


def test_an_adapter_that_was_never_trained_or_broke_is_told_by_its_weights(tmp_path: Path) -> None:
    fine = np.linspace(-1, 1, 4000, dtype=np.float32)
    assert found(look_at_adapter(adapter(tmp_path, fine))) == []
    assert found(look_at_adapter(adapter(tmp_path, np.zeros(4000, np.float32)))) == ["adapter_not_applied"]
    broken = fine.copy()
    broken[77] = np.nan
    assert found(look_at_adapter(adapter(tmp_path, broken))) == ["nan_loss"]
    halves = np.full(8000, 0x7FC0, np.uint16)
    assert found(look_at_adapter(adapter(tmp_path, halves, "BF16"))) == ["nan_loss"]
    assert found(look_at_adapter(adapter(tmp_path, np.full(8000, np.inf, np.float16), "F16"))) == []
    small = tmp_path / "adapter_model.bin"
    small.write_bytes(b"x" * 443)
    assert found(look_at_adapter(small)) == ["adapter_not_applied"]
    cut = tmp_path / "adapter_model.safetensors"
    cut.write_bytes(b"\xff" * 30_000)
    assert found(look_at_adapter(cut)) == ["adapter_load_mismatch"]


@pytest.mark.parametrize(
    "entry",
    [
        {"data_offsets": ["x", 1]}, {"data_offsets": [-1000, 1]}, {"data_offsets": [0, 1], "shape": 3}, 7, None,
        {"data_offsets": [0, 10**30], "shape": [1], "dtype": "F32"}, {"data_offsets": [0, 8], "shape": [[]], "dtype": []},
        {"data_offsets": [10**30, 10**30], "shape": [0], "dtype": "F32"},
    ],
)  # fmt: skip
def test_an_adapter_whose_header_lies_is_damaged(entry: object, tmp_path: Path) -> None:
    header = json.dumps({"lora_B": entry}).encode()
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\1" * 30_000)
    assert found(look_at_adapter(path)) == ["adapter_load_mismatch"]


def test_tensors_that_share_their_bytes_are_not_read_for_ever(tmp_path: Path) -> None:
    header = {f"{i}.lora_B": {"dtype": "U8", "shape": [30_000], "data_offsets": [0, 30_000]} for i in range(1_000)}
    written = json.dumps(header).encode()
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(written)) + written + b"\1" * 30_000)
    assert found(look_at_adapter(path)) == ["adapter_load_mismatch"]


@pytest.mark.parametrize(
    "content",
    ['{"log_history": ' + "[" * 100_000, '{"log_history": [{"loss": 1}], "x": ' + "[" * 100_000 + "]" * 100_000 + "}"],
)
def test_a_state_nested_without_end_is_refused(content: str, tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="no whole JSON"):
        read_trainer_state(tmp_path / "trainer_state.json", content.encode())


def test_a_state_of_odd_numbers_and_names_is_read_to_its_end(tmp_path: Path) -> None:
    history = [{"loss": 10**400, "step": 1}, {"loss": 2.0, "step": 2}, {"loss": 1.0, "step": 3}]
    content = {"note": "log_history", "other": "[not here", "log_history": history}
    series = read_trainer_state(tmp_path / "trainer_state.json", json.dumps(content).encode())
    assert series.train == [float("inf"), 2.0, 1.0]


def answers(tmp_path: Path, rows: list[dict[str, str]]) -> list[str]:
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return found(look_at_answers(path))


def test_answers_are_looked_at_for_loops_sameness_and_the_base(tmp_path: Path) -> None:
    good = [{"prompt": str(i), "output": f"The answer to {i} is {i * i}."} for i in range(9)]
    assert answers(tmp_path, good) == []
    assert (
        answers(tmp_path, [{"prompt": str(i), "output": f"{i}: the cat sat " * 9} for i in range(9)])[0] == "repetition"
    )
    assert "repetition" in answers(tmp_path, [{"prompt": str(i), "output": "I am a bot."} for i in range(9)])
    assert answers(tmp_path, [row | {"base": row["output"]} for row in good]) == ["adapter_not_applied"]
    endless = [
        {"prompt": str(i), "output": " ".join(f"w{(i * 7 + j * j) % 997}" for j in range(300))[:900]} for i in range(9)
    ]
    assert answers(tmp_path, endless) == ["eos_not_learned"]


@pytest.mark.parametrize(
    ("values", "settings", "label"),
    [
        ({}, {"optimizer.learning_rate": "2e-4"}, "lr_type_string"),
        ({}, {"optimizer.learning_rate": 2e-2, "method.kind": "lora"}, "lr_divergence"),
        ({}, {"optimizer.learning_rate": 1e-3}, "lr_divergence"),
        ({}, {"optimizer.learning_rate": 1e-6, "method.lora_rank": 8}, "underfitting"),
        ({}, {"schedule.warmup.fraction": 0.4}, "underfitting"),
        ({}, {"schedule.epochs": 50}, "overfitting"),
        ({"template": "llama3"}, {"model.reference": "Qwen/Qwen2.5-7B-Instruct"}, "no_learning_wrong_template"),
        ({"special_tokens.pad_token": "</s>"}, {}, "eos_not_learned"),
        ({"fp16": True}, {"model.reference": "google/gemma-2-9b"}, "nan_loss"),
        ({"load_in_4bit": True}, {}, "no_adapter_on_quantized"),
        ({"packing": True}, {}, "packing_contamination"),
        ({"per_device_eval_batch_size": 8}, {"batch.micro_batch_size": 1}, "oom"),
        ({}, {"data.max_length": 128}, "truncation"),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_suspected(values: Values, settings: Values, label: str) -> None:
    assert [hit.label for hit in suspicions(values, settings)] == [label]


def test_customary_settings_are_not_suspected() -> None:
    usual: Values = {"optimizer.learning_rate": 2e-4, "method.kind": "lora", "schedule.epochs": 3,
                     "schedule.warmup.fraction": 0.03, "data.max_length": 2048, "batch.micro_batch_size": 4,
                     "model.reference": "Qwen/Qwen2.5-7B-Instruct"}  # fmt: skip
    values: Values = {"template": "qwen", "bf16": True, "per_device_eval_batch_size": 8, "load_in_4bit": True}
    assert list(suspicions(values, usual)) == []
