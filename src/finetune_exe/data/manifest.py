"""The manifest of a prepared dataset: what it was made of, and what it came to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from finetune_exe import __version__
from finetune_exe.data.assemble import Assembled
from finetune_exe.data.intake import Intake
from finetune_exe.data.shards import ShardJob
from finetune_exe.data.sides import PlannedSource, plan_sources
from finetune_exe.data.spool import read_spooled
from finetune_exe.data.token_report import report_tokens
from finetune_exe.domain.dataset import MaskProof, PreparedDataset, SourceFile, SplitName
from finetune_exe.domain.plan import Plan
from finetune_exe.prepared.store import SequenceView
from finetune_exe.text.formats.detect import Detection
from finetune_exe.text.tokenizer import ChatTokenizer

SAMPLE_ROWS = 300
"""Rows looked at for tokens per word, which is then known to 1 or 2 % (one standard error in three public files)."""


def describe(
    plan: Plan,
    tokenizer: ChatTokenizer,
    planned: Sequence[PlannedSource],
    detection: Detection,
    rows: Intake,
    assembled: Assembled,
    work: Path,
    jobs: Sequence[ShardJob],
    *,
    members: Mapping[SplitName, str],
    split_evidence: tuple[str, ...],
    notes: tuple[str, ...],
) -> PreparedDataset:
    """Say what became of every row, token and mask."""
    account = rows.account
    drops = account.dropped.drops()
    files = tuple(entry.source.describe(num_rows=rows.seen[number]) for number, entry in enumerate(planned))
    num_kept = sum(split.num_rows for split in assembled.splits.values())
    return PreparedDataset(
        inputs={"plan": plan.digest()},
        key=_key(plan, tokenizer, planned, files),
        format=detection.format.name,
        format_evidence=detection.evidence,
        sources=files,
        seen=rows.seen.total(),
        kept=num_kept,
        dropped=drops,
        altered=account.changed.alterations(),
        num_altered=account.num_altered,
        seen_learned_tokens=account.seen_learned_tokens,
        on_too_long=plan.data.on_too_long,
        paired=plan.objective.kind == "dpo",
        tokens=report_tokens(
            plan, tokenizer, lengths=assembled.lengths, learned=assembled.learned, too_long=account.too_long,
            used=assembled.used, num_unknown=account.num_unknown, sample=_sample(jobs),
        ),
        splits={
            name: split.model_copy(update={"members": members[name]}) for name, split in assembled.splits.items()
        },
        split_evidence=split_evidence,
        mask_proof=MaskProof(
            num_proven=num_kept,
            num_disagreeing=sum(drop.count for drop in drops if drop.code == "mask_not_proven"),
            end_of_turn_learned=account.num_ends_learned == num_kept,
            stop_tokens=tokenizer.stop_tokens,
        ),
        template_digest=tokenizer.template_digest,
        tokenizer_digest=tokenizer.tokenizer_digest,
        bos_token=tokenizer.bos_token,
        pad_token_id=tokenizer.pad_token_id,
        max_length=plan.data.max_length,
        example=_example(work, tokenizer),
        notes=notes,
    )  # fmt: skip


def _sample(jobs: Sequence[ShardJob]) -> list[str]:
    """Take the contents of some rows, spread over the shards."""
    texts: list[str] = []
    for job in jobs[:: max(1, len(jobs) // 10)]:
        for number, row in enumerate(read_spooled(Path(job.rows))):
            if number >= SAMPLE_ROWS // min(10, len(jobs)):
                break
            texts += (message.content for message in row.conversation.messages)
    return texts


_NOT_CONTENT = {"paths", "validation_paths", "test_paths", "chat_template", "test_digest"}
"""Settings that other parts of the key stand for, or that only ask for what comes out."""


def dataset_key(plan: Plan, tokenizer: ChatTokenizer) -> str:
    """Name what `prepare` would make: equal keys mean equal datasets, so an equal one need not be made again.

    Raises:
        FineTuneError: C05 or D07 where the plan's data is not there.
    """
    planned = plan_sources(plan.data)
    return _key(plan, tokenizer, planned, [entry.source.describe(num_rows=0) for entry in planned])


def _key(plan: Plan, tokenizer: ChatTokenizer, planned: Sequence[PlannedSource], files: Sequence[SourceFile]) -> str:
    """Hash the files' content, the settings but for the paths, template, tokenizer and our version."""
    parts = {
        "files": [(file.sha256, entry.side) for file, entry in zip(files, planned, strict=True)],
        "data": plan.data.model_dump(mode="json", exclude=_NOT_CONTENT),
        "seed": plan.seed,
        **({"paired": True} if plan.objective.kind == "dpo" else {}),
        "template": tokenizer.template_digest,
        "tokenizer": tokenizer.tokenizer_digest,
        "version": __version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _example(work: Path, tokenizer: ChatTokenizer) -> tuple[tuple[str, bool], ...]:
    """Decode the first training sequence in runs of learned and unlearned tokens."""
    arrays = {name: np.load(work / f"train.{name}.npy", mmap_mode="r", allow_pickle=False)
              for name in ("tokens", "learned", "offsets")}  # fmt: skip
    end = int(arrays["offsets"][1])
    sequence = SequenceView(arrays["tokens"][:end], arrays["learned"][:end])
    runs: list[tuple[list[int], bool]] = []
    for token, learned in zip(sequence.tokens.tolist(), sequence.learned.tolist(), strict=True):
        if not runs or runs[-1][1] != learned:
            runs.append(([], learned))
        runs[-1][0].append(token)
    return tuple((tokenizer.decode(ids), learned) for ids, learned in runs)
