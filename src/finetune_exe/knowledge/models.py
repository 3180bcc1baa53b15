"""Dimensions, size and licence of open models."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date
from functools import cache

from finetune_exe.domain.values import ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.rows import compact, read_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One open model."""

    name: str
    reference: str
    """Hub id taken when only the name is given: the chat variant where there is one."""
    base_reference: str
    """Hub id of the pretrained model."""
    family: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    gated_mlp: bool
    num_experts: int
    num_parameters: int
    context_length: int
    license: str
    gated: bool
    """Whether the hub wants a signed agreement before it hands the weights out."""
    verified: bool
    """Whether the dimensions were read in the source and add up to the published number of parameters."""
    source: str
    date: date

    @property
    def shape(self) -> ModelShape:
        """The dimensions alone."""
        return ModelShape(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_attention_heads=self.num_attention_heads,
            num_key_value_heads=self.num_key_value_heads,
            head_dim=self.head_dim,
            vocab_size=self.vocab_size,
            tied_embeddings=self.tied_embeddings,
            gated_mlp=self.gated_mlp,
            num_experts=self.num_experts,
        )


EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
_VARIANT_WORDS = re.compile(r"(?<![a-z])(instruct|chat|it|base|hf|meta)(?![a-z])")
_VERSION = re.compile(r"v\d+(\.\d+)?$")


@cache
def model_facts() -> tuple[ModelFacts, ...]:
    """Read all models, smallest of each family first."""
    return read_rows("models.toml", key="model", kind=ModelFacts)


def find_model(name: str) -> ModelFacts:
    """Find a model by a name as people write it: any case, spaces for dashes, with or without the hub's owner.

    Raises:
        FineTuneError: M01, with the nearest names.
    """
    by_key: dict[str, ModelFacts] = {}
    for facts in model_facts():
        for known in (facts.name, facts.reference, facts.base_reference):
            by_key.setdefault(_key(known), facts)
            by_key.setdefault(_VERSION.sub("", _key(known)), facts)
    if _key(name) in by_key:
        return by_key[_key(name)]
    near = difflib.get_close_matches(_key(name), by_key, n=3, cutoff=0.5)
    nearest = ", ".join(dict.fromkeys(by_key[key].reference for key in near))
    raise FineTuneError(
        "M01",
        what=f"no model is called {name!r}",
        where="the name of the base model",
        why="it is no file or folder here, no hub id (owner/name) and none of the models known by name",
        fix=f"{f'did you mean {nearest}? Or give' if nearest else 'give'} a hub id, a GGUF file or a model folder",
    )


def find_model_of_shape(shape: ModelShape) -> ModelFacts | None:
    """Find the known model that has exactly these dimensions."""
    return next((facts for facts in model_facts() if facts.shape == shape), None)


def names_a_variant(name: str) -> bool:
    """Say whether a name says which variant of the model it means, as in "-Instruct" or "-it"."""
    return bool(_VARIANT_WORDS.search(name.lower()))


def _key(name: str) -> str:
    return compact(_VARIANT_WORDS.sub("", name.rsplit("/", 1)[-1].lower()))
