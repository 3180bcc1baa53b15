"""`fine-tune compare`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from finetune_exe.cli.surface import FiniteRange, json_option, say, write_json
from finetune_exe.errors import GATE


def _fields(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Part KEY=VALUE at its first equals sign."""
    parted = [words.partition("=") for words in given]
    if not all(key and equals for key, equals, _ in parted):
        raise click.BadParameter("write KEY=VALUE, as in provider=base")
    return {key: value for key, _, value in parted}


@click.command("compare")
@click.argument("path_a", metavar="A", type=click.Path(path_type=Path))
@click.argument("path_b", metavar="[B]", required=False, type=click.Path(path_type=Path))
@click.option("--margin", type=FiniteRange(min=0), help="Loss that would be harmless, on the scale of the scores.  [default: a hundredth of the scale, or less]")  # fmt: skip
@click.option("--lower-is-better", is_flag=True, help="The score is a loss.")
@click.option("--metric", type=click.Choice(["score", "chrf", "bleu"]), default="score", show_default=True, help="chrf and bleu are computed from the fields answer and reference, over all items together.")  # fmt: skip
@click.option("--slice", "slice_key", metavar="KEY", help="Compare also within each value of this field.")
@click.option("--confidence", type=FiniteRange(min=0.5, max=1, min_open=True, max_open=True), default=0.95, show_default=True, help="Level of the intervals.")  # fmt: skip
@click.option("--item", "item_key", default="item", show_default=True, metavar="KEY", help="Field with the item's name.")  # fmt: skip
@click.option("--score", "score_key", default="score", show_default=True, metavar="KEY", help="Field with the score.")
@click.option("--cluster", "cluster_key", default="cluster", show_default=True, metavar="KEY", help="Field that says which items belong together.")  # fmt: skip
@click.option("--leave-out-unscored", is_flag=True, help="Compare without the items that either file has no score of.")  # fmt: skip
@click.option("--pass-at", type=click.IntRange(min=1), default=1, show_default=True, metavar="K", help="Where several programs were written for a task: the chance that one of so many passes.")  # fmt: skip
@click.option("--a", "only_a", multiple=True, metavar="KEY=VALUE", callback=_fields, help="Take for A the rows with this value alone. May be given again.")  # fmt: skip
@click.option("--b", "only_b", multiple=True, metavar="KEY=VALUE", callback=_fields, help="The same for B, which is the file of A where no other is named.")  # fmt: skip
@click.option("--gate", is_flag=True, help="Leave with status 3 unless B improved or is no worse than the margin.")
@json_option
@click.pass_context
def command(
    context: click.Context,
    path_a: Path,
    path_b: Path | None,
    margin: float | None,
    lower_is_better: bool,
    metric: Literal["score", "chrf", "bleu"],
    slice_key: str | None,
    confidence: float,
    item_key: str,
    score_key: str,
    cluster_key: str,
    leave_out_unscored: bool,
    pass_at: int,
    only_a: dict[str, str],
    only_b: dict[str, str],
    gate: bool,
    as_json: bool,
) -> None:
    """Compare model B with model A on the same items: is it better, worse, or can nobody say?

    A run folder stands for the scores of its tuned model. Each file has one JSON object a line: {"item": "q1", "score": 0.5, "cluster": "document 7"}; the cluster may be left
    out. JSON, CSV, Parquet, and what lm-evaluation-harness, Inspect, promptfoo, DeepEval, HELM, lighteval and others write are read too. With A alone, the smallest difference
    that a comparison on its items could find.

    \b
    fine-tune compare base.jsonl tuned.jsonl
    fine-tune compare base.jsonl tuned.jsonl --margin 0.02 --slice language
    fine-tune compare base.jsonl tuned.jsonl --gate --json > verdict.json
    fine-tune compare runs/one runs/two
    fine-tune compare results.json --a provider=base --b provider=tuned
    fine-tune compare base.jsonl
    """
    from finetune_exe.evaluation.compare import Question, compare_results
    from finetune_exe.evaluation.foresight import foresee
    from finetune_exe.evaluation.result_files import Keys, read_results
    from finetune_exe.report.comparison import comparison_contract, render_comparison, render_foresight

    keys = Keys(item=item_key, score=score_key, cluster=cluster_key, pass_at=pass_at,
                leave_out_unscored=leave_out_unscored)  # fmt: skip
    corpus = None if metric == "score" else metric
    if corpus is not None and (pass_at > 1 or leave_out_unscored):
        raise click.UsageError("--pass-at and --leave-out-unscored are of scores; --metric computes its own")
    path_a, path_b = _results(path_a), None if path_b is None else _results(path_b)
    if path_b is None and only_b:
        path_b = path_a
    if path_b is None:
        _refuse_without_b(context)
        results_a = read_results(path_a, keys, only=only_a)
        items = [item for item in results_a.values() if item.score is not None]
        foreseen = foresee(
            _name(path_a.name, only_a), [item.score or 0.0 for item in items],
            [item.cluster or f"item {item.item}" for item in items], confidence_level=confidence,
        )  # fmt: skip
        if as_json:
            write_json(**foreseen.model_dump(mode="json", by_alias=True))
        else:
            say(render_foresight(foreseen))
        return
    question = Question(
        margin=margin,
        higher_is_better=not lower_is_better,
        confidence_level=confidence,
        slice_key=slice_key,
        corpus=corpus,
    )
    sides = (path_a, only_a), (path_b, only_b)
    results_a, results_b = (read_results(path, keys, scored=corpus is None, only=only) for path, only in sides)
    name_a, name_b = (_name(str(path), only) for path, only in sides)
    result = compare_results(name_a, name_b, results_a, results_b, question)
    if as_json:
        write_json(**comparison_contract(result))
    else:
        say(render_comparison(result))
    if gate and result.comparison.verdict not in ("improved", "non_inferior"):
        context.exit(GATE)


def _name(path: str, only: dict[str, str]) -> str:
    """Name a side by its file and what was taken of it."""
    return f"{path} ({', '.join(f'{key}={value}' for key, value in only.items())})" if only else path


def _refuse_without_b(context: click.Context) -> None:
    """Refuse what only two files answer."""
    asked = [
        option.opts[0] for option in context.command.params
        if option.name in ("margin", "lower_is_better", "metric", "slice_key", "gate")
        and context.get_parameter_source(option.name) is click.core.ParameterSource.COMMANDLINE
    ]  # fmt: skip
    if asked:
        raise click.UsageError(f"{' and '.join(asked)} need{'s' if len(asked) == 1 else ''} a second file")


def _results(path: Path) -> Path:
    """Give the file with the scores of a run's tuned model where a run folder is named."""
    tuned = path / "evaluation" / "tuned.jsonl"
    return tuned if os.path.isfile(tuned) else path
