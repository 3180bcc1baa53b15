"""What was exported, to read."""

from __future__ import annotations

import json

from finetune_exe.domain.shipment import Shipment
from finetune_exe.errors import typed
from finetune_exe.report.page import Block, Bullet, Commands, Field, Heading, Table, Title, Words, render_text
from finetune_exe.units import format_bytes, format_count


def render_shipment(shipment: Shipment, folder: str) -> str:
    """Write what was written where, and what was verified of it."""
    blocks: list[Block] = [
        Title("EXPORT", (
            Field("Folder", folder),
            Field("Form", f"{shipment.form}, {shipment.number_format}"),
            Field("Evaluation", shipment.verdict),
        )),
    ]  # fmt: skip
    if shipment.anyway is not None:
        blocks += [Heading("NOT PASSED"), Field("Exported anyway", shipment.anyway), *map(Bullet, shipment.objections)]
    rows = tuple((file.name, format_bytes(file.num_bytes)) for file in shipment.files)
    blocks += [Heading("FILES"), Table(header=("File", "Size"), rows=rows), Heading("VERIFIED")]
    blocks += [
        Bullet(f"{p.name}: divergence {p.divergence:.1e} nats a token (at most {p.most_divergence:g}), same likeliest "
               f"token at {100 * p.top1_agreement:.1f} % of {format_count(p.num_tokens)} positions")
        for p in shipment.parities
    ]  # fmt: skip
    texts = format_count(shipment.num_prompts_tokenised)
    blocks.append(Bullet(f"token ids of {texts} texts equal those of the training"))
    blocks += [Words(note) for note in shipment.notes]
    use = _use({file.name for file in shipment.files}, form=shipment.form, folder=folder)
    if use:
        blocks += [Heading("USE IT"), Commands((use,))]
    return render_text(blocks)


def _use(files: set[str], *, form: str, folder: str) -> str | None:
    """Write a command that lets the exported model answer."""
    if "Modelfile" in files:
        return f"{typed('cd', folder)} && ollama create my-model -f Modelfile && ollama run my-model"
    if form == "merged" and "chat_template.jinja" in files:
        asked = f'pipeline("text-generation", {json.dumps(folder)})([{{"role": "user", "content": "Hello"}}])'
        answer = f'{asked}[0]["generated_text"][-1]["content"]'
        return typed("python3", "-c", f"from transformers import pipeline; print({answer})")
    return None
