"""Everything that is measured of one model, each part from the cache where it was measured before."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from finetune_exe.domain.plan import Plan
from finetune_exe.evaluation.cache import ResultCache, digest_of
from finetune_exe.evaluation.choosing import Choices, Logs, choose
from finetune_exe.evaluation.forgetting import Moved, Predictions, hold_against, predict
from finetune_exe.evaluation.likelihood import RowLikelihoods, measure_likelihoods
from finetune_exe.evaluation.memorisation import SHORTEST, extraction_flags, secret_ranks
from finetune_exe.evaluation.personal import personal_spans, written_out
from finetune_exe.evaluation.refusal_probe import Leanings, measure_leanings
from finetune_exe.evaluation.suites import Suite, score_suite
from finetune_exe.models.generate import Answer, generate
from finetune_exe.models.merge import merged
from finetune_exe.prepared.store import SplitData
from finetune_exe.text.canaries import PlantedCanary, canaries
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import ChatTokenizer

CHUNK = 64
"""Answers kept at once: what a killed evaluation loses at most."""
PROMPT_TOKENS = 2_048
"""Tokens of the task's prompts on which the divergence is measured."""
EXTRACTION_ROWS = 64
"""Training rows, and rows held out, whose endings are looked for."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What both models are asked, and how."""

    plan: Plan
    dataset: str
    """Digest of the prepared dataset."""
    test: SplitData
    train: SplitData
    prompts: list[tuple[int, ...]]
    """Token ids of the rows to answer."""
    tokenizer: ChatTokenizer
    suites: tuple[Suite, ...] = ()
    labels: Choices = field(default_factory=Choices)
    """Labels behind the questions of a classification."""
    pairs: Choices = field(default_factory=Choices)
    """Better and worse answers."""
    device: str = "cpu"

    @property
    def context(self) -> int:
        """Tokens of the longest sequence."""
        return self.plan.data.max_length

    @property
    def bf16(self) -> bool:
        """Whether matrix products are in bfloat16, as in training."""
        return self.plan.precision.base_dtype == "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one model did."""

    likelihoods: RowLikelihoods
    answers: list[Answer]
    seconds_per_answer: float | None
    suites: dict[str, list[float]]
    extracted_train: list[bool]
    extracted_held_out: list[bool]
    leanings: Leanings | None
    predictions: tuple[Predictions, Predictions] | None = None
    """Of the base: on prompts, and on generic text."""
    moved: tuple[Moved, Moved] | None = None
    """Of the tuned model, against the base."""
    label_logs: Logs = field(default_factory=list)
    """Log-likelihood of every label behind every question."""
    pair_logs: Logs = field(default_factory=list)
    """Of the better and the worse answer of every pair."""
    canaries: tuple[PlantedCanary, ...] = ()
    """Secrets that stand in training rows, with the copies that were not dropped."""
    canary_ranks: list[int] = field(default_factory=list)
    """Of each of them, among others of its form."""
    wrote_personal: list[bool] = field(default_factory=list)
    """Of each piece of personal data in the training rows: whether the model writes it out."""
    merge: Moved | None = None
    """Of the merged model against the adapter beside its base; None where nothing was merged."""


@dataclass(slots=True, kw_only=True)
class LazyModel:
    """A model that is loaded when something must be measured, and never where all is known."""

    make: Callable[[], Any]
    loaded: Any = field(default=None)
    joined: Any = field(default=None)

    def get(self) -> Any:
        """Give the model as it was trained."""
        if self.loaded is None:
            self.loaded = self.make()
        return self.loaded

    def fast(self) -> Any:
        """Give it with its adapters folded in, where it has any; from then on `get` gives this one too."""
        if self.joined is None:
            self.joined = self.loaded = merged(self.get())
        return self.joined


def measure(
    model: LazyModel, name: str, asked: Asked, cache: ResultCache, *, base: Measured | None, progress: Progress
) -> Measured:
    """Measure one model.

    Args:
        model: The model.
        name: For the progress.
        asked: What it is asked.
        cache: What is known of it.
        base: What the base did, for the tuned model; None for the base itself.
        progress: Told how far it is.
    """
    plan, tokenizer = asked.plan, asked.tokenizer
    how = (asked.dataset, plan.precision.model_dump(), plan.method.kind, asked.context, tokenizer.tokenizer_digest,
           tokenizer.template_digest)  # fmt: skip
    held = cache.arrays("likelihoods", digest_of(*how), lambda: _as_arrays(measure_likelihoods(
        model.get(), asked.test, tokenizer, plan.precision, device=asked.device,
        progress=lambda done: progress(f"{name}: likelihood", done, len(asked.test)),
    )))  # fmt: skip
    prompts, generic = _prompt_sequences(asked), _generic_sequences(asked)
    predictions, moved, merge = None, None, None
    if base is None:
        kept = cache.arrays(
            "predictions", digest_of(*how, prompts, generic),
            lambda: _pack(predict(model.get(), prompts), predict(model.get(), generic)),
        )  # fmt: skip
        predictions = _unpack(kept, Predictions)
    elif base.predictions is not None:
        of_base = base.predictions
        kept = cache.arrays(
            "moved", digest_of(*how, prompts, generic),
            lambda: _pack(
                hold_against(model.get(), prompts, of_base[0]), hold_against(model.get(), generic, of_base[1])
            ),
        )  # fmt: skip
        moved = _unpack(kept, Moved)
        merge = _merge_parity(model, generic, cache, how)
    answers, seconds = _answers(model, name, asked, cache, how, progress)
    flags = cache.values("extraction", digest_of(*how), lambda: [
        _extraction(model.fast(), asked, split) for split in (asked.train, asked.test)
    ])  # fmt: skip
    label_logs, pair_logs = (_choices(model, part, asked, cache, how) for part in (asked.labels, asked.pairs))
    planted = _planted(asked)
    ranks, personal = _secrets(model, asked, planted, cache, how)
    leanings = cache.values("leanings", digest_of(*how), lambda: measure_leanings(
        model.fast(), tokenizer, max_length=asked.context
    ))  # fmt: skip
    return Measured(
        likelihoods=RowLikelihoods(**held),
        answers=answers,
        seconds_per_answer=seconds,
        suites={suite.name: _suite(model, name, suite, asked, cache, how, progress) for suite in asked.suites},
        extracted_train=flags[0],
        extracted_held_out=flags[1],
        leanings=None if leanings is None else Leanings(*(tuple(part) for part in leanings)),
        predictions=predictions,
        moved=moved,
        label_logs=label_logs,
        pair_logs=pair_logs,
        canaries=planted,
        canary_ranks=ranks,
        wrote_personal=personal,
        merge=merge,
    )


def _answers(
    model: LazyModel, name: str, asked: Asked, cache: ResultCache, how: tuple[object, ...], progress: Progress
) -> tuple[list[Answer], float | None]:
    """Answer the prompts in chunks of like length, so that what is answered stays answered, and how long it took."""
    plan = asked.plan
    order = sorted(range(len(asked.prompts)), key=lambda index: -len(asked.prompts[index]))
    found: dict[int, Answer] = {}
    seconds = 0.0
    for start in range(0, len(order), CHUNK):
        chunk = order[start : start + CHUNK]

        def answer(chunk: list[int] = chunk, start: int = start) -> tuple[float, list[Answer]]:
            ready, began = model.fast(), time.monotonic()
            answers = generate(
                ready, [asked.prompts[index] for index in chunk], asked.tokenizer,
                max_new_tokens=plan.evaluation.max_new_tokens, dtype=plan.precision.base_dtype,
                progress=lambda done: progress(f"{name}: answers", start + done, len(order)),
            )  # fmt: skip
            return time.monotonic() - began, answers

        prompts = [asked.prompts[index] for index in chunk]
        spent, parts = cache.values("answers", digest_of(*how, plan.evaluation.max_new_tokens, prompts), answer)
        seconds += spent
        found |= {index: Answer(*part) for index, part in zip(chunk, parts, strict=True)}
    return [found[index] for index in range(len(order))], seconds / len(order) if order else None


def _suite(
    model: LazyModel,
    name: str,
    suite: Suite,
    asked: Asked,
    cache: ResultCache,
    how: tuple[object, ...],
    progress: Progress,
) -> list[float]:
    scores: list[float] = cache.values(
        f"suite-{digest_of(suite.name)[:8]}", digest_of(how[1:], suite.digest),
        lambda: score_suite(
            model.fast(), suite, asked.tokenizer, max_length=max(asked.context, 1024), bf16=asked.bf16,
            progress=lambda done: progress(f"{name}: {suite.name}", done, len(suite.items)),
        ),
    )  # fmt: skip
    return scores


def _merge_parity(
    model: LazyModel, generic: Sequence[tuple[int, ...]], cache: ResultCache, how: tuple[object, ...]
) -> Moved | None:
    """Hold the merged model against the adapter beside its base."""

    def compare() -> dict[str, np.ndarray]:
        beside = model.get()
        before = predict(beside, generic)
        if model.fast() is beside:
            return {}
        return dict(zip(Moved._fields, hold_against(model.fast(), generic, before), strict=True))

    held = cache.arrays("merge", digest_of(*how, generic), compare)
    return Moved(*(held[name] for name in Moved._fields)) if held else None


def _extraction(model: Any, asked: Asked, split: SplitData) -> list[bool]:
    long_enough = [index for index in range(len(split)) if int(split.sequence(index).learned.sum()) >= SHORTEST]
    step = max(1, len(long_enough) // EXTRACTION_ROWS)
    chosen = [split.sequence(index) for index in long_enough[::step][:EXTRACTION_ROWS]]
    if not chosen:
        return []
    return extraction_flags(
        model, [tuple(view.tokens.tolist()) for view in chosen], [int(view.learned.sum()) for view in chosen],
        pad_token_id=asked.tokenizer.pad_token_id,
    )  # fmt: skip


def _choices(model: LazyModel, choices: Choices, asked: Asked, cache: ResultCache, how: tuple[object, ...]) -> Logs:
    if not choices.groups:
        return []
    logs: Logs = cache.values("choices", digest_of(*how, choices.groups), lambda: choose(
        model.fast(), choices, pad_token_id=asked.tokenizer.pad_token_id
    ))  # fmt: skip
    return logs


def _planted(asked: Asked) -> tuple[PlantedCanary, ...]:
    """Find the secrets that stand in training rows; a row that was too long, say, was not learned."""
    wished = canaries(asked.plan.data.canaries, seed=asked.plan.seed)
    if not wished:
        return ()
    groups = Counter(row.group for row in asked.train.stream_rows())
    return tuple(replace(canary, copies=groups[canary.name]) for canary in wished if groups[canary.name])


def _secrets(
    model: LazyModel, asked: Asked, planted: tuple[PlantedCanary, ...], cache: ResultCache, how: tuple[object, ...]
) -> tuple[list[int], list[bool]]:
    """Rank planted secrets, and ask for personal data of training rows."""
    tokenizer = asked.tokenizer
    ranks: list[int] = []
    if planted:
        first = next(asked.train.stream_rows())
        kind: Literal["chat", "text"] = "text" if first.conversation.get("kind") == "text" else "chat"
        ranks = cache.values("canaries", digest_of(*how, planted, kind), lambda: secret_ranks(
            model.fast(), planted, tokenizer, kind=kind, seed=asked.plan.seed
        ))  # fmt: skip
    spans = personal_spans(asked.train.stream_rows(), tokenizer, max_length=asked.context)
    if not spans:
        return ranks, []
    written: list[bool] = cache.values("personal", digest_of(*how, spans), lambda: written_out(
        model.fast(), spans, pad_token_id=tokenizer.pad_token_id
    ))  # fmt: skip
    return ranks, written


def _prompt_sequences(asked: Asked) -> list[tuple[int, ...]]:
    """Take the task's prompts, or where rows have none their texts, up to so many tokens."""
    texts = asked.prompts or [tuple(asked.test.sequence(i).tokens.tolist()) for i in range(min(32, len(asked.test)))]
    chosen: list[tuple[int, ...]] = []
    total = 0
    for tokens in texts:
        if chosen and total + len(tokens) > PROMPT_TOKENS:
            break
        chosen.append(tuple(tokens[: asked.context]))
        total += len(tokens)
    return chosen


def _generic_sequences(asked: Asked) -> list[tuple[int, ...]]:
    return [tuple(asked.tokenizer.encode(text).ids[: asked.context]) for text in GENERIC_TEXTS]


def _as_arrays(likelihoods: RowLikelihoods) -> dict[str, np.ndarray]:
    return {
        name: getattr(likelihoods, name) for name in ("learned_nll_R", "learned_tokens_R", "text_nll_R", "text_bytes_R")
    }


def _pack(one: Any, other: Any) -> dict[str, np.ndarray]:
    return {f"{side}_{name}": value for side, part in (("a", one), ("b", other))
            for name, value in zip(part._fields, part, strict=True)}  # fmt: skip


def _unpack(held: Any, kind: Any) -> Any:
    return tuple(kind(*(held[f"{side}_{name}"] for name in kind._fields)) for side in ("a", "b"))
