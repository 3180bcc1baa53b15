"""What the user should know before anything else."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import chain
from shlex import quote

from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.domain.task import TaskType
from finetune_exe.estimate.parameters import ALL_LINEAR, count_adapted_experts, count_lora_parameters, count_parameters
from finetune_exe.estimate.planned import adapted_layers
from finetune_exe.estimate.rows import expected_rows, row_tokens, split_sizes, usable_rows
from finetune_exe.knowledge.gpus import gpu_facts
from finetune_exe.knowledge.models import known_model
from finetune_exe.knowledge.rules import rule
from finetune_exe.planning.options import larger_in_4_bit
from finetune_exe.planning.readiness import wished_limits
from finetune_exe.planning.shortlist import language_names
from finetune_exe.planning.task import classify_task
from finetune_exe.units import format_count, format_duration, format_gib, format_number, format_usd

_NEW_FACTS = re.compile(
    r"\b(facts?\b|knowledge|documentation|docs\b|manuals?|handbook|wiki|up.to.date|latest|(change|update)s? every"
    r"|know(s|ing)? (everything|all|them|about|our|what)|chang\w+ (daily|weekly|monthly|often|constantly)"
    r"|(our|my|the company'?s?) (\w+ )?(products?|compan\w+|polic\w+|prices?|catalogue?|faqs?|rules|services|data))",
    re.IGNORECASE,
)
_PAIRS = re.compile(
    r"\b(dpo|direct preference|preference (data|pairs|tuning)|chosen (and|/) rejected)\b", re.IGNORECASE
)
_SPEAKS_OF_FACTS: frozenset[TaskType] = frozenset({"qa", "chat", "completion"})
_ASKED_FOR: frozenset[TaskType] = frozenset(
    {"extraction", "summarization", "rewriting", "translation", "classification"}
)
"""Tasks whose form a prompt can ask a large instruct model for."""
_HAVE_ANSWERS: frozenset[TaskType] = frozenset({*_ASKED_FOR, "qa", "reasoning", "code"})
_FEW_KINDS = 3
_ABOUT = 0.9
"""Share of the recommended rows from which on they are there."""
_FEW_TO_CHOOSE_BY = 10
_LOSES_BY_ROUNDING = 1e9
"""Weights below which what rounding to 4 bit costs, and how to win it back, is worth a word."""
_REPEATED = 0.05
"""Share of repeated rows worth a word."""
_MOST = 0.5
"""Share of the answers above which a language is that of the task."""


def notes(plan: Plan) -> tuple[str, ...]:
    """Say what the user should know, most important first: whether to fine-tune at all, what was understood, then the
    data, then the run."""
    return tuple(chain(_heard(plan), _rather_not(plan), _about_kind(plan), _about_data(plan), _about_run(plan)))


def _heard(plan: Plan) -> Iterator[str]:
    """Say which wishes were read in the description, since nobody gave them by themselves."""
    if plan.task.heard:
        yield f"Read in your words: {'; '.join(plan.task.heard)}. An option given by itself counts instead."


def _rather_not(plan: Plan) -> Iterator[str]:
    """Say where retrieval or a prompt would serve better."""
    profile, needs, known = plan.profile, plan.data_needs, rule("minimum_rows")
    kinds = {plan.task.type, *(kind.alternatives if (kind := plan.decisions.get("task.type")) else ())}
    if kinds & _SPEAKS_OF_FACTS and _NEW_FACTS.search(plan.task.description):
        yield (
            "For facts that are new, change or must be exact, first put the right passage into the prompt (retrieval): "
            "asked about news after its training, Mistral-7B was right in 48 %, fine-tuned on the texts in 50 %, with "
            "retrieval in 88 % (Ovadia et al., arXiv 2312.05934, 2023). Fine-tune for how it answers."
        )
    rows = None if profile is None else usable_rows(profile)
    if rows is not None and rows < (few := int(known["rows"])):
        given = "1 row" if rows == 1 else f"{rows} rows"
        yield (
            f"With {given}, first try them as examples in the prompt: gains from fine-tuning begin at "
            f"{few} to 100 rows ({known.source})."
        )
    elif plan.task.type in _ASKED_FOR and (rows is None or rows < needs.recommended_samples):
        yield (
            f"A prompt can ask for this: try a larger instruct model with five examples first. Fine-tuning pays where "
            f"that falls short, costs too much or must run here, from about "
            f"{format_count(needs.recommended_samples)} rows on."
        )


def _about_kind(plan: Plan) -> Iterator[str]:
    """Say which other kinds of task may be meant, and how to say so."""
    kind = plan.decisions.get("task.type")
    if kind is None or not kind.alternatives or kind.value != plan.task.type:
        return
    if len(kind.alternatives) <= _FEW_KINDS:
        meant = f"If {' or '.join(kind.alternatives)} is meant: --task-type {'|'.join(kind.alternatives)}."
    else:
        meant = f"Say it with a verb such as sort or translate, or by --task-type: {', '.join(kind.alternatives)}."
    yield f"Taken as {plan.task.type}: {kind.reason}. {meant}"


def _about_data(plan: Plan) -> Iterator[str]:
    """Say what the data lack."""
    profile, needs = plan.profile, plan.data_needs
    if profile is None:
        rows, row = format_count(expected_rows(plan)), row_tokens(plan)
        recommended, or_say = ("", "") if plan.task.num_rows else (", as many as are recommended,", ", or --rows N")
        yield (
            f"No data were given: duration and cost are for {rows} rows{recommended} as long as usual, about "
            f"{row.mid:,.0f} tokens ({row.low:,.0f} to {row.high:,.0f}). Add --data FILE{or_say}."
        )
        return
    yield from (f"{lack[0].upper()}{lack[1:]}." for lack in profile.missing)
    if profile.turns is not None:
        yield (
            "Each text is a whole dialogue: all of it is learned, questions too, and no answer can be scored. To learn "
            f"the answers alone, part them: fine-tune dataset chatml FILE --turns {quote(profile.turns)} -o NEW.jsonl."
        )
    elif profile.format == "completion" and classify_task(plan.task.description, None).type in _HAVE_ANSWERS:
        yield (
            "The rows are plain texts: all of each is learned, and no answer can be scored. Where a text holds a "
            "question and its answer, part them: fine-tune dataset chatml FILE --turns 'Q:,A:' -o NEW.jsonl."
        )
    if profile.thinking_share:
        model = known_model(plan.model.reference)
        lost = "" if model is not None and model.thinks else (
            f" {plan.model.name} may not write it: rows that keep it under a key are then left out, and those with "
            "<think> in the answer learned as they stand."
        )  # fmt: skip
        yield f"{profile.thinking_share:.0%} of the answers think first, and learn that.{lost}"
    usable = usable_rows(profile)
    if needs.minimum_samples <= usable < _ABOUT * needs.recommended_samples:
        enough = needs.recommended
        usual = f" (usual: {enough.low:,.0f} to {enough.high:,.0f})" if enough is not None else ""
        yield (
            f"{format_count(usable)} rows will show an effect; "
            f"{format_count(needs.recommended_samples)} are recommended for this task{usual}."
        )
    if int(rule("minimum_rows")["rows"]) <= usable < needs.minimum_samples:
        yield (
            f"{format_count(usable)} rows for {len(profile.labels)} labels are few: "
            f"at least {format_count(needs.minimum_samples)} are wanted, "
            f"and {format_count(needs.recommended_samples)} recommended."
        )
    if profile.duplicate_share >= _REPEATED:
        yield f"{profile.duplicate_share:.0%} of the rows say the same as an earlier one; they are dropped and counted."
    sizes = split_sizes(plan)
    if 0 < sizes.test < needs.test_samples:
        known = rule("detectable_difference")
        large = known["factor"] / math.sqrt(sizes.test) > known["enough"]
        missed = "show only large effects" if large else "miss small effects"
        yield f"{format_count(sizes.test)} test rows {missed}: {needs.test_reason}."
    if sizes.validation < _FEW_TO_CHOOSE_BY:
        yield "Fewer than ten validation rows choose the checkpoint, so that choice is partly luck."


def _about_run(plan: Plan) -> Iterator[str]:
    """Say what is not known, or unusual, about the run."""
    for limit in wished_limits(plan):
        if not limit.is_sure:
            expected = "are expected, which may become" if limit.is_kept else "are expected, and perhaps"
            yield f"You allow {limit.most}: {limit.expected} {expected} {limit.perhaps}."
    if plan.model.shape is None:
        yield f"The dimensions of {plan.model.name} are not known here, so memory and duration are not estimated."
    elif "memory" not in plan.estimates:
        yield f"Memory and duration are not estimated for {plan.model.name}."
    rate = plan.decisions.get("optimizer.learning_rate")
    if rate is not None and rate.interval is not None and rate.confidence == "low":
        low, high = format_number(rate.interval.low), format_number(rate.interval.high)
        yield f"The best learning rate may lie anywhere from {low} to {high}: try two or three values."
    if plan.objective.kind == "dpo" and plan.optimizer.learning_rate > rule("dpo")["high"]:
        yield (
            f"A learning rate of {format_number(plan.optimizer.learning_rate)} suits answers; pairs usually want "
            f"{format_number(rule('dpo')['value'])}."
        )
    if plan.method.kind == "full" and plan.optimizer.learning_rate >= 2e-4:
        yield (
            f"A learning rate of {format_number(plan.optimizer.learning_rate)} suits LoRA; "
            f"full training usually wants a tenth of it."
        )
    if plan.objective.kind == "sft" and _PAIRS.search(plan.task.description):
        yield (
            "This plan learns answers as they stand. To learn from pairs of a better and a worse one: "
            "--set data.format=preference --set objective.kind=dpo"
        )
    yield from _about_experts(plan)
    yield from _about_rounding(plan)
    yield from _tuned_for_chat(plan)
    yield from _other_language(plan)
    yield from _larger_in_4_bit(plan)
    yield from _about_gpu(plan)
    used, idle = plan.parallelism.num_gpus, len(plan.hardware.gpus) - plan.parallelism.num_gpus
    if idle > 0:
        rows = plan.batch_of_step.effective
        why = f": a step of {rows} rows cannot be shared among all" if rows < used + idle else ""
        yield f"Training uses {used} of {used + idle} GPUs{why}; the other {idle} stay idle."
    if used > 1:
        yield f"`fine-tune train` starts {used} processes, one for each GPU of the machine it runs on."


def _about_experts(plan: Plan) -> Iterator[str]:
    """Say what is trained of a model with experts."""
    shape, method = plan.model.shape, plan.method
    if shape is None or shape.num_experts == 1 or not isinstance(method, LowRank):
        return
    targets = adapted_layers(method)
    experts, adapted = count_adapted_experts(shape, targets=ALL_LINEAR), count_adapted_experts(shape, targets=targets)
    share = experts / count_parameters(shape)
    if not adapted:
        yield f"The {shape.num_experts} experts of each layer, {share:.0%} of the weights, stay as they are."
    else:
        held = "those of one layer whole" if isinstance(method, Qlora) else "the experts a second time"
        of_experts = count_lora_parameters(shape, rank=method.lora_rank, targets=targets & {"gate", "up", "down"})
        yield (
            f"Each of the {shape.num_experts} experts of a layer gets an adapter, {of_experts:,} trained weights in "
            f"all, and a pass holds {held} with these added (the estimate counts it). For attention "
            "alone: --set 'method.target_modules=[q_proj, k_proj, v_proj, o_proj]'"
        )


def _about_rounding(plan: Plan) -> Iterator[str]:
    """Say how a model in 4 bit loses nothing, or how a small one wins back what rounding costs it."""
    shape, method = plan.model.shape, plan.method
    if isinstance(method, Qlora) and method.quantization != "nf4":
        yield (
            f"The weights stay exactly what they are, on values of 4 bits ({method.quantization}), with this program: "
            "the libraries of the Python form below, and other trainers, round them a second time, to nf4."
        )
        return
    if shape is None or not isinstance(method, Qlora) or count_parameters(shape) > _LOSES_BY_ROUNDING:
        return
    known = rule("offset_rounding")
    if method.offset_rounding:
        yield "The adapter offsets the rounding of its 4-bit weights: over 16-bit ones it is wrong; export merged."
    elif plan.objective.kind == "sft":
        yield (
            f"Small models lose by rounding to 4 bit. Of what it cost a held-out loss, {known['won_back']:.0%} were "
            "won back by --set method.offset_rounding=true, for a model that will be exported merged; --method lora, "
            "where it fits, loses nothing."
        )


def _tuned_for_chat(plan: Plan) -> Iterator[str]:
    """Name the pretrained variant where plain texts are to be learned by a model that was tuned for chat."""
    facts = known_model(plan.model.reference)
    if plan.task.type != "completion" or facts is None or not facts.chat or plan.model.reference != facts.reference:
        return
    if facts.base_reference != facts.reference:
        yield (
            f"{plan.model.name} was tuned for chat, and plain texts are learned here: its pretrained variant is "
            f"--model {facts.base_reference}."
        )


def _other_language(plan: Plan) -> Iterator[str]:
    """Say that the rows are in a language that the makers of a model asked for do not name."""
    facts, profile = known_model(plan.model.name), plan.profile
    if facts is None or profile is None or plan.shortlist:
        return
    unnamed = [code for code, share in profile.languages.items() if share > _MOST and not facts.speaks(code)]
    if unnamed:
        yield (
            f"Most answers are in {language_names(unnamed)}, which the makers of {plan.model.name} do not name among "
            "its languages: without --model, one comes first whose makers do."
        )


def _larger_in_4_bit(plan: Plan) -> Iterator[str]:
    """Say what the better model that fits in 4 bit would take, and what speaks for and against it."""
    larger, known = larger_in_4_bit(plan), rule("larger_in_4_bit")
    if larger is None:
        return
    memory, duration, cost = (larger.estimates.get(name) for name in ("memory", "duration", "cost"))
    takes = [format_gib(memory.value.mid)] if memory else []
    takes += [format_duration(duration.value.mid)] if duration else []
    takes += [format_usd(cost.value.mid)] if cost else []
    yield (
        f"{larger.model.name} fits in 4 bit: about {', '.join(takes)}, by --model {larger.model.reference} --method "
        f"qlora. After tuning, LLaMA 13B in 4 bit beat 7B in 16 bit, {known['large']:g} % to {known['small']:g} % on "
        f"MMLU, 33B beat 13B, {known['largest']:g} % to {known['middle']:g} % (QLoRA, 2023). Newer models may lose "
        f"more by rounding: compare both."
    )


def _about_gpu(plan: Plan) -> Iterator[str]:
    """Say what this trainer cannot train on, and how much memory was taken for granted."""
    if not plan.hardware.gpus:
        return
    name = plan.hardware.gpus[0].name
    vendor = next((facts.vendor for facts in gpu_facts() if name.startswith(facts.name)), "NVIDIA")
    if vendor == "Apple":
        yield (
            "`fine-tune train` computes on NVIDIA GPUs and processors. To train on Apple's GPU, write this plan for "
            "MLX-LM: fine-tune config --plan PLAN --to mlx -o ."
        )
        if not re.search(r"\d+GB$", name):
            yield (
                f"{name} was taken with {format_gib(plan.hardware.gpus[0].memory_bytes)}, as its largest build has; "
                f"yours may have less: say it behind the name, as in --gpu 'M3 Max 36GB'."
            )
    elif vendor in ("Google", "Intel"):
        yield f"`fine-tune train` computes on NVIDIA GPUs and processors, not on {name}."
