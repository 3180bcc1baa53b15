"""Prompt tuning through PEFT: learned embeddings before every row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Prompt
from finetune_exe.models.methods.adapter_files import Adapter
from finetune_exe.models.methods.impossible import told_in_words
from finetune_exe.text.first_words import FIRST_WORDS
from finetune_exe.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PromptMethod(Adapter):
    """Learned positions at the input of a frozen model."""

    def attach(self, model: PreTrainedModel, method: Prompt, *, base: Path, base_name: str) -> Any:
        """Put learned embeddings before every row, which begin as the model's own of `FIRST_WORDS`.

        Raises:
            FineTuneError: T02 for models whose embeddings are of another width, or whose dimensions PEFT does not find.
        """
        import torch
        from peft import PromptTuningConfig, get_peft_model

        length = method.num_virtual_tokens
        words = load_tokenizer(base, chat_template=None).tokenizer.encode(FIRST_WORDS * length).ids[:length]
        with torch.no_grad(), told_in_words(model, fix="--set method.kind=lora, or full"):
            tuned = get_peft_model(model, PromptTuningConfig(num_virtual_tokens=length, task_type="CAUSAL_LM"))
            written = model.get_input_embeddings()(torch.tensor(words, device=model.device))
            learned = tuned.prompt_encoder["default"].float().embedding
            learned.weight.copy_(written)
        tuned.peft_config["default"].base_model_name_or_path = base_name
        return tuned
