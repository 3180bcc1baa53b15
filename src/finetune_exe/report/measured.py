"""What an evaluation measured beside the paired metrics, as blocks of a report."""

from __future__ import annotations

from finetune_exe.domain.evaluation import (
    CollapseCard,
    Evaluation,
    ForgettingCard,
    Memorisation,
    Perplexity,
    SuiteResult,
    TaskFigure,
)
from finetune_exe.report.boxes import clean, shorten
from finetune_exe.report.comparison import SHORT_VERDICTS, difference_cell
from finetune_exe.report.numbers import format_measure, format_p
from finetune_exe.report.page import Blank, Block, Bullet, Field, Heading, Table, Words
from finetune_exe.units import format_count, format_percent


def measured_blocks(evaluation: Evaluation) -> list[Block]:
    """Write everything that was measured; what was not leaves no trace."""
    return [
        *_perplexities(evaluation.perplexities),
        *_figures(evaluation.task_figures, evaluation.task_notes),
        *_suites(evaluation.suites),
        *_forgetting(evaluation.forgetting),
        *_collapse(evaluation.collapse),
        *_memorisation(evaluation.memorisation),
    ]


def _perplexities(sides: tuple[Perplexity, ...]) -> list[Block]:
    if len(sides) != 2:
        return []
    before, after = sides
    names = (
        ("Token perplexity", "token_perplexity"),
        ("Word perplexity", "word_perplexity"),
        ("Bits per byte", "bits_per_byte"),
    )
    rows = tuple(
        (name, format_measure(getattr(before, field)), format_measure(getattr(after, field))) for name, field in names
    )
    policy = before.policy
    first = "with a first token put before" if policy.begins_with_bos else "the first token not predicted"
    return [
        Heading("WHOLE TEXTS"),
        Table(header=("Figure", "Base", "Tuned"), rows=rows),
        Words(
            f"{format_count(before.num_documents)} documents, {format_count(before.num_tokens)} tokens; windows of "
            f"{format_count(policy.context)} tokens, stride {format_count(policy.stride)}, {first}."
        ),
    ]


def _figures(figures: tuple[TaskFigure, ...], notes: tuple[str, ...]) -> list[Block]:
    if not figures:
        return []
    rows = tuple((f.name, format_measure(f.baseline), format_measure(f.candidate)) for f in figures)
    return [Heading("FIGURES OF THE TASK"), Table(header=("Figure", "Base", "Tuned"), rows=rows), *map(Bullet, notes)]


def _suites(suites: tuple[SuiteResult, ...]) -> list[Block]:
    if not suites:
        return []
    rows = tuple(
        (
            shorten(clean(suite.name), 28), format_count(suite.comparison.n), format_measure(suite.comparison.baseline),
            format_measure(suite.comparison.candidate), difference_cell(suite.comparison), format_p(suite.p_adjusted),
            format_measure(suite.comparison.minimum_detectable_difference), SHORT_VERDICTS[suite.verdict],
        )
        for suite in suites
    )  # fmt: skip
    return [
        Heading("REGRESSION SUITES"),
        Table(header=("Suite", "Items", "Base", "Tuned", "Difference", "p", "MDE", "Verdict"), rows=rows),
        Words(f"p values are raised by Holm's method for {len(suites)} suites; intervals are of each alone."),
        Words(f"A loss of {format_measure(suites[0].comparison.margin)} counts as harmless."),
    ]


def _forgetting(card: ForgettingCard | None) -> list[Block]:
    if card is None:
        return []
    return [
        Heading("DISTANCE FROM THE BASE"),
        Field("On the task's prompts", f"divergence {card.divergence:.4f} nats a token (99 of 100 below "
              f"{card.divergence_p99:.3f}); same likeliest token at {format_percent(card.top1_agreement)}"),
        Field("On general text", f"divergence {card.generic_divergence:.4f} nats a token; cross-entropy against base "
              f"{card.generic_cross_entropy:.3f}, of the base itself {card.generic_entropy:.3f}"),
    ]  # fmt: skip


def _collapse(card: CollapseCard | None) -> list[Block]:
    if card is None:
        return []
    rows = (
        (
            "Compression",
            *map(format_measure, (card.compression_baseline, card.compression_candidate, card.compression_reference)),
        ),
        (
            "Self-BLEU",
            *map(format_measure, (card.self_bleu_baseline, card.self_bleu_candidate, card.self_bleu_reference)),
        ),
        (
            "Distinct runs",
            *map(format_measure, (card.distinct_baseline, card.distinct_candidate, card.distinct_reference)),
        ),
        ("End in a loop", format_percent(card.loop_rate_baseline), format_percent(card.loop_rate_candidate), ""),
        ("Begin alike", "", format_percent(card.same_start_candidate), format_percent(card.same_start_reference)),
    )
    found = "; ".join(card.reasons) if card.collapsed else "as varied as the references"
    return [
        Heading("VARIETY OF ANSWERS"),
        Table(header=("At equal length", "Base", "Tuned", "References"), rows=rows),
        Words(f"{format_count(card.num_answers)} answers: {found}."),
    ]


def _memorisation(card: Memorisation | None) -> list[Block]:
    if card is None:
        return []
    return [
        Heading("MEMORY"),
        Field("Endings that come back", f"{format_percent(card.extracted_train)} of {format_count(card.num_rows)} "
              f"training rows; of rows held out {format_percent(card.extracted_held_out)}, under the base "
              f"{format_percent(card.extracted_baseline)}"),
        *([] if card.extracted_personal is None else [Field(
            "Personal data that comes back", f"{format_percent(card.extracted_personal)} of "
            f"{format_count(card.num_personal)}; under the base "
            f"{format_percent(card.extracted_personal_baseline or 0.0)}",
        )]),
        *(Bullet(f"planted secret {c.name}, {format_count(c.copies)} copies: rank {format_count(c.rank)} of "
                 f"{format_count(c.num_candidates)}, exposure {c.exposure_bits:.1f} bits") for c in card.canaries),
        Blank(),
    ]  # fmt: skip
