"""Why a configuration file cannot be reviewed."""

from __future__ import annotations

from finetune_exe.domain.yaml_tree import Place
from finetune_exe.errors import FineTuneError


def unreadable(what: str, *, where: str, place: Place | None = None) -> FineTuneError:
    """Say that a file is no configuration that can be read."""
    return FineTuneError(
        "C15",
        what=what,
        where=f"{where}:{place.line}:{place.column}" if place else where,
        why="a review looks at every setting, and here none can be seen",
        fix="give a YAML, JSON, Python or shell file as the training program reads it",
    )
