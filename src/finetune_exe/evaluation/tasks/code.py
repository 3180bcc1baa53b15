"""Programs: whether they compile, and whether they pass the tests of their row, run apart and within limits."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from finetune_exe.evaluation.sandbox import run_python
from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean

_FENCE = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class Code:
    """Runs answers against tests; without tests, likeness to the reference is all there is."""

    name = "code"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score passed tests where rows have any (`test`, `tests` or `test_list`), and whether answers compile."""
        tests = [tests_of(item) for item in items]
        if not any(tests) and not _are_programs(items):
            note = "the references are no programs: nothing is compiled or run"
            return TaskScores(items={"likeness": _likeness(items)}, notes=(note,))
        compiled = [float(compiles(program(item))) for item in items]
        figures = {"compiles": mean(compiled)}
        if any(tests):
            passed = [float(bool(test) and run_python(f"{program(item)}\n\n{test}\n").ok)
                      for item, test in zip(items, tests, strict=True)]  # fmt: skip
            return TaskScores(items={"passed": passed, "compiles": compiled}, figures=figures)
        return TaskScores(
            items={"likeness": _likeness(items), "compiles": compiled}, figures=figures,
            notes=("the rows have no tests: likeness says little about whether programs work",),
        )  # fmt: skip


def _likeness(items: Sequence[Answered]) -> list[float]:
    from difflib import SequenceMatcher

    return [SequenceMatcher(None, item.reference, item.answer, autojunk=False).ratio() for item in items]


def _are_programs(items: Sequence[Answered]) -> bool:
    """Say whether most references are programs, not words about one; a single word compiles, too."""
    written = [program(replace(item, answer=item.reference)) for item in items]
    return 2 * sum(compiles(code) and not code.strip().isidentifier() for code in written) > len(items)


def program(item: Answered) -> str:
    """Take the program out of an answer: its fenced block, or all of it; a body continues the prompt's function."""
    fenced = _FENCE.findall(item.answer)
    code = max(fenced, key=len) if fenced else item.answer
    start = item.columns.get("prompt")
    entry = item.columns.get("entry_point")
    if isinstance(start, str) and isinstance(entry, str) and f"def {entry}" not in code:
        return start + code
    return str(code)


def compiles(code: str) -> bool:
    """Say whether a text is a Python program."""
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def tests_of(item: Answered) -> str:
    """Give the tests of a row as one program; empty where it has none."""
    columns = item.columns
    test: Any = columns.get("test", columns.get("tests", columns.get("test_list")))
    if isinstance(test, list):
        test = "\n".join(str(line) for line in test)
    if not isinstance(test, str) or not test.strip():
        return ""
    entry = columns.get("entry_point")
    setup = columns.get("test_setup_code")
    call = f"\ncheck({entry})" if isinstance(entry, str) and entry.isidentifier() and "def check" in test else ""
    return f"{setup if isinstance(setup, str) else ''}\n{test}{call}"
