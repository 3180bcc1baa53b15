"""The embedded data: functions of the running interpreter's standard library and their one-line docstrings.

Real text by many people, on every machine, with real duplicates and noise, and a natural group: the module.
"""

from __future__ import annotations

import ast
import sysconfig
import textwrap
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

from finetune_exe.data.raw import RawRow

SKIPPED = frozenset(
    {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip"}
)
QUESTION = "Write the one-line docstring of this Python function.\n\n```python\n{source}\n```"
MIN_LINES, MAX_LINES = 2, 60
"""One line leaves nothing to describe; longer functions do not fit the short sequences that a CPU trains on."""
MIN_WORDS, MAX_CHARACTERS = 3, 120
"""A line of fewer words describes nothing; a longer one is no summary."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def corpus_files() -> Iterator[Path]:
    """Yield the standard library's source files, in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if SKIPPED.isdisjoint(path.relative_to(root).parts[:-1]):
            yield path


def corpus_rows() -> Iterator[RawRow]:
    """Yield one row for every function whose docstring begins with a whole one-line description.

    Each row has the question with the function's source, its docstring taken out, the description as the answer,
    and the column `module`.
    """
    root = Path(sysconfig.get_path("stdlib"))
    for path in corpus_files():
        module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        yield from module_rows(path, module)


def module_rows(path: Path, module: str) -> Iterator[RawRow]:
    """Yield the rows of one source file; a file that this interpreter cannot parse has none."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        if '"""' not in text:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError):
        return
    lines = text.splitlines()
    for function in _functions(tree):
        answer = _description(function)
        source = _source_without_docstring(function, lines) if answer else None
        if answer and source:
            turns = [
                {"role": "user", "content": QUESTION.format(source=source)},
                {"role": "assistant", "content": answer},
            ]
            yield RawRow(row={"messages": turns, "module": module}, line=function.lineno)


def _functions(node: ast.AST) -> Iterator[Function]:
    """Yield the functions in a tree in the order of its lines, without walking through its expressions."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        inside = node.__dict__.get(field)
        for child in inside if isinstance(inside, list) else ():
            if isinstance(child, Function):
                yield child
            yield from _functions(child)


def _description(function: Function) -> str | None:
    """Take the docstring's first line where it is a description in itself."""
    docstring = ast.get_docstring(function)
    if not docstring:
        return None
    first, _, rest = docstring.partition("\n")
    first = first.strip()
    whole = first.endswith(".") or not rest.split("\n", 1)[0].strip()
    return first if whole and len(first.split()) >= MIN_WORDS and len(first) <= MAX_CHARACTERS else None


def _source_without_docstring(function: Function, lines: list[str]) -> str | None:
    """Cut the docstring out; None where nothing else is there, it shares a line, or the rest is too short or long."""
    docstring = function.body[0]
    before = docstring.lineno - 1
    if (
        len(function.body) == 1
        or function.body[1].lineno == docstring.end_lineno
        or docstring.lineno == function.lineno
    ):
        return None
    start = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)]) - 1
    kept = [*lines[start:before], *lines[docstring.end_lineno : function.end_lineno]]
    source = textwrap.dedent("\n".join(line.rstrip() for line in kept)).strip("\n")
    num_lines = source.count("\n") + 1
    return source if MIN_LINES <= num_lines <= MAX_LINES else None
