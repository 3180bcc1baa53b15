"""A command that an agent wrote into a file, so that no word of a user is ever part of a shell line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finetune_exe.agents.roots import Roots
from finetune_exe.errors import FineTuneError

READING = ("analyze", "dataset", "config", "review", "estimate", "eval", "compare", "forecast", "debug", "doctor")
"""Commands that may be asked for without the user's consent: they train nothing and replace nothing."""
TRAINING = ("train", "tune", "export", "demo")
"""Commands that need it."""
NEEDING = ("overwrite", "apply", "harness", "harness-tasks", "endpoint", "judge")
"""Options that need it, too: they write over files, run code of a task, or send rows and a key to an address."""
PAIRS = ("endpoint", "judge")
"""Options with two values, as in ["http://localhost:8000/v1", "my-model"]."""
WRITING = ("output", "html")
"""Options that name a file to write."""
_OPTION = re.compile(r"[a-z][a-z-]*[a-z]")
_LARGEST = 1_000_000


class Request(NamedTuple):
    """A command line taken apart: nothing in it is read by a shell, and no value can become an option."""

    command: str
    arguments: tuple[str, ...]


def read_request(path: Path, *, confirmed: bool) -> Request:
    """Read a request file.

    Args:
        path: JSON with `command`, `words` and `options`.
        confirmed: The user agreed to training, to replacing files, to sending rows to an address, and to files outside
            of this folder.

    Raises:
        FineTuneError: A03 where the file is no request, or asks for what was not agreed to; A01 where it names files
            outside of this folder, and that was not agreed to.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise _refused(path, "it has more than a million bytes", "put rows into a file of their own, and name that")
        content = json.loads(path.read_bytes())
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (OSError, ValueError, RecursionError) as fault:
        why = getattr(fault, "strerror", None) or str(fault)
        raise _refused(path, why, 'write JSON such as {"command": "analyze", "words": ["answer mails"]}') from fault
    command, words, options = _parts(content, path)
    arguments = [argument for name, value in options.items() for argument in _option(name, value, path)]
    if any("\0" in word for word in (*words, *arguments)):
        raise _refused(path, "it holds a null character, which no command line can", "leave it out")
    if not confirmed:
        asked = [*({command} & {*TRAINING}), *(name for name in options if name in NEEDING)]
        if asked:
            fix = "ask the user, then run it again with --confirmed behind it"
            raise _refused(path, f"{asked[0]} needs the user's consent", fix)
        _stay_here(command, words, options)
    return Request(command, (*arguments, "--json", "--", *words))


def _parts(content: Any, path: Path) -> tuple[str, list[str], dict[str, Any]]:
    """Take a request apart."""
    if not isinstance(content, dict) or not content.keys() <= {"command", "words", "options"}:
        raise _refused(path, "it is not an object of command, words and options alone", "leave out every other key")
    command, words, options = content.get("command"), content.get("words", []), content.get("options", {})
    if not isinstance(command, str) or command not in (*READING, *TRAINING):
        raise _refused(path, f"{command!r} is no command for an agent", f"choose one of {', '.join(READING)}")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise _refused(path, "words is not a list of texts", 'write "words": ["..."]')
    if not isinstance(options, dict):
        raise _refused(path, "options is not an object", 'write "options": {"data": ["rows.csv"]}')
    return command, words, options


def _stay_here(command: str, words: Sequence[str], options: Mapping[str, Any]) -> None:
    """Let a request pass that names no file outside of this folder.

    Raises:
        FineTuneError: A01 where it does.
    """
    roots = Roots.declared([Path.cwd()], beyond="ask the user, then run it again with --confirmed behind it")
    for word in words:
        roots.named(word)
        if command == "eval" or options.get("probe"):
            _look_through(roots.plan, str(Path(word) / "plan.yaml"), roots)
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str):
                continue
            if name in WRITING:
                roots.confine(each)
            elif name in ("plan", "from"):
                _look_through(roots.plan if name == "plan" else roots.configuration, each, roots)
            elif name == "model":
                roots.model(each)
            elif name == "set":
                roots.settings([each])
            else:
                roots.named(each)


def _look_through(look: Callable[[str], Path], name: str, roots: Roots) -> None:
    """Check what a file names, where there is one; what else is wrong with it the command says."""
    if roots.confine(name).is_file():
        look(name)


def _option(name: str, value: Any, path: Path) -> list[str]:
    """Write an option so that its value cannot be taken for another one."""
    if not _OPTION.fullmatch(name):
        raise _refused(path, f"{name!r} is no name of an option", "write it as in --help, without dashes in front")
    if name == "json":
        return []
    values = value if isinstance(value, list) else [value]
    if name in PAIRS:  # the second value stands behind the first, and nothing else may
        if len(values) != 2 or not all(isinstance(each, str) for each in values):
            raise _refused(path, f"{name!r} is not a list of two texts", "give the address and the model's name there")
        return [f"--{name}={values[0]}", values[1]]
    written = []
    for each in values:
        if each is True and not isinstance(value, list):
            written.append(f"--{name}")
        elif isinstance(each, str | int | float) and not isinstance(each, bool):
            written.append(f"--{name}={each}")
        elif each is not False and each is not None:
            raise _refused(path, f"the value of {name!r} is neither text, number nor true", "see --help of the command")
    return written


def _refused(path: Path, why: str, fix: str) -> FineTuneError:
    return FineTuneError("A03", what="the request cannot be run", where=str(path), why=why, fix=fix)
