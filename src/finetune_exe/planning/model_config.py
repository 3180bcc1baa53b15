"""The dimensions of a model out of its config.json, whatever its architecture calls them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from finetune_exe.domain.values import LatentAttention, ModelShape
from finetune_exe.planning.recurrence import hybrid_layers, named_as_usual

_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv", "kv_n_heads", "multi_query_group_num")
_HEAD_DIM = ("head_dim", "kv_channels", "v_head_dim")
_INNER = ("moe_intermediate_size", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "d_inner")
_DENSE_INNER = ("intermediate_size_mlp", "intermediate_size")
_VOCABULARY = ("padded_vocab_size", "vocab_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_k")
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "n_ctx")
_LANGUAGE_PART = ("text_config", "llm_config", "language_config")
_SECONDS = 3
_MOST_BYTES = 1 << 20
_TWO_MATRICES = {
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "codegen", "opt", "bloom", "falcon", "RefinedWeb",
    "RefinedWebModel", "mpt", "phi", "starcoder2", "nemotron", "nemotron_h", "persimmon", "biogpt", "arcee",
}  # fmt: skip
"""Model types whose MLP has no gate."""
_TIED = {
    "gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "falcon", "RefinedWeb", "RefinedWebModel", "mpt", "starcoder2",
    "gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "smollm3",
}  # fmt: skip
"""Model types whose configuration leaves out tie_word_embeddings when it is true."""
_FUSED: dict[str, tuple[Literal["qkv", "gate_up"], ...]] = {
    **dict.fromkeys(("gpt2", "gpt_bigcode", "gpt_neox", "codegen", "falcon", "bloom", "mpt"), ("qkv",)),
    **dict.fromkeys(("glm", "glm4", "granitemoeshared", "granitemoehybrid"), ("gate_up",)),
    "phi3": ("qkv", "gate_up"),
}
"""What model types keep as one matrix, experts aside.

Source: the model classes in transformers 5.23.
"""
_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208},
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024},
}
"""What configuration files of these types leave out.

Source: defaults of the configuration classes in transformers 4.57.
"""


def read_config(content: bytes) -> Mapping[str, Any] | None:
    """Parse a config.json; None where it is no JSON object.

    Raises:
        ValueError: It is no JSON.
    """
    config = json.loads(content)
    return config if isinstance(config, dict) else None


def config_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """Read the dimensions of a language model, or of the language part of a larger one.

    Returns:
        None for architectures that are no transformer decoder, or whose configuration lacks a dimension.
    """
    try:
        values = named_as_usual(_flat(config))
        kind = values.get("model_type")
        hidden, heads = _first(values, _HIDDEN), _first(values, _HEADS)
        latent = _latent_attention(values)
        inner = _first(values, _INNER) or values.get("expansion_ratio", 4) * hidden
        if kind == "qwen":  # counts the two halves of the gated MLP together
            inner //= 2
        num_layers, num_experts = _first(values, _LAYERS), _first(values, _EXPERTS) or 1
        dense = num_layers - _routed_layers(values, num_layers) if num_experts > 1 else 0
        hybrid = hybrid_layers(values, hidden, routed=num_layers - dense)
        if hybrid is not None and num_experts > 1 and hybrid.dense is not None:
            dense = hybrid.dense
        shared = _shared_width(values, inner)
        if kind == "granitemoehybrid" and num_experts == 1:  # what stands beside experts stands alone
            inner, shared = shared, 0
        shape = ModelShape(
            hidden_size=hidden,
            intermediate_size=inner,
            num_layers=num_layers,
            num_attention_heads=heads,
            num_key_value_heads=_key_heads(values, heads),
            head_dim=values["v_head_dim"] if latent else _first(values, _HEAD_DIM) or hidden // heads,
            vocab_size=_first(values, _VOCABULARY),
            tied_embeddings=bool(values.get("tie_word_embeddings", kind in _TIED)),
            gated_mlp=kind not in _TWO_MATRICES,
            num_experts=num_experts,
            experts_per_token=_first(values, _EXPERTS_PER_TOKEN) or 1,
            shared_intermediate_size=shared,
            dense_layers=dense,
            dense_intermediate_size=_first(values, _DENSE_INNER) if dense else 0,
            fused=_FUSED.get(str(kind), ()),
            latent_attention=latent,
        )
    except (KeyError, TypeError, ZeroDivisionError, ValidationError):
        return None
    if hybrid is None:
        return shape
    return shape.model_copy(update={
        "recurrence": hybrid.recurrence, "attention_layers": hybrid.attention, "mlp_layers": hybrid.mlp,
        "other_parameters": hybrid.others, "gated_attention": kind == "qwen3_next",
    })  # fmt: skip


def _latent_attention(values: Mapping[str, Any]) -> LatentAttention | None:
    """Read how DeepSeek's attention and its kin make keys and values; None for any other."""
    if values.get("kv_lora_rank") is None:
        return None
    return LatentAttention(
        query_rank=values.get("q_lora_rank"),
        key_value_rank=values["kv_lora_rank"],
        rotary_head_dim=values["qk_rope_head_dim"],
        plain_head_dim=values["qk_nope_head_dim"],
    )


def _routed_layers(values: Mapping[str, Any], num_layers: int) -> int:
    """Count the layers that have experts: all, but for those that the configuration names, or gives a rhythm of."""
    if (chosen := values.get("moe_layers")) is not None:
        return len(chosen)
    rhythm = values.get("decoder_sparse_step") or values.get("interleave_moe_layer_step") or 1
    plain = set(values.get("mlp_only_layers") or ()) | set(range(values.get("first_k_dense_replace") or 0))
    return sum((layer + 1) % rhythm == 0 and layer not in plain for layer in range(num_layers))


def _shared_width(values: Mapping[str, Any], inner: int) -> int:
    """Give the width of what every token runs through beside the experts; Llama 4's is an expert's."""
    if values.get("model_type") == "llama4_text":
        return inner
    named = values.get("shared_expert_intermediate_size") or values.get("shared_intermediate_size")
    return int(named or (values.get("n_shared_experts") or 0) * inner)


def config_context(config: Mapping[str, Any]) -> int | None:
    """Read the longest sequence the model was made for, in tokens."""
    context = _first(_flat(config), _CONTEXT)
    return context if isinstance(context, int) else None


def fetch_config(reference: str) -> Mapping[str, Any] | None:
    """Read a model's config.json from the hub's cache or, unless HF_HUB_OFFLINE is set, from the hub.

    Nothing but this one file is asked for, once and for three seconds, and nothing of it is run.

    Returns:
        None where the hub cannot be reached, does not know the model or does not hand it out.
    """
    from http.client import HTTPException
    from urllib.request import Request, urlopen

    from huggingface_hub import constants, get_token, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(reference, "config.json")
        if isinstance(cached, str):
            return read_config(Path(cached).read_bytes())
        if constants.HF_HUB_OFFLINE:
            return None
        request = Request(hf_hub_url(reference, "config.json"))  # noqa: S310 - the hub's address, which the user sets
        if token := get_token():
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
            return read_config(answer.read(_MOST_BYTES))
    except (HFValidationError, OSError, ValueError, HTTPException):
        return None


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Lay the language part over the whole, and under it the attention's settings and what the type leaves out."""
    values = dict(config)
    for name in _LANGUAGE_PART:
        if isinstance(config.get(name), dict):
            values |= {key: value for key, value in config[name].items() if value is not None}
    attention = values.get("attn_config")
    return {
        **_DEFAULTS.get(str(values.get("model_type")), {}),
        **(attention if isinstance(attention, dict) else {}),
        **values,
    }


def _first(values: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((values[name] for name in names if values.get(name) is not None), None)


def _key_heads(values: Mapping[str, Any], heads: Any) -> Any:
    """Count the key and value heads; one where all queries share it."""
    if values.get("multi_query") and not values.get("new_decoder_architecture"):
        return 1
    if values.get("multi_query_attention") is False:
        return heads
    return _first(values, _KEY_HEADS) or heads
