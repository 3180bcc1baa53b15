"""Answer prompts with a model, greedily, in batches of like length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from finetune_exe.models.load import Dtype, torch_dtype
from finetune_exe.models.positions import position_limit, positions_before
from finetune_exe.text.tokenizer import ChatTokenizer


class Answer(NamedTuple):
    """One generated answer."""

    text: str
    stopped: bool
    """Whether the model ended it by itself, rather than being cut off."""
    num_tokens: int


def generate(
    model: Any,
    prompts: Sequence[tuple[int, ...]],
    tokenizer: ChatTokenizer,
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    dtype: Dtype = "float32",
    progress: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Generate an answer to each prompt.

    Args:
        model: A causal language model in evaluation mode.
        prompts: Token ids, as `encode_prompt` gives them.
        tokenizer: Says which tokens stop an answer.
        max_new_tokens: Longest answer; it ends sooner where the model has no more positions.
        batch_size: Prompts answered together; they are sorted by length first.
        dtype: Format of the matrix products.
        progress: Told how many prompts are answered.

    Returns:
        The answers, in the order of the prompts.
    """
    import torch
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    stops = set(tokenizer.stop_token_ids)
    answers: dict[int, Answer] = {}
    alike = _hides_a_prefix(model, max(map(len, prompts), default=0) + max_new_tokens)
    lengths = [len(prompt) for prompt in prompts]
    for batch, room in _batches(lengths, batch_size, max_new_tokens, position_limit(model), alike=alike):
        if not room:
            answers |= dict.fromkeys(batch, Answer("", False, 0))
            continue
        settings = GenerationConfig(
            max_new_tokens=room, do_sample=False, eos_token_id=list(tokenizer.stop_token_ids),
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        longest = len(prompts[batch[0]])
        ids = torch.full((len(batch), longest), tokenizer.pad_token_id, device=device)
        real = torch.zeros((len(batch), longest), dtype=torch.long, device=device)
        for row, index in enumerate(batch):
            ids[row, longest - len(prompts[index]) :] = torch.tensor(prompts[index], device=device)
            real[row, longest - len(prompts[index]) :] = 1
        with torch.inference_mode(), _products_in(dtype, device.type):
            output = _continued(model, ids, real, settings)
        for row, index in enumerate(batch):
            new = output[row].tolist()
            length = next((i for i, token in enumerate(new) if token in stops), len(new))
            answers[index] = Answer(tokenizer.decode_answer(new), length < len(new), length)
        progress(len(answers))
    return [answers[index] for index in range(len(prompts))]


def _batches(
    lengths: Sequence[int], size: int, max_new_tokens: int, limit: int | None, *, alike: bool
) -> Iterator[tuple[list[int], int]]:
    """Put prompts of like length together, with `alike` of one length; say how many tokens each may be answered with.

    Where a model has no position for the last of them, a prompt stands alone, so that others have no part in it.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    whole = [index for index in order if limit is None or lengths[index] + max_new_tokens <= limit]
    for index in order[: len(order) - len(whole)]:
        yield [index], max(0, (limit or 0) - lengths[index])
    groups = [list(group) for _, group in itertools.groupby(whole, key=lengths.__getitem__)] if alike else [whole]
    for group in groups:
        for start in range(0, len(group), size):
            yield group[start : start + size], max_new_tokens


def _hides_a_prefix(model: Any, longest: int) -> bool:
    """Say whether padding behind learned keys and values would push them out of a window, or a chunk, of attention."""
    from peft import PeftModel, PrefixTuningConfig

    if not isinstance(model, PeftModel) or not isinstance(model.active_peft_config, PrefixTuningConfig):
        return False
    config = model.get_base_model().config
    reaches = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return any(reach is not None and reach < longest + positions_before(model) for reach in reaches)


def _continued(model: Any, ids: Any, real: Any, settings: Any) -> Any:
    """Generate behind prompts padded on the left; learned embeddings stand between the padding and the prompt.

    Source: PEFT 0.21.2 puts them before the padding, where they have other positions than in training.
    """
    import torch
    from peft import PeftModel, PromptTuningConfig

    if not isinstance(model, PeftModel) or not isinstance(model.active_peft_config, PromptTuningConfig):
        output = model.generate(input_ids=ids, attention_mask=real, generation_config=settings)
        return output[:, ids.shape[1] :]
    inner, learned = model.get_base_model(), model.get_prompt(1)[0]
    embedded = inner.get_input_embeddings()(ids)
    rows, masks = [], []
    for row, mask in zip(embedded, real, strict=True):
        start = len(mask) - int(mask.sum())
        rows.append(torch.cat([row[:start], learned.to(row.dtype), row[start:]]))
        masks.append(torch.cat([mask[:start], mask.new_ones(len(learned)), mask[start:]]))
    return inner.generate(
        inputs_embeds=torch.stack(rows), attention_mask=torch.stack(masks), generation_config=settings
    )


def _products_in(dtype: Dtype, device: str) -> AbstractContextManager[Any]:
    import torch

    return nullcontext() if dtype == "float32" else torch.autocast(device, dtype=torch_dtype(dtype))
