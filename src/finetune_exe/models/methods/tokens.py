"""Embeddings of single tokens that are trained beside an adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def token_numbers(base: Path, tokens: Sequence[str]) -> list[int]:
    """Look tokens up in the base's tokenizer.

    Raises:
        FineTuneError: T02 for what is no token there.
    """
    if not tokens:
        return []
    tokenizer = load_tokenizer(base, chat_template=None).tokenizer
    numbers = {token: tokenizer.token_to_id(token) for token in tokens}
    unknown = [token for token, number in numbers.items() if number is None]
    if unknown:
        raise FineTuneError(
            "T02",
            what=f"the tokenizer has no token {', '.join(map(repr, unknown))}",
            where="method.trained_tokens in the plan",
            why="only the embedding of a whole token can be trained",
            fix=f"add it to {base / 'tokenizer.json'} as an added token, or leave it out of method.trained_tokens",
        )
    return sorted({number for number in numbers.values() if number is not None})


def make_room(model: PreTrainedModel, numbers: Sequence[int]) -> None:
    """Give tokens beyond the end of the embedding rows of their own, drawn around the mean of the others."""
    if numbers and numbers[-1] >= model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(numbers[-1] + 1)


def trained_rows(model: PreTrainedModel, numbers: Sequence[int]) -> dict[str, list[int]] | None:
    """Name the rows to train for PEFT: of the embedding, and of the output matrix where that is another."""
    if not numbers:
        return None
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names: dict[Any, str] = {module: name for name, module in model.named_modules()}
    rows = {_last_part(names[embedding]): list(numbers)}
    if head is not None and head.weight is not embedding.weight:
        rows[_last_part(names[head])] = list(numbers)
    return rows


def _last_part(name: str) -> str:
    return name.rpartition(".")[2]
