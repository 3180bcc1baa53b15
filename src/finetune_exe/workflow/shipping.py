"""Let a tuned model leave the house, if it passed: merged, as GGUF with a Modelfile, or as an adapter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.atomic import new_folder, require_new, write_file
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.shipment import Shipment, ShipmentForm, ShippedFile
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.evaluation.artefacts import is_other_base
from finetune_exe.evaluation.cache import digest_folder
from finetune_exe.evaluation.evaluate import require_checkpoint
from finetune_exe.knowledge.models import EMBEDDED_MODEL, find_model
from finetune_exe.models.locate import EMBEDDED, model_folder
from finetune_exe.prepared.store import load_dataset
from finetune_exe.report.model_card import CardFacts, render_model_card
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.workflow.preparing import Note
from finetune_exe.workflow.run_folder import RunFolder, open_run, plain_name
from finetune_exe.workflow.shipment_forms import PACKERS, Cargo

CARD, RECORD = "README.md", "export.json"
FORMATS: dict[ShipmentForm, tuple[str, ...]] = {
    "merged": ("float32", "bfloat16", "float16"),
    "gguf": ("q8_0", "f16", "bf16", "f32", "q5_1", "q5_0", "q4_1", "q4_0"),
    "adapter": ("as trained",),
}
"""Number formats of each form, the usual one first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What shall be exported, and how."""

    form: ShipmentForm = "merged"
    number_format: str | None = None
    """None takes the usual one of the form: for merged weights, that of the base."""
    anyway: str | None = None
    """Reason to export what did not pass."""
    data_license: str | None = None


def export_run(
    path: Path, target: Path | None, wish: Wish, *, overwrite: bool = False, note: Note
) -> tuple[Shipment, Path]:
    """Write the model of a run that passed its evaluation, whole or not at all, and verify what was written.

    Args:
        path: The run's folder.
        target: Folder to write; None takes one under the run's `export`.
        wish: What is wanted.
        overwrite: Replace a folder that is there.
        note: Told what takes long.

    Returns:
        The record of the export, and the folder.

    Raises:
        FineTuneError: E07 where it did not pass and no reason is given, O07 where the form cannot hold the model, M04
            where what was written is not the model, O01 where the folder exists.
    """
    plan, training = open_run(path)
    run = RunFolder(path)
    checkpoint = require_checkpoint(path, training)
    folder = target or path / "export" / wish.form
    _require_place(folder, overwrite=overwrite)
    base = model_folder(plan.model.reference, revision=plan.model.revision, progress=note)
    evaluation = Evaluation.read(run.evaluation) if run.evaluation.is_file() else None
    weights, of_base = digest_folder(checkpoint), digest_folder(base)
    data, tokenizer = load_dataset(run.dataset), load_tokenizer(base, chat_template=plan.data.chat_template)
    objections = objections_to(evaluation, training, weights=weights, base=of_base)
    if is_other_base(base, training, checkpoint):
        objections += ("the base model is not the one that was trained on",)
    if data.manifest.template_digest != tokenizer.template_digest:
        objections += ("the chat template is not the one that the rows were trained with",)
    if objections and wish.anyway is None:
        raise _not_passed(path, objections)
    of_these = evaluation if evaluation is not None and evaluation.inputs.get("weights") == weights else None
    cargo = Cargo(
        name=plain_name(path), plan=plan, training=training,
        data=data, base=base, checkpoint=checkpoint, tokenizer=tokenizer,
        number_format=_number_format(wish, base), note=note,
    )  # fmt: skip
    with new_folder(folder, overwrite=overwrite) as work:
        packed = PACKERS[wish.form](cargo, work)
        objections += tuple(
            f"{p.name}: the predictions differ by {p.divergence:.2g} nats a token, at most {p.most_divergence:g}"
            for p in packed.parities if p.divergence > p.most_divergence
        )  # fmt: skip
        if objections and wish.anyway is None:
            raise _not_passed(path, objections)
        shipment = Shipment(
            inputs={"plan": plan.digest(), "dataset": cargo.data.manifest.digest(), "run": training.digest(),
                    "weights": weights, "base": of_base,
                    **({} if evaluation is None else {"evaluation": evaluation.digest()})},
            form=wish.form, number_format=cargo.number_format,
            verdict="not evaluated" if of_these is None else of_these.verdict, objections=objections,
            anyway=wish.anyway if objections else None, parities=packed.parities,
            num_prompts_tokenised=packed.num_texts, notes=packed.notes, files=_files(work),
        )  # fmt: skip
        shipment.write(work / RECORD)
        card = CardFacts(
            name=cargo.name, plan=plan, training=training, data=cargo.data.manifest, evaluation=of_these,
            shipment=shipment, base=_base_name(plan),
            license=cargo.license, data_license=wish.data_license,
        )  # fmt: skip
        write_file(work / CARD, render_model_card(card).encode())
    return shipment, folder


def objections_to(evaluation: Evaluation | None, training: TrainingRun, *, weights: str, base: str) -> tuple[str, ...]:
    """Say why a model may not leave: nothing where its evaluation says that it is ready.

    Args:
        evaluation: Of the run; None where it was not evaluated.
        training: The run's summary.
        weights: Digest of the weights that would be exported.
        base: Digest of the base model's folder: weights, tokenizer and template.
    """
    if evaluation is None:
        return ("the run was not evaluated",)
    if not training.is_named(evaluation.inputs.get("run")) or evaluation.inputs.get("weights") != weights:
        return ("the evaluation is of other weights than those of the run now",)
    if evaluation.inputs.get("base") != base:
        return ("the evaluation is of another base model, tokenizer or chat template than is there now",)
    failed = [f"{check.name}: {check.detail}" for check in evaluation.readiness if check.passed is False]
    if evaluation.verdict == "not ready":
        return tuple(failed)
    if evaluation.verdict == "ready":
        return ()
    if any(c.verdict == "improved" for c in (*evaluation.comparisons, *evaluation.task_comparisons)):
        return ("nothing improved by more than its margin: whether so little is worth it, only you can say",)
    return ("nothing improved beyond chance: whether it is better, nobody can say",)


def _require_place(folder: Path, *, overwrite: bool) -> None:
    """Make sure before the long work that the folder may be written, and that only an export is ever replaced.

    Raises:
        FineTuneError: O01 where something is there.
    """
    require_new(folder, overwrite=overwrite)
    if not folder.exists():
        return
    if not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD).is_file()):
        raise FineTuneError(
            "O01",
            what="the folder holds something else than an export",
            where=str(folder),
            why=f"replacing it would destroy what is there: it has no {RECORD}",
            fix="choose another place with -o",
        )


def _number_format(wish: Wish, base: Path) -> str:
    """Take the format wished for, or the usual one.

    Raises:
        FineTuneError: O07 for one that the form does not have.
    """
    offered = FORMATS[wish.form]
    if wish.number_format in offered:
        return str(wish.number_format)
    if wish.number_format is not None:
        raise FineTuneError(
            "O07",
            what=f"{wish.form} is not written in {wish.number_format}",
            where="--type",
            why="each form has number formats of its own",
            fix=f"choose one of {', '.join(offered)}",
        )
    config = json.loads((base / "config.json").read_bytes())
    kept = config.get("dtype") or config.get("torch_dtype")
    return kept if wish.form == "merged" and kept in offered else offered[0]


def _base_name(plan: Plan) -> str:
    """Name the base model as the hub does, where it is known there; a folder by its last part."""
    reference = plan.model.reference
    if reference == EMBEDDED:
        return find_model(EMBEDDED_MODEL).reference
    return Path(reference).name if Path(reference).exists() else reference


def _files(work: Path) -> tuple[ShippedFile, ...]:
    found = []
    for path in sorted(work.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append(ShippedFile(name=path.name, num_bytes=path.stat().st_size, sha256=digest))
    return tuple(found)


def _not_passed(path: Path, objections: Sequence[str]) -> FineTuneError:
    more = f", and {len(objections) - 1} more" if objections[1:] else ""
    return FineTuneError(
        "E07",
        what=f"the model has not passed: {objections[0]}{more}",
        where=str(path),
        why="; ".join(objections[1:]) or "only what was shown to be better, and to break nothing, is exported",
        fix=f"{typed('fine-tune', 'eval', path)} says what turns each point green; to export it all the same, and "
        'say so in its card: --anyway "REASON"',
    )
