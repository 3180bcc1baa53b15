"""The card of an exported model: what it is, what it was made from, how it did, and what is not known of it."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.evaluation import CARD_POINT, Comparison, Evaluation, Verdict
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.shipment import Shipment
from finetune_exe.domain.values import Check
from finetune_exe.domain.yaml_text import write_yaml
from finetune_exe.domain.yaml_tree import Json
from finetune_exe.knowledge.licenses import LicenseFacts
from finetune_exe.report.numbers import format_ends, format_level, format_measure, format_p, format_setting
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, Words, render_markdown
from finetune_exe.units import format_bytes, format_count, format_duration, format_percent

_RELATIONS = {"merged": "finetune", "gguf": "finetune", "adapter": "adapter"}
_LIBRARIES = {"merged": "transformers", "gguf": "gguf", "adapter": "peft"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """Everything the card is written from."""

    name: str
    plan: Plan
    training: TrainingRun
    data: PreparedDataset
    evaluation: Evaluation | None
    """None where the weights were never evaluated."""
    shipment: Shipment
    base: str
    """The base model's name on the hub, or its folder."""
    license: LicenseFacts | None
    """Of the base model; None where it is not known."""
    data_license: str | None
    """As the user names it."""


def render_model_card(facts: CardFacts) -> str:
    """Write the card as Markdown behind a YAML head that the hub reads."""
    head = write_yaml(_head(facts), comments={})
    body = render_markdown([
        Title(facts.name, (
            Field("Base model", facts.base),
            Field("Method", f"{facts.plan.method.kind}, objective {facts.plan.objective.kind}"),
            Field("Task", f"{facts.plan.task.description} ({facts.plan.task.type})"),
            Field("Weights", f"{facts.shipment.form}, {facts.shipment.number_format}"),
            Field("Verdict of the evaluation", facts.shipment.verdict),
        )),
        *_anyway(facts.shipment),
        Heading("Results"), *_results(facts.evaluation),
        Heading("Data"), *_data(facts),
        Heading("Licence"), *_licence(facts),
        Heading("Limitations"), *_limitations(facts),
        Heading("Checked when it was exported"), *_parities(facts.shipment),
        Heading("Training"), *_training(facts),
        Heading("Provenance"), *_provenance(facts),
    ])  # fmt: skip
    return f"---\n{head}---\n\n{body.rstrip()}\n"


def _head(facts: CardFacts) -> dict[str, Json]:
    given = facts.license.name if facts.license else facts.plan.model.license
    tag = facts.license.hub if facts.license else "other" if given else "unknown"
    licence: dict[str, Json] = {"license": tag, **({"license_name": given} if tag == "other" else {})}
    head: dict[str, Json] = {
        "base_model": facts.base,
        "base_model_relation": _RELATIONS[facts.shipment.form],
        "library_name": _LIBRARIES[facts.shipment.form],
        "pipeline_tag": "text-generation",
        **licence,
        "datasets": [source.path.rsplit("/", 1)[-1] for source in facts.data.sources],
        "tags": ["fine-tuned", facts.plan.method.kind, facts.plan.task.type],
    }
    if facts.evaluation is not None:
        metrics: list[Json] = [
            {"type": comparison.metric, "name": comparison.metric, "value": comparison.candidate}
            for comparison in (*facts.evaluation.comparisons, *facts.evaluation.task_comparisons)
        ]
        result: Json = {
            "task": {"type": "text-generation"},
            "dataset": {"name": "held-out rows", "type": "private"},
            "metrics": metrics,
        }
        head["model-index"] = [{"name": facts.name, "results": [result]}]
    return head


def _anyway(shipment: Shipment) -> list[Block]:
    if shipment.anyway is None:
        return []
    return [
        Heading("Exported although it did not pass"),
        Field("Reason given", shipment.anyway),
        *(Bullet(objection) for objection in shipment.objections),
    ]


def _results(evaluation: Evaluation | None) -> list[Block]:
    if evaluation is None:
        return [Words("These weights were not evaluated.")]
    compared = (*evaluation.comparisons, *evaluation.task_comparisons)
    rows = (
        *(_result(c.metric, c, p_value=c.p_value, verdict=c.verdict) for c in compared),
        *(_result(f"{suite.name} (suite)", suite.comparison, p_value=suite.p_adjusted, verdict=suite.verdict)
          for suite in evaluation.suites),
    )  # fmt: skip
    interval = f"{format_level(compared[0].confidence_level if compared else 0.95)} interval"
    clusters = f"{format_count(evaluation.num_clusters)} clusters by {evaluation.cluster_by}"
    return [
        Words(f"Tuned model against its base on {format_count(evaluation.num_rows)} rows held out, in {clusters}; "
              "paired tests; p values of suites are raised for their number."),
        Table(header=("Metric", "Base", "Tuned", "Difference", interval, "p", "Items", "Verdict"), rows=rows),
    ]  # fmt: skip


def _result(name: str, comparison: Comparison, *, p_value: float | None, verdict: Verdict) -> tuple[str, ...]:
    return (
        f"{name} ({'higher' if comparison.higher_is_better else 'lower'} is better)",
        format_measure(comparison.baseline), format_measure(comparison.candidate), f"{comparison.difference:+.4g}",
        format_ends(comparison.ci_low, comparison.ci_high), format_p(p_value), format_count(comparison.n),
        verdict.replace("_", "-"),
    )  # fmt: skip


def _data(facts: CardFacts) -> list[Block]:
    data = facts.data
    rows = tuple(
        (source.path.rsplit("/", 1)[-1], format_count(source.num_rows), format_bytes(source.num_bytes), source.sha256)
        for source in data.sources
    )
    sides = ", ".join(f"{name} {format_count(split.num_rows)}" for name, split in data.splits.items())
    return [
        Table(header=("File", "Rows", "Size", "SHA-256"), rows=rows),
        Words(f"{format_count(data.seen)} rows were read, {format_count(data.kept)} kept: {sides}. "
              f"Only answers were learned, at most {format_count(data.max_length)} tokens a row."),
    ]  # fmt: skip


def _licence(facts: CardFacts) -> list[Block]:
    known = facts.license
    if known is None:
        given = facts.plan.model.license
        base = f"{given}; its terms are not known to the program" if given else "not known; find it out before use"
    else:
        base = f"{known.name}: {known.says}" + ("" if known.commercial else "; it forbids commercial use")
    return [
        Field("Base model", base),
        Field("Data", facts.data_license or "not stated by whoever exported the model"),
        Words("A tuned model is bound by the licences of its base and of its data. This is no legal advice."),
    ]


def _limitations(facts: CardFacts) -> list[Block]:
    checks = facts.evaluation.readiness if facts.evaluation is not None else ()
    failed = [check for check in checks if check.passed is False]
    undecided = [check for check in checks if check.passed is None and check.name != CARD_POINT]
    blocks: list[Block] = [Bullet(f"Failed: {_said(check)}") for check in failed]
    blocks += [Bullet(f"Open: {_said(check)}") for check in undecided]
    blocks += [Bullet(note) for note in facts.shipment.notes]
    blocks.append(Bullet(
        f"It was trained and tested on rows like those above, of at most {format_count(facts.data.max_length)} tokens; "
        "of other text, other languages and longer conversations nothing is known."
    ))  # fmt: skip
    return blocks


def _said(check: Check) -> str:
    return f"{check.name}: {check.detail}"


def _parities(shipment: Shipment) -> list[Block]:
    rows = tuple(
        (p.name, format_count(p.num_tokens), f"{p.divergence:.2e}", f"{p.divergence_p999:.2e}",
         f"{100 * p.top1_agreement:.2f} %", f"{p.most_divergence:g}")
        for p in shipment.parities
    )  # fmt: skip
    table = Table(header=("Compared", "Tokens", "Mean divergence", "at 99.9 %", "Same likeliest token", "At most"),
                  rows=rows)  # fmt: skip
    return [
        *([table] if rows else []),
        Words("The files were read back; token ids of "
              f"{format_count(shipment.num_prompts_tokenised)} texts equal those of the training. "
              "Divergences are of Kullback and Leibler, in nats a token."),
    ]  # fmt: skip


def _training(facts: CardFacts) -> list[Block]:
    run, plan = facts.training, facts.plan
    settings = [(path, value) for path, value, default in plan.settings() if value != default]
    return [
        Field("Steps", f"{format_count(run.num_steps)} ({run.num_epochs:.2f} epochs), best at {run.best_step}"),
        Field("Learned tokens", format_count(run.learned_tokens)),
        Field("Time", format_duration(run.total_seconds)),
        Field("Machine", f"{run.hardware.cpu}, {run.hardware.num_cores} cores"
              + "".join(f", {gpu.name}" for gpu in run.hardware.gpus)),
        Field("Trainable share", format_percent(run.num_trainable_parameters / run.num_parameters)),
        Table(header=("Setting", "Value"), rows=tuple(
            (path, format_setting(value)) for path, value in settings if not path.startswith("data.paths")
        )),
    ]  # fmt: skip


def _provenance(facts: CardFacts) -> list[Block]:
    named = tuple((name, digest) for name, digest in facts.shipment.inputs.items())
    files = tuple((file.name, format_bytes(file.num_bytes), file.sha256) for file in facts.shipment.files)
    versions = ", ".join(f"{name} {version}" for name, version in facts.training.versions.items())
    return [
        Table(header=("Made from", "Digest"), rows=named),
        Table(header=("File", "Size", "SHA-256"), rows=files),
        Field("Seed", str(facts.plan.seed)),
        Field("Versions", versions),
    ]
