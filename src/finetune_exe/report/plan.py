"""The FINE-TUNING PLAN: what will be done, why, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.method_kinds import METHOD_NAMES
from finetune_exe.domain.plan import LowRank, Plan
from finetune_exe.domain.task import DataProfile, TaskType
from finetune_exe.domain.values import Decision, Interval
from finetune_exe.estimate.duration import unknown_duration
from finetune_exe.estimate.rows import expected_rows, split_sizes, usable_rows
from finetune_exe.knowledge.rules import rule
from finetune_exe.report.boxes import progress_bar
from finetune_exe.report.choices import explanation, method_table, methods_in_short, model_table, models_in_short
from finetune_exe.report.numbers import format_interval, format_setting
from finetune_exe.report.page import (
    Blank,
    Block,
    Box,
    Bullet,
    Code,
    Commands,
    Field,
    Heading,
    Table,
    Title,
    Words,
    render_markdown,
    render_text,
)
from finetune_exe.report.sources import Sources
from finetune_exe.units import format_count, format_number, format_parameters, format_percent

_METRIC_NAMES = {
    "perplexity": "Perplexity",
    "bits_per_byte": "Bits per byte",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "exact_match": "Exact match",
}
_OF_ANSWERS = {"chrf", "rouge_l", "exact_match"}
_TASK_METRICS: dict[TaskType, tuple[str, ...]] = {
    "classification": ("Accuracy", "Macro-F1, Matthews"),
    "extraction": ("F1 of the fields", "Answers in the right form"),
    "qa": ("Exact match, F1 of words",),
    "summarization": ("ROUGE-1, ROUGE-Lsum", "Length, new word pairs"),
    "translation": ("chrF++ and BLEU of all",),
    "code": ("Tests passed, compiles",),
    "reasoning": ("Right results",),
    "chat": ("Instructions kept, refusals",),
}
"""What `fine-tune eval` measures of answers besides the plan's metrics; docs/guides/evaluate.md has the whole table."""
_SHOWN_ELSEWHERE = {
    "model.reference", "method.kind", "data.paths", "data.format",
    "optimizer.learning_rate", "schedule.epochs", "batch.micro_batch_size", "batch.gradient_accumulation_steps",
    "method.lora_rank",
}  # fmt: skip


def render_plan(plan: Plan, *, config: str, commands: Sequence[str], explain: bool = False) -> str:
    """Write the plan in the product's own form, section by section.

    Args:
        plan: The plan.
        config: Python text of the training configuration.
        commands: What to type to carry the plan out, in order.
        explain: Show every setting with its reason, all methods and models, what was weighed and rejected, and what
            would change each decision; otherwise what to do, what it takes, and what is unsure.
    """
    return render_text(_plan_page(plan, config, commands, explain=explain))


def render_plan_markdown(plan: Plan, *, config: str, commands: Sequence[str], explain: bool = False) -> str:
    """Write the same plan as Markdown."""
    return render_markdown(_plan_page(plan, config, commands, explain=explain))


def _plan_page(plan: Plan, config: str, commands: Sequence[str], *, explain: bool) -> list[Block]:
    notes: list[Block] = [Heading("NOTES"), *map(Bullet, plan.notes)] if plan.notes else []
    sources = Sources()
    return [
        Title("FINE-TUNING PLAN", (
            Field("Model", plan.model.name), Field("Task", plan.task.description), Field("Method", plan.method.kind),
        )),
        *notes,
        Heading("TRAINING OVERVIEW"), _overview(plan),
        Heading("TASK ANALYSIS"), _analysis(plan, sources, explain=explain),
        Heading("DATASET REQUIREMENTS"), _requirements(plan),
        Heading("TRAINING CONFIGURATION"), Code(text=config, language="python"),
        Heading("HYPERPARAMETERS"), *_hyperparameters(plan, sources, explain=explain),
        Heading("EVALUATION PLAN"), _evaluation(plan),
        *((*method_table(plan), *model_table(plan), *explanation(plan)) if explain else ()),
        *sources.listed(),
        Heading("COMMANDS"), Commands(tuple(commands)),
        Blank(), Words("Fine-Tuning Status: ● Plan Complete"),
    ]  # fmt: skip


def _overview(plan: Plan) -> Box:
    measured = [check for check in plan.readiness if check.passed is not None]
    passed = len(measured) - len(plan.fails)
    bar = progress_bar(passed / len(measured) if measured else 0)
    return Box(
        (
            Field("Base Model", plan.model.name),
            Field("Method", METHOD_NAMES[plan.method.kind]),
            Field("Task", plan.task.type),
            Blank(),
            Field("VRAM Required", _memory(plan)),
            Field("Est. Duration", _duration(plan)),
            Blank(),
            Field("Readiness", bar if measured else f"{bar} (nothing checked)"),
            Field("Status", _status(plan)),
        ),
        name="FINE-TUNING CONFIG",
    )


def _memory(plan: Plan) -> str:
    used = plan.parallelism.num_gpus
    remark = "RAM, no GPU" if not plan.hardware.gpus else f"on each of {used} GPUs" if used > 1 else ""
    estimate = plan.estimates.get("memory")
    if estimate is None:
        return "not known: the model's dimensions are not"
    return format_interval(estimate.value, "bytes", remark=remark)


def _duration(plan: Plan) -> str:
    estimate, cost = plan.estimates.get("duration"), plan.estimates.get("cost")
    if estimate is not None:
        price = f", {format_interval(cost.value, 'usd')}" if cost is not None else ""
        rows = "" if plan.profile else f", for {format_count(expected_rows(plan))} rows"
        return format_interval(estimate.value, "seconds") + price + rows
    return f"not known: {unknown_duration(plan)}"


def _status(plan: Plan) -> str:
    if not plan.fails:
        return "[●] Config Ready"
    return "[○] Not Ready: " + "; ".join(f"{check.name}: {check.detail}" for check in plan.fails)


def _analysis(plan: Plan, sources: Sources, *, explain: bool) -> Table:
    model, kind = plan.model, METHOD_NAMES[plan.method.kind]
    about = [f"{format_parameters(model.num_parameters)} parameters"] if model.num_parameters else []
    about += [f"licence {model.license}"] if model.license and not plan.shortlist else []
    name = f"{model.name} ({', '.join(about)})" if about else model.name
    base, method = (_reasoned(value, plan, path, sources)
                    for value, path in ((name, "model.reference"), (kind, "method.kind")))  # fmt: skip
    if not explain:
        base, method = _beside(base, models_in_short(plan)), _beside(method, methods_in_short(plan))
    size = _data_size(plan, sources, explain=explain)
    rows = (("Type", _kind(plan)), ("Base Model", base), ("Method", method), ("Data Size", size))
    return Table(header=("Aspect", "Value"), rows=rows, form="plan")


def _data_size(plan: Plan, sources: Sources, *, explain: bool) -> str:
    needs = plan.data_needs
    spoken_of = f", {format_count(plan.task.num_rows)} spoken of" if plan.task.num_rows else ""
    given = _given(plan.profile) if plan.profile else f"none given yet{spoken_of}"
    wanted = f"{format_count(needs.recommended_samples)} samples{_between(needs.recommended)}"
    test = f"; {needs.test_reason}" if explain and needs.test_reason else ""
    least = f"at least {format_count(needs.minimum_samples)}"
    return f"{wanted}, {least}; {given}; {needs.reason}{sources.cite(needs.source)}{test}"


def _given(profile: DataProfile) -> str:
    usable = usable_rows(profile)
    of_use = "" if usable == profile.num_rows else f", {format_count(usable)} of them hold an answer to learn"
    return f"{format_count(profile.num_rows)} given{of_use}"


def _beside(chosen: str, others: str) -> str:
    return f"{chosen}. Others: {others}" if others else chosen


def _kind(plan: Plan) -> str:
    if "task.type" in plan.changed_by_user():
        return f"{plan.task.type}; changed by you; advised {plan.decisions['task.type'].value}"
    return "; ".join((plan.task.type, *plan.task.evidence))


def _between(interval: Interval | None) -> str:
    return "" if interval is None else f" ({format_count(interval.low)} to {format_count(interval.high)})"


def _reasoned(value: str, plan: Plan, path: str, sources: Sources) -> str:
    return f"{value}: {_rationale(plan, sources, path)}" if path in plan.decisions else value


def _requirements(plan: Plan) -> Box:
    needs = plan.data_needs
    checks = needs.quality_checks or ("none for this task",)
    return Box(
        (
            Field("Format", _data_format(plan)),
            Field("Size", f"{format_count(needs.minimum_samples)} samples minimum"),
            Blank(),
            Words("Quality Checks:"),
            *map(Bullet, checks),
        )
    )


def _data_format(plan: Plan) -> str:
    if plan.data.format is not None:
        return plan.data.format
    if plan.profile is not None:
        return f"{plan.profile.format} (found in the data)"
    return "alpaca, chatml, sharegpt, prompt_completion or completion"


def _hyperparameters(plan: Plan, sources: Sources, *, explain: bool) -> list[Block]:
    factors = f"{plan.batch.micro_batch_size} x {plan.batch.gradient_accumulation_steps}"
    if plan.parallelism.num_gpus > 1:
        factors += f" x {plan.parallelism.num_gpus} GPUs"
    rank = format_setting(plan.method.lora_rank) if isinstance(plan.method, LowRank) else "none"
    rows = [
        (
            "learning_rate",
            format_number(plan.optimizer.learning_rate),
            _rationale(plan, sources, "optimizer.learning_rate"),
        ),
        ("epochs", format_number(plan.schedule.epochs), _rationale(plan, sources, "schedule.epochs")),
        (
            "batch_size",
            f"{plan.batch_of_step.effective} ({factors})",
            _rationale(_of_step(plan), sources, "batch.micro_batch_size", "batch.gradient_accumulation_steps"),
        ),
        (
            "lora_rank",
            rank,
            _rationale(plan, sources, "method.lora_rank")
            if isinstance(plan.method, LowRank)
            else f"{METHOD_NAMES[plan.method.kind]} has no low-rank adapter",
        ),
    ]
    others = [(path, value) for path, value, _ in plan.settings()
              if path in plan.decisions and path not in _SHOWN_ELSEWHERE]  # fmt: skip
    shown = [(path, value) for path, value in others if explain or _is_worth_a_look(plan, path)]
    rows += [(path, format_setting(value), _rationale(plan, sources, path)) for path, value in shown]
    table = Table(header=("Parameter", "Value", "Rationale"), rows=tuple(rows), form="plan")
    left = len(others) - len(shown)
    return [table, Words(f"{left} more, each with its reason: --explain, or the plan file.")] if left else [table]


def _is_worth_a_look(plan: Plan, path: str) -> bool:
    """Say whether a setting is the user's own, or one that the advice is unsure of."""
    decision = plan.decisions[path]
    return decision.source == "you" or decision.confidence == "low" or path in plan.changed_by_user()


def _of_step(plan: Plan) -> Plan:
    """Give the plan with the bounds of the rows of a pass as bounds of the rows of a step, which the table is about."""
    path, rows = "batch.micro_batch_size", float(plan.batch_of_step.effective)
    decision = plan.decisions.get(path)
    if decision is None or decision.interval is None:
        return plan
    low, high = min(rule("batch")["low"], rows), max(decision.interval.high, rows)
    bounds = Interval(low=low, mid=min(max(decision.interval.mid, low), high), high=high)
    return plan.decided({path: decision.model_copy(update={"interval": bounds})})


def _rationale(plan: Plan, sources: Sources, *paths: str) -> str:
    """Say why the settings at `paths` have their values; one that nobody decided has its default."""
    changed = plan.changed_by_user()
    reasons = [
        f"changed by you; advised {format_setting(plan.decisions[path].value)} because "
        f"{_grounds(plan.decisions[path], sources)}"
        if path in changed
        else _grounds(plan.decisions[path], sources)
        for path in paths
        if path in plan.decisions
    ]
    return "; ".join(dict.fromkeys(reasons)) or "the default: nothing in the task or the machine asks for another"


def _grounds(decision: Decision, sources: Sources) -> str:
    words = [decision.reason]
    if decision.interval is not None:
        words.append(
            f"the best lies in {format_number(decision.interval.low)} to {format_number(decision.interval.high)}"
        )
    if decision.confidence == "low":
        words.append("low confidence")
    return f"{'; '.join(words)}{sources.cite(decision.source)}"


def _evaluation(plan: Plan) -> Box:
    return Box(
        (
            Words("Metrics:"),
            *(Bullet(name) for name in _metric_names(plan)),
            Blank(),
            Field("Test Set", _test_set(plan)),
            Field("Baseline", _baseline(plan)),
        )
    )


def _metric_names(plan: Plan) -> tuple[str, ...]:
    """Name what will be measured: the plan's metrics, and those that answers of this kind of task get besides."""
    asked = [_METRIC_NAMES[metric] for metric in plan.evaluation.metrics]
    generates = plan.evaluation.max_generations > 0 and set(plan.evaluation.metrics) & _OF_ANSWERS
    pairs = ("Better answer is likelier",) if plan.objective.kind == "dpo" else ()
    return (*pairs, *asked, *(_TASK_METRICS.get(plan.task.type, ()) if generates else ()))


def evaluation_lines(plan: Plan) -> tuple[str, ...]:
    """Say how the run will be judged, as in the plan's box: metrics, test rows, baseline."""
    metrics = [f"Metric: {name}" for name in _metric_names(plan)]
    return (*metrics, f"Test set: {_test_set(plan)}", f"Baseline: {_baseline(plan)}")


def _baseline(plan: Plan) -> str:
    return f"{plan.model.name} before training, on the same rows"


def _test_set(plan: Plan) -> str:
    data = plan.data
    if data.test_paths:
        return f"{', '.join(data.test_paths)}; held out until the end"
    grouped = f", whole groups by {data.group_by}" if data.group_by else ""
    if data.detectable_difference is not None:
        size = f"as many rows as find a difference of {data.detectable_difference:g} standard deviations"
    else:
        size = f"{format_percent(data.test_fraction)} of the rows"
    about = f", about {format_count(split_sizes(plan).test)}" if plan.profile else ""
    return f"{size}{about}{grouped}; held out until the end"
