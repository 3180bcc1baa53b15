"""Models that torchtune 0.6.1 brings recipes for: it builds each by a function of its own.

Source: the configurations in recipes/configs of torchtune-0.6.1-py3-none-any.whl, read on 2026-11-26.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from finetune_exe.domain.yaml_tree import Json


class TorchtuneModel(NamedTuple):
    """How torchtune builds and loads a model."""

    family: str
    """Module below torchtune.models."""
    builder: str
    """Its function; with `lora_` before it, the one that adds adapters."""
    model_type: str
    tokenizer: str
    """Function below torchtune.models."""
    tokenizer_files: Mapping[str, str]
    """What the function is given, by the name of the argument: files of the model's folder."""
    num_files: int
    """Files of the weights."""

    @property
    def checkpoint_files(self) -> Json:
        """Name the files of the weights."""
        if self.num_files == 1:
            return ["model.safetensors"]
        return {"filename_format": "model-{}-of-{}.safetensors", "max_filename": f"{self.num_files:05}"}


def _llama3(family: str, builder: str, model_type: str, num_files: int) -> TorchtuneModel:
    files = {"path": "original/tokenizer.model"}
    return TorchtuneModel(family, builder, model_type, "llama3.llama3_tokenizer", files, num_files)


def _qwen(family: str, builder: str, num_files: int) -> TorchtuneModel:
    files = {"path": "vocab.json", "merges_file": "merges.txt"}
    return TorchtuneModel(family, builder, "QWEN2", f"{family}.{family}_tokenizer", files, num_files)


def _gemma(family: str, builder: str, num_files: int) -> TorchtuneModel:
    return TorchtuneModel(
        family, builder, family.upper(), "gemma.gemma_tokenizer", {"path": "tokenizer.model"}, num_files
    )


TORCHTUNE_MODELS: Mapping[str, TorchtuneModel] = {
    "meta-llama/Llama-3.2-1B-Instruct": _llama3("llama3_2", "llama3_2_1b", "LLAMA3_2", 1),
    "meta-llama/Llama-3.2-3B-Instruct": _llama3("llama3_2", "llama3_2_3b", "LLAMA3_2", 2),
    "meta-llama/Meta-Llama-3.1-8B-Instruct": _llama3("llama3_1", "llama3_1_8b", "LLAMA3", 4),
    "meta-llama/Llama-3.1-8B-Instruct": _llama3("llama3_1", "llama3_1_8b", "LLAMA3", 4),
    "meta-llama/Meta-Llama-3.1-70B-Instruct": _llama3("llama3_1", "llama3_1_70b", "LLAMA3", 30),
    "meta-llama/Llama-3.3-70B-Instruct": _llama3("llama3_3", "llama3_3_70b", "LLAMA3", 30),
    "Qwen/Qwen2-0.5B-Instruct": _qwen("qwen2", "qwen2_0_5b", 1),
    "Qwen/Qwen2-1.5B-Instruct": _qwen("qwen2", "qwen2_1_5b", 1),
    "Qwen/Qwen2-7B-Instruct": _qwen("qwen2", "qwen2_7b", 4),
    "Qwen/Qwen2.5-0.5B-Instruct": _qwen("qwen2_5", "qwen2_5_0_5b", 1),
    "Qwen/Qwen2.5-1.5B-Instruct": _qwen("qwen2_5", "qwen2_5_1_5b_instruct", 1),
    "Qwen/Qwen2.5-3B-Instruct": _qwen("qwen2_5", "qwen2_5_3b", 2),
    "Qwen/Qwen2.5-7B-Instruct": _qwen("qwen2_5", "qwen2_5_7b_instruct", 4),
    "Qwen/Qwen2.5-14B-Instruct": _qwen("qwen2_5", "qwen2_5_14b_instruct", 8),
    "Qwen/Qwen2.5-32B-Instruct": _qwen("qwen2_5", "qwen2_5_32b_instruct", 17),
    "Qwen/Qwen2.5-72B-Instruct": _qwen("qwen2_5", "qwen2_5_72b_instruct", 37),
    "google/gemma-2b": _gemma("gemma", "gemma_2b", 2),
    "google/gemma-7b": _gemma("gemma", "gemma_7b", 4),
    "google/gemma-2-2b": _gemma("gemma2", "gemma2_2b", 3),
    "google/gemma-2-9b": _gemma("gemma2", "gemma2_9b", 8),
    "google/gemma-2-27b": _gemma("gemma2", "gemma2_27b", 24),
    "microsoft/Phi-3-mini-4k-instruct": TorchtuneModel(
        "phi3", "phi3_mini", "PHI3_MINI", "phi3.phi3_mini_tokenizer", {"path": "tokenizer.model"}, 2
    ),
    "microsoft/phi-4": TorchtuneModel(
        "phi4", "phi4_14b", "PHI4", "phi4.phi4_tokenizer",
        {"vocab_path": "vocab.json", "merges_path": "merges.txt"}, 6,
    ),
}  # fmt: skip
"""By the name of the model on the hub."""
