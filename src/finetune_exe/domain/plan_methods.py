"""The group `method` of a plan: how the model is made trainable, one kind of settings for each way."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from finetune_exe.domain.document import Value
from finetune_exe.domain.method_kinds import MethodKind

Grid = Literal["q4_0", "q4_1", "mxfp4"]
"""Values of 4 bits that models are published on: those of two kinds of GGUF files, and the FP4 of gpt-oss."""


class LowRank(Value):
    """Low-rank adapters on a frozen model, whatever its weights are kept in."""

    kind: Literal["lora", "qlora"]
    """How the model is made trainable."""
    lora_rank: int = Field(default=16, ge=1)
    """Width of the two factors; more can hold more, and costs memory."""
    lora_alpha: float = Field(default=32.0, gt=0)
    """Scale: the update is lora_alpha / lora_rank times the product of the two factors."""
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapters' inputs set to zero in each step."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get adapters; or a list of module names."""
    use_rslora: bool = False
    """Scale by lora_alpha / sqrt(lora_rank) instead, which keeps high ranks learning."""
    use_dora: bool = False
    """Train length and direction of each weight apart: a fifth to a quarter slower."""
    lora_plus_ratio: float | None = Field(default=None, ge=1)
    """Learning rate of the second factor over that of the first (LoRA+); None gives both the same."""
    trained_tokens: tuple[str, ...] = ()
    """Tokens of the tokenizer whose embeddings are trained too, such as new ones that the base never met."""


class Lora(LowRank):
    """Low-rank adapters on a frozen model."""

    kind: Literal["lora"] = "lora"
    """How the model is made trainable."""


class Qlora(LowRank):
    """Low-rank adapters on a model frozen in 4 bit."""

    kind: Literal["qlora"] = "qlora"
    """How the model is made trainable."""
    quantization: Literal["nf4"] | Grid = "nf4"
    """Values of 4 bits: NormalFloat's for any model; those of a Q4 GGUF file or of MXFP4 for one that lies on them."""
    double_quantization: bool = True
    """Keep the scales of NormalFloat's blocks in 8 bit too: 0.4 bit a weight less."""
    offset_rounding: bool = False
    """Begin with adapters that offset most of what rounding took; they then belong over the 4-bit weights alone."""


class Prefix(Value):
    """Learned keys and values before every row, in every layer; the model is frozen."""

    kind: Literal["prefix"] = "prefix"
    """How the model is made trainable."""
    num_virtual_tokens: int = Field(default=20, ge=1)
    """Learned positions before each row; they take room in the context."""


class Prompt(Value):
    """Learned embeddings before every row; the model is frozen."""

    kind: Literal["prompt"] = "prompt"
    """How the model is made trainable."""
    num_virtual_tokens: int = Field(default=20, ge=1)
    """Learned positions before each row; they take room in the context, and time like any token."""


class Ia3(Value):
    """Learned factors on keys, values (of some architectures queries) and the MLP; the model is frozen."""

    kind: Literal["ia3"] = "ia3"
    """How the model is made trainable."""


class Full(Value):
    """Every weight is trained."""

    kind: Literal["full"] = "full"
    """How the model is made trainable."""
    masters: Literal["float32", "split", "stochastic"] = "float32"
    """Where small updates survive: in weights kept in float32; in 16 bits beside weights in bfloat16, which together
    are float32 exactly; or in rounding up or down at random, in proportion."""


Method = Annotated[Lora | Qlora | Full | Prefix | Prompt | Ia3, Field(discriminator="kind")]
METHOD_TYPES: dict[MethodKind, type[Method]] = {
    kind.model_fields["kind"].default: kind for kind in get_args(get_args(Method)[0])
}
"""The settings of each kind of method."""
