"""A model that leaves the house: what was written, from what, and what was verified of it."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Document, Value

MERGED_PARITY = "merged weights against the adapter"
"""Name of the parity of what is merged in float32, whatever it is rounded to afterwards."""
ShipmentForm = Literal["merged", "gguf", "adapter"]


class Parity(Value):
    """How far one form of the model predicts otherwise than another."""

    name: str
    num_tokens: int
    """Positions of prompts and of general text that were compared."""
    divergence: float
    """Mean Kullback-Leibler divergence, in nats a token."""
    divergence_p999: float
    """The same at the thousandth token."""
    top1_agreement: float
    """Share of positions where both think the same token likeliest."""
    most_divergence: float
    """Mean divergence beyond which nothing is exported."""


class ShippedFile(Value):
    """One file of the export."""

    name: str
    num_bytes: int
    sha256: str


class Shipment(Document):
    """What `fine-tune export` wrote; `inputs` names plan, dataset, run, evaluation, base and weights by digest."""

    form: ShipmentForm
    number_format: str
    """In which the weights are kept."""
    verdict: str
    """Of the evaluation: ready, not ready, cannot say, or not evaluated."""
    objections: tuple[str, ...]
    """Why it would not have been exported."""
    anyway: str | None
    """The reason given for exporting it all the same."""
    parities: tuple[Parity, ...]
    num_prompts_tokenised: int
    """Texts whose token ids were held against those of the training."""
    notes: tuple[str, ...]
    files: tuple[ShippedFile, ...]
