"""Make a finding: a value with its place, and the remedy in the language of the file."""

from __future__ import annotations

from finetune_exe.domain.review import ConfigurationFinding, Severity
from finetune_exe.domain.yaml_tree import Place
from finetune_exe.review.configuration import Configuration


def finding(
    code: str, severity: Severity, *, key: str, place: Place, what: str, why: str, fix: str, source: str
) -> ConfigurationFinding:
    """Make a finding at a place."""
    return ConfigurationFinding(
        code=code,
        severity=severity,
        line=place.line,
        column=place.column,
        key=key,
        what=what,
        why=why,
        fix=fix,
        source=source,
    )


def place_of(configuration: Configuration, *keys: str) -> tuple[str, Place]:
    """Give the first of the keys that the file has, with its place; the file's beginning where it has none."""
    for key in keys:
        item = configuration.settings.get(key)
        if item is not None:
            return key, item.key_place
    return keys[0] if keys else "", Place(1, 1)
