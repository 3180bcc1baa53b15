"""The table of known failures: one TOML file each under `causes`, in the order in which equals are ranked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from finetune_exe.domain.values import Scalar

LABELS = (
    # behaviour
    "overfitting", "underfitting", "catastrophic_forgetting", "repetition", "eos_not_learned",
    "no_learning_wrong_template",
    # memory, disk and time
    "oom", "disk_full", "slow_training",
    # numbers
    "nan_loss", "nan_eval", "lr_divergence", "dtype_mismatch", "bf16_unsupported", "nan_inference", "grad_accum_loss",
    # data
    "dataset_format", "collate_error", "pad_token_missing", "chat_template_missing", "vocab_mismatch", "truncation",
    "loss_zero_masked", "double_bos", "packing_contamination",
    # adapters and checkpoints
    "requires_grad_missing", "target_modules_not_found", "adapter_load_mismatch", "adapter_not_applied",
    "no_adapter_on_quantized", "resume_error", "merge_degradation",
    # environment
    "api_mismatch", "env_missing_module", "bnb_cuda_setup", "flash_attn_missing", "cuda_arch", "compile_triton",
    "extension_build", "hub_access", "lr_type_string", "no_loss_returned",
    # several processes
    "device_map_conflict", "ddp_checkpoint_conflict", "dist_config", "nccl_timeout", "port_in_use",
    # curves
    "healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau",
    "divergence", "eval_unstable", "rl_loss_not_informative",
    # what is said when the reason is not there
    "wrapper_only", "unknown_error", "interrupted", "not_recognised",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A wording by which a failure shows in what a program prints."""

    pattern: str
    """Regular expression searched in one line, whatever its case."""
    strength: float
    """Share of logs with this wording in which this is the cause, as far as we know; 0 to 1."""
    unless: str | None = None
    """Excluding evidence: words in the same line with which it means something else."""
    within: str | None = None
    """Words that must stand in the traceback above; such a sign counts in exceptions only."""
    beside: str | None = None
    """Words that must stand in some other line of the log."""
    place: str | None = None
    """Which of the cause's places it speaks of."""
    loose: bool = False
    """Whether the wording is so general that it counts only where an error is reported."""

    def shows_in(self, text: str, *, frames: tuple[str, ...] | None) -> bool:
        """Say whether the wording stands in `text`; `frames` is the traceback above an exception, None elsewhere."""
        if self.within is not None and (frames is None or not _found(self.within, "\n".join(frames))):
            return False
        return _found(self.pattern, text) and not (self.unless and _found(self.unless, text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tale:
    """Words by which people describe a failure; all of them must occur, in any order."""

    words: tuple[str, ...]
    """Regular expressions. `<60>` stands for at most 60 characters of the same sentence, `{name}` for an entry of the
    vocabulary."""
    strength: float
    unless: str | None = None
    place: str | None = None

    def told_in(self, text: str) -> re.Match[str] | None:
        """Give where the first of the words stands, or None where one is missing or excluded."""
        first = compiled(self.words[0]).search(text)
        if first is None or not all(_found(word, text) for word in self.words[1:]):
            return None
        return None if self.unless and _found(self.unless, text) else first


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One of the ways in which a failure comes about, with its own advice."""

    title: str
    fix: str | None = None
    """None takes the cause's."""
    patch: Mapping[str, Scalar] | None = None
    fix_in: Mapping[str, str] = field(default_factory=dict)
    set_in: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One entry of the table of known failures."""

    label: str
    title: str
    cause: str
    fix: str
    proof: str = ""
    """A check that would show whether it is this, and whether the fix held."""
    questions: tuple[str, ...] = ()
    """What would tell it from its neighbours."""
    signs: tuple[Sign, ...] = ()
    tales: tuple[Tale, ...] = ()
    sayings: tuple[str, ...] = ()
    """What people say who have it; a description that sounds like them is guessed to be it, where no tale is told."""
    consequence: bool = False
    """Whether it usually follows from another failure, and gives way where another is seen."""
    patch: Mapping[str, Scalar] = field(default_factory=dict)
    """Settings of our plan that mend it."""
    scale: Mapping[str, float] = field(default_factory=dict)
    """Settings of our plan to be multiplied, where their present value is known."""
    fix_in: Mapping[str, str] = field(default_factory=dict)
    """What to write in a tool's own configuration, beyond what the patch says in its words."""
    set_in: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    """Keys of a tool's own, with no counterpart in our plan, that mend it; None only where the key is given."""
    places: Mapping[str, Place] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    """Threads in which people had it."""


@cache
def causes() -> tuple[Cause, ...]:
    """Read the table."""
    return tuple(_read(label) for label in LABELS)


@cache
def by_label() -> Mapping[str, Cause]:
    """Give the entries by their names."""
    return {cause.label: cause for cause in causes()}


@cache
def compiled(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the table, its vocabulary and its distances written out."""
    known = _vocabulary()
    for _ in range(3):
        pattern = re.sub(r"\{([a-z_]+)\}", lambda name: f"(?:{known[name[1]]})", pattern)
    spaced = re.sub(r"<(\d+)>", lambda most: rf"(?:[^.?!\u3002\uff1f\uff01]|[.?!](?=\S)){{0,{most[1]}}}", pattern)
    return re.compile(spaced, re.IGNORECASE | re.DOTALL | re.ASCII)  # ASCII: a Chinese sign ends an English word


@cache
def _vocabulary() -> Mapping[str, str]:
    words = tomllib.loads(files(__package__).joinpath("vocabulary.toml").read_text(encoding="utf-8"))
    return {name: "|".join(alternatives) for name, alternatives in words.items()}


def _read(label: str) -> Cause:
    text = files(__package__).joinpath("causes", f"{label}.toml").read_text(encoding="utf-8")
    entry: dict[str, Any] = tomllib.loads(text)
    return Cause(
        label=label,
        questions=tuple(entry.pop("questions", ())),
        sayings=tuple(entry.pop("sayings", ())),
        sources=tuple(entry.pop("sources", ())),
        signs=tuple(Sign(**sign) for sign in entry.pop("signs", ())),
        tales=tuple(Tale(**tale | {"words": tuple(tale["words"])}) for tale in entry.pop("tales", ())),
        places={name: Place(**place) for name, place in entry.pop("places", {}).items()},
        patch=_with_none(entry.pop("patch", {})),
        set_in={tool: _with_none(keys) for tool, keys in entry.pop("set_in", {}).items()},
        **entry,
    )


def _with_none(keys: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Read "none" as None, which TOML cannot write."""
    return {key: None if value == "none" else value for key, value in keys.items()}


def _found(pattern: str, text: str) -> bool:
    return compiled(pattern).search(text) is not None
