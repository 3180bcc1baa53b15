"""All targets of `fine-tune config --to`: each exporter is one file and one entry of `EXPORTERS`."""

from __future__ import annotations

import difflib

from finetune_exe.errors import FineTuneError
from finetune_exe.export.axolotl import AXOLOTL
from finetune_exe.export.exporter import Exporter
from finetune_exe.export.litgpt import LITGPT
from finetune_exe.export.llama_factory import LLAMA_FACTORY
from finetune_exe.export.mlx import MLX
from finetune_exe.export.ms_swift import MS_SWIFT
from finetune_exe.export.openai_job import OPENAI
from finetune_exe.export.plan_file import PlanFile
from finetune_exe.export.python_script import PythonScript
from finetune_exe.export.torchtune import TORCHTUNE
from finetune_exe.export.trl_script import TrlScript
from finetune_exe.export.unsloth_script import UnslothScript

EXPORTERS: tuple[Exporter, ...] = (
    PlanFile(), PythonScript(), TrlScript(), UnslothScript(), AXOLOTL, LLAMA_FACTORY, MS_SWIFT, TORCHTUNE, LITGPT, MLX,
    OPENAI,
)  # fmt: skip


def find_exporter(name: str) -> Exporter:
    """Look up the exporter for a target.

    Raises:
        FineTuneError: O03 for a target that is not known.
    """
    names = [entry.name for entry in EXPORTERS]
    if name in names:
        return EXPORTERS[names.index(name)]
    near = difflib.get_close_matches(name.lower(), names, n=1)
    raise FineTuneError(
        "O03",
        what=f"{name!r} is no configuration this program can write{f'; did you mean {near[0]}?' if near else ''}",
        where=f"--to {name}",
        why="a configuration in a form that nobody checked would train something else",
        fix="; ".join(f"--to {entry.name} writes {entry.describe}" for entry in EXPORTERS),
    )
