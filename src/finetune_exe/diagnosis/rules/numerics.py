"""Failures of numbers: not finite, diverging, of two formats at once, scaled wrongly."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

_VALIDATION_NAN = r"(eval|val|validation|test)\w*[ _-]loss<30>\bnan\b"

CAUSES = (
    Cause(
        label="nan_loss",
        title="The loss is not a number",
        cause="A value overflowed: float16 on a model made in bfloat16, a learning rate too high, a"
        " row without any token"
        " to learn from, or a damaged row.",
        fix="Train in bfloat16, or float32 where the processor has no bfloat16; clip gradients;"
        " lower the learning rate;"
        " check that every row has learned tokens.",
        signs=(
            Sign(pattern=r"\bloss\b['\"]?\s*[:=]\s*['\"]?nan\b", strength=0.9),
            Sign(
                pattern=r"loss (is|became|becomes|was) nan|nan (loss|in loss)|non-?finite loss|loss.{0,20}not"
                r" finite",
                strength=0.9,
                unless=_VALIDATION_NAN,
            ),
            Sign(
                pattern=r"returned nan values|anomaly.{0,40}nan|nan or inf found in|gradient"
                r" overflow.{0,60}minimum",
                strength=0.8,
            ),
            Sign(pattern=r"Current loss scale already at minimum|minimum loss scale reached", strength=0.85),
        ),
        tales=(
            Tale(words=(r"\bloss\b<60>\b(nan|inf)\b|\bnan\b<40>\bloss",), strength=0.85, unless=_VALIDATION_NAN),
            Tale(words=(r"(then|becomes?|became|to|is|are|percent) nan\b",), strength=0.75, unless=_VALIDATION_NAN),
        ),
        patch={"precision.base_dtype": "bfloat16", "optimizer.max_grad_norm": 1.0},
        scale={"optimizer.learning_rate": 0.3},
    ),
    Cause(
        label="nan_eval",
        title="The validation loss is not a number, though the training loss is",
        cause="Validation rows without a learned token divide by zero, or evaluation runs in a number"
        " format that overflows.",
        fix="Count the learned tokens of every validation row, and evaluate in the format the model was trained in.",
        tales=(Tale(words=(_VALIDATION_NAN,), strength=0.88),),
    ),
    Cause(
        label="lr_divergence",
        title="The loss jumped and did not come back: the steps are too large",
        cause="The learning rate, times the scale of the adapters, is too high for this model and data.",
        fix="Divide the learning rate by three to ten, warm up longer, clip gradients at 1, and"
        " start again from before the jump.",
        tales=(
            Tale(
                words=(r"\bloss\b<60>(jump|spike|explod|blow|blew|diverg|sky-?rocket|shoots?|surge|suddenly)",),
                strength=0.8,
                unless=r"sudden\w* (drop|fall|decreas)",
            ),
            Tale(
                words=(r"\bloss\b<40>(increas|rises?|rising|goes up|climb)", r"train"),
                strength=0.5,
                unless=r"(eval|val|validation|test)\w*[ _-]loss|after (upgrad|updat)|sudden\w* (drop|fall"
                r"|decreas)|accumulation",
            ),
            Tale(words=(r"reward|simpo|dpo|log-?prob", r"collaps|diverg"), strength=0.45),
            Tale(words=(r"grad\w*[ _-]norm<30>(million|huge|explod|inf|e\+|\d{4})",), strength=0.5),
        ),
        patch={"optimizer.max_grad_norm": 1.0, "schedule.warmup.fraction": 0.1},
        scale={"optimizer.learning_rate": 0.3},
    ),
    Cause(
        label="dtype_mismatch",
        title="Two number formats meet where one is needed",
        cause="Part of the model is float16 or bfloat16 and part float32, outside of autocast; or"
        " trained weights are float16,"
        " which the gradient scaler refuses.",
        fix="Pass the bf16 (or fp16) flag of your trainer so that autocast is on, keep the trained"
        " weights in float32, and"
        " generate inside autocast too.",
        signs=(
            Sign(pattern=r"(expected|must) .{0,60}(same dtype|scalar type)|mat1 and mat2.{0,30}dtype", strength=0.93),
            Sign(pattern=r"Attempting to unscale FP16 gradients", strength=0.97),
            Sign(
                pattern=r"Input type .{0,60}(weight|bias) type .{0,60}should be the same"
                r"|_amp_foreach_non_finite_check_and_unscale",
                strength=0.9,
            ),
            Sign(
                pattern=r"not implemented for '(Half|BFloat16)'|Index put requires the source and destination"
                r" dtypes match"
                r"|query, key, (and )?value to have the same dtype|expected dtype .{0,40} but got dtype",
                strength=0.88,
            ),
        ),
        tales=(Tale(words=(r"(fp16|float16|half|bf16|bfloat16)", r"dtype|type mismatch|unscale"), strength=0.5),),
        patch={"precision.base_dtype": "bfloat16"},
    ),
    Cause(
        label="bf16_unsupported",
        title="This GPU does not compute bfloat16",
        cause="bfloat16 needs an NVIDIA GPU of compute capability 8.0 (Ampere) or later; V100, T4 and P100 have none.",
        fix="Use fp16 with float32 trained weights on this GPU, or float32; or run on a newer one.",
        signs=(
            Sign(
                pattern=r"(doesn't|does not|not) support(ed)? (bf16|bfloat16)|bf16 is not supported|bfloat16"
                r" .{0,30}not supported",
                strength=0.95,
            ),
            Sign(pattern=r"bf16/gpu|Bfloat16 is only supported on GPUs|--bf16.{0,40}requires", strength=0.9),
        ),
        patch={"precision.base_dtype": "float32"},
    ),
    Cause(
        label="nan_inference",
        title="The model's probabilities are not finite when it generates",
        cause="The saved weights hold NaN, or half precision overflows at inference; a pad or token id"
        " beyond the vocabulary"
        " does it too.",
        fix="Look for NaN in the adapter; if there is none, generate in bfloat16 or float32, and set the pad token.",
        signs=(
            Sign(
                pattern=r"probability tensor contains either|invalid multinomial distribution|sum of probabilities",
                strength=0.95,
            ),
            Sign(pattern=r"TensorCompare.{0,80}Assertion .{0,60}(inf|nan|isfinite)", strength=0.85),
        ),
        consequence=True,
        patch={"precision.base_dtype": "float32"},
    ),
    Cause(
        label="grad_accum_loss",
        title="The logged loss grows with the accumulation steps",
        cause="The loss of each micro batch is summed or averaged on its own instead of over all"
        " learned tokens of the step:"
        " known of transformers 4.46 and 4.47 and of trainers built on them.",
        fix="Upgrade transformers and the trainer; compare one step of 8 x 1 with 1 x 8, which must"
        " agree. Here the loss is"
        " always divided by the learned tokens of the whole step.",
        signs=(
            Sign(
                pattern=r"gradient[_ ]accumulation.{0,60}loss.{0,40}(doubl|tripl|times|higher|multipl|scale|sum"
                r"|\dx)",
                strength=0.93,
            ),
        ),
        tales=(
            Tale(
                words=(
                    r"\bloss\b<80>(\dx|times|higher|doubl|multipl|scal|sum|differ|too (high|large))",
                    r"accumul|num_items_in_batch",
                ),
                strength=0.88,
            ),
        ),
    ),
)
