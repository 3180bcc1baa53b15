"""Which training program it was, and what it calls the settings of our plan."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from finetune_exe.domain import setting_line
from finetune_exe.domain.review import Form
from finetune_exe.domain.values import Scalar
from finetune_exe.knowledge.peers import Meaning, Peer, peers
from finetune_exe.knowledge.trainer_names import OPTIMIZER_CLASSES, TRAINER_OPTIMIZERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a tool calls one of our settings."""

    name: str
    """With dots where it is nested."""
    values: Mapping[str, Scalar] | None = None
    """How the tool writes our values; None writes them as they are."""
    inverse: bool = False
    script: str | None = None
    """What a script in Python calls it, with the call that takes it, where that differs."""
    others: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """Further keys that say the same where they are given, each with how it writes our values."""

    also: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """Keys without which one of our values is not in force, by that value."""
    default: Scalar | None = None
    """What the tool takes where a configuration says nothing; None where we do not know."""

    def written(self, value: Scalar) -> Scalar:
        """Write our value in the tool's way."""
        if self.inverse:
            return not value
        return (self.values or {}).get(_named(value), value)

    def also_for(self, value: Scalar) -> Iterator[tuple[str, Scalar]]:
        """Give the further keys that our value needs."""
        yield from self.also.get(_named(value), {}).items()

    def meant(self, value: Scalar) -> Scalar:
        """Read the tool's value as ours."""
        if self.inverse:
            return not value
        mine = {_named(theirs): ours for ours, theirs in (self.values or {}).items()}
        said = _named(value)
        same = self.values is not None and said in self.values and self.values[said] == value
        ours = said if same else mine.get(said, value)
        return {"true": True, "false": False}.get(ours, ours) if isinstance(ours, str) else ours

    def read(self, values: Mapping[str, Scalar]) -> tuple[Scalar] | None:
        """Read our value out of a configuration, in a tuple, for it may be None; None where nothing says it."""
        for name, meanings in self.others.items():
            ours = [mine for mine, theirs in meanings.items() if theirs == values.get(name, ...)]
            ours = [mine for mine in ours if mine == values.get(name)] or ours
            if name in values and (len(ours) == 1 or not meanings):
                return (ours[0] if ours else values[name],)
        given = next((key for key in (self.script, self.name) if key is not None and key in values), None)
        return None if given is None else (self.meant(values[given]),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A training program."""

    form: Form
    """How it is usually configured."""
    log: re.Pattern[str]
    """What its logs and tracebacks hold."""
    keys_seen: tuple[str, ...]
    """Keys by which its configuration is known from those of others."""
    keys: Mapping[str, Key]
    """Its names, by the dotted path of our setting."""

    def write(self, path: str, value: Scalar, *, form: Form | None = None) -> str | None:
        """Write a setting as a line of the tool's configuration; None where it has no such setting."""
        key = self.keys.get(path)
        if key is None:
            return None
        written = key.written(value)
        name = key.script or key.name if (form or self.form) == "python" else key.name
        return self.form_line(name, written, form=form)

    def lines(self, path: str, value: Scalar) -> Iterator[str]:
        """Write a setting as lines of the tool's configuration; none where it has no such setting."""
        line = self.write(path, value)
        if line is not None:
            yield line
            yield from (self.form_line(*also) for also in self.keys[path].also_for(value))

    def form_line(self, name: str, written: Scalar, *, form: Form | None = None) -> str:
        """Write one of the tool's own keys as a line of its configuration."""
        form = form or self.form
        if form == "python" and name.startswith("."):
            return f"no assignment to {name}"
        return setting_line.written(form, name, _short(written) if form in ("yaml", "arguments") else written)


_SHARED = (
    "model.reference", "optimizer.learning_rate", "optimizer.weight_decay", "optimizer.max_grad_norm",
    "schedule.epochs", "schedule.max_steps", "batch.micro_batch_size", "batch.gradient_accumulation_steps",
    "batch.group_by_length", "data.max_length", "precision.gradient_checkpointing", "method.lora_rank",
    "method.lora_alpha", "method.lora_dropout", "method.target_modules", "optimizer.kind",
)  # fmt: skip
"""Settings that go by their names in knowledge/peers.toml; what else stands there, a diagnosis does not change."""
_KNOWN_DEFAULTS = {"optimizer.max_grad_norm"}
"""Settings whose default in knowledge/peers.toml is taken for what a run had where it says nothing.

Of others the default changed from version to version, and what the run had is not known.
"""
_NAMES: Mapping[str, Mapping[str, Scalar]] = {"trainer": TRAINER_OPTIMIZERS, "class": OPTIMIZER_CLASSES}
"""Names of optimizers, by what the table of tools calls them."""


@cache
def tools() -> Mapping[str, Tool]:
    """Read the table of tools, the more particular first."""
    table = tomllib.loads(files(__package__).joinpath("tools.toml").read_text(encoding="utf-8"))
    return {name: _tool(entry, peers().get(entry.get("peer", name)), table) for name, entry in table.items()}


def tool_of_text(text: str) -> str | None:
    """Name the first tool that a log or a description speaks of."""
    return next((name for name, tool in tools().items() if tool.log.search(text)), None)


def tool_of_keys(keys: Mapping[str, object]) -> str | None:
    """Name the tool whose configuration has these keys; None where fewer than two point to any."""
    scores = {name: sum(key in keys for key in tool.keys_seen) for name, tool in tools().items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 else None


def settings_of(tool: str | None, values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Say which settings of our plan a tool's own keys come to, by dotted path."""
    known = tools()[tool].keys.items() if tool is not None and tool in tools() else ()
    found = {path: said[0] for path, key in known if (said := key.read(values)) is not None}
    warmup = found.get("schedule.warmup.fraction")
    if isinstance(warmup, int | float) and warmup >= 1:  # the same key counts steps
        found["schedule.warmup.steps"] = found.pop("schedule.warmup.fraction")
    return found


def _tool(entry: Mapping[str, Any], peer: Peer | None, table: Mapping[str, Any]) -> Tool:
    known = peer.meaning if peer is not None else {}
    below = table[entry["on"]]["keys"] if "on" in entry else {}
    rows = {path: _row(path, known[path], form=entry["form"]) for path in _SHARED if path in known}
    for path, row in (below | entry["keys"]).items():
        rows[path] = rows.get(path, {}) | row
    keys = {path: _key(**row) for path, row in rows.items()}
    log = re.compile(entry["log"], re.IGNORECASE)
    return Tool(form=entry["form"], log=log, keys_seen=tuple(entry["keys_seen"]), keys=keys)


def _key(*, names: str | None = None, **said: Any) -> Key:
    return Key(**said) if names is None else Key(values=_NAMES[names], **said)


def _row(path: str, meaning: Meaning, *, form: Form) -> dict[str, Any]:
    """Take over what a review knows; the name of an argument in a script without the call that is given it."""
    name = meaning.key.rpartition(".")[2] if form == "python" else meaning.key
    default = meaning.default if path in _KNOWN_DEFAULTS else None
    return {"name": name, "inverse": meaning.inverse, "default": default}


def _named(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Scalar) -> Scalar:
    """Round a number to what a person would write: six digits, and no fraction of nothing."""
    if not isinstance(value, float):
        return value
    short = float(f"{value:g}")
    return int(short) if short.is_integer() else short
