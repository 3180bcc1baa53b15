"""What other programs call our optimizers and schedules."""

from __future__ import annotations

from collections.abc import Mapping

TRAINER_OPTIMIZERS: Mapping[str, str] = {
    "adamw": "adamw_torch",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "lion": "lion_32bit",
    "adafactor": "adafactor",
}
"""What transformers' Trainer calls the same optimizer."""
TRAINER_SCHEDULES: Mapping[str, str] = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
"""What it calls a schedule, where that is another name."""
OPTIMIZER_CLASSES: Mapping[str, str] = {
    "adamw": "torch.optim.AdamW",
    "adamw_8bit": "bitsandbytes.optim.AdamW8bit",
    "paged_adamw_8bit": "bitsandbytes.optim.PagedAdamW8bit",
    "lion": "bitsandbytes.optim.Lion",
}
"""Optimizers by the class that trainers load; transformers' Adafactor is not among torch's."""
