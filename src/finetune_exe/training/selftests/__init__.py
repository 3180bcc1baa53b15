"""Self-tests: what must hold of the numbers of this very installation, measured on a tiny random model."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from finetune_exe.domain.checkup import SelfTest
from finetune_exe.errors import FineTuneError
from finetune_exe.training.selftests import learning, masks, precision, storing
from finetune_exe.training.selftests.bench import Bench, set_up_bench, set_up_on
from finetune_exe.training.selftests.measure import Measured, NotMeasuredError

__all__ = ["SELF_TESTS", "Measurement", "make_self_test", "run_model_tests", "run_self_tests"]


class Measurement(NamedTuple):
    """One row of the table."""

    name: str
    claim: str
    tolerance: float
    """Largest figure that passes."""
    measure: Callable[[Bench], Measured]


SELF_TESTS = (
    Measurement("accumulation", "8 passes of 1 row learn as 1 pass of 8", 1e-5, learning.accumulation),
    Measurement("padding", "a padded batch reads as its rows alone", 1e-5, learning.padding),
    Measurement("packing", "rows end to end read as each alone, under every attention", 1e-4, learning.packing),
    Measurement("attention", "fused attention reads as plain attention", 1e-5, learning.attention),
    Measurement("recomputing", "recomputed activations learn as stored ones", 1e-5, learning.recomputing),
    Measurement("optimizer", "AdamW moves weights by its formula", 1e-3, learning.optimizer),
    Measurement("same seed", "one seed gives one run", 1e-6, precision.same_seed),
    Measurement("saved = loaded", "what was saved comes back", 1e-6, storing.saved_is_loaded),
    Measurement("resumed", "a run that was stopped goes on as if it had not been", 0.0, storing.resumed),
    Measurement("merged = adapter", "folded adapters compute as adapters beside", 1e-5, storing.merged_is_adapter),
    Measurement("4-bit gradients", "4-bit weights learn as the weights they stand for", 0.05, learning.four_bit),
    Measurement("float32 products", "float32 is float32", 1e-5, precision.float32_products),
    Measurement("bfloat16 losses", "bfloat16 reads as float32, but for rounding", 0.02, precision.bfloat16_losses),
    Measurement("small updates", "a step at 1e-5 moves the weights", 0.01, precision.small_updates),
    Measurement("masks", "answers, and nothing else, are learned", 0.0, masks.masks),
    Measurement("prompts", "what is trained is what is served", 0.0, masks.prompts),
)


ON_A_MODEL = ("packing", "prompts")
"""Self-tests that mean something of a model at hand too; the second where it has a chat template."""
IN_BFLOAT16 = 0.05
"""Tolerance of losses where a model is too large for float32 here: rounding in another order."""


def run_model_tests(
    base: Path, *, name: str, memory_bytes: int, told: Callable[[str, int, int], object] = lambda *_: None
) -> tuple[SelfTest, ...]:
    """Make the self-tests that concern a base model with this model instead of a random one.

    Args:
        base: Its folder.
        name: What the results call it.
        memory_bytes: What the device has.
        told: Receives the name of each test, how many are done, and how many there are.

    Raises:
        FineTuneError: X01 for a missing package; M02, M03 where the model cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-doctor-") as folder:
        bench = set_up_on(base, Path(folder), memory_bytes=memory_bytes)
        names = ON_A_MODEL if bench.tokenizer.given_template is None else ON_A_MODEL[:1]
        rows = [row for row in SELF_TESTS if row.name in names]
        results = []
        for done, row in enumerate(rows):
            told(f"self-test with the model: {row.name}", done, len(rows))
            loose = row.name == "packing" and bench.dtype == "bfloat16"
            named = row._replace(name=f"{row.name}: {name}", tolerance=IN_BFLOAT16 if loose else row.tolerance)
            results.append(make_self_test(named, bench))
        told("self-tests with the model", len(rows), len(rows))
    return tuple(results)


def run_self_tests(
    *, table: Sequence[Measurement] = SELF_TESTS, told: Callable[[str, int, int], object] = lambda *_: None
) -> tuple[SelfTest, ...]:
    """Make every self-test of a table.

    Args:
        table: What to measure.
        told: Receives the name of each test, how many are done, and how many there are.

    Raises:
        FineTuneError: X01 where a package that training needs is missing.
    """
    with tempfile.TemporaryDirectory(prefix="finetune-doctor-") as folder:
        bench = set_up_bench(Path(folder))
        results = []
        for done, row in enumerate(table):
            told(f"self-test: {row.name}", done, len(table))
            results.append(make_self_test(row, bench))
        told("self-tests", len(table), len(table))
    return tuple(results)


def make_self_test(row: Measurement, bench: Bench) -> SelfTest:
    """Measure one row of the table and judge it; whatever goes wrong on the way is a failure of the stack."""
    import torch

    torch.backends.cuda.matmul.fp32_precision = "ieee"  # whatever this process did before
    started = time.monotonic()
    figure: float | None = None
    try:
        figure, detail = row.measure(bench)
        passed = math.isfinite(figure) and figure <= row.tolerance
        verdict = "passed" if passed else "FAILED"
        if not math.isfinite(figure):
            figure, detail = None, f"{detail}: {figure}"
    except NotMeasuredError as reason:
        verdict, detail = "not measured", str(reason)
    except FineTuneError as fault:
        verdict, detail = "FAILED", f"{fault.what}: {fault.why}"
    except Exception as fault:  # noqa: BLE001 - whatever a broken stack raises is the finding
        verdict, detail = "FAILED", f"{type(fault).__name__}: {fault}"
    return SelfTest.model_validate(
        {
            "name": row.name, "claim": row.claim, "figure": figure, "tolerance": row.tolerance, "verdict": verdict,
            "detail": " ".join(detail.split())[:300], "seconds": round(time.monotonic() - started, 3),
        }
    )  # fmt: skip
