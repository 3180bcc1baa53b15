"""Look at machine, packages and run folders, and let the training stack prove its numbers."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from finetune_exe import __version__
from finetune_exe.domain.checkup import Checkup, Package, Part, SelfTest
from finetune_exe.domain.values import Check, Hardware
from finetune_exe.errors import typed
from finetune_exe.planning.hardware import detect_hardware
from finetune_exe.units import GIB, format_gib
from finetune_exe.workflow.preparing import Note, Progress
from finetune_exe.workflow.run_states import find_runs, run_state

DISTRIBUTION = "finetune-exe"
FOR_DEVELOPERS = ("dev",)
"""Parts that a user of the program has no need of."""
TRAINING = ("torch", "transformers", "peft", "accelerate", "safetensors")
LEAST_ROOM_BYTES = 2 * GIB
"""A small model, its dataset and a few checkpoints take more than this soon."""


def check_up(
    paths: Sequence[Path] = (), *, self_tests: bool = True, model: str | None = None, progress: Progress, note: Note
) -> Checkup:
    """Look at everything.

    Args:
        paths: Run folders, or folders that hold some, to look at too.
        self_tests: Whether to measure the training stack; without the packages for training it cannot be.
        model: A base model to make those tests with too that concern one; None makes them with a random one alone.
        progress: Told how far it is.
        note: Told what takes long.

    Raises:
        FineTuneError: L01 where a path holds no run; M01, M02, M03 where the model cannot be used.
    """
    started = time.monotonic()
    folders = list(dict.fromkeys(folder for path in paths for folder in find_runs(path)))
    hardware = detect_hardware()
    abilities = [*_machine(hardware)]
    tests: tuple[SelfTest, ...] = ()
    missing = [name for name in TRAINING if find_spec(name) is None]
    if missing:
        abilities.append(Check(name="training", passed=None, detail=f"not installed: {', '.join(missing)}",
                               fix=f'pip install "{DISTRIBUTION}[train]"'))  # fmt: skip
    else:
        from finetune_exe.models.load import settle_libraries
        from finetune_exe.training.abilities import torch_abilities

        note("loading PyTorch")
        settle_libraries()
        abilities += torch_abilities(hardware)
        if self_tests:
            from finetune_exe.training.selftests import run_self_tests

            tests = run_self_tests(told=progress)
            if model is not None:
                tests += _with_model(model, hardware, progress=progress, note=note)
    return Checkup(
        program=__version__,
        python=platform.python_version(),
        system=platform.platform(),
        hardware=hardware,
        parts=installed_parts(),
        abilities=tuple(abilities),
        runs=tuple(map(run_state, folders)),
        self_tests=tests,
        seconds=round(time.monotonic() - started, 3),
    )


def _with_model(model: str, hardware: Hardware, *, progress: Progress, note: Note) -> tuple[SelfTest, ...]:
    """Make the self-tests that concern a base model with the user's own."""
    from finetune_exe.models.locate import model_folder
    from finetune_exe.training.selftests import run_model_tests

    base = model_folder(model, progress=note)
    return run_model_tests(base, name=model, memory_bytes=hardware.accelerator_memory_bytes, told=progress)


def installed_parts(requirements: Sequence[str] | None = None) -> tuple[Part, ...]:
    """List the core and the optional parts, each with its packages and the versions there are.

    Args:
        requirements: As a distribution's metadata has them; None takes those of this program.
    """
    from packaging.requirements import Requirement

    if requirements is None:
        try:
            requirements = metadata.requires(DISTRIBUTION) or ()
        except metadata.PackageNotFoundError:
            requirements = ()
    parts: dict[str, list[Package]] = {"core": []}
    for text in requirements:
        requirement = Requirement(text)
        package = (requirement.name, str(requirement.specifier))
        named = re.findall(r"extra == ['\"]([\w-]+)", text)
        if not named and (requirement.marker is None or requirement.marker.evaluate()):
            parts["core"].append(_package(*package))
        for extra in named:
            if extra not in FOR_DEVELOPERS and requirement.marker and requirement.marker.evaluate({"extra": extra}):
                parts.setdefault(extra, []).append(_package(*package))
    return tuple(Part(name=name, packages=tuple(packages)) for name, packages in parts.items() if packages)


def _package(name: str, wanted: str) -> Package:
    from packaging.specifiers import SpecifierSet

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name=name, version=None, wanted=wanted, suffices=False)
    return Package(name=name, version=version, wanted=wanted,
                   suffices=SpecifierSet(wanted).contains(version, prereleases=True))  # fmt: skip


def _machine(hardware: Hardware) -> Iterator[Check]:
    """Look at the room there is and the places that are written to."""
    free = hardware.disk_free_bytes or 0
    yield Check(
        name="room for runs", passed=free >= LEAST_ROOM_BYTES, detail=f"{format_gib(free)} free in {Path.cwd()}",
        fix=None if free >= LEAST_ROOM_BYTES else "free some space, or work in another folder",
    )  # fmt: skip
    from finetune_exe.models.locate import cache_folder

    for name, folder in (("this folder can be written", Path.cwd()), ("the cache can be written", cache_folder())):
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        writable = os.access(nearest, os.W_OK | os.X_OK)
        fix = None if writable else f"{typed('chmod', 'u+w', nearest)}, or set FINETUNE_EXE_CACHE"
        yield Check(name=name, passed=writable, detail=str(folder), fix=fix)
    if shutil.which("nvidia-smi") and not hardware.gpus:
        yield Check(name="the NVIDIA driver answers", passed=False, detail="nvidia-smi is there and lists no GPU",
                    fix="run nvidia-smi and mend what it says")  # fmt: skip
