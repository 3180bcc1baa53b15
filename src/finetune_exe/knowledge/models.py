"""Dimensions, size, licence and standing of open models."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Literal

from finetune_exe.domain.values import ModelShape
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.rows import compact, read_rows

MULTILINGUAL = "multilingual"
"""Stands in `ModelFacts.languages` for dozens of languages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One open model."""

    name: str
    reference: str
    """Hub id taken when only the name is given: the chat variant where there is one."""
    base_reference: str
    """Hub id of the pretrained model; the same as `reference` where only one variant was published."""
    series: str
    """Models of one generation in several sizes."""
    family: str
    """Whose models its series descends from, by architecture and recipe."""
    architecture: str
    """Class of the model in transformers."""
    chat: bool
    """Whether `reference` was tuned for conversation and brings a chat template."""
    shape: ModelShape
    num_parameters: int
    context_length: int
    """Longest sequence it was made for, in tokens."""
    languages: tuple[str, ...]
    """Two-letter codes of the languages its makers name; "multilingual" for dozens."""
    license: str
    verified: bool
    """Whether the dimensions were read in the source and add up to the published number of parameters."""
    source: str
    date: date
    gated: bool = False
    """Whether the hub wants a signed agreement before it hands the weights out."""
    qkv_bias: bool = False
    """Whether the query, key and value projections have biases, which the shape does not count."""
    released: str | None = None
    """Year, or year and month, of publication."""
    strengths: tuple[Literal["code", "reasoning"], ...] = ()
    """What its makers trained it for in particular."""
    specialist: bool = False
    """Whether it was trained for its strengths at the cost of everything else."""
    thinks: bool = False
    """Whether its chat template has a place for thoughts before each answer."""
    mmlu: float | None = None
    """Score of the pretrained model on MMLU with five examples, in percent."""
    mmlu_source: str | None = None
    measured: str | None = None
    """What was measured after fine-tuning it, with the source."""

    @property
    def num_experts(self) -> int:
        """MLP copies in each layer; 1 for a dense model."""
        return self.shape.num_experts

    def speaks(self, language: str) -> bool:
        """Say whether its makers name the language, a two-letter code."""
        return language in self.languages or MULTILINGUAL in self.languages


EMBEDDED_MODEL = "SmolLM2-135M-Instruct"
_SAME_SHAPE = {
    "instruct", "chat", "it", "pt", "base", "hf", "meta", "unsloth",
    "gptq", "awq", "gguf", "ggml", "exl2", "mlx", "bnb", "nf4", "fp8", "fp16", "bf16", "int4", "int8", "4bit", "8bit",
    "w4a16", "w8a8", "dynamic", "quantized",
}  # fmt: skip
"""Words of a name that tell variant and packing, not dimensions."""
_QUANTISATION = re.compile(r"[-_. ]i?q\d(_[a-z0-9]+)*(?=$|[-. ])")
_BITS = re.compile(r"\b([48])[- ]bits?\b")
_BETWEEN_WORDS = re.compile(r"[^a-z0-9.]+|(?<=[a-z])\.")
_VERSION = re.compile(r"v\d+(\.\d+)?$")
_MONTH = re.compile(r"\d{4}")


_AT_A_SERVICE = re.compile(
    r"(openai/)?(gpt-?[345](?!\w*-?(neo|j))|chatgpt|o[134]\b)|(anthropic/)?claude|(google/)?gemini", re.IGNORECASE
)
"""Names of models that nobody but their maker's service has."""


@cache
def model_facts() -> tuple[ModelFacts, ...]:
    """Read all models; where a short name fits several, the first is meant."""
    return read_rows("models.toml", key="model", kind=ModelFacts)


def find_model(name: str) -> ModelFacts:
    """Find a model by a name as people write it: any case, spaces for dashes, with or without the hub's owner.

    The repository of somebody who only packed a model in other formats stands for that model: "-GPTQ", "-bnb-4bit",
    "-Q4_K_M-GGUF".

    Raises:
        FineTuneError: M01, with the nearest names.
    """
    facts = known_model(name)
    if facts is not None:
        return facts
    refuse_of_service(name)
    near = nearest_models(name)
    nearest = ", ".join(facts.reference for facts in near)
    hand = "a folder whose config.json has its dimensions"
    raise FineTuneError(
        "M01",
        what=f"no model is called {name!r}",
        where="the name of the base model",
        why="it is no file or folder here, no hub id (owner/name) and none of the models known by name",
        fix=f"did you mean {nearest}? Or give a hub id, a GGUF file, or {hand}; "
        f"to plan only, --model {near[0].reference!r} stands for one of its size"
        if near
        else f"give a hub id, a GGUF file, or {hand}; to plan only, name a known model of its size",
    )


def refuse_of_service(name: str) -> None:
    """Refuse the name of a model that only its maker's service has.

    Raises:
        FineTuneError: M01, with what can be done there.
    """
    if _AT_A_SERVICE.match(name):
        raise FineTuneError(
            "M01",
            what=f"the weights of {name!r} are not published",
            where="the name of the base model",
            why="only the service that serves such a model can train it",
            fix="take a model whose weights are; for GPT at OpenAI, plan with one of these and write the job: "
            "fine-tune config --plan plan.yaml --to openai -o openai.yaml",
        )


def known_model(name: str) -> ModelFacts | None:
    """Give the model that `find_model` would, or None."""
    return _by_key().get(_key(name))


def models_called(name: str) -> tuple[ModelFacts, ...]:
    """List the models of a family, "Llama", or of one generation of it, "Qwen2.5"; none where nothing is called so."""
    wanted = compact(name)
    of_family = tuple(facts for facts in model_facts() if compact(facts.family) == wanted)
    return of_family or tuple(facts for facts in model_facts() if compact(facts.series) == wanted)


def nearest_models(name: str) -> tuple[ModelFacts, ...]:
    """List up to three models whose names look most like this one, the most alike first."""
    near = difflib.get_close_matches(_key(name), _by_key(), n=6, cutoff=0.5)
    return tuple(dict.fromkeys(_by_key()[key] for key in near))[:3]


def find_model_of_shape(shape: ModelShape) -> ModelFacts | None:
    """Find the known model that has exactly these dimensions."""
    return next((facts for facts in model_facts() if facts.shape == shape), None)


@cache
def _by_key() -> dict[str, ModelFacts]:
    """Map every spelling to its model; a name without its version or month is the first that has it."""
    by_key: dict[str, ModelFacts] = {}
    spellings = [
        (name, facts) for facts in model_facts() for name in (facts.name, facts.reference, facts.base_reference)
    ]
    for name, facts in spellings:
        by_key.setdefault(_key(name), facts)
    for name, facts in spellings:
        by_key.setdefault(_VERSION.sub("", _key(name)), facts)
        by_key.setdefault(_key(name, month=False), facts)
    return by_key


def _key(name: str, *, month: bool = True) -> str:
    """Reduce a name to what tells the model from others: no owner, variant, packing, or, unless wanted, month."""
    text = _QUANTISATION.sub("", name.rsplit("/", 1)[-1].lower())
    text = _BITS.sub(r"\1bit", text)
    words = [word for word in _BETWEEN_WORDS.split(text) if word not in _SAME_SHAPE]
    return compact("".join(word for word in words if month or not _MONTH.fullmatch(word)))
