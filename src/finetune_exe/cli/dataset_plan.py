"""What `fine-tune dataset --plan` does: prepare a plan's data for training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from finetune_exe.atomic import require_new
from finetune_exe.cli.dataset_files import say_tokens
from finetune_exe.cli.surface import say, view, write_json
from finetune_exe.errors import typed

if TYPE_CHECKING:
    from finetune_exe.export.trainer_rows import TrainerName
    from finetune_exe.workflow.export_rows import ExportForm, TrainerFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How a plan's data is to be prepared, and what is to come out."""

    output: Path | None
    overwrite: bool
    as_json: bool
    num_workers: int | None
    launch: Literal["local", "ray"]
    show: int | None
    export: ExportForm | TrainerName | None
    html: Path | None
    """The page about it; None for report.html inside the dataset."""


def prepare_plan(plan_path: Path, settings: tuple[str, ...], wish: Wish) -> None:
    """Prepare the data of a plan, and show or export it as wished."""
    from finetune_exe.report.dataset import render_dataset
    from finetune_exe.workflow.pages import PAGE, write_dataset_page
    from finetune_exe.workflow.plans import open_plan
    from finetune_exe.workflow.preparing import plan_tokenizer, prepare_dataset

    plan = open_plan(plan_path, settings=settings)
    beside = plan_path.parent / "dataset"
    if wish.export is not None and wish.output is None:
        raise click.UsageError("--export needs a folder to write: -o FOLDER")
    folder = beside if wish.export is not None or wish.output is None else wish.output
    page = folder / PAGE if wish.html is None else wish.html
    if wish.html is not None:
        require_new(wish.html, overwrite=wish.overwrite)
    with view(as_json=wish.as_json) as live:
        manifest = prepare_dataset(
            plan, folder, overwrite=wish.overwrite, progress=live.progress, note=live.note,
            num_workers=wish.num_workers, launch=wish.launch,
        )  # fmt: skip
        tokenizer = plan_tokenizer(plan, note=lambda _: None)
        labels = plan.profile.labels if plan.profile is not None else ()
        write_dataset_page(manifest, folder, tokenizer, page, labels=labels)
        exported: TrainerFiles | None = None
        if wish.export is not None and wish.output is not None:
            from finetune_exe.workflow.export_rows import export_for_trainer, export_rows

            live.note(f"writing {wish.export} to {wish.output}")
            if wish.export == "parquet" or wish.export == "datasets":
                export_rows(folder, wish.output, form=wish.export, overwrite=wish.overwrite)
            else:
                exported = export_for_trainer(
                    folder, wish.output, trainer=wish.export, tokenizer=tokenizer, overwrite=wish.overwrite
                )
    if wish.show is not None:
        from finetune_exe.workflow.token_rows import rows_of_dataset

        say_tokens(rows_of_dataset(folder, tokenizer, num_rows=wish.show), as_json=wish.as_json)
    elif wish.as_json:
        given = {} if exported is None else {"exported": asdict(exported)}
        write_json(dataset=manifest, folder=str(folder), **given)
    else:
        say(render_dataset(manifest))
        say(f"\nThe prepared dataset lies in {folder}; dropped rows, with reasons, in {folder / 'rejected.jsonl'}")
        say(f"For a browser: {page}")
        if manifest.num_altered:
            say(f"Rows that were changed, before and after, in {folder / 'altered.jsonl'}")
        if exported is not None:
            _say_exported(wish, exported)
        elif wish.export is None:
            set_too = (word for setting in settings for word in ("--set", setting))
            say(f"Next: {typed('fine-tune', 'train', plan_path, *set_too)}")


def _say_exported(wish: Wish, exported: TrainerFiles) -> None:
    counts = ", ".join(f"{exported.num_rows[side]:,} in {file}" for side, file in exported.files.items())
    say(f"Rows for {wish.export} lie in {wish.output}: {counts}")
    for lost in exported.left_out:
        say(f"  left out, {lost.count:,} rows: {lost.message} (first {lost.first}). {lost.fix}")


def preview_plan(plan_path: Path, settings: tuple[str, ...], *, num_shown: int | None, as_json: bool) -> None:
    """Show what the cleaning that a plan asks for would do."""
    from finetune_exe.data.cleaning.preview import NUM_SHOWN, preview_cleaning
    from finetune_exe.report.cleaning import render_cleaning
    from finetune_exe.workflow.plans import open_plan

    plan = open_plan(plan_path, settings=settings)
    preview = preview_cleaning(plan, num_shown=num_shown or NUM_SHOWN)
    if as_json:
        write_json(cleaning=preview)
    else:
        say(render_cleaning(preview))
