"""What the shape of the source must be; run by `make check`."""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

SRC = Path(__file__).resolve().parents[1] / "src"
FILES = sorted(SRC.rglob("*.py"))
FILE_LINES, FILE_LINES_WISHED = 600, 400
FUNCTION_LINES = 80
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "core", "base", "manager", "engine", "constants"}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"}
UNSAFE_OPTIONS = {"shell", "trust_remote_code", "allow_pickle", "weights_only"}
"""Options that may be passed as False alone (`weights_only` as True), for their other value runs code of a file."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(SRC).as_posix()


def functions(tree: ast.AST) -> Iterator[Function]:
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def public_without_docstring(tree: ast.Module) -> Iterator[str]:
    """Name what a reader may call, down to the methods of public classes."""
    if ast.get_docstring(tree) is None:
        yield "the module"
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield node.name
        if isinstance(node, ast.ClassDef):
            methods = (child for child in node.body if isinstance(child, Function) and not child.name.startswith("_"))
            yield from (f"{node.name}.{method.name}" for method in methods if ast.get_docstring(method) is None)


def length_without_docstring(function: Function) -> int:
    """Count the lines a reader follows."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    return lines - ((first.end_lineno or 0) - first.lineno + 1 if documented else 0)


def unsafe_code(tree: ast.AST) -> Iterator[str]:
    """Name what could run code that stands in a file or an argument."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in UNSAFE_CALLS:
                yield ast.unparse(node.func)
            for option in node.keywords:
                safe = option.arg == "weights_only"
                if option.arg in UNSAFE_OPTIONS and not (
                    isinstance(option.value, ast.Constant) and option.value.value is safe
                ):
                    yield f"{option.arg}={ast.unparse(option.value)}"


def test_there_is_source_to_look_at() -> None:
    assert len(FILES) > 50


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    wished = {name: length for name, length in lengths.items() if length > FILE_LINES_WISHED}
    if wished:
        print(f"longer than {FILE_LINES_WISHED} lines: {wished}")
    assert not {name: length for name, length in lengths.items() if length > FILE_LINES}


def test_functions_are_short() -> None:
    found = {}
    for path in FILES:
        for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            length = length_without_docstring(function)
            name = f"{name_of(path)}:{function.name}"
            if length > FUNCTION_LINES:
                found[name] = length
    assert not found


def test_modules_say_what_they_are_about() -> None:
    names = {name_of(path): {path.stem, *path.relative_to(SRC).parts[:-1]} for path in FILES}
    assert not {name for name, parts in names.items() if parts & VAGUE_NAMES}


def test_nothing_runs_code_out_of_data() -> None:
    found = {name_of(path): list(unsafe_code(ast.parse(path.read_text(encoding="utf-8")))) for path in FILES}
    assert not {name: hits for name, hits in found.items() if hits}


@pytest.mark.parametrize(
    "bad",
    [
        "torch.load(path)", "import pickle", "from dill import loads", "yaml.load(text)", "eval(text)", "exec(code)",
        "run(x, shell=True)", "load(x, trust_remote_code=wish)", "np.load(x, allow_pickle=True)", "f(weights_only=False)",
    ],
)  # fmt: skip
def test_the_search_for_unsafe_code_finds_it(bad: str) -> None:
    assert list(unsafe_code(ast.parse(bad)))


def test_what_is_public_is_described() -> None:
    found = {
        f"{name_of(path)}: {missing}"
        for path in FILES
        if path.name != "__init__.py" or path.stat().st_size
        for missing in public_without_docstring(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_comments_are_ascii() -> None:
    found = []
    for path in FILES:
        with path.open("rb") as file:
            found += [
                f"{name_of(path)}:{token.start[0]}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT and not token.string.isascii()
            ]
    assert not found


def test_documents_refuse_keys_they_do_not_know() -> None:
    from finetune_exe.domain import checkup, dataset, diagnosis, evaluation, plan, review, run, task, values

    modules = (checkup, dataset, diagnosis, evaluation, plan, review, run, task, values)
    models = {
        model for module in modules for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == module.__name__
    }  # fmt: skip
    assert len(models) > 30
    for model in models:
        assert model.model_config.get("frozen"), model
        assert model.model_config.get("strict"), model
        with pytest.raises(ValidationError) as refused:
            model.model_validate({"no_such_key": 1})
        assert "extra_forbidden" in {error["type"] for error in refused.value.errors()}, model
