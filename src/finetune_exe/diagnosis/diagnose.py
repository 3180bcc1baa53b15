"""Say why a run failed, or that nothing shows that it did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from finetune_exe.diagnosis.curves import Judgement, judge
from finetune_exe.diagnosis.match import Hit, Scan, tales_in, weigh
from finetune_exe.diagnosis.read import Line, nothing_to_diagnose, quote, read_file, read_stream, read_text
from finetune_exe.diagnosis.series import Series, read_run_events, read_trainer_state
from finetune_exe.diagnosis.sieve import Sieve
from finetune_exe.diagnosis.table import Cause, by_label
from finetune_exe.domain.diagnosis import Diagnosis, Evidence, Finding
from finetune_exe.domain.events import Noticed, RunFinished, read_events
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.values import Leaf
from finetune_exe.errors import FineTuneError

STDIN = Path("-")
_LEAST = 0.3
_MOST_FINDINGS = 5
_MOST_EVIDENCE = 3
_CONTEXT_WEIGHT = 0.6
_MIXED_WEIGHT = 0.85
_SHORT_OF_CERTAIN = 0.99
_SOUND = {"healthy", "train_only_falling", "undertrained", "mild_overfitting", "memorisation_suspected", "plateau",
          "rl_loss_not_informative"}  # fmt: skip
_LOGS = ("*.log", "*.txt", "*.out", "*.err")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """What the run was told, by dotted path."""

    values: Mapping[str, Leaf]
    complete: bool
    """Whether these are all settings of a plan, so that a path not among them does not apply."""


@dataclass(slots=True)
class _Material:
    """All that was read."""

    scan: Scan = field(default_factory=Scan)
    histories: list[Series] = field(default_factory=list)
    """Losses from trainer states and events, which are whole, unlike those picked out of a log."""
    plan: Plan | None = None
    unfinished: bool = False
    names: list[str] = field(default_factory=list)


def diagnose(paths: Sequence[Path], *, stdin: BinaryIO | None = None, context: str | None = None) -> Diagnosis:
    """Name what went wrong in a run, best founded first, with the lines that show it, the cause and the fix.

    Logs are read as streams, whatever their size. Secrets in quoted lines are blacked out. Where nothing is wrong the
    one finding is `healthy`, or says what the losses leave open; where only a launcher's summary is given it is
    `wrapper_only`.

    Args:
        paths: Logs, trainer_state.json files, events.jsonl files, or folders of runs; `-` stands for `stdin`.
        stdin: A stream with a log or a description, read only where a path is `-`.
        context: What the user says beside it.

    Raises:
        FineTuneError: L01 where there is nothing to read, or it is empty or no text.
    """
    material = _Material()
    for path in paths:
        if path == STDIN and stdin is not None:
            material.names.append("standard input")
            sieve = Sieve()
            material.scan.read(read_stream(stdin, where="standard input", sieve=sieve), sieve)
        else:
            _read(path, material)
    if not material.names:
        if not context:
            raise nothing_to_diagnose("no file and no description was given", where="the command line")
        material.names.append("the description")
        material.scan.read(read_text(context, where="the description"), Sieve())
        context = None
    return Diagnosis(subject=", ".join(material.names), findings=tuple(_findings(material, context or "")))


def _read(path: Path, material: _Material) -> None:
    if path.is_dir():
        _read_folder(path, material)
        return
    material.names.append(quote(str(path)))
    if path.suffix == ".json":
        material.histories.append(read_trainer_state(path, _bytes(path)))
    elif path.name == "events.jsonl":
        _bytes(path)
        events = read_events(path)
        material.histories.append(read_run_events(events))
        material.unfinished = bool(events) and not any(isinstance(event, RunFinished) for event in events)
        notices = (Line(number=i, text=e.message) for i, e in enumerate(events, 1) if isinstance(e, Noticed))
        material.scan.read(notices, Sieve())
    else:
        sieve = Sieve()
        material.scan.read(read_file(path, sieve=sieve), sieve)


def _read_folder(folder: Path, material: _Material) -> None:
    """Read a run's folder, ours or one that a Trainer wrote."""
    files = [
        folder / "events.jsonl",
        folder / "trainer_state.json",
        *(log for kind in _LOGS for log in sorted(folder.glob(kind))),
    ]
    found = [file for file in files if file.is_file() and file.stat().st_size]
    if not found:
        states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda state: state.stat().st_mtime)
        found = states[-1:]
    if not found:
        raise nothing_to_diagnose("the folder holds no events.jsonl, trainer_state.json or log", where=str(folder))
    for file in found:
        _read(file, material)
    if (folder / "plan.yaml").is_file():
        try:
            material.plan = read_plan(folder / "plan.yaml")
        except FineTuneError as fault:
            material.names.append(f"plan.yaml (left out: {fault.what})")


def _bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise nothing_to_diagnose(f"it cannot be read: {fault.strerror or fault}", where=str(path)) from fault
    if not content.strip():
        raise nothing_to_diagnose("it is empty", where=str(path))
    return content


def _findings(material: _Material, context: str) -> list[Finding]:
    """Weigh all evidence and keep what is likely enough to be worth reading."""
    scan, known = material.scan, _known_settings(material)
    failed = any(True for _ in scan.exceptions.decisive())
    judgement = _judged(material)
    hits = [*scan.evidence(), *_told(scan, context, failed=failed)]
    weights = weigh(hits, failed=failed)
    if judgement and judgement.label not in _SOUND:
        weights[judgement.label] = max(judgement.confidence, weights.get(judgement.label, 0.0))
    if material.unfinished:
        weights["interrupted"] = 0.45
    ranked = sorted((label for label in weights if weights[label] >= _LEAST), key=lambda label: -weights[label])
    findings = [
        _finding(by_label()[label], weights[label], _evidence(label, hits, judgement), known)
        for label in ranked[:_MOST_FINDINGS]
    ]
    if not findings or weights[ranked[0]] < 0.5:
        findings += _nothing_certain(scan, judgement, known, failed=failed, read=bool(findings))
    return sorted(findings, key=lambda finding: -finding.confidence)


def _judged(material: _Material) -> Judgement | None:
    """Judge the whole histories first; a rise in a mere log names its cause, the rate, rather than its shape."""
    for series in material.histories:
        judgement = judge(series)
        if judgement:
            return judgement
    judgement = judge(material.scan.metrics.series)
    if judgement and judgement.label == "divergence":
        return Judgement(label="lr_divergence", confidence=judgement.confidence, evidence=judgement.evidence)
    return judgement


def _told(scan: Scan, context: str, *, failed: bool) -> list[Hit]:
    """Read descriptions: the input itself where it is short and no traceback, and the context beside it."""
    if scan.prose is None or failed:
        return [_weaker(hit, _CONTEXT_WEIGHT) for hit in tales_in(context)]
    prose = "\n".join(scan.prose)
    told = tales_in(prose)
    labels = {hit.label for hit in told}
    both = [hit for hit in tales_in(f"{prose}\n{context}") if hit.label not in labels] if context else []
    return [*told, *(_weaker(hit, _MIXED_WEIGHT) for hit in both)]


def _weaker(hit: Hit, factor: float) -> Hit:
    return Hit(label=hit.label, strength=hit.strength * factor, text=hit.text, line=hit.line)


def _nothing_certain(
    scan: Scan, judgement: Judgement | None, known: _Settings, *, failed: bool, read: bool
) -> Iterator[Finding]:
    """Say what is left to say where no known failure is likely."""
    if failed:
        last = list(scan.exceptions.decisive())[-1]
        yield _finding(by_label()["unknown_error"], 0.4, [Evidence(line=last.number, text=quote(last.text))], known)
    elif judgement and judgement.label in _SOUND:
        yield _finding(
            by_label()[judgement.label], judgement.confidence, _evidence(judgement.label, [], judgement), known
        )
    elif not read:
        said = f"{scan.num_lines} lines read, no exception, no known wording of a failure, too few losses to judge"
        yield _finding(by_label()["not_recognised"], 0.1, [Evidence(line=None, text=said)], known)


def _evidence(label: str, hits: Sequence[Hit], judgement: Judgement | None) -> list[Evidence]:
    """Quote the strongest lines first, each once, then the figures of the curve."""
    mine = sorted((hit for hit in hits if hit.label == label), key=lambda hit: (-hit.strength, hit.line or 0))
    quoted = list(dict.fromkeys((hit.line, quote(hit.text)) for hit in mine))[:_MOST_EVIDENCE]
    figures = judgement.evidence if judgement and judgement.label == label else ()
    return [*(Evidence(line=line, text=text) for line, text in quoted), *(Evidence(line=None, text=f) for f in figures)]


def _finding(cause: Cause, confidence: float, evidence: Sequence[Evidence], known: _Settings) -> Finding:
    patch = {
        path: value
        for path, value in cause.patch.items()
        if (path in known.values or not known.complete) and known.values.get(path, ...) != value
    }
    for path, factor in cause.scale.items():
        present = known.values.get(path)
        if isinstance(present, int | float):
            scaled = float(f"{present * factor:.2g}")
            patch[path] = round(scaled) if isinstance(present, int) else scaled
    return Finding(
        label=cause.label,
        confidence=round(min(confidence, _SHORT_OF_CERTAIN), 2),
        title=cause.title,
        evidence=tuple(evidence),
        cause=cause.cause,
        fix=cause.fix,
        patch=patch,
    )


def _known_settings(material: _Material) -> _Settings:
    """Collect the settings the run had, by path: all of them from its plan, or the little its losses say."""
    if material.plan:
        return _Settings(values={path: value for path, value, _ in material.plan.settings()}, complete=True)
    known: dict[str, Leaf] = {}
    for series in [material.scan.metrics.series, *material.histories]:
        if series.peak_learning_rate:
            known["optimizer.learning_rate"] = series.peak_learning_rate
        if series.planned_epochs:
            known["schedule.epochs"] = series.planned_epochs
    return _Settings(values=known, complete=False)
