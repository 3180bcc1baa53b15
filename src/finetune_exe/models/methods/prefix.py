"""Prefix tuning through PEFT: learned keys and values before every row, in every layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Prefix
from finetune_exe.models.methods.adapter_files import Adapter
from finetune_exe.models.methods.impossible import told_in_words
from finetune_exe.text.first_words import FIRST_WORDS
from finetune_exe.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class PrefixMethod(Adapter):
    """Learned positions on a frozen model."""

    def attach(self, model: PreTrainedModel, method: Prefix, *, base: Path, base_name: str) -> Any:
        """Put learned positions before every row, which begin as the model's own keys and values of `FIRST_WORDS`.

        Random ones would first have to be unlearned, since every token attends to them.

        Raises:
            FineTuneError: T02 for models that keep no keys and values, or not as many or as wide ones as PEFT learns.
        """
        import torch
        from peft import PrefixTuningConfig, get_peft_model, initialize_kv_prefix_from_past_key_values

        length = method.num_virtual_tokens
        words = load_tokenizer(base, chat_template=None).tokenizer.encode(FIRST_WORDS * length).ids[:length]
        config = PrefixTuningConfig(num_virtual_tokens=length, task_type="CAUSAL_LM")
        with torch.no_grad(), told_in_words(model, fix="--set method.kind=lora, or full"):
            ids = torch.tensor([words], device=model.device)
            written = model.eval()(input_ids=ids, use_cache=True).past_key_values
            tuned = get_peft_model(model, config)
            initialize_kv_prefix_from_past_key_values(tuned, past_key_values=written)
            tuned(input_ids=ids[:, :1], use_cache=False)
        tuned.peft_config["default"].base_model_name_or_path = base_name
        return tuned
