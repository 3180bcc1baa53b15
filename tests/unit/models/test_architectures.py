"""Tiny models of every architecture that people tune, through what training, evaluation and export do with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from tests.tiny import VOCABULARY, write_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from finetune_exe.domain.plan import Full, Lora, Method, Precision, Prefix, Prompt, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import count_parameters
from finetune_exe.models.forward import LossFunction, Rows, collate, pack
from finetune_exe.models.generate import generate
from finetune_exe.models.load import choose_attention, load_base
from finetune_exe.models.merge import merge_checkpoint
from finetune_exe.models.methods import training_method
from finetune_exe.models.packing import ROW_ATTENTION, require_packing
from finetune_exe.models.passes import compute_in_fewer_passes
from finetune_exe.planning.model_config import config_shape
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training.setup import recompute

NEW: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
                       "initializer_range": 0.2}  # fmt: skip
GROUPED: dict[str, Any] = {**NEW, "num_key_value_heads": 2, "max_position_embeddings": 256}
WIDE: dict[str, Any] = {**GROUPED, "head_dim": 8}
OLD: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
BOTH: dict[str, Any] = {"sliding_window": 18, "layer_types": ["sliding_attention", "full_attention"]}
LATENT: dict[str, Any] = {
    **GROUPED, "num_key_value_heads": 4, "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": GROUPED, "mistral": {**GROUPED, "sliding_window": 18}, "mixtral": {**GROUPED, **LOCAL}, "qwen2": GROUPED,
    "qwen2_moe": {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 32}, "qwen3": WIDE,
    "qwen3_moe": {**WIDE, **EXPERTS}, "gemma": WIDE, "gemma2": {**WIDE, "sliding_window": 18},
    "gemma3_text": {**WIDE, **BOTH}, "phi": GROUPED, "phi3": GROUPED, "phimoe": {**GROUPED, **LOCAL}, "gpt2": OLD,
    "gpt_neox": {**NEW, "max_position_embeddings": 256}, "gptj": {**OLD, "rotary_dim": 4}, "gpt_bigcode": OLD,
    "gpt_neo": {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                "window_size": 18, "max_position_embeddings": 256, "initializer_range": 0.2},
    "opt": {**NEW, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 256, "init_std": 0.2},
    "bloom": {**OLD, "hidden_size": 32}, "falcon": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, "initializer_range": 0.2}, "olmo": GROUPED,
    "olmo2": GROUPED, "granite": {**GROUPED, "logits_scaling": 4.0}, "stablelm": GROUPED, "nemotron": GROUPED,
    "granitemoe": {**GROUPED, **LOCAL, "logits_scaling": 4.0}, "starcoder2": {**GROUPED, "sliding_window": 18},
    "cohere2": {**GROUPED, **BOTH}, "smollm3": GROUPED, "arcee": GROUPED, "glm4": WIDE, "deepseek_v2": LATENT,
    "deepseek_v3": LATENT, "gpt_oss": {**WIDE, **LOCAL, **BOTH}, "mamba": {**NEW, "state_size": 4},
    "llama4_text": {**WIDE, "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 64},
    "jamba": {**GROUPED, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 4,
              "use_mamba_kernels": False},
    "glm4_moe": {**WIDE, **EXPERTS, "n_routed_experts": 4, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1,
                 "topk_group": 1},
    "falcon_h1": {**WIDE, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4,
                  "mamba_n_groups": 1, "mamba_chunk_size": 8},
    "nemotron_h": {**WIDE, "layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 4, "mamba_head_dim": 16,
                   "ssm_state_size": 4, "n_groups": 1, "chunk_size": 8},
    "granitemoehybrid": {**GROUPED, **LOCAL, "shared_intermediate_size": 48, "layer_types": ["mamba", "attention"],
                         "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 4, "mamba_n_groups": 1,
                         "mamba_chunk_size": 8},
    "qwen3_next": {**WIDE, **EXPERTS, "shared_expert_intermediate_size": 32, "linear_num_value_heads": 4,
                   "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
                   "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "mamba2": {"hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "num_heads": 4, "head_dim": 16, "n_groups": 1},
}  # fmt: skip
RECURRENT = {"mamba", "mamba2", "jamba", "falcon_h1", "nemotron_h", "granitemoehybrid", "qwen3_next"}
SEES_OTHERS = {"bloom", "falcon", "mpt", "gpt_oss", *RECURRENT}
"""Transformers' models that do not look at positions to keep packed rows apart."""
LENGTHS = (9, 25, 5)
UNSHAPED = {"mamba", "mamba2"}
"""Dimensions that a plan does not know: no attention at all."""


def config_of(name: str) -> Any:
    common = {"vocab_size": VOCABULARY, "bos_token_id": 5, "eos_token_id": 2, "pad_token_id": 0}
    return AutoConfig.for_model(name, **{**common, **MODELS[name]})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def base_of(folder: Path, name: str) -> Path:
    if not (folder / name).exists():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config_of(name))
        model.generation_config.pad_token_id = None
        model.save_pretrained(write_tokenizer(folder / name))
    return folder / name


def attached(base: Path, method: Method, *, packing: bool = False) -> Any:
    """As training makes a model, and as if something had been learned."""
    torch.manual_seed(0)
    model = choose_attention(load_base(base, method, dtype="float32", device="cpu"), packing=packing)
    tuned = training_method(method).attach(model, method, base=base, base_name=str(base))
    compute_in_fewer_passes(tuned)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad and not isinstance(method, Full):
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return tuned.eval()


def losses_and_gradient(losses: LossFunction, batches: list[Rows]) -> tuple[torch.Tensor, torch.Tensor]:
    losses.model.zero_grad()
    nll_N = torch.cat([losses(rows).nll_N for rows in batches])
    nll_N.sum().backward()
    slopes = [p.grad.flatten() for p in losses.model.parameters() if p.grad is not None]
    return nll_N.detach(), torch.cat(slopes).clone()


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).norm() <= 1e-4 * other.norm())


def rows_of(lengths: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(np.arange(10, 10 + length) * 7 % 390, np.ones(length, bool)) for length in lengths]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_learns_together_what_it_learns_row_by_row_and_leaves_as_others_read_it(
    name: str, folder: Path, tmp_path: Path
) -> None:
    base = base_of(folder, name)
    method = Lora(lora_rank=4, lora_dropout=0.0)
    model = attached(base, method)
    losses = LossFunction(model, Precision(), device="cpu")
    rows = rows_of(LENGTHS)
    alone, slope = losses_and_gradient(losses, [collate([row], pad_token_id=0, device="cpu") for row in rows])
    together, found = losses_and_gradient(losses, [collate(rows, pad_token_id=0, device="cpu")])
    assert same(together, alone)
    assert same(found, slope)
    training_method(method).save(model, tmp_path / "tuned")
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "tuned")
    ids = [torch.from_numpy(tokens)[None] for tokens, _ in rows]
    with torch.no_grad():
        by_others = [plain.eval()(input_ids=row).logits for row in ids]
        whole = merge_checkpoint(tmp_path / "tuned", base, method, dtype="float32", device="cpu")
        assert all(same(whole(input_ids=row).logits, logits) for row, logits in zip(ids, by_others, strict=True))
    expected = [torch.nn.functional.cross_entropy(logits[0, :-1], row[0, 1:], reduction="none")
                for row, logits in zip(ids, by_others, strict=True)]  # fmt: skip
    assert same(alone, torch.cat(expected))
    tokenizer, prompts = load_tokenizer(base, chat_template=None), [tuple(row[0].tolist()) for row in ids]
    answers = generate(whole, prompts, tokenizer, max_new_tokens=4)
    assert answers == [generate(whole, [prompt], tokenizer, max_new_tokens=4)[0] for prompt in prompts]
    if name in {"opt", "gpt_bigcode", "gpt2", "phimoe"}:  # they drop out, or jitter, while they learn
        return
    recompute(model.train(), every=1)
    again, found = losses_and_gradient(losses, [collate(rows, pad_token_id=0, device="cpu")])
    assert same(again, alone)
    assert same(found, slope)


@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_are_learned_as_rows_alone_or_packing_is_refused(name: str, folder: Path) -> None:
    model: PreTrainedModel = choose_attention(
        load_base(base_of(folder, name), Full(), dtype="float32", device="cpu"), packing=True
    )
    if name in SEES_OTHERS:
        with pytest.raises(FineTuneError, match=r"batch\.packing=false"):
            require_packing(model)
        return
    arrangement = require_packing(model)
    assert (arrangement == "beginning once") == (model.config._attn_implementation == ROW_ATTENTION)
    losses = LossFunction(model.eval(), Precision(), device="cpu")
    rows = rows_of((40, 9, 33))
    alone, slope = losses_and_gradient(losses, [collate([row], pad_token_id=0, device="cpu") for row in rows])
    packed, found = losses_and_gradient(losses, [pack(rows, pad_token_id=0, device="cpu")])
    assert same(packed, alone)
    assert same(found, slope)


def test_a_window_that_the_layers_do_not_name_is_not_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows on which attention is tried are shorter than the window."""
    window = {"use_sliding_window": True, "sliding_window": 18, "max_window_layers": 0}
    monkeypatch.setitem(MODELS, "qwen2_moe", {**MODELS["qwen2_moe"], **window})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of("qwen2_moe")).eval()
    ids = torch.from_numpy(rows_of((60,))[0][0])[None]
    with torch.no_grad():
        before = model(input_ids=ids).logits
        assert same(choose_attention(model)(input_ids=ids).logits, before)


@pytest.mark.parametrize("name", ["gpt2", "falcon", "gpt_neox", "phi3", "mixtral"])
def test_adapters_beside_4_bit_fold_into_what_these_stand_for(name: str, folder: Path, tmp_path: Path) -> None:
    base, method = base_of(folder, name), Qlora(lora_rank=4, lora_dropout=0.0)
    model = attached(base, method)
    training_method(method).save(model, tmp_path / "tuned")
    merge_checkpoint(tmp_path / "tuned", base, method, dtype="float32", device="cpu").save_pretrained(
        tmp_path / "whole"
    )
    ids = torch.from_numpy(rows_of((25,))[0][0])[None]
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()(input_ids=ids).logits
        assert same(found, model(input_ids=ids).logits)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("mixtral", Lora(lora_dropout=0.0, use_dora=True)),
        ("qwen3_moe", Lora(lora_dropout=0.1)), ("falcon", Prefix(num_virtual_tokens=5)),
        ("deepseek_v3", Prefix(num_virtual_tokens=5)), ("jamba", Prefix(num_virtual_tokens=5)),
        ("mamba", Prefix(num_virtual_tokens=5)), ("mpt", Prompt(num_virtual_tokens=5)),
    ],
)  # fmt: skip
def test_what_peft_cannot_put_into_a_model_is_refused_in_words(name: str, method: Method, folder: Path) -> None:
    with pytest.raises(FineTuneError, match=f"models of type {name}") as raised:
        attached(base_of(folder, name), method)
    assert raised.value.code == "T02"


@pytest.mark.parametrize("name", sorted(set(MODELS) - UNSHAPED))
def test_a_config_file_says_how_many_weights_the_matrices_have(name: str, tmp_path: Path) -> None:
    config = config_of(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    tables = {id(p) for n, p in model.named_parameters() if "wpe" in n or "embed_positions" in n}
    matrices = sum(p.numel() for p in model.parameters() if p.ndim > 1 and id(p) not in tables)
    config.save_pretrained(tmp_path)
    shape = config_shape(json.loads((tmp_path / "config.json").read_bytes()))
    assert shape is not None
    assert count_parameters(shape) == pytest.approx(matrices, rel=0.02)
