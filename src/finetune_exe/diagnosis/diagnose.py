"""Say why a run failed, or that nothing shows that it did."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from finetune_exe.diagnosis.advice import advise
from finetune_exe.diagnosis.curves import Judgement, judge
from finetune_exe.diagnosis.match import Hit, Scan, calibrate, content, guessed_in, plain_question, tales_in, weigh
from finetune_exe.diagnosis.material import Material, gather, gather_words
from finetune_exe.diagnosis.read import nothing_to_diagnose, quote
from finetune_exe.diagnosis.series import Series
from finetune_exe.diagnosis.signals import Signal, signals
from finetune_exe.diagnosis.table import by_label
from finetune_exe.domain.diagnosis import Course, Diagnosis, Evidence, Finding

_LEAST = 0.3
_MOST_FINDINGS = 5
_MOST_EVIDENCE = 3
_CONTEXT_WEIGHT = 0.6
_MIXED_WEIGHT = 0.85
_CLEARLY_TOLD = 0.5
_SAID_TO_BE_WELL = 0.5
_A_FEW_SENTENCES = 3
_WORDED_WEIGHT = 0.95
_UNKNOWN = 0.29
"""How sure an exception that shows no known failure makes of being none of them: less than any guess worth reading."""
_EXCURSION = 0.86
"""How sure a loss that climbs far above its start makes of a learning rate too high."""
_FORGETTING = 0.8
"""How sure general text that became unlikely makes of forgetting."""
_SUSPICION_BESIDE_FAILURE = 0.5
_SEEN_IN_LOSSES = {"lr_divergence", "overfitting", "underfitting", "nan_loss"}
"""Causes that a course of losses would show."""
_OWN_ERROR = "error[FT-"
_MOST_DRAWN = 200
_SOUND = {"healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau",
          "rl_loss_not_informative"}  # fmt: skip
_SIGNALS_OF = {
    "overfitting": ("overfitting", "staircase"), "mild_overfitting": ("overfitting",),
    "divergence": ("divergence", "excursion", "spikes"),
    "lr_divergence": ("divergence", "excursion", "gradient_growth", "spikes"), "nan_loss": ("train_loss_not_finite",),
    "nan_eval": ("validation_loss_not_finite",), "undertrained": ("undertrained",), "plateau": ("plateau",),
    "underfitting": ("plateau", "undertrained"),
    "catastrophic_forgetting": ("forgetting",), "memorisation_suspected": ("staircase",),
    "slow_training": ("slowdown",),
    "oom": ("memory_growth",), "grad_accum_loss": ("loss_scale_mismatch",), "loss_zero_masked": ("no_gradient",),
}  # fmt: skip
_SIGNS_ALONE = {"loss_scale_mismatch": ("grad_accum_loss", 0.45), "slowdown": ("slow_training", 0.35),
                "gradient_growth": ("lr_divergence", 0.35)}  # fmt: skip
"""Signals that suggest a cause by themselves, where nothing else is found."""


def diagnose(paths: Sequence[Path], *, stdin: BinaryIO | None = None, context: str | None = None) -> Diagnosis:
    """Name what went wrong in a run, best founded first, with the lines that show it, the cause and the fix.

    Logs are read as streams, whatever their size. Secrets in quoted lines are blacked out. Where nothing is wrong the
    one finding is `healthy`, or says what the losses leave open; where only a launcher's summary is given it is
    `wrapper_only`.

    Args:
        paths: What `gather` reads; `-` stands for `stdin`.
        stdin: A stream with a log or a description, read only where a path is `-`.
        context: What the user says beside it.

    Raises:
        FineTuneError: L01 where there is nothing to read, or it is empty or no text.
    """
    return diagnose_material(gather(paths, stdin=stdin) if paths else None, context=context)


def diagnose_material(material: Material | None, *, context: str | None = None) -> Diagnosis:
    """Name what went wrong, from what was gathered, or from the user's words alone where that is None.

    Raises:
        FineTuneError: L01 where there is neither.
    """
    if material is None or not material.names:
        if not context:
            raise nothing_to_diagnose("no file and no description was given", where="the command line")
        material, context = gather_words(context), None
    series = material.series
    return Diagnosis(
        subject=", ".join(material.names),
        findings=tuple(_findings(material, context or "")),
        tool=material.tool,
        versions=dict(list(material.scan.versions.items())[:12]),
        course=Course(train=_drawn(series, "train_loss"), validation=_drawn(series, "eval_loss")),
    )


def _findings(material: Material, context: str) -> list[Finding]:
    """Weigh all evidence and keep what is likely enough to be worth reading."""
    scan = material.scan
    failed = any(True for _ in scan.exceptions.decisive())
    judgement = _judged_with_settings(material)
    shown = signals(material.series)
    sound = judgement is not None and judgement.label in _SOUND
    suspected = _suspected(material, failed=failed, sound=sound)
    hits = [*_shown(scan, failed=failed), *_told(scan, context, failed=failed), *suspected]
    weights = weigh(hits, failed=failed)
    if judgement and judgement.label not in _SOUND:
        weights[judgement.label] = max(judgement.confidence, weights.get(judgement.label, 0.0))
    if any(signal.name == "excursion" for signal in shown) and not material.series.rewards:
        weights["lr_divergence"] = max(_EXCURSION, weights.get("lr_divergence", 0.0))
    if any(signal.name == "forgetting" for signal in shown):
        weights["catastrophic_forgetting"] = max(_FORGETTING, weights.get("catastrophic_forgetting", 0.0))
    if not failed and (judgement is None or judgement.label in _SOUND):
        for signal in shown:
            label, weight = _SIGNS_ALONE.get(signal.name, ("", 0.0))
            if label:
                weights[label] = max(weight, weights.get(label, 0.0))
    ranked = sorted((label for label in weights if weights[label] >= _LEAST), key=lambda label: -weights[label])
    chances = calibrate({label: weights[label] for label in ranked[:_MOST_FINDINGS]})
    findings = [_finding(label, chances[label], hits, judgement, shown, material) for label in ranked[:_MOST_FINDINGS]]
    if not findings or weights[ranked[0]] < 0.5 or ranked[0] == "interrupted":
        findings += _nothing_certain(material, judgement, shown, failed=failed, read=bool(findings))
    return sorted(findings, key=lambda finding: -finding.confidence)


def _judged_with_settings(material: Material) -> Judgement | None:
    """Judge the losses; a 0 with gradients that are no numbers is an overflow where float16 was used."""
    judgement = _judged(material)
    half = material.plan.precision.base_dtype if material.plan else material.settings.get("precision.base_dtype")
    norms = [p.grad_norm for p in material.series.points if p.train_loss == 0 and p.grad_norm is not None]
    no_number = bool(norms) and not any(map(math.isfinite, norms))
    if judgement and judgement.label == "loss_zero_masked" and half == "float16" and no_number:
        return Judgement(label="nan_loss", confidence=0.85, evidence=judgement.evidence)
    return judgement


def _judged(material: Material) -> Judgement | None:
    """Judge the whole histories first; a rise in a mere log names its cause, the rate, rather than its shape."""
    logged = material.scan.metrics.series
    histories = material.histories if material.series is not logged else []
    for series in histories:
        judgement = judge(series)
        if judgement:
            return judgement
    judgement = judge(logged)
    if judgement and judgement.label == "divergence":
        return Judgement(label="lr_divergence", confidence=judgement.confidence, evidence=judgement.evidence)
    return judgement


def _shown(scan: Scan, *, failed: bool) -> list[Hit]:
    """Give the evidence of lines; a sentence or two that tell of success prove nothing by the words they use."""
    hits = scan.evidence()
    if failed or scan.prose is None or len(scan.prose) > _A_FEW_SENTENCES or not content("\n".join(scan.prose)):
        return hits
    return [_weaker(hit, _SAID_TO_BE_WELL) for hit in hits]


def _told(scan: Scan, context: str, *, failed: bool) -> list[Hit]:
    """Read descriptions: the input itself where it is short and no traceback, and the context beside it."""
    if failed:
        return [_weaker(hit, _CONTEXT_WEIGHT) for hit in tales_in(context)] + _worded(scan)
    if scan.prose is None or any(_OWN_ERROR in line for line in scan.prose):
        return [_weaker(hit, _CONTEXT_WEIGHT) for hit in tales_in(context)]
    prose = "\n".join(scan.prose)
    if content(prose) or plain_question(prose):
        return [_weaker(hit, _SAID_TO_BE_WELL) for hit in tales_in(prose)]
    told = tales_in(prose)
    labels = {hit.label for hit in told}
    both = [hit for hit in tales_in(f"{prose}\n{context}") if hit.label not in labels] if context else []
    told += [_weaker(hit, _MIXED_WEIGHT) for hit in both]
    return told if any(hit.strength > _CLEARLY_TOLD for hit in told) else [*told, *guessed_in(f"{prose}\n{context}")]


def _worded(scan: Scan) -> list[Hit]:
    """Read messages of exceptions that show no sign of a known failure as if a person had written them."""
    known = {hit.line for hit in scan.evidence()}
    return [
        replace(_weaker(hit, _WORDED_WEIGHT), text=raised.text, line=raised.number, source=raised.source)
        for raised in scan.exceptions.decisive()
        if raised.number not in known
        for hit in tales_in(raised.text)
    ]


def _suspected(material: Material, *, failed: bool, sound: bool) -> list[Hit]:
    """Take what settings, adapters and answers show; what a setting makes likely counts less once losses were seen.

    Where the losses are sound, they refute what such a setting would have done to them.
    """
    hits = []
    for hit in material.hits:
        refuted = hit.setting is not None and sound and hit.label in _SEEN_IN_LOSSES
        if not refuted:
            beside = failed or (sound and hit.setting is not None)
            hits.append(_weaker(hit, _SUSPICION_BESIDE_FAILURE if beside else 1.0))
    return hits


def _weaker(hit: Hit, factor: float) -> Hit:
    return replace(hit, strength=hit.strength * factor)


def _nothing_certain(
    material: Material, judgement: Judgement | None, shown: Sequence[Signal], *, failed: bool, read: bool
) -> Iterator[Finding]:
    """Say what is left to say where no known failure is likely."""
    scan = material.scan
    if failed:
        last = list(scan.exceptions.decisive())[-1]
        hit = Hit(label="unknown_error", strength=_UNKNOWN, text=last.text, line=last.number, source=last.source)
        yield _finding("unknown_error", _UNKNOWN, [hit], None, shown, material)
    elif not read and (own := _own_error(scan)):
        hit = Hit(label="unknown_error", strength=_UNKNOWN, text=own.what)
        found = _finding("unknown_error", _UNKNOWN, [hit], None, shown, material)
        yield found.model_copy(update={"fix": own.fix}) if own.fix else found
    elif judgement and judgement.label in _SOUND:
        yield _finding(judgement.label, judgement.confidence, [], judgement, shown, material)
    elif not read:
        said = f"{scan.num_lines} lines read, no exception, no known wording of a failure, too few losses to judge"
        hit = Hit(label="not_recognised", strength=0.1, text=said)
        yield _finding("not_recognised", 0.1, [hit], None, (), material)


class _OwnError(NamedTuple):
    """What an error of this program says."""

    what: str
    fix: str


def _own_error(scan: Scan) -> _OwnError | None:
    """Find an error of this program in a short text, which says itself what to do."""
    lines = scan.prose or []
    what = next((line for line in lines if _OWN_ERROR in line), None)
    fix = next((line.partition("fix:")[2].strip() for line in lines if line.lstrip().startswith("fix:")), "")
    return _OwnError(what, fix) if what else None


def _finding(
    label: str, confidence: float, hits: Sequence[Hit], judgement: Judgement | None, shown: Sequence[Signal],
    material: Material,
) -> Finding:  # fmt: skip
    """Put one cause together with what shows it and what to do."""
    mine = [signal for name in _SIGNALS_OF.get(label, ()) for signal in shown if signal.name == name]
    own = sorted((hit for hit in hits if hit.label == label), key=lambda hit: (-hit.strength, hit.line or 0))
    place = next((hit.place for hit in own if hit.place), None)
    cause = by_label()[label]
    advice = advise(cause, place=place, signals=mine, material=material)
    return Finding(
        label=label,
        confidence=round(confidence, 2),
        title=cause.places[place].title if place and place in cause.places else cause.title,
        evidence=tuple(_evidence(label, own, judgement, mine, source=material.series.source)),
        cause=cause.cause,
        fix=advice.fix,
        patch=advice.patch,
        place=place,
        since_step=mine[0].step if mine else None,
        effect=mine[0].effect if mine and math.isfinite(mine[0].effect) else None,
        fix_in=advice.fix_in,
        own_keys=advice.own_keys,
        proof=cause.proof,
        questions=cause.questions,
        sources=cause.sources[:3],
    )


def _evidence(
    label: str, own: Sequence[Hit], judgement: Judgement | None, mine: Sequence[Signal], *, source: str
) -> Iterator[Evidence]:
    """Quote the strongest lines first, each once, then the figures of the curve."""
    quoted = dict.fromkeys((hit.line, quote(f"{hit.source} {hit.text}" if hit.source else hit.text)) for hit in own)
    yield from (Evidence(line=line, text=text) for line, text in list(quoted)[:_MOST_EVIDENCE])
    if judgement and judgement.label in (label, "divergence" if label == "lr_divergence" else label):
        yield from (Evidence(line=None, text=figure) for figure in judgement.evidence)
    for signal in mine[:2]:
        since = "" if signal.step is None else f", from step {signal.step:g} on"
        where = f"{source}: " if source and signal.line is not None else ""
        yield Evidence(line=signal.line, text=f"{where}{signal.text}{since}")


def _drawn(series: Series, key: str) -> tuple[tuple[float, float], ...]:
    """Take at most 200 points, each the middle one of those it stands for."""
    points = [(float(i if p.step is None else p.step), getattr(p, key)) for i, p in enumerate(series.points)]
    known = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    stride = max(1, math.ceil(len(known) / _MOST_DRAWN))
    return tuple(sorted(known[i : i + stride], key=lambda pair: pair[1])[len(known[i : i + stride]) // 2]
                 for i in range(0, len(known), stride))  # fmt: skip
