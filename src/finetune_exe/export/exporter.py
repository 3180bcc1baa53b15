"""What an exporter is: it turns a plan into files for another tool, and writes nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from finetune_exe.domain.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file to write."""

    name: str
    text: str


Files = tuple[File, ...]


class Exporter(Protocol):
    """One target, as an entry of `EXPORTERS`."""

    @property
    def name(self) -> str:
        """What the user types behind `--to`."""

    @property
    def describe(self) -> str:
        """What comes out, in a phrase."""

    def export(self, plan: Plan) -> Files:
        """Write the plan in the target's form; what the form cannot express is said in a comment."""
