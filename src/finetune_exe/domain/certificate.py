"""What is proven of a prepared dataset's loss masks."""

from __future__ import annotations

from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.document import Document, Value


class Claim(Value):
    """One thing that was looked at in every row or sequence."""

    name: str
    says: str
    """The claim in words."""
    num_checked: int
    num_true: int
    holds: bool
    """Whether it is true of all."""


class SplitMasks(Value):
    """The masks of one side of the split."""

    num_rows: int
    num_sequences: int
    num_tokens: int
    num_learned_tokens: int
    digest: str
    """As in the manifest: SHA-256 over the arrays and rows the certificate is about."""


class EngineParity(Value):
    """Another program that rendered the same conversations."""

    engine: str
    """What it is, with its version."""
    num_conversations: int
    """How many were compared; 0 where it is not installed."""
    num_equal: int
    """How many got the same text and the same token ids."""
    note: str = ""


class MaskCertificate(Document):
    """Certificate of the loss masks of a prepared dataset; it lies beside the manifest."""

    tokenizer_digest: str
    template_digest: str
    stop_tokens: tuple[str, ...]
    """Tokens at which generation must end, as in training."""
    stop_token_ids: tuple[int, ...]
    derivations: tuple[str, ...]
    rows_not_proven: int
    """Rows whose derivations disagreed; they were dropped and are in no split."""
    splits: dict[SplitName, SplitMasks]
    claims: tuple[Claim, ...]
    sequences_with_leading_bos: int
    parity: tuple[EngineParity, ...] = ()
    """Engines that rendered conversations of this dataset as it was trained on."""

    @property
    def holds(self) -> bool:
        """Whether every claim is true and no engine disagrees."""
        return all(claim.holds for claim in self.claims) and all(
            engine.num_equal == engine.num_conversations for engine in self.parity
        )
