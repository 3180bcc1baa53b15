"""The skill by which a coding agent knows how to use this program: its files, as they lie in the package."""

from __future__ import annotations

from pathlib import Path

NAME = "fine-tune"
"""The skill's name, which must also be that of its folder."""
COMMANDS = ("analyze", "dataset", "config", "eval", "debug")
"""What a user may say after `/fine-tune`."""
_FOLDER = Path(__file__).parent / "skill"


def skill_files() -> dict[str, bytes]:
    """Give the content of each file of the skill by its path in the skill's folder."""
    files = sorted(path for path in _FOLDER.rglob("*.md"))
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in files}


def skill_text(name: str) -> str:
    """Give one file of the skill, as in `references/analyze.md`."""
    return (_FOLDER / name).read_text(encoding="utf-8")
