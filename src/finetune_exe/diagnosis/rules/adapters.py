"""Failures of adapters and checkpoints: what is trained, saved, loaded and merged."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

CAUSES = (
    Cause(
        label="requires_grad_missing",
        title="No gradient reaches the trained weights",
        cause="Everything is frozen where the loss is computed: gradient checkpointing on a frozen"
        " embedding, or no trained module.",
        fix="Call enable_input_require_grads() (or checkpoint with use_reentrant=False), and check"
        " that trainable parameters are not 0.",
        signs=(
            Sign(pattern=r"does not require grad and does not have a grad_fn", strength=0.96),
            Sign(pattern=r"None of the inputs have requires_grad", strength=0.75),
            Sign(pattern=r"optimizer got an empty parameter list|trainable params: 0\b", strength=0.85),
        ),
        tales=(Tale(words=(r"requires_grad|grad_fn",), strength=0.75),),
        patch={"precision.gradient_checkpointing": False},
    ),
    Cause(
        label="target_modules_not_found",
        title="The adapter names layers this model does not have",
        cause="Layer names differ between model families (q_proj, c_attn, query_key_value), and"
        " sometimes between versions.",
        fix='Target "all-linear", or take names out of model.named_modules().',
        signs=(
            Sign(
                pattern=r"target[_ ]modules.{0,200}not found in|no modules were targeted|Please specify"
                r" `?target_modules",
                strength=0.96,
            ),
            Sign(pattern=r"target module .{0,80}(is )?not supported", strength=0.85),
        ),
        patch={"method.target_modules": "all-linear"},
    ),
    Cause(
        label="adapter_load_mismatch",
        title="The saved weights do not fit the model they are loaded into",
        cause="They were saved from another model, rank or library layout; or under ZeRO-3 or FSDP as"
        " empty shards (size 0).",
        fix="Load them onto the base and with the rank they were trained with. If their shapes are 0"
        " or the file is tiny, gather"
        " the weights before saving (stage3_gather_16bit_weights_on_model_save, or a full state"
        " dict) and save again.",
        signs=(
            Sign(pattern=r"size mismatch for .{0,200}lora", strength=0.96),
            Sign(pattern=r"size mismatch for|Error\(s\) in loading state_dict|ignore_mismatched_sizes", strength=0.8),
            Sign(
                pattern=r"Error converting the state dict|(unexpected|missing) key(s|\(s\))? (in state_dict|:)"
                r"|Found missing adapter keys",
                strength=0.8,
            ),
            Sign(
                pattern=r"Can't find '?adapter_config|(adapter_model|adapter_config).{0,60}(not found|missing|no"
                r" such)",
                strength=0.8,
            ),
            Sign(
                pattern=r"Error while deserializing header|HeaderTooLarge|InvalidHeaderDeserialization"
                r"|PytorchStreamReader failed",
                strength=0.6,
            ),
        ),
        tales=(
            Tale(
                words=(r"adapter|lora|checkpoint", r"\d+ ?(k|kb|kib|bytes?)\b", r"zero-?3|fsdp|deepspeed|shard"),
                strength=0.85,
            ),
            Tale(
                words=(r"(state.?dict|size|shape)<20>mismatch|keys? (do|does) not match|mismatched keys",),
                strength=0.75,
            ),
        ),
    ),
    Cause(
        label="adapter_not_applied",
        title="The tuned weights have no effect on the answers",
        cause="The adapter file is empty, its keys do not match the model it is loaded into, or the"
        " base model is served instead.",
        fix="Look at the adapter's size and norms, load it with the class used in training, and"
        " check that it changes the logits.",
        tales=(
            Tale(
                words=(
                    r"(identical|(exactly |just )?the same|no (difference|change|effect)|unchanged|as if (it"
                    r" (was|were) )?untrained|ignores?)",
                    r"adapter|lora|fine-?tun|base|loaded|merg",
                ),
                strength=0.6,
                unless=r"learning_rate|template|identical rows? only",
            ),
            Tale(words=(r"(identical|same|equal)<60>(base|before|original|untrained|without)",), strength=0.75),
            Tale(words=(r"adapter\w*\.(bin|safetensors)|adapter", r"\b\d{2,4} ?(bytes?|b)\b|empty"), strength=0.8),
        ),
    ),
    Cause(
        label="no_adapter_on_quantized",
        title="A quantised model was to be trained without an adapter",
        cause="Weights of 4 or 8 bits cannot be trained themselves; the adapter was not attached, or was merged away.",
        fix="Attach a LoRA adapter to the quantised model (get_peft_model) before training, and do not merge it first.",
        signs=(
            Sign(pattern=r"cannot perform fine-tuning on purely quantized", strength=0.97),
            Sign(pattern=r"(4|8)-bit .{0,60}(not support|cannot be) .{0,20}(train|fine-?tun)", strength=0.8),
        ),
    ),
    Cause(
        label="resume_error",
        title="The checkpoint's optimizer state does not fit this run",
        cause="Other parameters are trainable than when it was saved, or files of the checkpoint are missing.",
        fix="Resume with the very settings of the first run, or start anew from the checkpoint's"
        " weights with a fresh optimizer.",
        signs=(
            Sign(
                pattern=r"loaded state dict (contains a parameter group|has a different number of parameter"
                r" groups)",
                strength=0.97,
            ),
            Sign(
                pattern=r"Can't find a valid checkpoint|No valid checkpoint found|(optimizer|scheduler"
                r"|rng_state)\w*\.(pt|pth|bin)"
                r".{0,80}(not found|no such file|missing)",
                strength=0.88,
            ),
            Sign(pattern=r"Weights only load failed", strength=0.6),
            Sign(
                pattern=r"(KeyError|RuntimeError|ValueError|FileNotFoundError)",
                strength=0.5,
                within=r"_load_optimizer_and_scheduler|load_checkpoint|_load_from_checkpoint"
                r"|resume_from_checkpoint",
            ),
        ),
        tales=(Tale(words=(r"resum(e|es|ed|ing)",), strength=0.55),),
    ),
    Cause(
        label="merge_degradation",
        title="The merged model is worse than base plus adapter",
        cause="Merging into 4- or 8-bit weights rounds the update away, or cannot be done; merging"
        " into another base or number"
        " format changes the model too.",
        fix="Load the base in 16 bits or float32, merge there, compare its logits with base plus"
        " adapter, and only then quantise.",
        signs=(
            Sign(
                pattern=r"Cannot merge (LORA|adapter|lora)|merge_and_unload.{0,80}(not support|error)"
                r"|merge.{0,30}(rounding errors|4-?bit)",
                strength=0.93,
            ),
            Sign(pattern=r"in merge_and_unload|merge_and_unload\(", strength=0.5),
        ),
        tales=(
            Tale(
                words=(
                    r"\bmerg(e|ed|es|ing)\b|merge_and_unload|save_pretrained_merged",
                    r"degrad|wors|differ|unrelated|wrong|garbage|gibberish|bad|drop|broken|nonsense|not the"
                    r" same|lost|4-?bit|quality",
                ),
                strength=0.85,
            ),
        ),
    ),
)
