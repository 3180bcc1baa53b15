"""Machines: this one, and wished-for ones."""

import os

import pytest

from finetune_exe.domain.values import Gpu
from finetune_exe.errors import FineTuneError
from finetune_exe.planning import hardware
from finetune_exe.planning.hardware import detect_hardware, parse_hardware, parse_nvidia_smi, visible_gpus
from finetune_exe.units import GIB, MIB
from finetune_exe.workflow.plans import find_hardware


def test_this_machine_is_described() -> None:
    machine = detect_hardware()
    assert machine.cpu
    assert 1 <= machine.num_cores <= (os.cpu_count() or 1)
    assert GIB / 4 < machine.memory_bytes <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("text", "name", "count", "gib"),
    [
        ("RTX 4090", "RTX 4090 24GB", 1, 24),
        ("8xH100", "H100 SXM 80GB", 8, 80),
        ("2 x L4", "L4 24GB", 2, 24),
        ("rtx 3090 24gb x2", "RTX 3090 24GB", 2, 24),
        ("A100 80GB x 8", "A100 SXM 80GB", 8, 80),
        ("H100x8", "H100 SXM 80GB", 8, 80),
        ("rtx4090", "RTX 4090 24GB", 1, 24),
        ("MI300X", "MI300X 192GB", 1, 192),
        ("24", "a GPU with 24 GiB", 1, 24),
        ("11.5 GB", "a GPU with 11.5 GiB", 1, 11.5),
    ],
)
def test_a_wished_for_machine_is_understood(text: str, name: str, count: int, gib: float) -> None:
    machine = parse_hardware(text)
    assert [gpu.name for gpu in machine.gpus] == [name] * count
    assert machine.accelerator_memory_bytes == gib * GIB


@pytest.mark.parametrize("text", ["RTX 4091", "0xH100", "", "lots"])
def test_an_unknown_gpu_is_refused(text: str) -> None:
    with pytest.raises(FineTuneError, match="FT-H01"):
        parse_hardware(text)


def test_the_drivers_answer_is_read() -> None:
    found = parse_nvidia_smi("NVIDIA H100 80GB HBM3, 81559, 9.0\nTesla T4, 15360, 7.5\nsomething else\n")
    assert [(gpu.memory_bytes // MIB, gpu.bf16) for gpu in found] == [(81559, True), (15360, False)]


@pytest.mark.parametrize(
    ("named", "left"),
    [(None, "abc"), ("0,1,2", "abc"), ("1", "b"), ("2,0", "ca"), ("", ""), ("-1", ""), ("0,-1,1", "a"), ("1,7,0", "b"),
     ("GPU-5ba3", "a"), (" 1, 2", "bc")],
)  # fmt: skip
def test_hidden_gpus_are_none_of_the_machine(named: str | None, left: str) -> None:
    gpus = tuple(Gpu(name=name, memory_bytes=GIB, bf16=True) for name in "abc")
    assert "".join(gpu.name for gpu in visible_gpus(gpus, named)) == left


def test_this_machine_has_the_gpus_that_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(name="L4", memory_bytes=24 * GIB, bf16=True)
    monkeypatch.setattr(hardware, "_nvidia_gpus", lambda: (gpu, gpu))
    for named, there in (("", 0), ("1", 1), ("0,1", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
        assert len(find_hardware(None).gpus) == there
        assert not find_hardware("cpu").gpus
        assert len(find_hardware("4xL4").gpus) == 4
