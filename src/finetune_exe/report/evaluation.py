"""Whether the tuned model is better, with the figures that say so."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.evaluation import Comparison, Evaluation, Generation, Sample
from finetune_exe.domain.values import Check
from finetune_exe.report import boxes
from finetune_exe.report.boxes import clean, display_width, shorten
from finetune_exe.report.comparison import SHORT_VERDICTS, difference_cell
from finetune_exe.report.measured import measured_blocks
from finetune_exe.report.numbers import format_items, format_level, format_measure, format_p
from finetune_exe.report.page import (
    Blank,
    Block,
    Bullet,
    Field,
    Heading,
    Table,
    Title,
    Words,
    render_markdown,
    render_text,
)
from finetune_exe.units import format_count, format_duration, format_percent

_VERDICTS = {**SHORT_VERDICTS, "non_inferior": "no worse than the margin"}
_FINAL = {"ready": "● READY", "not ready": "○ NOT READY", "cannot say": "○ CANNOT SAY"}
SMALLEST = (
    "MDE: the smallest true difference that this many items find four times in five. Scores of answers are shares of "
    "one; perplexity and bits per byte have their own scales."
)
_PROMPT_COLUMNS, _DIGEST = 210, 12
_ANSWER_LINES, _ANSWER_COLUMNS = 8, 420


def render_evaluation(evaluation: Evaluation) -> str:
    """Write the paired comparison metric by metric, answers side by side, the readiness list and the verdict.

    The verdict comes last, where a terminal ends; the other forms begin with it.
    """
    return render_text([*_evaluation_page(evaluation), Blank(), Words(f"Verdict: {verdict_words(evaluation)}")])


def render_evaluation_markdown(evaluation: Evaluation) -> str:
    """Write the same as Markdown."""
    return render_markdown(_evaluation_page(evaluation, Field("Verdict", verdict_words(evaluation))))


def _evaluation_page(evaluation: Evaluation, *first: Field) -> list[Block]:
    words = generation_words(evaluation.generation)
    answers: list[Block] = [] if words is None else [Blank(), Words(words)]
    samples = [block for sample in evaluation.samples for block in _sample(sample)]
    return [
        Title("EVALUATION", (
            *first,
            Field("Base", evaluation.baseline),
            Field("Tuned", evaluation.candidate),
            Field("Test rows", _test_rows(evaluation)),
            *made_from(evaluation),
        )),
        Heading("BASE AGAINST TUNED"), *_comparisons((*evaluation.comparisons, *evaluation.task_comparisons)),
        *map(Bullet, evaluation.comparison_notes),
        *answers,
        *measured_blocks(evaluation),
        *([Heading("ANSWERS SIDE BY SIDE"), *samples] if samples else []),
        Heading("READINESS"), *_readiness(evaluation.readiness), *_share(evaluation),
    ]  # fmt: skip


def made_from(evaluation: Evaluation) -> list[Field]:
    """Name by their digests what was measured, as a plan, a dataset and weights are named elsewhere."""
    named = ", ".join(f"{name} {digest[:_DIGEST]}" for name, digest in evaluation.inputs.items())
    return [Field("Made from", named)] if named else []


def _test_rows(evaluation: Evaluation) -> str:
    rows, clusters = format_count(evaluation.num_rows), format_count(evaluation.num_clusters)
    seconds = format_duration(evaluation.seconds)
    return f"{rows} held out, in {clusters} clusters by {evaluation.cluster_by}; measured in {seconds}"


def _comparisons(comparisons: tuple[Comparison, ...]) -> list[Block]:
    if not comparisons:
        return [Words("Nothing was compared.")]
    rows = tuple(
        (
            comparison.metric,
            format_measure(comparison.baseline),
            format_measure(comparison.candidate),
            difference_cell(comparison),
            format_p(comparison.p_value),
            format_measure(comparison.minimum_detectable_difference),
            _VERDICTS[comparison.verdict],
        )
        for comparison in comparisons
    )
    return [
        Table(header=("Metric", "Base", "Tuned", "Difference", "p", "MDE", "Verdict"), rows=rows),
        Words(f"In brackets: {format_level(comparisons[0].confidence_level)} intervals. {SMALLEST}"),
        *map(Bullet, bases(comparisons)),
    ]


def bases(comparisons: Sequence[Comparison]) -> list[str]:
    """Say what each comparison rests on, those of the same together."""
    metrics: dict[str, list[str]] = {}
    for comparison in comparisons:
        better = "higher" if comparison.higher_is_better else "lower"
        test = "not tested, no spread is seen" if comparison.p_value is None else comparison.test
        basis = (
            f" ({better} is better): {test}; items: {format_items(comparison.n, comparison.clusters)}; "
            f"a loss of {format_measure(comparison.margin)} counts as harmless"
        )
        metrics.setdefault(basis, []).append(comparison.metric)
    return [", ".join(names) + basis for basis, names in metrics.items()]


def generation_words(generation: Generation | None) -> str | None:
    """Say how answers were produced, and how they ended."""
    if generation is None:
        return None
    base, tuned = format_percent(generation.baseline_stop_rate), format_percent(generation.candidate_stop_rate)
    return (
        f"Answers: {format_count(generation.num_rows)} rows, {generation.decoding} decoding, at most "
        f"{generation.max_new_tokens} tokens; ended by themselves: base {base}, tuned {tuned}."
    )


def _sample(sample: Sample) -> list[Block]:
    return [
        Words(sample.source),
        Field("Prompt", shorten(clean(sample.prompt), _PROMPT_COLUMNS)),
        Table(
            header=("Reference", "Base", "Tuned"),
            rows=((_answer(sample.reference), _answer(sample.baseline), _answer(sample.candidate)),),
        ),
        Blank(),
    ]


def _answer(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    shown: list[str] = []
    room = _ANSWER_COLUMNS
    while len(shown) < min(len(lines), _ANSWER_LINES) and room > 0:
        shown.append(shorten(lines[len(shown)], min(_PROMPT_COLUMNS, room)))
        room -= display_width(shown[-1])
    more = len(lines) - len(shown)
    return "\n".join(shown + ([f"[{more} more lines]"] if more > 0 else [])) or "(empty)"


def _readiness(checks: tuple[Check, ...]) -> list[Block]:
    if not checks:
        return [Words("Nothing was checked.")]
    return [Field(f"{_mark(check)} {check.name}", _detail(check)) for check in checks]


def _share(evaluation: Evaluation) -> list[Block]:
    share = evaluation.readiness_share
    if share is None:
        return []
    decided = sum(check.passed is not None for check in evaluation.readiness)
    rest = len(evaluation.readiness) - decided
    return [Blank(), Words(f"Readiness: {boxes.progress_bar(share)} of the {decided} points decided; open: {rest}.")]


def _mark(check: Check) -> str:
    return "[open]" if check.passed is None else "[pass]" if check.passed else "[FAIL]"


def _detail(check: Check) -> str:
    """Say what was seen, and what would mend or decide it."""
    if check.passed or not check.fix:
        return check.detail
    return f"{check.detail}; {'to decide it' if check.passed is None else 'fix'}: {check.fix}"


def verdict_words(evaluation: Evaluation) -> str:
    """Write the verdict, and what it rests on."""
    return f"{_FINAL[evaluation.verdict]}{_because(evaluation)}"


def _because(evaluation: Evaluation) -> str:
    compared = (*evaluation.comparisons, *evaluation.task_comparisons)
    match evaluation.verdict:
        case "not ready":
            failed = [check.name for check in evaluation.readiness if check.passed is False]
            return f"; failed: {', '.join(failed)}"
        case "cannot say" if not compared:
            return ": nothing was compared"
        case "cannot say":
            little = any(comparison.verdict == "improved" for comparison in compared)
            return f": no metric improved {'by more than its margin' if little else 'beyond its interval'}"
        case "ready":
            better = [c.metric for c in compared if c.better_enough]
            return f": no point failed, and {', '.join(better)} improved"
