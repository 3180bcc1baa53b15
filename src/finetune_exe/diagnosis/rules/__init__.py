"""The table of known failures: one entry each, in the order in which equals are ranked."""

from __future__ import annotations

from finetune_exe.diagnosis.rules import (
    adapters,
    behaviour,
    curves,
    data,
    distributed,
    environment,
    memory,
    numerics,
    unclear,
)
from finetune_exe.diagnosis.rules.rule import Cause

DIAGNOSES: tuple[Cause, ...] = (
    *behaviour.CAUSES,
    *memory.CAUSES,
    *numerics.CAUSES,
    *data.CAUSES,
    *adapters.CAUSES,
    *environment.CAUSES,
    *distributed.CAUSES,
    *curves.CAUSES,
    *unclear.CAUSES,
)
BY_LABEL = {cause.label: cause for cause in DIAGNOSES}
