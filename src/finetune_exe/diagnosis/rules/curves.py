"""What the shapes of a loss curve mean and what to do about them."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause

CAUSES = (
    Cause(
        label="healthy",
        title="Nothing is wrong with what was shown",
        cause="No known failure shows, and the losses, where there are any, behave.",
        fix="Nothing to mend. Judge the answers on held-out rows before you rely on them.",
    ),
    Cause(
        label="train_only_falling",
        title="The training loss falls; whether the model is better cannot be said without validation",
        cause="Fewer than three validation losses were logged: overfitting would not be seen.",
        fix="Hold rows out and measure their loss a few times per epoch.",
        patch={"checkpoints.evaluations_per_epoch": 4.0},
    ),
    Cause(
        label="undertrained",
        title="Training ended while the validation loss was still falling",
        cause="The run was shorter than the data is good for.",
        fix="Train longer, keeping the best checkpoint and stopping early once it no longer falls.",
        scale={"schedule.epochs": 2.0},
    ),
    Cause(
        label="mild_overfitting",
        title="The validation loss has passed its minimum by a little",
        cause="The last evaluations brought nothing more.",
        fix="Use the checkpoint of the lowest validation loss; stop a little earlier next time.",
        patch={"checkpoints.early_stopping_patience": 3},
    ),
    Cause(
        label="memorisation_suspected",
        title="The training loss is so low that the rows may be known by heart",
        cause="Several passes took the loss to under a tenth of its start, and nothing was held out to check.",
        fix="Hold rows out, measure their loss, and reduce the epochs if it rises.",
        patch={"checkpoints.evaluations_per_epoch": 4.0, "schedule.epochs": 1.0},
    ),
    Cause(
        label="plateau",
        title="The training loss does not fall (underfitting)",
        cause="The learning rate is too low, nothing or too little is trained, or the data holds"
        " nothing left to learn.",
        fix="Check that gradients are not zero and labels not random; raise the learning rate"
        " threefold; adapt all linear layers.",
        patch={"method.target_modules": "all-linear"},
        scale={"optimizer.learning_rate": 3.0},
    ),
    Cause(
        label="divergence",
        title="The training loss rises: the run diverges",
        cause="The steps are too large for this model: learning rate, adapter scale or too little warm-up.",
        fix="Divide the learning rate by three to ten, warm up longer, clip gradients at 1, and"
        " start from before the rise.",
        patch={"optimizer.max_grad_norm": 1.0, "schedule.warmup.fraction": 0.1},
        scale={"optimizer.learning_rate": 0.3},
    ),
    Cause(
        label="eval_unstable",
        title="The validation loss jumps up and down",
        cause="The validation set is very small, or the learning rate so high that each checkpoint is another model.",
        fix="Hold out more rows, and lower the learning rate.",
        patch={"data.validation_fraction": 0.2},
        scale={"optimizer.learning_rate": 0.3},
    ),
    Cause(
        label="rl_loss_not_informative",
        title="The logged loss is a policy objective and says little",
        cause="In reinforcement learning the objective starts at and hovers around zero.",
        fix="Judge the run by its reward, its divergence from the reference model and its answers.",
    ),
)
