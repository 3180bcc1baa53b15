"""What a checkpoint says of itself: enough to trust it, and to go on from it exactly where it was written."""

from __future__ import annotations

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.run import EvaluationPoint
from finetune_exe.domain.values import Leaf

MANIFEST = "manifest.json"
"""What the manifest of a checkpoint is called."""


class CheckpointFile(Value):
    """One file of a checkpoint."""

    name: str
    """Path below the checkpoint's folder, with forward slashes."""
    num_bytes: int
    sha256: str


class DataCursor(Value):
    """Where in the order of the rows the run stands; the order itself follows from seed and epoch."""

    epoch: int
    """Epochs begun before the one the next step belongs to."""
    step_of_epoch: int
    """Steps of that epoch already made."""
    micro_batch_size: int
    """Rows of one pass; smaller than the plan's once memory has run out."""


class Progress(Value):
    """Sums over the steps so far, as the summary of the run will need them."""

    steps: int = 0
    planned_steps: int = 0
    epochs: float = 0.0
    initial_loss: float | None = None
    """Validation loss before the first step; None before it was measured."""
    learned_tokens: int = 0
    processed_tokens: int = 0
    padded_tokens: int = 0
    shared_tokens: int = 0
    step_seconds: float = 0.0
    """Wall time of the steps."""
    total_seconds: float = 0.0
    """Wall time of the run, loading, evaluations and checkpoints too, without what was lost."""
    lost_seconds: float = 0.0
    """Wall time spent on what had to be done again after an interruption."""
    last_loss: float | None = None
    recent_losses: tuple[float, ...] = ()
    """Losses of the last steps, by which a spike is told."""
    points: tuple[EvaluationPoint, ...] = ()
    best_step: int = 0
    best_loss: float | None = None
    """Lowest validation loss; None before the first evaluation."""
    skipped_steps: int = 0
    """Steps not made because their numbers were not finite, or no token was to be learned."""
    skipped_in_a_row: int = 0
    """Such steps since the last one that was made, but for those without a token to learn."""
    returns: int = 0
    """How often a spike of the loss sent the weights back to a checkpoint."""
    empty_passes: int = 0
    """Micro-batches without a token to learn."""
    resumed: int = 0
    """How often the run was taken up again."""
    peak_memory_bytes: int = 0
    remarks: tuple[str, ...] = ()
    """What a reader of the summary should know: changes on resuming, memory that ran out."""


class CheckpointManifest(Document):
    """Written last into a checkpoint: its presence, and files that are as it says, make a checkpoint whole."""

    step: int
    """Optimizer steps made."""
    evaluated: bool
    """Whether the evaluation due at this step is done; otherwise it comes first on resuming."""
    cursor: DataCursor
    parent: str | None
    """Digest of the manifest this run saved before; None for the first."""
    settings: dict[str, Leaf]
    """The plan's settings by dotted path."""
    versions: dict[str, str]
    """Packages the checkpoint was made with."""
    num_threads: int
    """Threads that computed; another number adds up in another order."""
    num_processes: int = 1
    """Processes that trained together."""
    progress: Progress
    files: tuple[CheckpointFile, ...]
    """Every other file of the folder."""
