"""Review a configuration file: every check on everything it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_exe.domain.review import ConfigurationFinding, ConfigurationReview
from finetune_exe.review.components import check_components
from finetune_exe.review.configuration import Configuration, read_configurations
from finetune_exe.review.judgements import check_judgements
from finetune_exe.review.keys import check_keys
from finetune_exe.review.rules import check_rules
from finetune_exe.review.traps import check_traps

Check = Callable[[Configuration], Iterator[ConfigurationFinding]]
CHECKS: tuple[Check, ...] = (check_keys, check_components, check_rules, check_judgements, check_traps)


def review_file(path: Path, *, tool: str | None = None) -> tuple[ConfigurationReview, ...]:
    """Review what a file says to a training program; a shell script may start several.

    Raises:
        FineTuneError: C15 where it cannot be read, C16 where it is for no program that is known.
    """
    return tuple(review_configuration(configuration) for configuration in read_configurations(path, tool=tool))


def review_configuration(configuration: Configuration) -> ConfigurationReview:
    """Review one configuration."""
    found = [_in_file(configuration, finding) for check in CHECKS for finding in check(configuration)]
    found.sort(key=lambda one: (one.line, one.column, one.code))
    return ConfigurationReview(
        path=configuration.path,
        tool=configuration.peer.name,
        title=configuration.peer.title,
        form=configuration.form,
        num_settings=len(configuration.leaves),
        findings=tuple(found),
    )


def _in_file(configuration: Configuration, finding: ConfigurationFinding) -> ConfigurationFinding:
    """Give a finding in a notebook the line that it has in the file."""
    if not configuration.lines:
        return finding
    place = configuration.lines[min(finding.line, len(configuration.lines)) - 1]
    return finding.model_copy(update={"line": place.line, "column": place.column + finding.column})
