"""Where the rows come from, and how they are cut, grouped and shared out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from finetune_exe.domain.plan import BaseModelChoice, DataChoice
from finetune_exe.domain.task import DataProfile, TaskSpec, TaskType
from finetune_exe.domain.values import Confidence, Decision, Leaf
from finetune_exe.estimate.rows import template_tokens
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.data_needs import wanted_test_rows

MOST_TEST_ROWS, MOST_VALIDATION_ROWS = 2000, 1000
"""More rows are of little use: 2,000 find a difference of 0.06 standard deviations."""


def choose_data(
    spec: TaskSpec, *, task: TaskType, profile: DataProfile | None, model: BaseModelChoice, wished: Mapping[str, Leaf]
) -> tuple[DataChoice, dict[str, Decision]]:
    """Say where rows come from, how long they may be, which belong together and how they are shared out.

    Args:
        spec: What is asked for.
        task: What kind of task it is.
        profile: What the data show, of the rows that will be used.
        model: The base model.
        wished: Settings the user fixed; a share of the rows is not advised where files or another setting decide.
    """
    decisions: dict[str, Decision] = {}
    if spec.data_paths:
        decisions["data.paths"] = Decision(
            value=spec.data_paths, reason="the data you named", source="you", confidence="high"
        )
    if profile is None:
        return DataChoice(paths=spec.data_paths), decisions
    decisions["data.format"] = Decision(
        value=profile.format,
        reason="; ".join(profile.format_evidence) or "the rows look like it",
        source="the rows themselves",
        confidence="high",
    )
    too_long = str(wished.get("data.on_too_long", "drop"))
    decisions["data.max_length"] = _longest(profile, model.context_length, on_too_long=too_long)
    if profile.group_by is not None:
        decisions["data.group_by"] = Decision(
            value=profile.group_by,
            reason=f"rows of one {profile.group_by} are alike: on both sides of the split they would flatter",
            source="the rows themselves",
            confidence="high",
            alternatives=("null: split row by row",),
        )
    decisions |= {**_shares(task, profile, wished), **_kinship(profile)}
    decided = {path.rpartition(".")[2]: decision.value for path, decision in decisions.items()}
    return DataChoice.model_validate(decided), decisions


def _longest(profile: DataProfile, context_length: int | None, *, on_too_long: str) -> Decision:
    """Take all rows but the longest hundredth whole, as far as the model reaches."""
    tokens = profile.tokens
    if tokens is not None:
        most = tokens.lengths[round(0.99 * (len(tokens.lengths) - 1))]
        reason, source = (
            f"99 of 100 rows have at most {most:,} tokens",
            "counted with the model's tokenizer and template",
        )
    else:
        around = math.ceil(template_tokens(profile).high)
        most = math.ceil(profile.row_characters_p99 / 3) + around
        template = f", and up to {around} tokens of a chat template" if around else ""
        reason = f"99 of 100 rows have at most {profile.row_characters_p99:,} characters, at three a token{template}"
        source = rule("characters_per_token").source
    wanted = 64 * math.ceil(most / 64)
    if profile.format == "completion":
        wanted = min(wanted, DataChoice().max_length)
    longest = max(8, min(max(64, wanted), context_length or wanted))
    reason += f"; {_of_longer(profile, longest, on_too_long=on_too_long)}"
    confidence: Confidence = "medium" if tokens is None else "high"
    return Decision(value=longest, reason=reason, source=source, confidence=confidence)


def _of_longer(profile: DataProfile, longest: int, *, on_too_long: str) -> str:
    """Say what becomes of the rows that are longer still."""
    tokens = profile.tokens
    judged = math.ceil(profile.row_characters_max / 3) + math.ceil(template_tokens(profile).high)
    most = tokens.lengths[-1] if tokens is not None else judged
    if most <= longest and (tokens is not None or profile.row_characters_max):
        return "none is longer"
    if profile.format == "completion":
        return "longer texts are cut into several"
    fates = {"truncate_prompt": "lose the start of their prompts", "refuse": "are refused"}
    return f"longer ones {fates.get(on_too_long, 'are dropped and counted')}"


def _shares(task: TaskType, profile: DataProfile, wished: Mapping[str, Leaf]) -> dict[str, Decision]:
    """Say how many rows are held out: a tenth, or as many as find a small difference where a tenth is far more."""
    usual, known, decisions = DataChoice(), rule("detectable_difference"), {}
    wanted, _ = wanted_test_rows(task)
    if not (wished.get("data.test_paths") or wished.get("data.detectable_difference")):
        rows = profile.num_rows * usual.test_fraction
        share = _share(MOST_TEST_ROWS, rows, usual.test_fraction)
        tested = max(1, round(profile.num_rows * share))
        decisions["data.test_fraction"] = known.decides(
            share,
            (
                f"{tested:,} of {profile.num_rows:,} rows find a difference of {known['factor'] / tested**0.5:.2f} "
                f"standard deviations of the score four times in five"
                + ("" if tested >= wanted else f"; {wanted:,} would find the small one that is wanted")
            ),
            alternatives=("detectable_difference: name the difference, and the share follows", "test_paths: a file"),
        )
    if not wished.get("data.validation_paths"):
        rows = profile.num_rows * usual.validation_fraction
        share = _share(MOST_VALIDATION_ROWS, rows, usual.validation_fraction)
        decisions["data.validation_fraction"] = Decision(
            value=share,
            reason=f"{max(1, round(profile.num_rows * share)):,} rows choose the checkpoint; they are read many times",
            source="convention: a tenth, and of many rows no more than tell checkpoints apart",
            confidence="medium",
            alternatives=("validation_paths: a file",),
        )
    return decisions


def _share(most: int, rows: float, usual: float) -> float:
    """Give the usual share, or a smaller one where it is more than the most rows that are of use."""
    return usual if rows <= most else max(1e-6, float(f"{usual * most / rows:.3g}"))


def _kinship(profile: DataProfile) -> dict[str, Decision]:
    """Say which rows stay together, and what each side gets its share of."""
    repeats = profile.duplicate_share
    found = f"{repeats:.1%} of the rows say what an earlier one says" if repeats else "no row looked at repeats another"
    decisions = {
        "data.keep_similar_together": Decision(
            value=True,
            reason=f"{found}; copies and questions on both sides of the split would flatter the test",
            source="the rows themselves",
            confidence="high",
            would_change="rows of one mould: where more than a fifth hang together, groups alone decide",
        )
    }
    if profile.labels:
        decisions["data.stratify_by"] = Decision(
            value="label",
            reason=f"the answers are {len(profile.labels):,} labels: each side gets its share of each",
            source="the rows themselves",
            confidence="high",
            alternatives=("null: by chance, which can leave a rare label out of the test",),
        )
    else:
        decisions["data.stratify_by"] = Decision(
            value="auto",
            reason=(
                f"half of the rows have {profile.row_characters_p50:,} characters or fewer, one in a hundred "
                f"{profile.row_characters_p99:,} or more: lengths are shared out alike where they vary much"
            ),
            source="the rows themselves",
            confidence="medium",
        )
    return decisions
