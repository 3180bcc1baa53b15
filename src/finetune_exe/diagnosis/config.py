"""Read the configuration of a training program, and change it with as little else as can be."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.diagnosis.script import read_script, set_in_script
from finetune_exe.diagnosis.tools import Key, settings_of, tool_of_keys, tool_of_text, tools
from finetune_exe.domain.review import Form
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_of_programs import read_yaml
from finetune_exe.domain.yaml_text import pointed
from finetune_exe.errors import FineTuneError

SUFFIXES: dict[str, Form] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".py": "python", ".sh": "arguments"}
_PLAIN_TRAINERS = {"trl", "transformers"}
"""Tools whose scripts train every weight unless they speak of adapters."""
_LARGEST = 1 << 20
_MOST_LEAVES = 5000
_MOST_WRITTEN = 2_000
"""Parts of a list that is written out."""
_DEEPEST = 12
_ASSIGNED = re.compile(r"(?<![\w.])(?:--)?([A-Za-z_]\w*)(?:[ \t]*=[ \t]*|[ \t]+(?=[^\s=-]))([^\s,)\\]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a configuration file says."""

    path: Path
    form: Form
    text: str
    tool: str | None
    values: Mapping[str, Scalar]
    """Its own keys, nested ones with dots."""

    @property
    def settings(self) -> dict[str, Scalar]:
        """The settings of our plan that are in force, by dotted path: what it says, and defaults that we know."""
        known = tools()[self.tool].keys if self.tool else {}
        return {path: key.default for path, key in known.items() if key.default is not None} | self.said

    @property
    def said(self) -> dict[str, Scalar]:
        """The settings of our plan that it holds."""
        found = settings_of(self.tool, self.values)
        if self.form == "python" and self.tool in _PLAIN_TRAINERS and "peft" not in self.text.lower():
            found.setdefault("method.kind", "full")
        return found

    def line_of(self, path: str) -> int | None:
        """Give the line, from 1, in which a setting of our plan, or a key, is given; None where none is."""
        key = tools()[self.tool].keys.get(path) if self.tool else None
        names = (*key.others, key.script, key.name) if key else (path,)
        name = next((name for name in names if name in self.values), None)
        if name is None:
            return None
        if self.form == "python" and (script := read_script(self.text)):
            return script.told[name].line if name in script.told else None
        last = re.escape(name.rpartition(".")[2])
        found = re.search(rf"(?m)^[^#\n]*?(?<![\w.]){last}[\"']?(?:\s*[:=]|\s)", self.text)
        return self.text.count("\n", 0, found.start()) + 1 if found else None


def read_config(path: Path) -> Config | None:
    """Read a configuration; None where the file is none, or none that can be read."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None or path.stat().st_size > _LARGEST:
        return None
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    values = _parse(text, form)
    if not values:
        return None
    tool = tool_of_text(text) if form in ("python", "arguments") else None
    return Config(path=path, form=form, text=text, tool=tool or tool_of_keys(values), values=values)


def changed(config: Config, patch: Mapping[str, Scalar], *, own_keys: Mapping[str, Scalar] | None = None) -> str:
    """Write the configuration with settings of our plan, and the tool's own keys, changed; other lines as they were."""
    text, ends = config.text.replace("\r\n", "\n"), "\r\n" if "\r\n" in config.text else "\n"
    known: Mapping[str, Key] = tools()[config.tool].keys if config.tool else {}
    for path, value in patch.items():
        if path not in known:
            continue
        key = known[path]
        others = [name for name in key.others if name in config.values]
        for name in others:
            text = _set(text, config.form, name, key.others[name].get(str(value), value), add=False)
        if not others or key.name in config.values or key.values:
            own = (key.script if config.form == "python" else None) or key.name
            text = _set(text, config.form, own, key.written(value))
        for name, needed in key.also_for(value):
            text = _set(text, config.form, name, needed)
    for name, value in (own_keys or {}).items():
        text = _set(text, config.form, name, value)
    return text.replace("\n", ends)


def difference(old: str, new: str, *, name: str) -> str:
    """Write the change from one text to the other as a unified diff."""
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(_lines(old), _lines(new), fromfile=f"a/{name}", tofile=f"b/{name}")
    )


def _lines(text: str) -> list[str]:
    """Split a text where programs for patches do: not at form feeds and the like."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _parse(text: str, form: Form) -> dict[str, Scalar]:
    try:
        if form == "yaml":
            content: Any = read_yaml(text, where="the configuration")[0].plain()
        elif form == "json":
            content = json.loads(text)
        elif form == "python" and (script := read_script(text)):
            return {name: told.value for name, told in script.told.items()}
        else:
            return {name: read_value(value) for name, value in reversed(_ASSIGNED.findall(text))}
    except (FineTuneError, ValueError, RecursionError):
        return {}
    values: dict[str, Scalar] = {}
    for name, value in _leaves(content, "", 0):
        values[name] = value
        if len(values) >= _MOST_LEAVES:
            break
    return values


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Scalar]]:
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, str | int | float | bool) or value is None:
        yield path, value
    elif isinstance(value, list):
        small = _is_small(value[:50])
        yield path, ",".join(str(item) for item in value[:50] if small or isinstance(item, str | int | float))


def _is_small(value: Any) -> bool:
    """Say whether a list is short enough to be written out, with all that is in it."""
    left, count = [value], 0
    while left and count <= _MOST_WRITTEN:
        each = left.pop()
        count += 1
        if isinstance(each, Mapping):
            left += each.values()
        elif isinstance(each, list):
            left += each
    return not left


def read_value(value: str) -> Scalar:
    """Read a value as a program or a command line would."""
    bare = value.strip("'\"")
    if bare in ("True", "true"):
        return True
    if bare in ("False", "false"):
        return False
    for kind in (int, float):
        try:
            return kind(bare)
        except ValueError:
            continue
    return bare


def _set(text: str, form: Form, name: str, value: Scalar, *, add: bool = True) -> str:
    match form:
        case "json":
            return _set_json(text, name, value)
        case "yaml":
            return _set_yaml(text, name.split("."), value)
        case "python" if read_script(text):
            return set_in_script(text, name, value, add=add)
        case "python":
            found = re.compile(rf"(?<![\w.])({re.escape(name.rsplit('.', 1)[-1])}\s*=\s*)([^\s,)]+)")
            return found.sub(lambda m: f"{m[1]}{value!r}", text, count=1)
        case "arguments":
            found = re.compile(rf"(--{re.escape(name)}[ =]+)(\S+)")
            written = str(value).lower() if isinstance(value, bool) else str(value)
            if found.search(text):
                return found.sub(lambda m: f"{m[1]}{written}", text, count=1)
            return re.sub(r"(?<![\\\n])[ \t]*\n?\Z", f" \\\\\n    --{name} {written}\n", text, count=1)


def _set_json(text: str, name: str, value: Scalar) -> str:
    content = json.loads(text)
    *outer, last = name.split(".")
    holder = content
    for key in outer:
        if not isinstance(holder.setdefault(key, {}), dict):
            holder[key] = {}
        holder = holder[key]
    holder[last] = value
    indented = re.search(r"\n([ \t]+)\S", text)
    written = json.dumps(content, indent=indented[1] if indented else None, ensure_ascii=False)
    return written + ("\n" if text.endswith("\n") else "")


def _set_yaml(text: str, keys: list[str], value: Scalar) -> str:
    """Replace the value of a key, the last one where it stands twice, or add the key where it would stand."""
    lines = _lines(text)
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w-]*", value)
    written = str(value) if plain else pointed(repr(value)) if isinstance(value, float) else json.dumps(value)
    stack: list[tuple[int, str]] = []
    deepest, place = 0, len(lines)
    given: tuple[int, str] | None = None
    for i, line in enumerate(lines):
        found = re.match(r"^(\s*)([\w.-]+):(?=\s|$)([ \t]*)([^#\n]*?)([ \t]*(?:#.*)?)(\r?\n?)$", line)
        if found is None:
            continue
        indent = len(found[1])
        while stack and stack[-1][0] >= indent:
            stack.pop()
        stack.append((indent, found[2]))
        path = [key for _, key in stack]
        if path == keys:
            given = i, f"{found[1]}{found[2]}: {written}{found[5]}{found[6]}"
        if path == keys[: len(path)] and len(path) > deepest:
            deepest, place = len(path), i + 1
    if given is not None:
        lines[given[0]] = given[1]
        return "".join(lines)
    outer = lines[place - 1] if deepest else ""
    indent = (len(outer) - len(outer.lstrip()) + 2) if deepest else 0
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    missing = keys[deepest:]
    new = [f"{' ' * (indent + 2 * n)}{key}:" for n, key in enumerate(missing)]
    new[-1] += f" {written}"
    lines[place:place] = [line + "\n" for line in new]
    return "".join(lines)
