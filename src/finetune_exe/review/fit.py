"""Whether what a configuration asks for fits on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.setting_line import written
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_tree import Place
from finetune_exe.estimate.footprint import footprint
from finetune_exe.estimate.recorded import RecordedRun, read_workload
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding
from finetune_exe.review.meaning import built_model, first_value, is_adapted, meant, quantised_bits, stands_for
from finetune_exe.units import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What there is to fit on."""

    gpu: str
    num_gpus: int
    memory_bytes: int
    bf16: bool = True
    """Whether it computes bfloat16."""


def check_fit(configuration: Configuration, room: Room) -> Iterator[ConfigurationFinding]:
    """Say where the memory of a GPU is too small, and with what it would do; and where it lacks the number format."""
    yield from _number_format(configuration, room)
    run = recorded_run(configuration, room)
    workload = read_workload(run)
    if workload is None:
        return
    need = footprint(workload).device
    if need.mid <= room.memory_bytes:
        return
    rows = meant(configuration, "batch.micro_batch_size")
    least, most, there = (round(size / GIB, 1) for size in (need.low, need.high, room.memory_bytes))
    yield finding(
        "does_not_fit", "error" if need.low > room.memory_bytes else "warning",
        key=stands_for(configuration, "batch.micro_batch_size"), place=rows.item.key_place if rows else Place(1, 1),
        what=f"it needs {least:g} to {most:g} GiB of GPU memory; {room.gpu} has {there:g}",
        why="it runs out of memory in the first steps"
        if need.low > room.memory_bytes
        else "it probably runs out of memory",
        fix=_smaller(configuration, run, room), source="this program's estimator: docs/guides/estimate.md",
    )  # fmt: skip


def _number_format(configuration: Configuration, room: Room) -> Iterator[ConfigurationFinding]:
    for name in ("bf16", "args.bf16", "bfloat16", "pure_bf16", "dtype", "torch_dtype"):
        item = configuration.settings.get(name)
        if item is not None and not room.bf16 and item.scalar in (True, "bfloat16", "bf16"):
            last = name.rpartition(".")[2]
            value = "float16" if "dtype" in last else True
            better = written(configuration.form, last if "dtype" in last else "fp16", value)
            yield finding(
                "precision", "error", key=name, place=item.key_place,
                what=f"bfloat16 on {room.gpu}, which does not compute it",
                why="the trainer stops, or computes it many times slower", fix=f"write {better}",
                source="NVIDIA: compute capability 8.0 and later",
            )  # fmt: skip
            return


def can_be_estimated(configuration: Configuration) -> bool:
    """Say whether the model's dimensions are known."""
    return read_workload(recorded_run(configuration, Room(gpu="", num_gpus=1, memory_bytes=1))) is not None


def recorded_run(configuration: Configuration, room: Room) -> RecordedRun:
    """Describe a configuration in the columns of recorded runs."""

    def value(path: str) -> Scalar:
        said, meaning = meant(configuration, path), configuration.peer.meaning.get(path)
        found = said.scalar if said is not None else None
        return found if found is not None or meaning is None else meaning.default

    adapted = is_adapted(configuration)
    bits = quantised_bits(configuration)
    half = "fp16" if first_value(configuration, "fp16", "args.fp16", "float16") is True else "bf16"
    single = half == "bf16" and first_value(configuration, "bf16", "args.bf16", "dtype", "torch_dtype") in (
        False,
        "float32",
        "fp32",
    )
    dtype = {4: "nf4", 8: "int8"}.get(bits or 0, "fp32" if single else half)
    checkpointing = value("precision.gradient_checkpointing")
    inverse = configuration.peer.meaning.get("precision.gradient_checkpointing")
    if inverse is not None and inverse.inverse and isinstance(checkpointing, bool):
        checkpointing = not checkpointing
    targets = meant(configuration, "method.target_modules")
    layers = targets.item.plain() if targets is not None else None
    everything = first_value(configuration, "lora_target_linear") is True or layers in ("all", "all-linear")
    return RecordedRun(
        id=configuration.path,
        model=value("model.reference"),
        hub_id=built_model(configuration) or str(value("model.reference") or "").rstrip("/").rpartition("/")[2],
        method=("qlora" if bits == 4 else "lora") if adapted else "full",
        lora_rank=value("method.lora_rank") or 16,
        lora_targets="all-linear" if everything else " ".join(map(str, layers)) if isinstance(layers, list) else None,
        base_dtype=dtype,
        trainable_dtype="fp32",
        optimizer=str(value("optimizer.kind") or ""),
        micro_batch=value("batch.micro_batch_size") or 1,
        grad_accum=value("batch.gradient_accumulation_steps") or 1,
        seq_len=value("data.max_length") or 1024,
        seq_mode="packed" if value("batch.packing") is True else None,
        grad_checkpointing="yes" if checkpointing not in (False, None) else "no",
        parallel=_parallel(configuration),
        n_gpus=room.num_gpus,
        gpu_type=room.gpu,
        software=configuration.peer.title,
    )


def _parallel(configuration: Configuration) -> str | None:
    named = configuration.settings.get("deepspeed") or configuration.settings.get("args.deepspeed")
    if named is not None and isinstance(named.scalar, str):
        text = named.scalar.lower()
        for stage in ("3", "2", "1"):
            if f"zero{stage}" in text or f"z{stage}" in text or f"stage{stage}" in text:
                return f"zero{stage}"
        return "zero2"
    return (
        "fsdp full_shard" if configuration.settings.get("fsdp_config") or configuration.settings.get("fsdp") else None
    )


def _smaller(configuration: Configuration, run: RecordedRun, room: Room) -> str:
    """Look for the least change with which it fits: checkpointing, fewer rows at a time, 4 bit."""
    rows = int(run.micro_batch) if isinstance(run.micro_batch, int) else 1
    accumulation = int(run.grad_accum) if isinstance(run.grad_accum, int) else 1
    tried = [(False, rows), (True, rows)]
    while rows > 1:
        rows //= 2
        tried += [(True, rows)]
    for four_bit in (False, True) if run.method == "lora" else (False,):
        for checkpointing, fewer in tried:
            change = {"micro_batch": fewer, **({"grad_checkpointing": "yes"} if checkpointing else {})}
            if four_bit:
                change |= {"base_dtype": "nf4", "method": "qlora"}
            workload = read_workload(msgspec.structs.replace(run, **change))
            if workload is not None and footprint(workload).device.high <= room.memory_bytes:
                whole = (int(run.micro_batch) if isinstance(run.micro_batch, int) else 1) * accumulation
                return _told(configuration, run, fewer, whole, checkpointing=checkpointing, four_bit=four_bit)
    return "take a smaller model, 4-bit weights with an adapter, shorter rows, or more GPUs; see fine-tune estimate"


def _told(
    configuration: Configuration, run: RecordedRun, rows: int, whole: int, *, checkpointing: bool, four_bit: bool
) -> str:
    said: list[str] = []
    if four_bit:
        said.append("load the model in 4 bit")
    if checkpointing and run.grad_checkpointing != "yes":
        said.append("turn gradient checkpointing on")
    if rows != run.micro_batch:
        rows_key = stands_for(configuration, "batch.micro_batch_size")
        steps_key = stands_for(configuration, "batch.gradient_accumulation_steps")
        said.append(f"write {written(configuration.form, rows_key, rows)}")
        said.append(f"{written(configuration.form, steps_key, max(1, whole // rows))}")
    return ", ".join(said)
