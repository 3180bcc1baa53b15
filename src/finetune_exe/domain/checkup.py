"""What a look at the machine, the installed packages, run folders and the numbers of the training stack found."""

from __future__ import annotations

from typing import Literal

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.values import Check, Hardware


class Package(Value):
    """A package this program builds on."""

    name: str
    version: str | None
    """None where it is not installed."""
    wanted: str
    """Versions that will do, as in ">=2.10"; empty for any."""
    suffices: bool
    """Whether it is there in a version that will do."""


class Part(Value):
    """The core, or an optional part, with what it needs."""

    name: str
    """ "core", or the name in brackets when it is installed."""
    packages: tuple[Package, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every package of it will do."""
        return all(package.suffices for package in self.packages)


class RunState(Value):
    """What lies in a run folder."""

    folder: str
    state: Literal["finished", "unfinished", "damaged"]
    num_checkpoints: int
    """Checkpoints that are whole."""
    problems: tuple[str, ...] = ()
    """What is wrong, most important first."""
    fix: str | None = None
    """What to type; None where nothing needs to be done."""


class SelfTest(Value):
    """One thing that must hold of the numbers, measured on a tiny random model."""

    name: str
    claim: str
    """What was compared."""
    figure: float | None
    """How far from equal it came out; None where it was not measured."""
    tolerance: float
    """Largest figure that passes."""
    verdict: Literal["passed", "FAILED", "not measured"]
    detail: str
    """What the figure is, or why there is none."""
    seconds: float


class Checkup(Document):
    """Everything `fine-tune doctor` looked at."""

    program: str
    python: str
    system: str
    hardware: Hardware
    parts: tuple[Part, ...]
    abilities: tuple[Check, ...]
    """What machine and packages can do together; None for something that is merely not there."""
    runs: tuple[RunState, ...] = ()
    self_tests: tuple[SelfTest, ...] = ()
    seconds: float

    @property
    def failures(self) -> tuple[str, ...]:
        """Name everything that is wrong; an optional part that is not installed is not."""
        core = [f"{package.name} {package.version or 'missing'}, wanted {package.wanted or 'any'}"
                for part in self.parts for package in part.packages
                if not package.suffices and (part.name == "core" or package.version is not None)]  # fmt: skip
        abilities = [check.name for check in self.abilities if check.passed is False]
        runs = [f"the run in {run.folder}" for run in self.runs if run.state == "damaged"]
        tests = [test.name for test in self.self_tests if test.verdict == "FAILED"]
        return (*dict.fromkeys(core), *abilities, *runs, *tests)
