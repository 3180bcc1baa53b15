"""`fine-tune schema`."""

from __future__ import annotations

import json
from difflib import get_close_matches

import click

from finetune_exe.cli.surface import say, write


@click.command("schema")
@click.argument("name", required=False, metavar="[DOCUMENT]")
def command(name: str | None) -> None:
    """Print the JSON Schema of DOCUMENT, or list the documents.

    \b
    fine-tune schema
    fine-tune schema plan > plan.schema.json
    """
    from finetune_exe.agents.schemas import DOCUMENTS, EVENT, document_schema

    says = {each: (document.__doc__ or "").splitlines()[0] for each, document in DOCUMENTS.items()}
    says[EVENT] = "One line of a run's events.jsonl."
    if name is None:
        width = max(map(len, says))
        for each, meaning in says.items():
            say(f"{each:<{width}}  {meaning}")
    elif name in says:
        write(json.dumps(document_schema(name), ensure_ascii=False, indent=2))
    else:
        near = get_close_matches(name, says, n=1)
        guess = f"; did you mean {near[0]}?" if near else ""
        raise click.BadParameter(f"{name!r} is none of {', '.join(says)}{guess}", param_hint="DOCUMENT")
