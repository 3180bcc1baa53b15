"""Answer prompts with a model, greedily, in batches of like length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from finetune_exe.text.tokenizer import ChatTokenizer


class Answer(NamedTuple):
    """One generated answer."""

    text: str
    stopped: bool
    """Whether the model ended it by itself, rather than being cut off."""
    num_tokens: int


def merged(model: Any) -> Any:
    """Fold low-rank adapters into the weights they stand beside, so that each token takes half the operations.

    A model whose weights are kept in 4 bit, or that has no such adapters, is given back as it is.
    """
    from peft import LoraConfig, PeftModel

    if not isinstance(model, PeftModel) or not isinstance(model.active_peft_config, LoraConfig):
        return model
    if getattr(model.get_base_model(), "quantization_method", None) is not None:
        return model
    return model.merge_and_unload()


def generate(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    tokenizer: ChatTokenizer,
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    bf16: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Generate an answer to each prompt.

    Args:
        model: A causal language model in evaluation mode.
        prompts: Token ids, as `encode_prompt` gives them.
        tokenizer: Says which tokens stop an answer.
        max_new_tokens: Longest answer.
        batch_size: Prompts answered together; they are sorted by length first.
        bf16: Compute matrix products in bfloat16.
        progress: Told how many prompts are answered.

    Returns:
        The answers, in the order of the prompts.
    """
    import torch
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=list(tokenizer.stop_token_ids),
        pad_token_id=tokenizer.pad_token_id,
    )
    stops = set(tokenizer.stop_token_ids)
    answers: dict[int, Answer] = {}
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = len(prompts[batch[0]])
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id, device=device)
        real = torch.zeros((len(batch), longest), dtype=torch.long, device=device)
        for row, index in enumerate(batch):
            ids[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index], device=device)
            real[row, longest - len(prompts[index]) :] = 1
        with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            output = model.generate(input_ids=ids, attention_mask=real, generation_config=settings)
        for row, index in enumerate(batch):
            new = output[row, longest:].tolist()
            length = next((i for i, token in enumerate(new) if token in stops), len(new))
            answers[index] = Answer(tokenizer.decode_answer(new), length < len(new), length)
        progress(len(answers))
    return [answers[index] for index in range(len(prompts))]
