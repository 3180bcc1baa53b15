"""Arguments that several tools take, with what an agent is told about them."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from finetune_exe.domain.method_kinds import MethodKind
from finetune_exe.domain.task import WRITTEN_FORMATS, FormatName, TextTask
from finetune_exe.errors import FineTuneError
from finetune_exe.text.formats.marked_turns import TurnForm, turn_form


def _written(name: FormatName) -> FormatName:
    if name not in WRITTEN_FORMATS:
        raise ValueError(f"{name} can be read, not written; choose one of {', '.join(WRITTEN_FORMATS)}")
    return name


WrittenFormat = Annotated[
    FormatName, AfterValidator(_written), Field(description=f"One of {', '.join(WRITTEN_FORMATS)}.")
]

Task = Annotated[str, Field(description="What the model shall learn, in a sentence.", min_length=1, max_length=4_000)]
TaskType = Annotated[
    TextTask | None, Field(description="What kind of task it is. Left out: read out of data and sentence.")
]
Rows = Annotated[
    list[str],
    Field(description='Files, folders or patterns of rows, inside the declared folders; or "stdlib".', max_length=64),
]
Files = Annotated[list[str], Field(description="Files inside the declared folders.", min_length=1, max_length=32)]
Configuration = Annotated[
    str | None, Field(description="A configuration of another trainer, or a training script, to take over.")
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
Column = Annotated[str | None, Field(description="The column to read, where names do not say it; give both or none.")]
Turns = Annotated[
    str | None,
    Field(
        description="Where a text holds a whole dialogue: the form that check_dataset names, as in llama-2, or what "
        "stands before each question and each answer, as in Q:,A:"
    ),
]
ExportForm = Annotated[
    str | None, Field(description="parquet, datasets, or a trainer that `fine-tune dataset --help` names.")
]
ExportFolder = Annotated[str | None, Field(description="The new folder of the export. Never replaces one.")]
Dollars = Annotated[float | None, Field(gt=0, description="Most the training may cost, in US dollars.")]
Hours = Annotated[float | None, Field(gt=0, description="Longest the training may take.")]
KeepAbilities = Annotated[bool, Field(description="What the model can do today matters as much as the new task.")]
PermissiveLicense = Annotated[bool, Field(description="Suggest only models under Apache-2.0, MIT or BSD.")]
Method = Annotated[MethodKind | None, Field(description="Training method. Left out: it is chosen.")]
PlanFile = Annotated[str, Field(description="A plan file, plan.yaml, inside the declared folders.")]
RunFolderName = Annotated[str, Field(description="A run's folder, as in runs/plan, inside the declared folders.")]
Agreed = Annotated[
    bool,
    Field(description="True only after the user agreed to exactly this. Where the client can, the user is asked too."),
]


def columns_named(prompt: str | None, answer: str | None) -> dict[str, str]:
    """Say which columns to read: both, or none.

    Raises:
        FineTuneError: A03 where one is given alone.
    """
    if (prompt is None) != (answer is None):
        raise unclear("one column is given without the other", "give prompt_column and answer_column, or neither")
    return {"prompt": prompt, "answer": answer} if prompt and answer else {}


def turns_named(said: str | None) -> TurnForm | None:
    """Say in what form turns stand in a text, if in any.

    Raises:
        FineTuneError: A03 where it is neither the name of a form nor two marks.
    """
    try:
        return None if said is None else turn_form(said)
    except ValueError as fault:
        raise unclear(f"turns={said!r} is not understood", str(fault)) from None


def unclear(why: str, fix: str) -> FineTuneError:
    """Say that arguments do not go together."""
    return FineTuneError("A03", what="the tool cannot do what was asked", where="its arguments", why=why, fix=fix)
