"""Failures of running on several processes or GPUs."""

from __future__ import annotations

from finetune_exe.diagnosis.rules.rule import Cause, Sign, Tale

CAUSES = (
    Cause(
        label="device_map_conflict",
        title="The model was spread over devices in a way this training cannot use",
        cause='device_map="auto" places layers on GPUs other than the one the process trains on.',
        fix='Load with device_map={"": local rank}, or start one process and drop the launcher.',
        signs=(
            Sign(pattern=r"can't train a model that has been loaded in \d-?bit precision", strength=0.97),
            Sign(pattern=r"Expected all tensors to be on the same device", strength=0.75),
            Sign(
                pattern=r"device_map=.?auto.{0,80}(distributed|not support|can't|cannot)|(distributed"
                r"|DDP).{0,60}device_map",
                strength=0.85,
            ),
            Sign(
                pattern=r"You shouldn't move a model .{0,60}(dispatched|hooks)|cannot copy out of meta tensor",
                strength=0.65,
            ),
        ),
        tales=(Tale(words=(r"device_map", r"error|conflict|ddp|multi"), strength=0.5),),
    ),
    Cause(
        label="ddp_checkpoint_conflict",
        title="DDP and gradient checkpointing disagree about which weights take part",
        cause="Reentrant checkpointing marks a weight twice, or weights take no part in the loss.",
        fix='Set gradient_checkpointing_kwargs={"use_reentrant": False} and'
        " ddp_find_unused_parameters=False; freeze what is not used.",
        signs=(
            Sign(pattern=r"mark a variable ready only once|marked as ready twice", strength=0.97),
            Sign(pattern=r"finished reduction in the prior iteration|find_unused_parameters=True", strength=0.9),
        ),
        patch={"precision.gradient_checkpointing": False},
    ),
    Cause(
        label="dist_config",
        title="The distributed configuration contradicts the training arguments",
        cause="Values of the DeepSpeed or FSDP configuration differ from the trainer's, or a model is"
        " used outside of the engine"
        " that holds its pieces.",
        fix='Write "auto" for values that both have, use one number format throughout, and prepare'
        " every model (also a reference"
        " or teacher) with the engine.",
        signs=(
            Sign(
                pattern=r"DeepSpeed config values that mismatch|Must flatten tensors with uniform dtype", strength=0.97
            ),
            Sign(
                pattern=r"'weight' must be 2-D|partitioned parameter"
                r"|weight.{0,40}torch\.Size\(\[0\]\).{0,40}(forward|embedding)",
                strength=0.88,
            ),
            Sign(
                pattern=r"(ds_config|deepspeed|zero_optimization|zero3|fsdp)\b.{0,120}(not support|incompatible"
                r"|not compatible|cannot be used|must be|conflict|AssertionError)",
                strength=0.7,
            ),
            Sign(
                pattern=r"train_batch_size is not equal to|Check batch related parameters|world size .{0,40}(not"
                r" divisible|does not match)",
                strength=0.93,
            ),
            Sign(
                pattern=r"Could not find the transformer layer class|mixed precision .{0,40}FSDP"
                r"|FullyShardedDataParallel.{0,80}(requires|expects)",
                strength=0.85,
            ),
            Sign(
                pattern=r"AssertionError|RuntimeError|ValueError|AttributeError",
                strength=0.42,
                within=r"deepspeed/runtime|fsdp/_|deepspeed_init|deepspeed/(config|engine)",
            ),
        ),
        tales=(
            Tale(
                words=(r"deepspeed|zero-?[123]|fsdp", r"config|mismatch|conflict"),
                strength=0.5,
                unless=r"memory|\boom|slow",
            ),
        ),
    ),
    Cause(
        label="nccl_timeout",
        title="One process waited for the others until it gave up",
        cause="A rank was late or dead: another failed first, one prepares data alone, ranks have"
        " different numbers of batches,"
        " or the link between GPUs is faulty.",
        fix="Look for the first error of any rank. If there is none: raise ddp_timeout, prepare and"
        " download before the launch,"
        " give all ranks the same number of batches, and try NCCL_P2P_DISABLE=1.",
        signs=(
            Sign(
                pattern=r"Watchdog caught collective operation timeout|collective operation.{0,40}timed? ?out"
                r"|timed out waiting \d+ ?ms",
                strength=0.93,
            ),
            Sign(
                pattern=r"NCCL.{0,80}(timed? ?out|unhandled|error|abort|remote process exited)|DistBackendError"
                r"|ncclSystemError|ncclInternalError"
                r"|ncclUnhandledCudaError",
                strength=0.8,
            ),
            Sign(
                pattern=r"(store|socket|rendezvous|barrier).{0,40}timed? ?out|Connection closed by peer|Broken"
                r" pipe.{0,40}(store|rank)",
                strength=0.6,
            ),
        ),
        tales=(
            Tale(
                words=(r"nccl|\branks?\b|multi-?gpu|all_?reduce", r"hang|hung|stuck|time-?out|timed out|wait"),
                strength=0.8,
            ),
        ),
        consequence=True,
    ),
    Cause(
        label="port_in_use",
        title="Another process uses the port of this launch",
        cause="A run that is still alive, or one that died badly, holds the address (29500 unless told otherwise).",
        fix="End the old process, or launch with --master_port (torchrun:"
        " --rdzv-endpoint=localhost:0) set to a free one.",
        signs=(Sign(pattern=r"address already in use|EADDRINUSE|errno: ?98|failed to bind to", strength=0.95),),
    ),
)
