"""`fine-tune export`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from finetune_exe.cli.surface import json_option, overwrite_option, say, view, write_json
from finetune_exe.domain.shipment import ShipmentForm


@click.command("export")
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--to", "form", type=click.Choice(get_args(ShipmentForm)), default="merged", show_default=True, help="Whole weights for transformers, one file for llama.cpp and Ollama, or the adapter alone.")  # fmt: skip
@click.option("--type", "number_format", metavar="FORMAT", help="Of the weights: float32, bfloat16, float16; for gguf q8_0 (usual), f16, bf16, f32, q5_1, q5_0, q4_1, q4_0.")  # fmt: skip
@click.option("-o", "--output", "target", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; RUN/export/FORM otherwise.")  # fmt: skip
@click.option("--anyway", metavar="REASON", help="Export a model that has not passed; the reason is written into its card.")  # fmt: skip
@click.option("--data-license", metavar="TEXT", help="Licence of your rows, for the card.")
@overwrite_option
@json_option
def command(
    run_path: Path,
    form: ShipmentForm,
    number_format: str | None,
    target: Path | None,
    anyway: str | None,
    data_license: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the model of RUN, a run folder that passed its evaluation, for others to load.

    \b
    fine-tune export runs/plan
    fine-tune export runs/plan --to gguf -o my-model
    fine-tune export runs/plan --to gguf --type f16
    fine-tune export runs/plan --to adapter --anyway "to look at it on another machine"
    """
    from finetune_exe.report.shipment import render_shipment
    from finetune_exe.workflow.shipping import Wish, export_run

    if anyway is not None and len(anyway.split()) < 2:
        raise click.UsageError("--anyway wants a reason of a few words; readers of the card will see it")
    wish = Wish(form=form, number_format=number_format, anyway=anyway, data_license=data_license)
    with view(as_json=as_json) as live:
        shipment, folder = export_run(run_path, target, wish, overwrite=overwrite, note=live.note)
    if as_json:
        write_json(export=shipment, folder=str(folder))
    else:
        say(render_shipment(shipment, str(folder)))
