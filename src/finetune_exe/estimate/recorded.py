"""A run as somebody recorded it, in the columns of published measurements, read by meaning.

Every column but the id may be empty or say something unexpected: what is not understood counts as unstated, is guessed,
and widens the interval.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import msgspec

from finetune_exe.domain.values import ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.parameters import (
    ALL_LINEAR,
    Target,
    count_lora_parameters,
    count_parameters,
    embedding_parameters,
)
from finetune_exe.estimate.targets import read_targets
from finetune_exe.estimate.workload import (
    DORA_OUTPUT_BYTES,
    DORA_TOUCHES,
    Adapters,
    FullTraining,
    OptimizerKind,
    Sharding,
    Storage,
    Training,
    Workload,
)
from finetune_exe.knowledge.gpus import GpuFacts, find_gpu
from finetune_exe.knowledge.models import find_model, model_facts

T = TypeVar("T")
Cell = str | int | float | bool | None


VIRTUAL_TOKENS = 150
"""Learned positions where nobody says how many. Source: PEFT method comparison, 50 to 200."""
WEIGHT_SPACE_TOUCHES = 25.0
"""Source: the same, seconds beyond plain LoRA on the same layers, over the GPU's bandwidth."""


WEIGHT_SPACE = r"boft|hra|loha|lokr|fourier|wave|randlora|bone|frod|osf|psoft|hira|adamss|c3a|vblora|shira"
"""Methods that rebuild the adapted weights in each pass instead of adding to the layer's output."""


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True):
    """One row of measurements, without what was measured."""

    id: str | int
    model: Cell = None
    hub_id: Cell = None
    params_b: Cell = None
    method: Cell = None
    lora_rank: Cell = None
    lora_targets: Cell = None
    base_dtype: Cell = None
    trainable_dtype: Cell = None
    optimizer: Cell = None
    micro_batch: Cell = None
    grad_accum: Cell = None
    seq_len: Cell = None
    seq_mode: Cell = None
    seq_mean: Cell = None
    grad_checkpointing: Cell = None
    attention: Cell = None
    fused_ce: Cell = None
    compile: Cell = None
    parallel: Cell = None
    n_gpus: Cell = None
    gpu_type: Cell = None
    software: Cell = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess(Generic[T]):
    """A value, and the name of the input that would have settled it; None where it was stated."""

    value: T
    unstated: str | None = None


def read_workload(run: RecordedRun) -> Workload | None:
    """Make a recorded run a workload.

    Returns:
        None where neither the model is known nor its size is given.
    """
    model = _model(run)
    if model is None:
        return None
    method = _text(run.method) or "lora"
    training = _training(run, method, model.value.shape)
    storage = _storage(run, method)
    sharding = _sharding(run)
    checkpointing = _checkpointing(run)
    loss, attention = _loss(run), _attention(run)
    longest, mean = _lengths(run)
    micro_batch = _positive(run.micro_batch)
    quantised = storage.value in ("nf4", "nf4-dq", "int8", "int4")
    upcasts = quantised and _is_single(run.trainable_dtype) and loss.value == "full"
    everything = (model, training, storage, sharding, checkpointing, loss, attention, longest, mean)
    guessed = {guess.unstated for guess in everything if guess.unstated}
    if micro_batch is None:
        guessed.add("micro_batch")
    if upcasts:
        guessed.add("upcast")
    ragged = not re.search(r"pack|fixed|padding-free", _text(run.seq_mode))
    return Workload(
        shape=model.value.shape,
        num_parameters=model.value.num_parameters,
        storage=storage.value,
        compute_bytes=4 if _is_single(run.base_dtype) and "bf16" not in _text(run.base_dtype) else 2,
        unquantised_bytes=3.0 if upcasts else 2.0,
        stream_bytes=_stream_bytes(run, training.value, upcasts=upcasts and storage.value != "int4"),
        training=training.value,
        optimizer=_optimizer(run, training.value),
        micro_batch_size=int(micro_batch or 1),
        longest_tokens=longest.value,
        mean_tokens=min(mean.value, longest.value),
        padded_share=0.1 if ragged and (micro_batch or 1) > 1 else 0.0,
        accumulation=_accumulation(run, sharding.value, micro_batch or 1),
        checkpointing=checkpointing.value,
        attention=attention.value,
        loss=loss.value,
        quantised_saves_inputs=storage.value in ("nf4", "nf4-dq")
        and not _is_single(run.trainable_dtype)
        and "torchao" not in _text(run.base_dtype),
        compiled=_text(run.compile).startswith("yes"),
        fp8="fp8" in _text(run.base_dtype),
        sharding=sharding.value,
        gpu=_gpu(run),
        guessed=frozenset(guessed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    shape: ModelShape
    num_parameters: int


def _model(run: RecordedRun) -> Guess[_Model] | None:
    stated = _positive(run.params_b)
    for name in (_text(run.model), _text(run.hub_id)):
        try:
            facts = find_model(name) if name else None
        except FineTuneError:
            continue
        if facts is not None:
            number = round(stated * 1e9) if stated else facts.num_parameters
            return Guess(value=_Model(shape=facts.shape, num_parameters=number))
    if stated is None:
        return None
    number = round(stated * 1e9)
    return Guess(value=_Model(shape=shape_of_size(number), num_parameters=number), unstated="shape")


def shape_of_size(num_parameters: int) -> ModelShape:
    """Give plausible dimensions for a model of known size alone: the nearest dense one's, with more or fewer blocks."""
    dense = [facts for facts in model_facts() if facts.num_experts == 1]
    nearest = min(
        dense, key=lambda facts: abs(facts.num_parameters / num_parameters - num_parameters / facts.num_parameters)
    ).shape
    outside = embedding_parameters(nearest)
    layer = (count_parameters(nearest) - outside) / nearest.num_layers
    layers = max(1, round((num_parameters - outside) / layer))
    return nearest.model_copy(update={"num_layers": layers})


def _gpu(run: RecordedRun) -> GpuFacts | None:
    try:
        return find_gpu(_text(run.gpu_type))
    except FineTuneError:
        return None


def _storage(run: RecordedRun, method: str) -> Guess[Storage]:
    text = f"{_text(run.base_dtype)} {method}"
    if "nf4" in text or "fp4" in text or ("4bit" in text and "gptq" not in text):
        # double quantisation is part of QLoRA as published; stacks with adapters in 16 bit name it where they use it
        twice = re.search(r"dq|double|torchao", text) or _is_single(run.trainable_dtype)
        return Guess(value="nf4-dq" if twice else "nf4")
    if re.search(r"int4|gptq4|awq|gptq-4", text):
        return Guess(value="int4")
    if re.search(r"int8|8bit|gptq8", text):
        return Guess(value="int8")
    if method.startswith("full") and _trains_in_single(run):
        return Guess(value="float32")
    if re.search(r"bf16|bfloat16|fp16|float16|half|fp8", text):
        return Guess(value="bfloat16")
    if re.search(r"fp32|float32", text):
        return Guess(value="float32")
    return Guess(value="bfloat16", unstated="dtype")


def _trains_in_single(run: RecordedRun) -> bool:
    """Say whether full training keeps its weights in float32, as autocast and FSDP's mixed precision do."""
    if re.search(r"zero|deepspeed|megatron", f"{_text(run.parallel)} {_text(run.optimizer)}"):
        return False
    return _is_single(run.trainable_dtype) or "amp" in _text(run.base_dtype)


def _stream_bytes(run: RecordedRun, training: Training, *, upcasts: bool) -> float:
    if isinstance(training, FullTraining):
        return 4.0 if training.parameter_bytes == 4 and "fsdp" not in _text(run.parallel) else 2.0
    # preparing a 4-bit model for training turns norms and embeddings to float32 in some stacks and not in others
    return 2.5 if upcasts else 2.0


def _training(run: RecordedRun, method: str, shape: ModelShape) -> Guess[Training]:
    if method.startswith(("full", "sft", "pretrain")):
        return Guess(value=_full(run))
    single = not re.fullmatch(r"bf16|bfloat16|fp16|float16", _text(run.trainable_dtype))
    width = 4 if single else 2
    if re.search(r"prefix|prompt|p-?tuning|soft", method):
        return Guess(value=_soft_prompt(method, shape, width=width), unstated="method")
    targets = read_targets(_text(run.lora_targets))
    if re.fullmatch(r"(llama-)?adapter(-nf4)?", method):
        targets = frozenset()
    rank = _positive(run.lora_rank)
    weight_space = bool(re.search(WEIGHT_SPACE, method))
    known = (
        targets
        if targets is not None
        else ALL_LINEAR
        if "v2" in method
        else frozenset[Target]({"query", "key", "value", "output"})
    )
    return Guess(
        value=Adapters(
            targets=known,
            num_parameters=count_lora_parameters(shape, rank=round(rank or 16), targets=known, stacked_experts=False)
            if not weight_space
            else 0,
            parameter_bytes=width,
            copied_bytes=2 if "ia3" in method else 3 if single else 4 if "v2" in method else 0,
            output_bytes=DORA_OUTPUT_BYTES if "dora" in method else 0,
            rebuilds_weights=weight_space,
            dropout=not single,
            weight_touches=DORA_TOUCHES if "dora" in method else WEIGHT_SPACE_TOUCHES if weight_space else 0.0,
            trained_embeddings=bool(re.search(r"\+ ?emb|modules_to_save", method)),
        ),
        unstated="targets" if targets is None else None if re.match(r"(q?lora|dora)\b", method) else "method",
    )


def _soft_prompt(method: str, shape: ModelShape, *, width: int) -> Adapters:
    """Learned positions: as keys and values of every layer (prefix), or as embeddings that run through the model."""
    through = not re.search(r"prefix|adapt", method)
    keys = 2 * shape.num_layers * shape.num_key_value_heads * shape.head_dim
    return Adapters(
        targets=frozenset(),
        num_parameters=VIRTUAL_TOKENS * (shape.hidden_size if through else keys),
        parameter_bytes=width,
        copied_bytes=0,
        virtual_tokens=VIRTUAL_TOKENS if through else 0,
    )


def _accumulation(run: RecordedRun, sharding: Sharding, micro_batch: float) -> float:
    """Passes to a step; a global batch is shared out first."""
    stated = _positive(run.grad_accum) or 1
    if "gbs" in _text(run.grad_accum) or "global" in _text(run.grad_accum):
        return max(1.0, stated / (micro_batch * max(1, sharding.num_gpus // sharding.tensor_parallel)))
    return stated


def _full(run: RecordedRun) -> FullTraining:
    if _trains_in_single(run):
        return FullTraining(parameter_bytes=4)
    if re.search(r"zero|deepspeed|megatron", f"{_text(run.parallel)} {_text(run.optimizer)}"):
        return FullTraining(parameter_bytes=2, master_bytes=4)
    return FullTraining(parameter_bytes=4 if _is_single(run.trainable_dtype) else 2)


def _optimizer(run: RecordedRun, training: Training) -> OptimizerKind:
    text, width = _text(run.optimizer), training.parameter_bytes
    bits = re.search(r"([48])-?bit", text)
    master = isinstance(training, FullTraining) and training.master_bytes
    if bits:
        state = 2.0 if bits[1] == "8" else 1.0
    elif re.search(r"sgd|adafactor|badam|galore", text):
        state = 0.5 * width
    elif re.search(r"\blion\b|muon", text) and "adam" not in text:
        state = 1.0 * width
    elif re.search(r"fp32|32bit|deepspeed|megatron", text) or master:
        state = 8.0
    else:
        state = 2.0 * width
    return OptimizerKind(
        state_bytes=state,
        foreach=bits is None
        and not re.search(r"fused|paged|backward|bwd|deepspeed|megatron|distributed|sgd|bnb", text),
        in_backward=bool(re.search(r"in.?(backward|bwd)", text)),
        paged="paged" in text,
    )


def _sharding(run: RecordedRun) -> Guess[Sharding]:
    text, gpus = _text(run.parallel), int(_positive(run.n_gpus) or 1)
    tensor = re.search(r"\btp ?(\d+)", text)
    pipeline = re.search(r"\bpp ?(\d+)", text)
    ways = max(1, int(tensor[1]) if tensor else 1) * max(1, int(pipeline[1]) if pipeline else 1)
    fully = bool(re.search(r"full_shard|fsdp2|zero.?3|hybrid", text) or re.search(r"fsdp(?!.*shard_grad)", text))
    gradients = fully or bool(re.search(r"zero.?2|shard_grad", text))
    states = gradients or bool(re.search(r"zero.?1|megatron|distributed|\bdp", text))
    return Guess(
        value=Sharding(
            num_gpus=gpus, weights=fully, gradients=gradients, states=states, tensor_parallel=min(ways, gpus)
        ),
        unstated="sharding" if gpus > 1 and not text else None,
    )


def _checkpointing(run: RecordedRun) -> Guess[Literal["no", "full", "selective", "offload"]]:
    text = _text(run.grad_checkpointing)
    if "offload" in text:
        return Guess(value="offload")
    if "selective" in text:
        return Guess(value="selective")
    if text.startswith(("yes", "true", "full", "1")):
        return Guess(value="full")
    if text.startswith(("no", "false", "0")):
        return Guess(value="no")
    return Guess(value="no" if "no" in text.split() or "no)" in text else "selective", unstated="checkpointing")


def _loss(run: RecordedRun) -> Guess[Literal["full", "kernel", "chunked", "fused"]]:
    text = f"{_text(run.fused_ce)} "
    if text.startswith(("none", "no ", "false")):
        return Guess(value="full")
    if "chunk" in text:
        return Guess(value="chunked")
    if re.search(r"liger|\bcce\b|cut|linear|unsloth", text):
        return Guess(value="fused")
    if re.search(r"fused|kernel|foak|triton|yes", text):
        return Guess(value="kernel")
    return Guess(value="full", unstated="loss")


def _attention(run: RecordedRun) -> Guess[Literal["fused", "eager"]]:
    text = _text(run.attention)
    if re.search(r"flash|sdpa|flex|xformers|efficient|unsloth|fused|cudnn", text):
        return Guess(value="fused", unstated="attention" if "eager" in text else None)
    if "eager" in text:
        return Guess(value="eager", unstated="attention" if "?" in text else None)
    return Guess(value="fused", unstated="attention")


TYPICAL_ROW = 220.0
"""Tokens of a row of instructions where nobody says how long they are.

Source: means of alpaca-like sets, 150 to 300."""


def _lengths(run: RecordedRun) -> tuple[Guess[float], Guess[float]]:
    longest, mean, mode = _positive(run.seq_len), _positive(run.seq_mean), _text(run.seq_mode)
    if longest is None:
        guess = 4 * mean if mean else 1024.0
        return Guess(value=guess, unstated="length"), Guess(value=mean or TYPICAL_ROW)
    if mean is not None:
        return Guess(value=longest), Guess(value=mean)
    if re.search(r"pack|fixed", mode) and "unpacked" not in mode:
        return Guess(value=longest), Guess(value=longest)
    return Guess(value=longest), Guess(value=min(longest, TYPICAL_ROW), unstated="mean_length")


def _text(cell: Cell) -> str:
    return "" if cell is None else str(cell).strip().lower()


LARGEST = 1e9
"""More rows, tokens, GPUs or billions of weights no run has: a cell that says so is not understood."""


def _positive(cell: Cell) -> float | None:
    found = re.search(r"\d+(\.\d+)?(e[+-]?\d+)?", _text(cell))
    return float(found[0]) if found and 0 < float(found[0]) <= LARGEST else None


def _is_single(cell: Cell) -> bool:
    return bool(re.match(r"fp32|float32|single", _text(cell)))
