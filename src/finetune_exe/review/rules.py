"""Apply the table of rules to a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.setting_line import written
from finetune_exe.domain.yaml_tree import Item
from finetune_exe.knowledge.review_rules import Condition, Rule, review_rules
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding, place_of


def check_rules(configuration: Configuration) -> Iterator[ConfigurationFinding]:
    """Look for settings that together do what nobody means."""
    for rule in review_rules():
        prefix = rule.prefixes.get(configuration.peer.name)
        if prefix is not None:
            yield from _apply(rule, configuration, prefix)


def _apply(rule: Rule, configuration: Configuration, prefix: str) -> Iterator[ConfigurationFinding]:
    if rule.each is not None:
        condition = rule.when[rule.each]
        for item in configuration.every(rule.each):
            if holds(item, condition):
                yield _made(rule, configuration, rule.each, item)
        return
    settings = configuration.settings
    if not all(holds(_given(configuration, prefix + name), condition) for name, condition in rule.when.items()):
        return
    if any(holds(settings.get(prefix + name), condition) for name, condition in rule.skip.items()):
        return
    names = [prefix + name for name in ((rule.at,) if rule.at else tuple(rule.when))]
    key, _ = place_of(configuration, *names)
    if key in settings:
        yield _made(rule, configuration, key, settings[key])


def _given(configuration: Configuration, name: str) -> Item | None:
    """Look a setting up; one that a call may be given by `**` is there, with a value that is not known."""
    spread = configuration.settings.get(f"{name.rpartition('.')[0]}.**")
    return configuration.settings.get(name, spread)


def _made(rule: Rule, configuration: Configuration, key: str, item: Item) -> ConfigurationFinding:
    told = ", ".join(written(configuration.form, name, value) for name, value in rule.set.items())
    return finding(
        rule.code, rule.severity, key=key, place=item.key_place, what=rule.what, why=rule.why,
        fix=rule.fix or f"write {told}", source=rule.source,
    )  # fmt: skip


def holds(item: Item | None, condition: Condition) -> bool:
    """Say whether a setting fulfils a condition; one whose value is not known fulfils none but to be there."""
    if isinstance(condition, list):
        return any(holds(item, one) for one in condition)
    content = item.content if item is not None else None
    missing = content is None
    if condition == "present":
        return not missing
    if condition == "absent":
        return missing
    if item is None or missing:
        return condition == "unset"
    if item.computed:
        return False
    if condition in ("set", "unset"):
        return _is_set(content) == (condition == "set")
    if isinstance(content, Mapping | tuple):
        return False
    if isinstance(condition, str) and condition[:1] == "~":
        return isinstance(content, str) and bool(re.search(condition[1:], content.lower()))
    if isinstance(condition, str) and condition[:2] in ("> ", "< "):
        limit = float(condition[2:])
        number = isinstance(content, int | float) and not isinstance(content, bool)
        return number and (content > limit if condition[0] == ">" else content < limit)  # type: ignore[operator]
    if isinstance(condition, str) or isinstance(content, str):
        return str(content).lower() == str(condition).lower()
    return content == condition and isinstance(content, bool) == isinstance(condition, bool)


def _is_set(content: object) -> bool:
    if isinstance(content, str):
        return content.lower() not in ("", "no", "none", "null", "false")
    if isinstance(content, int | float) and not isinstance(content, bool):
        return content not in (0, -1)
    return bool(content)
