"""What PyTorch, as it is installed here, can use of the machine."""

from __future__ import annotations

from importlib.util import find_spec

from finetune_exe.domain.values import Check, Hardware
from finetune_exe.training.matrix_rate import measure_matrix_rate

RATE_SECONDS = 0.3
_CUDA_WHEELS = "pip install torch --index-url https://download.pytorch.org/whl/cu128"


def torch_abilities(hardware: Hardware) -> tuple[Check, ...]:
    """Look at what training would use; call it only where PyTorch is installed.

    Args:
        hardware: What the machine itself says it has.
    """
    return (_gpus(hardware), _number_formats(hardware), _threads(hardware), _four_bit(), _processes())


def _gpus(hardware: Hardware) -> Check:
    import torch

    name, there = "PyTorch sees the GPUs", len(hardware.gpus)
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not there and not seen:
        return Check(name=name, passed=None, detail="there is no NVIDIA GPU")
    if seen >= there:
        kinds = ", ".join(sorted({torch.cuda.get_device_name(index) for index in range(seen)}))
        return Check(name=name, passed=True, detail=f"{seen}: {kinds}; CUDA {torch.version.cuda}")
    built = "for processors alone" if torch.version.cuda is None else f"for CUDA {torch.version.cuda}"
    return Check(
        name=name, passed=False, detail=f"{seen} of {there}; this PyTorch {torch.__version__} was built {built}",
        fix=_CUDA_WHEELS if torch.version.cuda is None else "update the NVIDIA driver, or look at CUDA_VISIBLE_DEVICES",
    )  # fmt: skip


def _number_formats(hardware: Hardware) -> Check:
    """Say whether bfloat16 pays; on a processor it is measured."""
    import torch

    name = "bfloat16 in hardware"
    if torch.cuda.is_available():
        good = torch.cuda.is_bf16_supported(including_emulation=False)
        return Check(
            name=name, passed=good or None, detail="yes" if good else "no: this GPU computes float16 or float32"
        )
    rates = {dtype: measure_matrix_rate(dtype, seconds=RATE_SECONDS) / 1e9 for dtype in ("float32", "bfloat16")}
    speeds = f"{rates['float32']:,.0f} GFLOP/s in float32, {rates['bfloat16']:,.0f} in bfloat16"
    if rates["bfloat16"] > rates["float32"]:
        return Check(name=name, passed=True, detail=speeds)
    wanted = "though the processor has it" if hardware.computes_bf16 else "the processor does not have it"
    return Check(name=name, passed=None, detail=f"{speeds}: {wanted}")


def _threads(hardware: Hardware) -> Check:
    import torch

    used, there = torch.get_num_threads(), hardware.num_cores
    detail = f"{used} of {there} that this process may use"
    if used <= there:
        return Check(name="threads for training", passed=True, detail=detail)
    return Check(
        name="threads for training", passed=False, detail=f"{detail}: they wait for each other",
        fix=f"export OMP_NUM_THREADS={there}",
    )  # fmt: skip


def _four_bit() -> Check:
    name = "4-bit weights and 8-bit states"
    if find_spec("bitsandbytes") is None:
        return Check(name=name, passed=None, detail="bitsandbytes is not installed",
                     fix='pip install "finetune-exe[train]"')  # fmt: skip
    try:
        import bitsandbytes
    except Exception as fault:  # noqa: BLE001 - a package that breaks on import is what this looks for
        return Check(name=name, passed=False, detail=f"bitsandbytes cannot be loaded: {fault}",
                     fix="pip install --force-reinstall bitsandbytes")  # fmt: skip
    return Check(name=name, passed=True, detail=f"bitsandbytes {bitsandbytes.__version__}")


def _processes() -> Check:
    from torch import distributed

    name = "several processes or machines"
    if not distributed.is_available():
        return Check(name=name, passed=None, detail="this PyTorch was built without torch.distributed")
    ways = {"nccl": distributed.is_nccl_available(), "gloo": distributed.is_gloo_available()}
    found = [way for way, there in ways.items() if there]
    return Check(name=name, passed=bool(found) or None, detail=", ".join(found) or "neither nccl nor gloo")
