"""Which base models come into question, best first, and what speaks for and against each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from finetune_exe.domain.method_kinds import METHOD_PHRASES, MethodKind
from finetune_exe.domain.plan import Candidate
from finetune_exe.domain.task import DataProfile, TaskSpec, TaskType
from finetune_exe.domain.values import Hardware
from finetune_exe.knowledge.licenses import license_facts
from finetune_exe.knowledge.models import EMBEDDED_MODEL, ModelFacts, find_model, model_facts, models_called
from finetune_exe.knowledge.rules import rule
from finetune_exe.units import GIB, format_count, format_gib

_LENGTH = 5
_NEXT_SIZE = 1.25
"""Among models up to so many times the smallest that is better and does not fit, the first by rank is named."""
_SAME_SIZE = 0.02
"""Versions of one model differ by so much at most, over its weights."""
_FEW_ROWS = 1000
"""Below so many rows the manners of a chat variant count for more than what the rows can teach (LIMA)."""
_SOME_ROWS = 0.1
"""Share of the rows from which on a language is part of the task."""
_CPU_PARAMETERS = 1e9
"""More weights than these train for days on a processor: 331 tokens/s were measured at 135 million on two cores."""
_LANGUAGES = {
    "English": "en", "German": "de", "French": "fr", "Spanish": "es", "Italian": "it", "Portuguese": "pt",
    "Dutch": "nl", "Polish": "pl", "Czech": "cs", "Russian": "ru", "Ukrainian": "uk", "Turkish": "tr", "Arabic": "ar",
    "Hindi": "hi", "Chinese": "zh", "Mandarin": "zh", "Japanese": "ja", "Korean": "ko", "Thai": "th",
    "Vietnamese": "vi", "Swedish": "sv", "Danish": "da", "Norwegian": "no", "Finnish": "fi", "Greek": "el",
    "Hebrew": "he", "Hungarian": "hu", "Romanian": "ro", "Catalan": "ca", "Basque": "eu",
    "Estonian": "et", "Latvian": "lv", "Lithuanian": "lt", "Bulgarian": "bg", "Croatian": "hr", "Serbian": "sr",
    "Slovak": "sk", "Slovenian": "sl", "Indonesian": "id", "Swahili": "sw", "Persian": "fa", "Bengali": "bn",
    "Tamil": "ta", "Urdu": "ur",
}  # fmt: skip
_NAMES = {code: name for name, code in _LANGUAGES.items() if name != "Mandarin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Need:
    """What the task, the data and the machine ask of a model."""

    spec: TaskSpec
    task: TaskType
    hardware: Hardware
    plain_text: bool
    """Whether the rows are texts to continue rather than questions with answers."""
    thinks: bool
    """Whether most answers begin with what they think."""
    languages: frozenset[str]
    several_languages: bool
    num_rows: int | None
    row_tokens: int | None
    """Tokens in all but the longest hundredth of the rows, at three characters each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """One thing considered: the less it costs the better, and nothing is worth more than what stands before it."""

    cost: float
    says: str = ""
    against: bool = False


def shortlist(
    spec: TaskSpec, *, task: TaskType, profile: DataProfile | None, hardware: Hardware
) -> tuple[Candidate, ...]:
    """Rank the base models to suggest: the best of each series, the best that fits in 4 bit alone, and the next better.

    In this order count: memory, licence, languages, length of rows, nearness (without a GPU), variant, what it was
    made for, the score of the pretrained model on MMLU, agreements to sign, year and size. Only dense models whose
    dimensions are verified are suggested, those made for code or reasoning alone for such tasks, and those without a
    chat template for plain text. Where nothing fits, the embedded model remains.

    Of a family that is asked for only its own are suggested, whatever they were made for; where none of them fits, its
    smallest.

    Args:
        spec: What is asked for; `permissive_license` leaves out all other licences, `model` may name a family.
        task: The kind of task.
        profile: What the data show; None where none were given.
        hardware: The machine the run is planned for.

    Returns:
        At least one candidate; the first is the chosen one, and only it.
    """
    need = _need(spec, task, profile, hardware)
    family = models_called(spec.model or "")
    of_all = [facts for facts in model_facts() if _may_suggest(facts, need)]
    suggested = [facts for facts in of_all if facts in family] or [*family] if family else of_all
    ranked = sorted(suggested, key=lambda facts: [point.cost for point in _points(facts, need)])
    of_series: dict[str, ModelFacts] = {}
    for facts in ranked:
        if _fits(facts, need):
            of_series.setdefault(facts.series, _newest(facts, [other for other in ranked if _fits(other, need)]))
    remains = min(suggested, key=lambda facts: facts.num_parameters) if family else find_model(EMBEDDED_MODEL)
    listed = list(of_series.values())[:_LENGTH] or [remains]
    if hardware.gpus:
        better = [facts for facts in ranked if not _fits(facts, need) and (facts.mmlu or 0) > (listed[0].mmlu or 0)
                  and license_facts(facts.license).commercial]  # fmt: skip
        least = min((facts.num_parameters for facts in better), default=0)
        near = [facts for facts in better if facts.num_parameters <= _NEXT_SIZE * least]
        in_4_bit = [facts for facts in better if _fits(facts, need, method="qlora")]
        larger = list({facts.name: facts for facts in (*in_4_bit[:1], *near[:1])}.values())
        listed = [*listed[: _LENGTH + 1 - len(larger)], *larger]
    return tuple(_candidate(facts, need, chosen=facts is listed[0]) for facts in listed)


def _newest(facts: ModelFacts, others: list[ModelFacts]) -> ModelFacts:
    """Give the latest version of a model: of its series, and of about its size."""
    versions = [other for other in others if other.series == facts.series
                and abs(other.num_parameters / facts.num_parameters - 1) < _SAME_SIZE]  # fmt: skip
    return max([facts, *versions], key=_year)


def _need(spec: TaskSpec, task: TaskType, profile: DataProfile | None, hardware: Hardware) -> _Need:
    words = set(re.findall(r"[A-Za-z]+", spec.description)) - {"polish"}
    named = {code for name, code in _LANGUAGES.items() if words & {name, name.lower()}}
    seen = {code for code, share in profile.languages.items() if share >= _SOME_ROWS} if profile else set()
    return _Need(
        spec=spec,
        task=task,
        hardware=hardware,
        plain_text=profile.format == "completion" if profile else task == "completion",
        thinks=profile is not None and profile.mostly_thinks,
        languages=frozenset(named | seen),
        several_languages=task == "translation" or len(named | seen) > 1,
        num_rows=profile.num_rows if profile else None,
        row_tokens=profile.row_characters_p99 // 3 if profile else None,
    )


def _may_suggest(facts: ModelFacts, need: _Need) -> bool:
    if need.spec.permissive_license and not license_facts(facts.license).permissive:
        return False
    if facts.specialist and need.task not in facts.strengths:
        return False
    if not facts.chat and not need.plain_text:
        return False
    return facts.verified and facts.shape.num_experts == 1 and "/" in facts.reference


def _points(facts: ModelFacts, need: _Need) -> Iterator[_Point]:
    """Judge a model, most important first; costs order the list, sayings become the candidate's reasons."""
    yield _memory(facts, need)
    yield _license(facts)
    yield _languages(facts, need)
    yield _length(facts, need)
    if not need.hardware.gpus:
        yield _nearness(facts)
    yield _variant(facts, need)
    yield _strength(facts, need)
    yield _quality(facts)
    agreement = "the hub hands it out only after an agreement is signed"
    yield _Point(cost=1, says=agreement, against=True) if facts.gated else _Point(cost=0)
    yield _Point(cost=-_year(facts), says=f"published {facts.released}" if facts.released else "")
    yield _Point(cost=-facts.num_parameters)


def _memory_needed(facts: ModelFacts, need: _Need, *, method: MethodKind) -> float:
    """Bytes a run of modest length takes by rule of thumb; 16 a weight in full training, 0.6 in 4 bit."""
    known = rule("suggested_model_memory")
    half = 2 if need.hardware.computes_bf16 else 4
    width = {"full": 16.0, "qlora": 0.6}.get(method, half)
    return facts.num_parameters * width * known["factor"] + known["extra_gib"] * GIB


def _fits(facts: ModelFacts, need: _Need, *, method: MethodKind | None = None) -> bool:
    method = method or need.spec.method or "lora"
    return _memory_needed(facts, need, method=method) <= 0.95 * need.hardware.accelerator_memory_bytes


def _memory(facts: ModelFacts, need: _Need) -> _Point:
    method: MethodKind = need.spec.method or "lora"
    needed = format_gib(_memory_needed(facts, need, method=method))
    there = format_gib(need.hardware.accelerator_memory_bytes)
    called = METHOD_PHRASES[method]
    if _fits(facts, need):
        return _Point(cost=0, says=f"by rule of thumb {called} takes {needed} of {there}")
    quantised = _memory_needed(facts, need, method="qlora")
    way = f"; with --method qlora about {format_gib(quantised)}" if method in ("lora", "full") else ""
    says = f"by rule of thumb {called} would take {needed}, and there are {there}{way}"
    return _Point(cost=1, says=says, against=True)


def _license(facts: ModelFacts) -> _Point:
    terms = license_facts(facts.license)
    return _Point(
        cost=0 if terms.commercial else 1, says=f"{facts.license}: {terms.says}", against=not terms.commercial
    )


def _languages(facts: ModelFacts, need: _Need) -> _Point:
    missing = sorted(code for code in need.languages if not facts.speaks(code))
    if missing:
        return _Point(
            cost=1, says=f"its makers do not name {language_names(missing)} among its languages", against=True
        )
    if need.several_languages and not need.languages and facts.languages == ("en",):
        return _Point(cost=1, says="its makers name English only", against=True)
    if need.languages - {"en"} or need.several_languages:
        return _Point(cost=0, says=f"made for {language_names(need.languages) or 'several languages'}")
    return _Point(cost=0)


def language_names(codes: Iterable[str]) -> str:
    """Write languages by their names, where one is known."""
    return ", ".join(sorted(_NAMES.get(code, code) for code in codes))


def _length(facts: ModelFacts, need: _Need) -> _Point:
    if need.row_tokens is None or need.row_tokens <= facts.context_length:
        return _Point(cost=0)
    rows, most = format_count(need.row_tokens), format_count(facts.context_length)
    return _Point(cost=1, says=f"made for {most} tokens, and rows have up to about {rows}", against=True)


def _nearness(facts: ModelFacts) -> _Point:
    """Without a GPU small is better than good, and what is here already better still."""
    if facts.name == EMBEDDED_MODEL:
        return _Point(cost=0, says="it is here already, and trains in minutes on a processor")
    if facts.num_parameters <= _CPU_PARAMETERS:
        return _Point(cost=1, says="small enough for a processor, in hours")
    return _Point(cost=2, says="too large to train on a processor in a day", against=True)


def _variant(facts: ModelFacts, need: _Need) -> _Point:
    """Say which variant is taken and what that means for the template."""
    two = facts.reference != facts.base_reference
    if need.plain_text and (two or not facts.chat) and facts.name != EMBEDDED_MODEL:
        return _Point(cost=0, says="the pretrained variant: texts are continued as they are, without a chat template")
    if need.plain_text:
        return _Point(cost=1, says="tuned for chat, while the rows are texts without a template", against=True)
    if need.thinks and facts.thinks and not facts.specialist:
        return _Point(cost=0, says="the chat variant, whose template has a place for what the answers think")
    if need.thinks:
        return _Point(cost=1, says="its template may not write what the answers think", against=True)
    if facts.thinks and facts.specialist:
        says = "its template opens each answer with thoughts, which the rows would have to bring"
        return _Point(cost=1, says=says, against=True)
    says = "the chat variant: rows are written in its own template, with which it must be served"
    if facts.thinks:
        says += ", thoughts switched off (enable_thinking=False)"
    if need.num_rows is not None and need.num_rows < _FEW_ROWS:
        says += f"; it brings the manners that {format_count(need.num_rows)} rows cannot teach"
    return _Point(cost=0, says=says)


def _strength(facts: ModelFacts, need: _Need) -> _Point:
    if need.task in facts.strengths:
        alone = ", at the cost of everything else" if facts.specialist else ""
        return _Point(cost=0, says=f"its makers trained it for {need.task} in particular{alone}")
    return _Point(cost=1)


def _quality(facts: ModelFacts) -> _Point:
    measured = f"; {facts.measured}" if facts.measured else ""
    if facts.mmlu is None:
        return _Point(cost=0, says=f"no comparable score is known, so it stands behind those with one{measured}")
    return _Point(
        cost=-facts.mmlu, says=f"{facts.mmlu:.1f} % on MMLU before fine-tuning ({facts.mmlu_source}){measured}"
    )


def _year(facts: ModelFacts) -> float:
    """Give the time of publication in years; the year zero where it is not known."""
    year, _, month = (facts.released or "0").partition("-")
    return int(year) + int(month or 1) / 12


def _candidate(facts: ModelFacts, need: _Need, *, chosen: bool) -> Candidate:
    points = [point for point in _points(facts, need) if point.says]
    base = need.plain_text and facts.reference != facts.base_reference
    reference = facts.base_reference if base else facts.reference
    if facts.name == EMBEDDED_MODEL:
        reference = "embedded"
    return Candidate(
        reference=reference,
        name=facts.name if reference == "embedded" else reference.rpartition("/")[2],
        num_parameters=facts.num_parameters,
        license=facts.license,
        chosen=chosen,
        reasons=tuple(f"against: {point.says}" if point.against else point.says for point in points),
    )
