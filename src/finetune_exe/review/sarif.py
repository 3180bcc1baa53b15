"""Findings as SARIF 2.1.0, which code hosts show beside the lines.

Source: OASIS Static Analysis Results Interchange Format 2.1.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from urllib.parse import quote

from finetune_exe import __version__
from finetune_exe.domain.review import ConfigurationFinding, ConfigurationReview
from finetune_exe.domain.yaml_tree import Json

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
CODES: dict[str, str] = {
    "adapter": "Adapters are not used, or not as published numbers mean",
    "contradiction": "Settings exclude each other",
    "deprecated_key": "A key is gone or will go",
    "does_not_fit": "The run needs more memory than the GPU has",
    "does_not_train": "Nothing is trained",
    "end_token": "The end of answers may not be learned",
    "epochs": "Many passes over the same rows",
    "ignored_key": "A setting has no effect beside the others",
    "key_given_twice": "A key is given twice",
    "learning_rate": "The learning rate is out of range",
    "length": "Rows are longer than the model was made for",
    "mask": "Other tokens are learned than the answers",
    "memory": "Memory may run out late",
    "misspelt_key": "A key is misspelt",
    "new_tokens": "New tokens are not trained",
    "number_as_text": "A number is text",
    "packing": "Packed rows may see each other",
    "plan": "The plan cannot be carried out as it is",
    "precision": "The number format loses what is learned",
    "rows_dropped": "Rows are thrown away unseen",
    "shortened_key": "A key is the beginning of another",
    "template": "The chat template is not the model's",
    "truncation": "Rows are cut",
    "unknown_key": "A key is not known",
    "unreadable": "The file cannot be read",
    "warmup": "The warm-up is out of range",
    "wrong_choice": "A value is none of those allowed",
    "wrong_type": "A value is of the wrong kind",
}
"""Every code of a finding, and what it is about."""


def sarif(reviews: Sequence[ConfigurationReview]) -> Json:
    """Write all findings as one SARIF log."""
    used = sorted({finding.code for review in reviews for finding in review.findings})
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {
                    "name": "fine-tune review", "version": __version__, "semanticVersion": __version__,
                    "rules": [{"id": code, "shortDescription": {"text": CODES[code]}} for code in used],
                }},
                "columnKind": "unicodeCodePoints",
                "results": [
                    _result(review, finding, used) for review in reviews for finding in review.findings
                ],
            }
        ],
    }  # fmt: skip


def _result(review: ConfigurationReview, finding: ConfigurationFinding, used: list[str]) -> Json:
    path = PurePath(review.path)
    place: dict[str, Json] = {"uri": quote(path.as_posix())}
    if not path.is_absolute():
        place["uriBaseId"] = "%SRCROOT%"
    return {
        "ruleId": finding.code,
        "ruleIndex": used.index(finding.code),
        "level": finding.severity,
        "message": {"text": f"{finding.what}. {finding.why}. Fix: {finding.fix}"},
        "locations": [{"physicalLocation": {
            "artifactLocation": place, "region": {"startLine": finding.line, "startColumn": finding.column},
        }}],
        "properties": {"key": finding.key, "source": finding.source, "tool": review.title},
    }  # fmt: skip
