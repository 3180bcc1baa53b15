"""Report what is wrong with data, and change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from finetune_exe.data.checks import DATA_CHECKS
from finetune_exe.data.checks.facts import Facts, join_facts
from finetune_exe.data.checks.findings import Findings, judge
from finetune_exe.data.checks.held_out import HeldOutRows, contaminated
from finetune_exe.data.checks.label_names import label_counts
from finetune_exe.data.checks.places import Places
from finetune_exe.data.checks.survey import CHUNK_ROWS, Chunk, Prove, available_workers, survey_all
from finetune_exe.data.faults import FileNote
from finetune_exe.data.histogram import count_lengths
from finetune_exe.data.ingest import SourceRows, open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.dataset import CheckReport, LabelCount, SplitName
from finetune_exe.domain.task import FormatName
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.tokenizer import ChatTokenizer

_LARGE_BYTES = 8_000_000
"""Smaller data is looked at in one process: starting others takes longer."""


def check(
    paths: Sequence[str],
    *,
    validation: Sequence[str] = (),
    test: Sequence[str] = (),
    benchmarks: Path | None = None,
    format_name: FormatName | None = None,
    columns: Mapping[str, str] | None = None,
    tokenizer: ChatTokenizer | None = None,
    max_length: int = 1024,
    workers: int | None = None,
) -> CheckReport:
    """Read data and report everything that is wrong with it.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        validation: Data held out while training: rows of it that are in `paths` too are leaks.
        test: Data held out for the end, likewise.
        benchmarks: A folder of benchmark files that must not be trained on.
        format_name: Form of the rows; None looks for itself.
        columns: Which columns hold "prompt" and "answer", where names and contents do not say so.
        tokenizer: The base model's; with it, lengths and loss masks are checked too.
        max_length: Longest training sequence in tokens; used with a tokenizer only.
        workers: Processes to look at rows with; None takes every core for large data. It changes nothing but the time.

    Raises:
        FineTuneError: C05, D03 or D07 where the data cannot be read at all.
    """
    files: list[FileNote] = []
    opened = open_sources(
        find_sources(paths), format_name=format_name, columns=columns, unreadable=files, preferences=True
    )
    places = Places(split="train")
    findings = Findings(places)
    facts = _survey(opened, places, findings, workers=workers, prove=_proof(tokenizer, max_length))
    for data_check in DATA_CHECKS:
        findings.add(data_check.code, data_check.find(facts))
    splits: tuple[tuple[SplitName, Sequence[str]], ...] = (("validation", validation), ("test", test))
    for split, held_out in splits:
        if held_out:
            rows = HeldOutRows(split, held_out, format_name=format_name, columns=columns)
            for code, hits in rows.leaks(facts).items():
                findings.add_elsewhere(code, hits, rows.places)
    if benchmarks is not None:
        findings.add("benchmark_contamination", contaminated(facts, benchmarks))
    for note in (*files, *(note for opening in opened for note in opening.notes)):
        findings.add_file(note)
    found = findings.in_order()
    lost = {
        row.index
        for finding in found
        if finding.severity == "error"
        for row in finding.rows
        if row.split == "train" and row.index is not None
    }
    detection = opened[0].detection if opened else None
    return CheckReport(
        format=detection.format.name if detection else None,
        format_evidence=_evidence(opened),
        records=len(places),
        kept=len(places) - len(lost),
        masks_checked=tokenizer is not None,
        quality=judge(found, num_rows=len(places)),
        characters=count_lengths(facts.characters),
        labels=_labels(facts),
        findings=found,
    )


def _evidence(opened: Sequence[SourceRows]) -> tuple[str, ...]:
    """Say why the format is this one: what was seen in the first file."""
    if not opened:
        return ()
    evidence = opened[0].detection.evidence
    return evidence if len(opened) == 1 else (*evidence, f"seen in the first of {len(opened):,} files")


def _labels(facts: Facts) -> tuple[LabelCount, ...]:
    counts: Mapping[str, int] = label_counts(facts) or {}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(LabelCount(label=label, count=count) for label, count in ordered)


def _survey(
    opened: Sequence[SourceRows], places: Places, findings: Findings, *, workers: int | None, prove: Prove | None
) -> Facts:
    """Look at the rows one by one, and keep what the checks over all of them need."""
    if not opened:
        return join_facts(())
    surveys = survey_all(
        _chunks(opened, places),
        workers=workers or (available_workers() if _size(opened) > _LARGE_BYTES else 1),
        prove=prove,
    )
    tables = []
    for survey in surveys:
        findings.add_survey(survey)
        tables.append(survey.facts)
    return join_facts(tables)


def _chunks(opened: Sequence[SourceRows], places: Places) -> Iterator[Chunk]:
    """Note where each record stands, and hand the records on by the thousand."""
    for opening in opened:
        places.begin(opening.source.name)
        entries = iter(opening.entries)
        count = 0
        while chunk := list(islice(entries, CHUNK_ROWS)):
            first = len(places)
            for entry in chunk:
                count += 1
                index = places.add(entry.line)
                if opening.source.path is None:
                    places.special[index] = opening.source.place(entry, count)
            yield Chunk(first, chunk, replace(opening, entries=iter(()), notes=[]))


def _size(opened: Sequence[SourceRows]) -> int:
    return sum(opening.source.path.stat().st_size for opening in opened if opening.source.path is not None)


def _proof(tokenizer: ChatTokenizer | None, max_length: int) -> Prove | None:
    if tokenizer is None:
        return None
    from finetune_exe.data.encoded import END_MARK_WRITTEN, TOOLS_NOT_WRITTEN, encode_conversations, lacks_tools

    def prove(conversations: Sequence[Conversation]) -> list[RowFault | None]:
        found = encode_conversations(conversations, tokenizer, max_length=max_length)
        return [
            encoded.fault
            or (END_MARK_WRITTEN if encoded.changes else None)
            or (TOOLS_NOT_WRITTEN if lacks_tools(conversation, tokenizer) else None)
            for conversation, encoded in zip(conversations, found, strict=True)
        ]

    return prove
