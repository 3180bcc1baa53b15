"""Low-rank adapters through PEFT: LoRA, on a base in 4 bit QLoRA, with rsLoRA's scale and DoRA's magnitudes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.domain.plan import Lora, Qlora
from finetune_exe.models.load import Dtype, load_base
from finetune_exe.models.methods.adapter_files import Adapter
from finetune_exe.models.methods.impossible import told_in_words
from finetune_exe.models.methods.tokens import make_room, token_numbers, trained_rows
from finetune_exe.models.places import adapter_places

if TYPE_CHECKING:
    from transformers import PreTrainedModel


_INSTEAD = (
    "--set method.lora_dropout=0.0 --set method.use_dora=false where these are named, for experts take neither; "
    "where layers are named, --set method.target_modules=[...] with the others; or --set method.kind=full"
)


class LowRankMethod(Adapter):
    """Adapters beside the linear layers; everything else is frozen."""

    def attach(self, model: PreTrainedModel, method: Lora | Qlora, *, base: Path, base_name: str) -> Any:
        """Put float32 adapters beside the linear layers, and over the embeddings of trained tokens.

        Raises:
            FineTuneError: T02 for a trained token that the tokenizer does not have, and where PEFT has no such adapter
                for a layer of the model.
        """
        from peft import LoraConfig, get_peft_model

        numbers = token_numbers(base, method.trained_tokens)
        make_room(model, numbers)
        config = LoraConfig(
            r=method.lora_rank,
            lora_alpha=method.lora_alpha,
            lora_dropout=method.lora_dropout,
            **adapter_places(model, method.target_modules)._asdict(),
            use_rslora=method.use_rslora,
            use_dora=method.use_dora,
            trainable_token_indices=trained_rows(model, numbers),
            task_type="CAUSAL_LM",
        )
        with told_in_words(model, fix=_INSTEAD):
            tuned = get_peft_model(model, _fast(config, method), autocast_adapter_dtype=True)
        tuned.peft_config["default"].base_model_name_or_path = base_name
        return tuned

    def load(self, folder: Path, base: Path, method: Lora | Qlora, *, dtype: Dtype, device: str) -> Any:
        """Load the adapter onto its base, whose number format its two factors take: training computed in it too.

        DoRA divides by the length of each row of weights, which is computed in float32 as in training.
        """
        from peft import LoraConfig, PeftModel

        model = load_base(base, method, dtype=dtype, device=device)
        make_room(model, token_numbers(base, method.trained_tokens))
        config = _fast(LoraConfig.from_pretrained(folder), method)
        return PeftModel.from_pretrained(model, folder, config=config, autocast_adapter_dtype=method.use_dora).eval()


def _fast(config: Any, method: Lora | Qlora) -> Any:
    """Let the layers beside the adapters be computed in as few passes as there can be."""
    if isinstance(method, Qlora):
        from finetune_exe.models.low_rank_4_bit import compute_4_bit_adapters_fast

        return compute_4_bit_adapters_fast(config)
    from finetune_exe.models.low_rank_layer import compute_adapters_fast

    return compute_adapters_fast(config)
