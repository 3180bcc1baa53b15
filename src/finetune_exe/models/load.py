"""Load a base model from its folder."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import BaseDtype, Method, Prefix, Qlora
from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.models.places import kept_in_4_bit
from finetune_exe.models.reading import beneath_adapter
from finetune_exe.models.without_weights import model_without_weights, require_keys_and_values

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = BaseDtype
SPINS = "20000"
"""Rounds that a waiting OpenMP thread of GCC's runtime spins before it sleeps: about a fifth of a millisecond.

Source: steps of SmolLM2-135M on two Zen 4 cores, 912 tokens: 2.5 s against 3.1 s with none; beside another busy program
9.0 s against 5.2 s."""


def require_training_packages(*more: str) -> None:
    """Make sure that what training needs is installed, with what this plan needs besides.

    Raises:
        FineTuneError: X01 naming the first missing package and the command that brings it.
    """
    from importlib.util import find_spec

    for package in ("torch", "transformers", "peft", "accelerate", "safetensors", *more):
        if find_spec(package) is None:
            raise missing_component(package, extra="train", needed_for="training")


def settle_threads() -> None:
    """Make the threads of libraries sociable; call it before PyTorch is imported.

    OpenMP threads that wait for the next operation go to sleep at once where another program computes too, for spinning
    would make everything many times slower; where none does, they spin for a moment first, which makes a step a fifth
    faster.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ["GOMP_SPINCOUNT"] = "0" if _others_compute() else SPINS
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def settle_libraries() -> None:
    """Make the libraries quiet and their threads sociable; call it before PyTorch is imported.

    Their progress bars and advice stay out of our output, while their errors still arrive as exceptions.
    """
    settle_threads()
    os.environ.setdefault("TQDM_DISABLE", "1")
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    for library in ("peft", "bitsandbytes"):
        logging.getLogger(library).setLevel(logging.ERROR)
    for library in ("transformers", "torch", "peft", "accelerate", "bitsandbytes"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", category=UserWarning, module=library)
    warnings.filterwarnings("ignore", message="Attempting to run cuBLAS")  # it then does what it says is missing
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="peft")  # names of layers that a model lacks


def _others_compute() -> bool:
    """Say whether other programs compute at this moment; where the system does not tell, that none does."""
    try:
        return all(_others_running() for _ in range(3))
    except (OSError, StopIteration, ValueError):
        return False


def _others_running() -> bool:
    """Look once, after a hundredth of a second in which programs that only woke up have gone back to sleep."""
    time.sleep(0.01)
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("procs_running")).split()[1]) > 1


def pick_device() -> str:
    """Name the device training runs on: the first CUDA GPU, else the CPU.

    PyTorch, which takes seconds to load, is not asked where it was built without GPUs.
    """
    if is_built_for_cpu():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def is_built_for_cpu() -> bool:
    """Say whether the PyTorch installed can use no GPU of NVIDIA or AMD, by its version.

    Source: the wheels of download.pytorch.org, which end in +cpu; those for macOS are all without.
    """
    from importlib.metadata import PackageNotFoundError, version

    try:
        return sys.platform == "darwin" or version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Give PyTorch's name of a number format."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]


def load_model(folder: Path, *, dtype: Dtype, device: str, quantization: Any = None) -> PreTrainedModel:
    """Load a causal language model for training or evaluation; no code of the folder is ever run.

    Args:
        folder: Configuration and safetensors weights.
        dtype: Format of all weights that are not quantised.
        device: Where to.
        quantization: Transformers' description of how to quantise the weights; None keeps them.

    Raises:
        FineTuneError: M03 where weights are missing, or they or the configuration cannot be used; X01 for a missing
            package.
    """
    require_training_packages()
    settle_libraries()
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch_dtype(dtype), quantization_config=quantization,
            device_map=None if quantization is None else {"": device},
            use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        raise FineTuneError(
            "M03",
            what="the model cannot be loaded",
            where=str(folder),
            why=" ".join(str(fault).split())[:300],
            fix="check that the folder holds a whole causal language model of an architecture transformers knows",
        ) from fault
    missing = found["missing_keys"]
    if missing:
        raise FineTuneError(
            "M03",
            what=f"the model lacks {len(missing)} of its tensors, {min(missing)} among them",
            where=str(folder),
            why="transformers would fill them with random numbers, and training would go on from those",
            fix="download the whole model again; an adapter or a part of a model is no base",
        )
    return model if quantization is not None else model.to(device)


def choose_attention(model: Any, *, packing: bool = False) -> Any:
    """Let a model, adapters or not, compute attention the fastest way there is that it is right with; return it."""
    from finetune_exe.models.packing import use_row_attention

    use_row_attention(beneath_adapter(model), packing=packing)
    return model


def load_base(folder: Path, method: Method, *, dtype: Dtype, device: str) -> PreTrainedModel:
    """Load a base model as the method keeps it: in 4 bit for QLoRA, else in `dtype`.

    Raises:
        FineTuneError: M03 where the model cannot be loaded, T02 where the method cannot be put into it, X01 for a
            missing package.
    """
    if isinstance(method, Prefix):
        require_keys_and_values(folder)
    if isinstance(method, Qlora):
        return _load_in_4_bit(folder, method, dtype=dtype, device=device)
    return load_model(folder, dtype=dtype, device=device)


def _require_whole_weights(model: Any, folder: Path) -> None:
    """Make sure that the weights to be put into 4 bit are not stored in another such form already.

    Raises:
        FineTuneError: M03 for one that is not bitsandbytes' own, such as the MXFP4 of gpt-oss.
    """
    stored = getattr(model.config, "quantization_config", None)
    form = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    if form in (None, "bitsandbytes"):
        return
    raise FineTuneError(
        "M03",
        what=f"the weights are stored quantised already, as {form}",
        where=str(folder),
        why="QLoRA rounds whole weights to 4 bit itself, and cannot do so to weights in another form",
        fix="name a copy of the model in bfloat16 (of gpt-oss-20b, unsloth/gpt-oss-20b-BF16); with --set "
        "method.quantization=mxfp4 what was MXFP4 stays exactly what it was",
    )


def _load_in_4_bit(folder: Path, method: Qlora, *, dtype: Dtype, device: str) -> PreTrainedModel:
    """Load a model whose linear layers, the head aside, and experts are kept in 4 bit, computed in `dtype`.

    On processors that compute in bfloat16, bitsandbytes would repack the weights the first time they are used without
    gradients, for good, and compute wrong gradients from then on; the layers are told not to. Weights that stay
    whole are copied out of the file, which would otherwise stay mapped, and in memory with all that was read of it.

    Source: Dettmers et al., QLoRA, arXiv 2305.14314, section 3; the repacking measured with bitsandbytes 0.50.2.
    """
    require_training_packages("bitsandbytes")
    settle_libraries()
    from bitsandbytes.nn import Linear4bit, Params4bit
    from transformers import BitsAndBytesConfig

    from finetune_exe.models.quantizer import pack_tensors

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=method.double_quantization,
        bnb_4bit_compute_dtype=torch_dtype(dtype),
    )
    if (empty := model_without_weights(folder)) is not None:
        _require_whole_weights(empty, folder)
        by_tensor = method.quantization != "nf4"
        config.llm_int8_skip_modules, packed = kept_in_4_bit(empty, method.target_modules, by_tensor=by_tensor)
        if packed:
            config = pack_tensors(config, packed, method)
    model = load_model(folder, dtype=dtype, device=device, quantization=config)
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
    for parameter in model.parameters():
        if not isinstance(parameter, Params4bit) and device == "cpu":
            parameter.data = parameter.data.clone()
    _require_grid(model, method, folder)
    return model


def _require_grid(model: Any, method: Qlora, folder: Path) -> None:
    """Make sure that some weights lie on the grid that the method names.

    Raises:
        FineTuneError: T02 where none does.
    """
    from finetune_exe.models.four_bit import OnGrid
    from finetune_exe.models.packed import Packed

    packed = (module.packed for module in model.modules() if isinstance(module, Packed))
    if method.quantization == "nf4" or any(isinstance(kept, OnGrid) for held in packed for kept in held.values()):
        return
    raise FineTuneError(
        "T02",
        what=f"no weights of this model lie on the values of {method.quantization}",
        where=f"method.quantization in the plan; {folder}",
        why="it keeps weights that were made of such a file exactly as they are, and would have to round all of these",
        fix="--set method.quantization=nf4",
    )
