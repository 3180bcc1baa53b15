"""What a judge said, after what is known of the judge."""

from __future__ import annotations

from typing import Any

from finetune_exe.domain.comparison import JudgeQuality, PairedResult
from finetune_exe.report.comparison import comparison_contract, render_comparison
from finetune_exe.report.page import Field, Title, Words, render_text
from finetune_exe.units import format_percent

_KINDS = {
    "corrupted": "sees wrong answers", "padded": "is not won by padding", "begging": "is not won by begging",
    "same": "calls same answers a tie",
}  # fmt: skip


def judge_contract(quality: JudgeQuality, result: PairedResult | None) -> dict[str, Any]:
    """Give the judge's quality and, where it is trusted, its comparison."""
    compared = None if result is None else comparison_contract(result)
    return {"quality": quality.model_dump(mode="json"), "trusted": quality.trusted, "comparison": compared}


def render_judged(quality: JudgeQuality, result: PairedResult | None) -> str:
    """Write how far the judge can be trusted, and its verdict where it can."""
    page = render_text([
        Title("JUDGE", (
            *(Field(_KINDS.get(kind, kind), format_percent(share)) for kind, share in quality.right.items()),
            Field("same verdict in both orders", format_percent(quality.consistent)),
            Field("prefers what is shown first", format_percent(quality.first_preferred)),
            Field("replies that cannot be read", format_percent(quality.unreadable)),
        )),
        Words(f"Measured on {quality.num_pairs} pairs whose winner is known."),
        Words("Its verdicts follow." if quality.trusted else "It cannot be trusted: it was not asked for verdicts."),
    ])  # fmt: skip
    return page if result is None else page + "\n" + render_comparison(result)
