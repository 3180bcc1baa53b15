"""What is written for DeepSpeed is accepted by its own classes, which refuse keys they do not know."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from tests.contracts.peers import ask_peer
from tests.unit.export.test_exporters import plan

from finetune_exe.domain.plan import Batch, Full, Optimizer, Parallelism, Precision
from finetune_exe.export.deepspeed import deepspeed_settings

pytestmark = pytest.mark.peer
ASK = """
import logging
logging.disable(logging.CRITICAL)
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
given = json.loads(sys.argv[1])
zero = DeepSpeedZeroConfig(**given["zero_optimization"])
# alone, DeepSpeed holds the sizes against one process
alone = DeepSpeedConfig({**given, "train_batch_size": given["train_batch_size"] // int(sys.argv[2])})
result = {"stage": int(zero.stage), "gathers": zero.gather_16bit_weights_on_model_save, "rows": alone.train_micro_batch_size_per_gpu,
          "accumulation": alone.gradient_accumulation_steps, "clipping": alone.gradient_clipping,
          "bf16": alone.bfloat16_config.enabled, "fp16": alone.float16_config.enabled}
"""


@pytest.mark.parametrize(("kind", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_deepspeed_accepts_the_settings(kind: Literal["deepspeed_zero2", "deepspeed_zero3"], stage: int) -> None:
    content = plan(
        method=Full(), parallelism=Parallelism(kind=kind, num_gpus=4), precision=Precision(base_dtype="bfloat16"),
        batch=Batch(micro_batch_size=2, gradient_accumulation_steps=3), optimizer=Optimizer(max_grad_norm=0.5),
    )  # fmt: skip
    found: dict[str, Any] = ask_peer("deepspeed", ASK, json.dumps(deepspeed_settings(content)), "4")
    assert found == {
        "stage": stage, "gathers": stage == 3, "rows": 2, "accumulation": 3, "clipping": 0.5, "bf16": True, "fp16": False
    }  # fmt: skip
