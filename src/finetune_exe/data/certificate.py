"""State what was proven of a prepared dataset's loss masks, for programs to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune_exe.domain.certificate import Claim, MaskCertificate, SplitMasks
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.text.tokenizer import ChatTokenizer

CERTIFICATE = "mask_certificate.json"


def certify(
    manifest: PreparedDataset, summaries: Sequence[dict[str, Any]], tokenizer: ChatTokenizer
) -> MaskCertificate:
    """Write the certificate from what the shards counted, row by row.

    Args:
        manifest: Of the dataset.
        summaries: Of its shards.
        tokenizer: The one it was encoded with.
    """
    kept = manifest.kept

    def total(count: str) -> int:
        return sum(summary[count] for summary in summaries)

    sequences = total("num_sequences")
    leading = {count: sum(summary["leading_bos"][count] for summary in summaries) for count in ("0", "1", "more")}
    right_bos = sequences - leading["more"] if tokenizer.bos_token is None else leading["1"]
    claims = (
        _claim("derivations_agree", "two independent derivations of the mask agree on every token", kept, kept),
        _claim("end_of_turn_learned", "every learned answer ends in a learned stop token", total("ends_learned"), kept),
        _claim("prompt_not_learned", "no token of a generation prompt, which the model is given before it answers, is "
               "learned", total("prompt_tokens_unlearned"), total("prompt_tokens")),
        _claim("something_learned", "every row has at least one learned token", total("rows_with_learned"), kept),
        _claim("one_bos", "no sequence begins with two beginning-of-text tokens, and each with one where the "
               "tokenizer writes one", right_bos, sequences),
    )  # fmt: skip
    return MaskCertificate(
        inputs={"dataset": manifest.digest()},
        tokenizer_digest=manifest.tokenizer_digest,
        template_digest=manifest.template_digest,
        stop_tokens=tokenizer.stop_tokens,
        stop_token_ids=tokenizer.stop_token_ids,
        derivations=manifest.mask_proof.derivations,
        rows_not_proven=manifest.mask_proof.num_disagreeing,
        splits={
            name: SplitMasks(
                num_rows=split.num_rows, num_sequences=split.num_sequences, num_tokens=split.num_tokens,
                num_learned_tokens=split.num_learned_tokens, digest=split.digest,
            )
            for name, split in manifest.splits.items()
        },
        claims=claims,
        sequences_with_leading_bos=leading["1"],
    )  # fmt: skip


def _claim(name: str, says: str, num_true: int, num_checked: int) -> Claim:
    return Claim(name=name, says=says, num_checked=num_checked, num_true=num_true, holds=num_true == num_checked)
