"""Dimensions out of config.json, held against the model classes that read the same file."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.knowledge.models import find_model
from finetune_exe.planning.model import describe_model
from finetune_exe.planning.model_config import config_shape, fetch_config

LLAMA = {
    "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49152, "tie_word_embeddings": True,
    "max_position_embeddings": 8192,
}  # fmt: skip


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def transformers(torch: Any) -> Any:
    """Load the model classes once; it takes seconds."""
    module = pytest.importorskip("transformers")
    assert module.AutoModelForCausalLM
    return module


@pytest.mark.parametrize(
    "model_type",
    [
        "llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode",
        "opt", "bloom", "falcon", "mpt", "phi", "phi3", "starcoder2", "olmo2", "granite", "stablelm", "smollm3",
        "mixtral", "qwen2_moe", "granitemoe", "gpt_oss",
    ],
)  # fmt: skip
def test_the_dimensions_count_the_weights_of_the_real_class(model_type: str, torch: Any, transformers: Any) -> None:
    config = transformers.AutoConfig.for_model(model_type)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shape = config_shape(json.loads(config.to_json_string(use_diff=False)))
    assert shape is not None
    real = sum(parameter.numel() for parameter in model.parameters())
    positions = sum(p.numel() for name, p in model.named_parameters() if "wpe" in name or "embed_positions" in name)
    assert count_parameters(shape) == pytest.approx(real - positions, rel=2e-3)


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("jamba", {}),
        ("jamba", {"mamba_proj_bias": True, "mamba_conv_bias": False, "num_experts": 1, "mamba_dt_rank": 100}),
        ("falcon_h1", {}),
        ("falcon_h1", {"mamba_rms_norm": True, "mamba_n_groups": 2, "mamba_d_ssm": None}),
        ("nemotron_h", {}),
        ("nemotron_h", {"layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"], "use_conv_bias": False}),
        ("granitemoehybrid", {"layer_types": ["mamba", "attention"] * 16}),
        ("granitemoehybrid", {"layer_types": ["mamba", "attention"] * 16, "num_local_experts": 0}),
        ("qwen3_next", {}),
        ("qwen3_next", {"layer_types": ["linear_attention", "full_attention"] * 24, "mlp_only_layers": [0, 3]}),
    ],
)
def test_hybrids_are_counted_to_the_last_weight(
    model_type: str, settings: dict[str, Any], torch: Any, transformers: Any
) -> None:
    config = transformers.AutoConfig.for_model(model_type, **settings)
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    shape = config_shape(json.loads(config.to_json_string(use_diff=False)))
    assert shape is not None
    assert count_parameters(shape) == sum(parameter.numel() for parameter in model.parameters())


def test_the_letters_of_nemotron_h_mean_its_layers() -> None:
    sizes = {"model_type": "nemotron_h", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "head_dim": 16,
             "num_key_value_heads": 2, "vocab_size": 100, "mamba_num_heads": 4, "mamba_head_dim": 32, "ssm_state_size": 16,
             "n_groups": 1, "conv_kernel": 4}  # fmt: skip
    letters = config_shape({**sizes, "hybrid_override_pattern": "M-M*-"})
    assert letters == config_shape({**sizes, "layers_block_type": ["mamba", "mlp", "mamba", "attention", "mlp"]})
    assert letters is not None
    assert (letters.num_layers, letters.num_attention_layers, letters.num_mlp_layers) == (5, 1, 2)
    assert config_shape({**sizes, "hybrid_override_pattern": "M?"}) is None
    assert config_shape({**sizes, "hybrid_override_pattern": "M*", "ssm_state_size": None}) is None


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (LLAMA, "SmolLM2-135M"),
        ({"model_type": "gpt2", "vocab_size": 50257}, "gpt2"),
        (
            {"model_type": "gemma3", "vision_config": {"hidden_size": 1152}, "tie_word_embeddings": True,
             "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
                             "num_hidden_layers": 34, "max_position_embeddings": 131072}},
            "gemma-3-4b",
        ),
        (
            {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "expansion_ratio": 4,
             "vocab_size": 50432, "max_seq_len": 2048, "attn_config": {"attn_impl": "torch"}},
            "mpt-7b",
        ),
        (
            {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_kv_heads": 71,
             "multi_query": True, "new_decoder_architecture": False, "num_hidden_layers": 32, "vocab_size": 65024},
            "falcon-7b",
        ),
        (
            {"model_type": "falcon", "hidden_size": 8192, "num_attention_heads": 128, "num_kv_heads": 8,
             "multi_query": True, "new_decoder_architecture": True, "num_hidden_layers": 60, "vocab_size": 65024},
            "falcon-40b",
        ),
        (
            {"model_type": "qwen", "hidden_size": 4096, "intermediate_size": 22016, "num_attention_heads": 32,
             "num_hidden_layers": 32, "kv_channels": 128, "vocab_size": 151936, "seq_length": 8192},
            "Qwen-7B",
        ),
        (
            {"model_type": "chatglm", "hidden_size": 4096, "ffn_hidden_size": 13696, "num_layers": 28,
             "num_attention_heads": 32, "multi_query_attention": True, "multi_query_group_num": 2,
             "kv_channels": 128, "padded_vocab_size": 65024, "tie_word_embeddings": False},
            "chatglm3-6b",
        ),
        (
            {"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
             "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128,
             "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151936, "tie_word_embeddings": False},
            "Qwen3-30B-A3B",
        ),
    ],
)  # fmt: skip
def test_a_published_configuration_gives_the_known_dimensions(config: dict[str, Any], name: str) -> None:
    assert config_shape(config) == find_model(name).shape


@pytest.mark.parametrize(
    "config", [{}, {"model_type": "mamba"}, {**LLAMA, "hidden_size": "576"}, {**LLAMA, "vocab_size": 0}]
)
def test_what_is_no_decoder_has_no_shape(config: dict[str, Any]) -> None:
    assert config_shape(config) is None


class _Hub(BaseHTTPRequestHandler):
    """Serve one configuration and one file that is none."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        files = {"/a/model": json.dumps(LLAMA), "/a/broken": "<html>"}
        content = files.get(self.path.removesuffix("/resolve/main/config.json"))
        self.send_response(200 if content else 404)
        self.end_headers()
        self.wfile.write((content or "").encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[_Hub]]:
    from huggingface_hub import constants

    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        _Hub.asked.clear()
        yield _Hub
        server.shutdown()


def test_an_unknown_hub_id_gets_its_dimensions_from_the_hub(hub: type[_Hub]) -> None:
    model = describe_model("a/model")
    assert (model.name, model.shape, model.context_length) == ("model", find_model("SmolLM2-135M").shape, 8192)
    assert hub.asked == ["/a/model/resolve/main/config.json"]


@pytest.mark.parametrize("reference", ["a/missing", "a/broken", "a/--b..c"])
def test_what_the_hub_cannot_tell_stays_unknown(hub: type[_Hub], reference: str) -> None:
    assert fetch_config(reference) is None
    assert describe_model(reference).shape is None


def test_nothing_is_asked_offline_or_of_known_models(hub: type[_Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    assert describe_model("meta-llama/Llama-3.1-8B").shape is not None
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert describe_model("a/model").shape is None
    assert not hub.asked
