"""Read what a training script in Python is given, by its syntax alone and never run, and change it in place."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from finetune_exe.domain.values import Scalar

_CONFIGURES = ("Config", "Arguments", "Args", "from_pretrained", "get_peft_model")
"""How the names of calls end that configure a training; their arguments go before those of other calls."""
_TRAINING = {"output_dir", "num_train_epochs", "per_device_train_batch_size"}
_TRAINS = ("SFTConfig", "DPOConfig", "KTOConfig", "GRPOConfig", "ORPOConfig", "TrainingArguments")
_DEEPEST = 8


class Told(NamedTuple):
    """One setting that a script gives, and where its value stands."""

    value: Scalar
    start: int
    """Of its source, in bytes from the start of the text."""
    end: int
    line: int


class Script(NamedTuple):
    """What a script gives, by keyword, by `Call.keyword`, and by the name of a constant."""

    told: Mapping[str, Told]
    calls: Mapping[str, ast.Call]
    """The last call of each name, for keywords to be added to."""

    @property
    def training(self) -> ast.Call | None:
        """The call that configures the training, by what it is given or its name."""
        known = (node for node in self.calls.values() if _TRAINING & {word.arg for word in node.keywords})
        named = (node for name, node in self.calls.items() if name.endswith(_TRAINS))
        return next(known, None) or next(named, None)


def read_script(text: str) -> Script | None:
    """Read a script; None where it is no Python."""
    try:
        tree = ast.parse(text)
        return _Reader(text, tree).script()
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def set_in_script(text: str, name: str, value: Scalar, *, add: bool = True) -> str:
    """Write a value where the script gives it, or as a further keyword of the call that configures the training.

    What is assigned to an attribute, as `.chat_template`, is taken out where the value is None.

    Args:
        text: The script.
        name: Keyword, `Call.keyword`, or `.attribute`.
        value: What to write.
        add: Add a keyword that no call has.
    """
    script = read_script(text)
    if script is None:
        return text
    content = text.encode("utf-8")
    told = script.told.get(name)
    if told is None and not name.startswith("."):
        told = script.told.get(name.rpartition(".")[2])
    if name.startswith("."):
        if told is None or value is not None:
            return text
        new = _without(content, told)
    elif told is not None:
        new = _replaced(content, told, value)
    else:
        owner, _, keyword = name.rpartition(".")
        node = script.calls.get(owner) if owner else script.training
        if node is None or not add:
            return text
        new = _with_keyword(content, _line_starts(content), node, f"{keyword}={value!r}".encode())
    changed = new.decode("utf-8")
    return changed if read_script(changed) is not None else text


def _replaced(content: bytes, told: Told, value: Scalar) -> bytes:
    """Write a value in place of another, a number format of PyTorch as the script writes it."""
    old = content[told.start : told.end]
    source = f"torch.{value}" if isinstance(value, str) and old.startswith(b"torch.") else repr(value)
    return content[: told.start] + source.encode() + content[told.end :]


def _without(content: bytes, told: Told) -> bytes:
    """Take out a statement with its lines."""
    begin = content.rfind(b"\n", 0, told.start) + 1
    end = content.find(b"\n", told.end)
    return content[:begin] + (content[end + 1 :] if end >= 0 else b"")


def _with_keyword(content: bytes, starts: list[int], node: ast.Call, keyword: bytes) -> bytes:
    """Add a keyword behind the last argument, on a line of its own where that one has one."""
    close = starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0) - 1
    given: list[ast.expr | ast.keyword] = [*node.args, *node.keywords]
    if not given:
        return content[:close] + keyword + content[close:]
    last = max(given, key=lambda part: (part.end_lineno or 0, part.end_col_offset or 0))
    end = starts[(last.end_lineno or 1) - 1] + (last.end_col_offset or 0)
    line = starts[last.lineno - 1]
    before = content[line : line + last.col_offset]
    if before.strip():
        return content[:end] + b", " + keyword + content[end:]
    comma = b"" if content[end:close].lstrip().startswith(b",") else b","
    line_end = content.find(b"\n", end, close)
    at = close if line_end < 0 else line_end
    return content[:end] + comma + content[end:at] + b"\n" + before + keyword + b"," + content[at:]


def _line_starts(content: bytes) -> list[int]:
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


class _Reader:
    """Collects what calls, dictionaries and constants give."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.tree = tree
        self.starts = _line_starts(text.encode("utf-8"))
        self.bound: dict[str, ast.expr | None] = {}
        for name, value in _constants(tree):
            self.bound[name] = None if name in self.bound else value

    def script(self) -> Script:
        """Read everything; what configures a training goes before what other calls are given."""
        plain: dict[str, Told] = {}
        configured: dict[str, Told] = {}
        calls: dict[str, ast.Call] = {}
        for name, node in self.bound.items():
            self._note(plain, name, node)
        for found in ast.walk(self.tree):
            match found:
                case ast.Dict(keys=keys, values=values):
                    for key, value in zip(keys, values, strict=True):
                        if isinstance(key, ast.Constant) and isinstance(key.value, str):
                            self._note(configured, key.value, value)
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=value):
                    told = _literal(value)
                    if told is not None:
                        configured.setdefault(f".{name}", self._told(told[0], found))
                case ast.Call():
                    self._read_call(found, plain, configured, calls)
                case _:
                    pass
        return Script(told=plain | configured, calls=calls)

    def _read_call(
        self, node: ast.Call, plain: dict[str, Told], configured: dict[str, Told], calls: dict[str, ast.Call]
    ) -> None:
        name = _last_name(node.func)
        calls[name] = node
        into = configured if name.endswith(_CONFIGURES) else plain
        if name == "add_argument" and node.args:
            default = next((word.value for word in node.keywords if word.arg == "default"), None)
            flag = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if isinstance(flag, str):
                self._note(plain, flag.lstrip("-").replace("-", "_"), default)
            return
        if name == "from_pretrained" and node.args and "okenizer" not in ast.unparse(node.func):
            self._note(configured, "from_pretrained.model", node.args[0])
        for word in node.keywords:
            if word.arg:
                self._note(into, word.arg, word.value)
                self._note(configured, f"{name}.{word.arg}", word.value)

    def _note(self, into: dict[str, Told], name: str, node: ast.expr | None) -> None:
        """Keep what is written out, or stands in a constant; the first of a name counts."""
        for _ in range(_DEEPEST):
            if isinstance(node, ast.Name):
                node = self.bound.get(node.id)
        literal = _literal(node)
        if node is None or literal is None or name in into:
            return
        into[name] = self._told(literal[0], node)

    def _told(self, value: Scalar, node: ast.expr | ast.stmt) -> Told:
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)
        return Told(value=value, start=start, end=end, line=node.lineno)


def _constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr | None]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                yield name, value
            case ast.AnnAssign(target=ast.Name(id=name), value=value):
                yield name, value
            case ast.AugAssign(target=ast.Name(id=name)) | ast.NamedExpr(target=ast.Name(id=name)):
                yield name, None
            case _:
                pass


def _literal(node: ast.expr | None) -> tuple[Scalar] | None:
    """Give the value that is written out, in a tuple, for it may be None; None where it is computed."""
    match node:
        case ast.Constant(value=str() | int() | float() | bool() | None as value):
            return (value,)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return (-value,)
        case ast.Attribute(value=ast.Name(id="torch"), attr=name):
            return (name,)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            texts = [part.value for part in parts if isinstance(part, ast.Constant)]
            return (",".join(map(str, texts)),) if len(texts) == len(parts) else None
        case _:
            return None


def _last_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""
