"""Look at a run while it runs, with the rules of `fine-tune debug`, and say early what goes wrong."""

from __future__ import annotations

import io
from pathlib import Path

from finetune_exe.domain.diagnosis import Finding
from finetune_exe.domain.events import AnyEvent, BatchShrunk, Diagnosed, Emit, Evaluated
from finetune_exe.errors import FineTuneError

TROUBLES = frozenset({
    "overfitting", "mild_overfitting", "memorisation_suspected", "underfitting", "plateau", "divergence",
    "lr_divergence", "eval_unstable", "nan_loss", "nan_eval", "loss_zero_masked", "catastrophic_forgetting",
    "repetition", "oom",
})  # fmt: skip
"""What a run under way can be told; that it is not finished, or not yet good, it knows."""
LEAST = 0.5
"""Confidence below which nothing is said."""
FEWEST_EVALUATIONS = 3
"""Evaluations without which a curve says nothing."""


class Watcher:
    """Passes events on, and after each evaluation adds what `fine-tune debug` would say of the run so far.

    Args:
        run: The run's folder, into which `emit` writes the events.
        emit: Receives every event, those that the watcher adds too.
    """

    def __init__(self, run: Path, emit: Emit) -> None:
        self._run = run
        self._emit = emit
        self._said: set[str] = set()
        self._evaluations = 0

    def __call__(self, event: AnyEvent) -> None:
        """Pass an event on; one kind of trouble is told once."""
        self._emit(event)
        if isinstance(event, BatchShrunk):
            self._say(_memory(event), event, patch={
                "batch.micro_batch_size": event.micro_batch_size,
                "batch.gradient_accumulation_steps": event.gradient_accumulation_steps,
            })  # fmt: skip
        elif isinstance(event, Evaluated) and event.step:
            self._evaluations += 1
            if self._evaluations >= FEWEST_EVALUATIONS:
                for finding in _findings(self._run):
                    self._say(finding, event, patch=finding.patch)

    def _say(self, finding: Finding | None, event: Evaluated | BatchShrunk, *, patch: object) -> None:
        if finding is None or finding.label in self._said or not isinstance(patch, dict):
            return
        self._said.add(finding.label)
        self._emit(Diagnosed(
            seconds=event.seconds, step=event.step, label=finding.label, title=finding.title, fix=finding.fix,
            evidence=tuple(evidence.text for evidence in finding.evidence), patch=dict(patch),
        ))  # fmt: skip


def _findings(run: Path) -> list[Finding]:
    """Diagnose a run folder as it is now, and give its likeliest trouble, if trouble of any kind is likely enough.

    A run that cannot be read is no reason to stop it.
    """
    from finetune_exe.diagnosis.diagnose import diagnose

    try:
        found = diagnose([run]).findings
    except (FineTuneError, OSError):
        return []
    troubles = [finding for finding in found if finding.label in TROUBLES]
    return troubles[:1] if sum(finding.confidence for finding in troubles) >= LEAST else []


def _memory(event: BatchShrunk) -> Finding | None:
    """Say what is known of memory that ran out."""
    from finetune_exe.diagnosis.diagnose import diagnose

    said = event.reason if "memory" in event.reason.lower() else f"out of memory {event.reason}"
    found = diagnose([Path("-")], stdin=io.BytesIO(f"RuntimeError: {said}\n".encode())).findings
    return next((finding for finding in found if finding.label == "oom"), None)
