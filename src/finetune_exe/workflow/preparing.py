"""From a plan to its tokenizer and its prepared dataset."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.plan import Plan
from finetune_exe.errors import FineTuneError

if TYPE_CHECKING:
    from finetune_exe.text.tokenizer import ChatTokenizer

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""
Note = Callable[[str], None]
"""Told what is about to take long."""


def prepare_dataset(
    plan: Plan,
    folder: Path,
    *,
    overwrite: bool = False,
    progress: Progress,
    note: Note,
    num_workers: int | None = None,
    launch: Literal["local", "ray"] = "local",
) -> PreparedDataset:
    """Prepare the plan's data in `folder`, or take over a dataset lying there that was made the same way.

    Args:
        plan: Names data and base model.
        folder: Where the dataset shall be.
        overwrite: Replace another dataset.
        progress: Told how far it is.
        note: Told what takes long.
        num_workers: Processes that encode; None takes one for each core.
        launch: Whether they run here or on a Ray cluster.

    Raises:
        FineTuneError: C05 where the plan names no data; D.., M.. for what is wrong with data or model.
    """
    from finetune_exe.data.manifest import dataset_key
    from finetune_exe.data.prepare import prepare
    from finetune_exe.prepared.store import MANIFEST

    require_data(plan)
    tokenizer = plan_tokenizer(plan, note=note)
    if (folder / MANIFEST).is_file() and not overwrite:
        manifest = PreparedDataset.read(folder / MANIFEST)
        if manifest.key == dataset_key(plan, tokenizer):
            require_frozen_rows(plan, manifest, folder)
            note(f"the dataset in {folder} is up to date")
            return manifest
    manifest = prepare(
        plan, tokenizer, folder, overwrite=overwrite, progress=progress, num_workers=num_workers, launch=launch
    )
    for line in manifest.notes:
        note(line)
    return manifest


def require_frozen_rows(plan: Plan, manifest: PreparedDataset, folder: Path) -> None:
    """Refuse a dataset whose test or validation rows are not those that the plan names.

    Raises:
        FineTuneError: D09 where they are others.
    """
    from finetune_exe.data.membership import require_frozen

    require_frozen(plan.data, {name: split.members for name, split in manifest.splits.items()}, where=folder)


def plan_tokenizer(plan: Plan, *, note: Note) -> ChatTokenizer:
    """Open the tokenizer of the plan's base model, with the plan's template.

    Raises:
        FineTuneError: M01, M02 for the model, D06 for the template.
    """
    from finetune_exe.models.locate import model_folder
    from finetune_exe.text.tokenizer import load_tokenizer

    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    return load_tokenizer(base, chat_template=plan.data.chat_template)


def require_data(plan: Plan) -> None:
    """Refuse a plan without data.

    Raises:
        FineTuneError: C05.
    """
    if not plan.data.paths:
        raise FineTuneError(
            "C05",
            what="the plan names no data",
            where="data.paths",
            why="there is nothing to learn from",
            fix='fine-tune analyze "..." --data FILE, or add the file under data.paths in the plan',
        )
