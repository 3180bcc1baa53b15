"""Configuration files of other trainers: their keys, the settings of the plan these stand for, and what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe.domain.plan import Plan
from finetune_exe.domain.yaml_text import write_yaml
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.errors import FineTuneError
from finetune_exe.export.exporter import File, Files
from finetune_exe.export.left_out import left_out, refuse_gguf, refuse_pairs
from finetune_exe.export.source import literal

TRAIN_ROWS, VALIDATION_ROWS = "data/train.jsonl", "data/validation.jsonl"
"""Where `prepare` has most trainers' rows written."""


def prepare(name: str) -> str:
    """Give the command that prepares the plan's rows and writes them in the form of a trainer."""
    return f"fine-tune dataset --plan plan.yaml --export {name} -o data"


class Key(NamedTuple):
    """A key of a trainer's configuration."""

    name: str
    """A dot leads into a group."""
    value: Json
    paths: tuple[str, ...] = ()
    """The settings of the plan it stands for; a value of None stands for them by its absence."""
    note: str = ""
    """What stands behind it as a comment."""


def key(name: str, value: Json, *paths: str, note: str = "") -> Key:
    """Make a key of a value and the plan's settings it stands for."""
    return Key(name, value, paths, note)


PAIRS_DIFFER = (
    "the first step has a learning rate of zero where there is a warm-up",
    "evaluations come every so many steps of all, not of an epoch",
    "the loss of a step is the mean of its passes, so that pairs of a pass with fewer count more",
)
"""What trainers of pairs do in another way than this program's own loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How a trainer learns from pairs of a better and a worse answer."""

    otherwise: tuple[str, ...]
    """What it does in another way then, and cannot be told not to."""
    rows_are_rendered: bool = False
    """Whether its rows of pairs hold what the chat template wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationFile:
    """A trainer that is told what to do by a file of keys."""

    name: str
    title: str
    """The trainer and the version its keys were checked with."""
    file_name: str
    methods: tuple[str, ...]
    """Kinds of method it can train."""
    keys: Callable[[Plan], Iterable[Key]]
    commands: Callable[[Plan], tuple[str, ...]]
    """From installing it to training, as they can be typed."""
    otherwise: tuple[str, ...]
    """What it does in another way than this program, and cannot be told not to."""
    by_command: tuple[str, ...] = ()
    """Settings that a command carries, or a file that it writes, and no key."""
    loads_model: bool = True
    """Whether it reads the plan's base model itself."""
    rows_are_rendered: bool = False
    """Whether its rows hold what the chat template wrote."""
    beside: Callable[[Plan], Files] | None = None
    """Further files that it reads."""
    pairs: Pairs | None = None
    """How it learns from pairs; None where its keys for that are not written."""

    @property
    def describe(self) -> str:
        """What comes out, in a phrase."""
        return f"{self.file_name} for {self.title}"

    def export(self, plan: Plan) -> Files:
        """Write the keys, and in comments how to start, what is done otherwise and what cannot be expressed.

        Raises:
            FineTuneError: O03 where the trainer does not know the plan's method or objective, or cannot load its base
                model.
        """
        pairs = self.pairs if plan.objective.kind == "dpo" else None
        if pairs is None:
            refuse_pairs(plan, target=self.name)
        if self.loads_model:
            refuse_gguf(plan, target=self.name)
        if plan.method.kind not in self.methods:
            raise FineTuneError(
                "O03",
                what=f"{self.title} cannot train method.kind={plan.method.kind}",
                where=f"--to {self.name}",
                why="the file would train something else",
                fix=f"--set method.kind={self.methods[0]}; or --to trl or python, which write scripts",
            )
        keys = list(self.keys(plan))
        head = [
            f"# Task: {literal(plan.task.description)}",
            f"# For {self.title}:",
            *(f"#   {line if line.isprintable() else ascii(line)}" for line in self.commands(plan)),
            "# done otherwise than by this program:",
            *(f"#   {line}" for line in (pairs.otherwise if pairs else self.otherwise)),
        ]
        expressed = {*self.by_command, *(path for entry in keys for path in entry.paths)}
        body = write_yaml(_nested(keys), comments={entry.name: entry.note for entry in keys if entry.note})
        rendered = pairs.rows_are_rendered if pairs else self.rows_are_rendered
        text = "\n".join(head) + "\n" + left_out(plan, expressed, template_before=rendered) + "\n" + body
        return (File(name=self.file_name, text=text), *(self.beside(plan) if self.beside else ()))


def _nested(keys: Iterable[Key]) -> dict[str, Json]:
    content: dict[str, Json] = {}
    for entry in keys:
        if entry.value is None:
            continue
        *groups, last = entry.name.split(".")
        place = content
        for group in groups:
            below = place.setdefault(group, {})
            assert isinstance(below, dict)
            place = below
        place[last] = entry.value
    return content
