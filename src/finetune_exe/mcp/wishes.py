"""Arguments that several tools take, with what an agent is told about them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

Task = Annotated[str, Field(description="What the model shall learn, in a sentence.", min_length=1, max_length=4_000)]
Rows = Annotated[
    list[str],
    Field(description='Files, folders or patterns of rows, inside the declared folders; or "stdlib".', max_length=64),
]
Model = Annotated[
    str | None,
    Field(description='Base model: hub id, known name, folder, GGUF file, or "embedded". Left out: it is chosen.'),
]
Hardware = Annotated[
    str | None, Field(description='As in "RTX 4090", "8xH100", "24 GiB" or "cpu". Left out: this machine.')
]
Settings = Annotated[
    list[str],
    Field(description='Settings that override the advice, as in "optimizer.learning_rate=1e-4".', max_length=64),
]
Preset = Literal["auto", "conservative", "balanced", "aggressive"]
PlanFile = Annotated[str, Field(description="A plan file, plan.yaml, inside the declared folders.")]
RunFolderName = Annotated[str, Field(description="A run's folder, as in runs/plan, inside the declared folders.")]
Agreed = Annotated[
    bool,
    Field(description="True only after the user agreed to exactly this. Where the client can, the user is asked too."),
]
