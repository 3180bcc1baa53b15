"""A review of configurations for a person to read."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.review import ConfigurationReview

_MANY = {"error": "errors", "warning": "warnings", "note": "notes"}


def show_reviews(reviews: Sequence[ConfigurationReview]) -> str:
    """Write each file's findings in the order of its lines, with place, reason and remedy."""
    return "\n\n".join("\n".join(_review(review)) for review in reviews)


def _review(review: ConfigurationReview) -> list[str]:
    counts = [
        f"{number} {kind if number == 1 else _MANY[kind]}"
        for kind in ("error", "warning", "note")
        if (number := review.count(kind))
    ]
    settings = f"{review.num_settings} setting{'' if review.num_settings == 1 else 's'}"
    lines = [f"{review.path}: {review.title}, {settings}: {', '.join(counts) or 'nothing to say'}"]
    for finding in review.findings:
        lines += [
            f"{review.path}:{finding.line}:{finding.column}: {finding.severity}[{finding.code}]: {finding.what}",
            f"  why: {finding.why}",
            f"  fix: {finding.fix}",
            f"  source: {finding.source}",
        ]
    lines += [f"not looked at: {reason}" for reason in review.not_looked_at]
    return lines
