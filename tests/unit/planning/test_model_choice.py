"""Base models by embedded name, folder, file, hub id and known name."""

import json
from pathlib import Path

import pytest
from gguf import GGUFWriter

from finetune_exe.domain.task import TaskSpec
from finetune_exe.domain.values import Hardware
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.models import find_model
from finetune_exe.planning.analyze import analyze
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.shortlist import shortlist

CPU = Hardware(cpu="a processor", num_cores=2, memory_bytes=16 << 30)

CONFIG = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip


def test_the_embedded_model_is_known() -> None:
    model = describe_model("embedded")
    assert (model.reference, model.name) == ("embedded", "SmolLM2-135M-Instruct")
    assert (model.num_parameters, model.context_length, model.license) == (134_515_008, 8192, "Apache-2.0")


def test_a_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    model = describe_model(str(tmp_path))
    assert (model.shape, model.context_length) == (find_model("SmolLM2-135M").shape, 8192)
    assert (model.name, model.num_parameters) == (tmp_path.name, 134_515_008)


@pytest.mark.parametrize(
    ("card", "license"),
    [
        (None, None),
        ("# no head\n\nlicense: mit\n", None),
        ("---\ntags:\n- chat\n---\n", None),
        ("---\nlicense: apache-2.0\n---\n# A model\n", "Apache-2.0"),
        ("---\nlicense:\n- mit\n---\n", "MIT"),
        ("---\nlicense: other\nlicense_name: qwen-research\n---\n", "Qwen Research"),
        ("---\nlicense: cc-by-nc-4.0\n---\n", "cc-by-nc-4.0"),
        ("---\nlicense: other\n---\n", None),
        (f"---\nlicense: {'all of its text ' * 9}\n---\n", None),
        ("---\nlicense: \x1b[31mmit\n---\n", None),
    ],
)
def test_the_licence_of_a_folder_is_read_off_its_card(tmp_path: Path, card: str | None, license: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert describe_model(str(tmp_path)).license == license


def test_the_licence_of_a_gguf_file_is_read(tmp_path: Path) -> None:
    writer = GGUFWriter(path := tmp_path / "small.gguf", "llama")
    writer.add_license("llama3.2")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert describe_model(str(path)).license == "Llama 3.2 Community"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("meta-llama/Llama-3.1-8B", "its own, Llama 3.1 Community, is none"),
        ("someone/something", "its own is not known here"),
        ("Qwen/Qwen2.5-7B", None),
    ],
)
def test_a_model_asked_for_whose_licence_is_not_allowed_is_named_so(model: str, says: str | None) -> None:
    spec = TaskSpec(description="write code", model=model, permissive_license=True)
    reason = analyze(spec, profile=None, hardware=parse_hardware("RTX 4090")).decisions["model.reference"].reason
    assert says in reason if says else reason == "you asked for it"
    allowed = analyze(
        spec.model_copy(update={"permissive_license": False}), profile=None, hardware=parse_hardware("RTX 4090")
    )
    assert allowed.decisions["model.reference"].reason == "you asked for it"


def test_a_folder_of_another_kind_has_no_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert describe_model(str(tmp_path)).shape is None


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_readable_configuration_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(FineTuneError, match="FT-M03"):
        describe_model(str(tmp_path))


def test_a_gguf_file_is_taken_without_a_shape(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(b"GGUF")
    assert describe_model(str(tmp_path / "small.gguf")).shape is None


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("meta-llama/Llama-3.1-8B", "Llama-3.1-8B"),
        ("unsloth/Qwen2.5-7B-bnb-4bit", "Qwen2.5-7B-bnb-4bit"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("someone/something", "something"),
    ],
)
def test_a_hub_id_stays_as_it_is(reference: str, name: str) -> None:
    model = describe_model(reference)
    assert (model.reference, model.name) == (reference, name)


@pytest.mark.parametrize("reference", ["./absent", "/no/such/folder", "absent.gguf", "a/b/c", "no such model"])
def test_what_is_not_there_is_refused(reference: str) -> None:
    with pytest.raises(FineTuneError, match="FT-M01"):
        describe_model(reference)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"")
    with pytest.raises(FineTuneError, match="no GGUF file"):
        describe_model(str(tmp_path / "model.bin"))


def test_the_first_candidate_is_taken_unless_one_is_wished() -> None:
    machine = parse_hardware("RTX 4090")
    spec = TaskSpec(description="write code")
    plan = analyze(spec, profile=None, hardware=machine)
    assert plan.model.reference == plan.shortlist[0].reference
    assert [candidate.chosen for candidate in plan.shortlist] == [True] + [False] * (len(plan.shortlist) - 1)
    wished = analyze(spec.model_copy(update={"model": "gpt2"}), profile=None, hardware=machine)
    assert wished.model.name == "gpt2"
    assert wished.shortlist == ()


@pytest.mark.parametrize("gpu", [None, "2"])
def test_without_a_gpu_that_holds_more_the_embedded_model_is_chosen(gpu: str | None) -> None:
    machine = parse_hardware(gpu) if gpu else CPU
    (first, *_) = shortlist(TaskSpec(description="not known"), task="generation", profile=None, hardware=machine)
    assert first.reference == "embedded"
