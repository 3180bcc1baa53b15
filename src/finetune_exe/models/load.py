"""Load a base model from its folder."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune_exe.errors import FineTuneError, missing_component

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Dtype = Literal["float32", "bfloat16"]


def require_training_packages() -> None:
    """Make sure that what training needs is installed.

    Raises:
        FineTuneError: X01 naming the first missing package and the command that brings it.
    """
    from importlib.util import find_spec

    for package in ("torch", "transformers", "peft", "accelerate", "safetensors"):
        if find_spec(package) is None:
            raise missing_component(package, extra="train", needed_for="training")


def settle_libraries() -> None:
    """Make the libraries quiet and sociable; call it before PyTorch is imported.

    Their progress bars and advice stay out of our output, while their errors still arrive as exceptions. OpenMP
    threads sleep while they wait: spinning ones make everything many times slower where another program computes too.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    from huggingface_hub.utils.tqdm import disable_progress_bars
    from transformers.utils import logging as transformers_logging

    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("peft").setLevel(logging.ERROR)
    for library in ("transformers", "torch", "peft", "accelerate"):
        warnings.filterwarnings("ignore", category=FutureWarning, module=library)
        warnings.filterwarnings("ignore", category=UserWarning, module=library)


def pick_device() -> str:
    """Name the device training runs on: the first CUDA GPU, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_dtype(dtype: Dtype) -> torch.dtype:
    """Give PyTorch's name of a number format."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]


def load_model(folder: Path, *, dtype: Dtype, device: str) -> PreTrainedModel:
    """Load a causal language model for training or evaluation; no code of the folder is ever run.

    Raises:
        FineTuneError: M03 where the weights or the configuration cannot be used, X01 for a missing package.
    """
    require_training_packages()
    settle_libraries()
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch_dtype(dtype), use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as fault:
        raise FineTuneError(
            "M03",
            what="the model cannot be loaded",
            where=str(folder),
            why=" ".join(str(fault).split())[:300],
            fix="check that the folder holds a whole causal language model of an architecture transformers knows",
        ) from fault
    return model.to(device)
