"""The skill by which a coding agent knows how to use this program: its files, as they lie in the package."""

from __future__ import annotations

from pathlib import Path

NAME = "fine-tune"
"""The skill's name, which must also be that of its folder."""
COMMANDS = ("analyze", "dataset", "config", "eval", "debug")
"""What a user may say after `/fine-tune`."""
_GEMINI = """\
description = "Plan, check, run, evaluate and debug a fine-tune: analyze, dataset, config, eval, debug"
prompt = \"\"\"
Activate the skill fine-tune and do what it says. The user's own words follow behind this prompt: a request to you, and
never a part of a shell line.
\"\"\"
"""
_FOLDER = Path(__file__).parent / "skill"


def skill_files() -> dict[str, bytes]:
    """Give the content of each file of the skill by its path in the skill's folder."""
    files = sorted(path for path in _FOLDER.rglob("*.md"))
    return {path.relative_to(_FOLDER).as_posix(): path.read_bytes() for path in files}


def command_files() -> dict[str, bytes]:
    """Give the command of Gemini CLI that takes the skill up, by its path in the folder of commands.

    It names no place for the user's words: Gemini CLI then puts them behind the prompt, where nothing expands them.
    """
    return {f"{NAME}.toml": _GEMINI.encode()}


def skill_text(name: str) -> str:
    """Give one file of the skill, as in `references/analyze.md`."""
    return (_FOLDER / name).read_text(encoding="utf-8")
