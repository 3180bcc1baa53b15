"""Look into one of our runs with its model and data, and say what that shows as evidence for a diagnosis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune_exe.diagnosis.match import Hit
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.training.examine import Examination
from finetune_exe.workflow.preparing import plan_tokenizer
from finetune_exe.workflow.run_folder import RunFolder

_LEAST_EFFECT = 1e-4


def probe_run(path: Path) -> list[Hit]:
    """Examine a run of ours.

    Raises:
        FineTuneError: E01 where the folder is no run of ours with a prepared dataset.
    """
    from finetune_exe.models.locate import model_folder
    from finetune_exe.prepared.store import load_dataset
    from finetune_exe.training.examine import examine

    run = RunFolder(path)
    if not run.plan.is_file() or not (run.dataset / "manifest.json").is_file():
        raise FineTuneError(
            "E01",
            what="this is no run that can be probed",
            where=str(path),
            why="a probe needs the run's plan.yaml and its prepared dataset",
            fix="give the folder of a run of fine-tune train, or leave --probe out",
        )
    plan = read_plan(run.plan)
    found = examine(
        plan,
        load_dataset(run.dataset),
        base=model_folder(plan.model.reference, revision=plan.model.revision, progress=lambda _: None),
        tokenizer=plan_tokenizer(plan, note=lambda _: None),
        trained=run.model if run.model.is_dir() else None,
    )
    return list(read_examination(found))


def read_examination(found: Examination) -> Iterator[Hit]:
    """Say what each figure of an examination speaks for; nothing where all is as it should be."""
    if found.num_unlearned or found.learned_share == 0:
        text = f"{found.num_unlearned} of {found.num_sequences} training sequences have no learned token"
        strength = 0.9 if found.num_unlearned == found.num_sequences else 0.5
        yield Hit(label="loss_zero_masked", strength=strength, text=f"{text}; the first: {found.decoded}")
    if found.num_rendered_alike < found.num_rendered:
        text = f"{found.num_rendered_alike} of {found.num_rendered} rows render to the tokens that were trained on"
        yield Hit(label="no_learning_wrong_template", strength=0.8, text=text)
    if found.still:
        text = f"no gradient reached {len(found.still)} of {found.num_trainable} trainable tensors, as {found.still[0]}"
        yield Hit(label="requires_grad_missing", strength=0.85, text=text)
    if found.losses and not found.learns:
        course = f"{found.losses[0]:.3g} to {found.losses[-1]:.3g} in {len(found.losses)} steps on one batch"
        rises = not found.losses[-1] < 1.2 * found.losses[0]
        label = "lr_divergence" if rises else "underfitting"
        yield Hit(label=label, strength=0.75, text=f"the loss goes from {course}")
    if found.adapter_effect is not None and found.adapter_effect < _LEAST_EFFECT:
        text = f"the trained model moves no logit of the base by more than {found.adapter_effect:.2g}"
        yield Hit(label="adapter_not_applied", strength=0.88, text=text)
