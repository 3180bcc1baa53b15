"""Memory counted by formula against a traced training step of the real model classes, narrow and shallow."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Params4bit
from peft import LoraConfig, get_peft_model
from tests.tiny import write_tokenizer
from tests.unit.models.gridded import on_grid
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, PretrainedConfig, Qwen2Config, Qwen3MoeConfig

from finetune_exe.domain.plan import Qlora
from finetune_exe.domain.values import ModelShape
from finetune_exe.estimate.footprint import footprint, weight_bytes
from finetune_exe.estimate.parameters import ALL_LINEAR, Target, count_lora_parameters, count_parameters
from finetune_exe.estimate.workload import Adapters, FullTraining, OptimizerKind, Training, Workload
from finetune_exe.models.four_bit import NormalFloat, OnGrid
from finetune_exe.models.load import load_base
from finetune_exe.models.low_rank_layer import compute_adapters_fast
from finetune_exe.models.methods import training_method
from finetune_exe.models.packed import Packed
from finetune_exe.models.passes import compute_in_fewer_passes
from finetune_exe.models.places import adapter_places
from finetune_exe.training.setup import recompute

ROWS, TOKENS, RANK, VOCABULARY = 2, 384, 4, 1024
HIDDEN, INNER, HEADS, KEYS, HEAD_DIM = 512, 1408, 8, 4, 64
CONFIGS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "gemma": GemmaConfig}


def scales(model: torch.nn.Module) -> list[torch.Tensor]:
    """Give what lies beside weights in 4 bit."""
    kept: list[Any] = [kept for m in model.modules() if isinstance(m, Packed) for kept in m.packed.values()]
    states = [p.quant_state for p in model.parameters() if isinstance(p, Params4bit)]
    states += [one.state for one in kept if isinstance(one, NormalFloat)]
    found = [tensor for state in states for tensor in (state.absmax, state.state2.absmax)]
    return found + [tensor for one in kept if isinstance(one, OnGrid) for tensor in (one.scale, one.least)]


class LiveBytes(TorchDispatchMode):
    """Follows which storages are alive after each operation, and the most they ever took."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.weights = {StorageWeakRef(value.untyped_storage()) for value in (*model.parameters(), *scales(model))}
        self.sizes: dict[StorageWeakRef, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                if reference not in self.weights:
                    self.sizes.setdefault(reference, storage.nbytes())
        self.sizes = {storage: size for storage, size in self.sizes.items() if not storage.expired()}
        self.peak = max(self.peak, sum(self.sizes.values()))
        return result


def traced_peak(kind: str, layers: int, *, full: bool, checkpointing: bool, one_pass: bool) -> int:
    """Run forward and backward; return the peak of what the step itself allocates."""
    config: PretrainedConfig = CONFIGS[kind](
        hidden_size=HIDDEN, intermediate_size=INNER, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, tie_word_embeddings=True,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if not full:
        settings = LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM")
        settings = compute_adapters_fast(settings) if one_pass else settings
        model = get_peft_model(model, settings, autocast_adapter_dtype=not one_pass)
    if one_pass:
        compute_in_fewer_passes(model)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()
    inner = model if full else model.get_base_model()
    ids = torch.zeros((ROWS, TOKENS), dtype=torch.long)
    gc.collect()
    with LiveBytes(model) as live:
        hidden = inner.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        logits = inner.get_output_embeddings()(hidden)
        del hidden
        loss = torch.nn.functional.cross_entropy(logits.float().view(-1, VOCABULARY), ids.view(-1))
        del logits
        loss.backward()
    return live.peak


def counted_peak(layers: int, *, full: bool, checkpointing: bool, one_pass: bool) -> float:
    shape = ModelShape(
        hidden_size=HIDDEN, intermediate_size=INNER, num_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, tied_embeddings=True,
    )  # fmt: skip
    training: Training = FullTraining(parameter_bytes=2)
    if not full:
        adapters = count_lora_parameters(shape, rank=RANK)
        training = Adapters(
            targets=ALL_LINEAR, num_parameters=adapters,
            parameter_bytes=2 if one_pass else 4, copied_bytes=0 if one_pass else 4,
        )  # fmt: skip
    workload = Workload(
        shape=shape,
        num_parameters=count_parameters(shape),
        storage="bfloat16",
        training=training,
        optimizer=OptimizerKind(state_bytes=0, foreach=False),
        micro_batch_size=ROWS,
        longest_tokens=TOKENS,
        mean_tokens=TOKENS,
        checkpointing="full" if checkpointing else "no",
        one_pass_norms=one_pass,
        one_pass_mlp=one_pass,
    )
    parts = footprint(workload).parts
    return sum(parts.values()) - weight_bytes(workload) - parts["adapters"]


@pytest.mark.parametrize("one_pass", [False, True], ids=["as-transformers", "one-pass"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_a_traced_step_holds_what_is_counted(kind: str, full: bool, checkpointing: bool, one_pass: bool) -> None:
    """Peaks of four blocks, and what two blocks more add; Gemma's norms keep another float32 copy in full training."""
    given = {"full": full, "checkpointing": checkpointing, "one_pass": one_pass}
    traced = [traced_peak(kind, layers, **given) for layers in (2, 4)]
    counted = [counted_peak(layers, **given) for layers in (2, 4)]
    assert counted[1] == pytest.approx(traced[1], rel=0.08)
    assert counted[1] - counted[0] == pytest.approx(traced[1] - traced[0], rel=0.09 if kind == "gemma" else 0.01)


EXPERTS, EXPERT_INNER, VISITED = 16, 512, 2
EXPERT_SHAPE = ModelShape(
    hidden_size=HIDDEN, intermediate_size=EXPERT_INNER, num_layers=3, num_attention_heads=HEADS,
    num_key_value_heads=KEYS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, tied_embeddings=True, num_experts=EXPERTS,
    experts_per_token=VISITED,
)  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")


def expert_config(layers: int) -> Qwen3MoeConfig:
    return Qwen3MoeConfig(
        hidden_size=HIDDEN, moe_intermediate_size=EXPERT_INNER, num_hidden_layers=layers, num_attention_heads=HEADS,
        num_key_value_heads=KEYS, head_dim=HEAD_DIM, vocab_size=VOCABULARY, tie_word_embeddings=True,
        num_experts=EXPERTS, num_experts_per_tok=VISITED,
    )  # fmt: skip


def traced_expert_peak(layers: int, *, experts_train: bool, checkpointing: bool) -> int:
    """Run a step of a small Qwen3-MoE as `traced_peak` does, with adapters where this program puts them."""
    model: Any = AutoModelForCausalLM.from_config(expert_config(layers), dtype=torch.bfloat16)
    places = adapter_places(model, "all-linear" if experts_train else ATTENTION)
    settings = compute_adapters_fast(LoraConfig(r=RANK, task_type="CAUSAL_LM", **places._asdict()))
    model = get_peft_model(model, settings, autocast_adapter_dtype=False)
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
    ids = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) % VOCABULARY
    gc.collect()
    with LiveBytes(model) as live:
        model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    return live.peak


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
def test_experts_with_adapters_are_held_again_as_often_as_is_counted(checkpointing: bool) -> None:
    """What a step holds more because experts train too, for the same tokens."""
    shape = EXPERT_SHAPE

    def counted(targets: frozenset[Target]) -> float:
        adapters = count_lora_parameters(shape, rank=RANK, targets=targets)
        training = Adapters(
            targets=targets, num_parameters=adapters, parameter_bytes=2, copied_bytes=0, rebuilds_experts=True
        )
        workload = Workload(
            shape=shape, num_parameters=count_parameters(shape), storage="bfloat16", training=training,
            optimizer=OptimizerKind(state_bytes=0, foreach=False), micro_batch_size=ROWS, longest_tokens=TOKENS,
            mean_tokens=TOKENS, checkpointing="full" if checkpointing else "no",
        )  # fmt: skip
        parts = footprint(workload).parts
        return sum(parts.values()) - weight_bytes(workload) - parts["adapters"]

    traced = [traced_expert_peak(3, experts_train=train, checkpointing=checkpointing) for train in (False, True)]
    expected = [counted(frozenset({"query", "key", "value", "output"})), counted(ALL_LINEAR)]
    assert expected[1] - expected[0] == pytest.approx(traced[1] - traced[0], rel=0.13 if checkpointing else 0.06)
    assert expected[1] == pytest.approx(traced[1], rel=0.1)


def held_bytes(model: torch.nn.Module) -> int:
    """Sum up what weights lie in, those in 4 bit with their scales."""
    storages = {value.untyped_storage() for value in (*model.parameters(), *scales(model))}
    return sum(storage.nbytes() for storage in storages)


@pytest.fixture(scope="module")
def expert_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tokenizer(tmp_path_factory.mktemp("experts"))
    AutoModelForCausalLM.from_config(expert_config(3), dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def test_experts_are_packed_as_they_are_read(expert_base: Path) -> None:
    """Beside what comes to lie in 4 bit, at most the experts of one block are there in 16 bit, once and in part again."""
    with LiveBytes(torch.nn.Module()) as live:
        model = load_base(expert_base, Qlora(target_modules=ATTENTION), dtype="bfloat16", device="cpu")
    block = 2 * EXPERTS * 3 * HIDDEN * EXPERT_INNER
    assert live.peak < held_bytes(model) + 1.5 * block < 2 * count_parameters(EXPERT_SHAPE)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("experts_train", [False, True], ids=["attention", "experts"])
@pytest.mark.parametrize("storage", ["nf4-dq", "q4_1"])
def test_experts_in_4_bit_are_held_as_is_counted(
    storage: Any, experts_train: bool, checkpointing: bool, expert_base: Path
) -> None:
    """Weights as they lie, and a step: less than in 16 bit, though whole experts come and go."""
    wanted: Any = "all-linear" if experts_train else ATTENTION
    method = Qlora(lora_rank=RANK, target_modules=wanted, quantization=storage.removesuffix("-dq"))
    base = expert_base if method.quantization == "nf4" else on_grid(expert_base, method.quantization)
    model: Any = load_base(base, method, dtype="bfloat16", device="cpu")
    weights = held_bytes(model)
    model = training_method(method).attach(model, method, base=base, base_name="experts")
    if checkpointing:
        recompute(model, every=1)
    ids = torch.arange(ROWS * TOKENS).view(ROWS, TOKENS) % VOCABULARY
    gc.collect()
    with LiveBytes(model) as live, torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    targets: frozenset[Target] = ALL_LINEAR if experts_train else frozenset({"query", "key", "value", "output"})
    training = Adapters(
        targets=targets, num_parameters=count_lora_parameters(EXPERT_SHAPE, rank=RANK, targets=targets),
        parameter_bytes=4, copied_bytes=0, rebuilds_experts=True,
    )  # fmt: skip
    counted = Workload(
        shape=EXPERT_SHAPE, num_parameters=count_parameters(EXPERT_SHAPE), storage=storage, training=training,
        optimizer=OptimizerKind(state_bytes=0, foreach=False), micro_batch_size=ROWS, longest_tokens=TOKENS,
        mean_tokens=TOKENS, checkpointing="full" if checkpointing else "no",
    )  # fmt: skip
    parts = footprint(counted).parts
    assert weight_bytes(counted) == pytest.approx(weights, rel=0.01)
    step = sum(parts.values()) - parts["weights"] - parts["adapters"]
    assert step == pytest.approx(live.peak, rel=0.06)
    in_16_bit = footprint(replace(counted, storage="bfloat16")).parts
    assert weights + live.peak < sum(in_16_bit.values()) - in_16_bit["adapters"]
