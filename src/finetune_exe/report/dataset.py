"""What became of the user's rows."""

from __future__ import annotations

from finetune_exe.domain.dataset import SPLITS, PreparedDataset
from finetune_exe.report.page import (
    Block,
    Bullet,
    Field,
    Heading,
    Table,
    Title,
    Verbatim,
    Words,
    render_markdown,
    render_text,
)
from finetune_exe.units import format_count, format_percent

LEARNED_OPEN, LEARNED_CLOSE = "[[", "]]"
_EXAMPLE_CHARACTERS = 1500


def render_dataset(dataset: PreparedDataset) -> str:
    """Write the account of every row: kept, dropped and why, how split, and the proof of the masks."""
    return render_text(_dataset_page(dataset))


def render_dataset_markdown(dataset: PreparedDataset) -> str:
    """Write the same account as Markdown."""
    return render_markdown(_dataset_page(dataset))


def _dataset_page(dataset: PreparedDataset) -> list[Block]:
    seen, kept, dropped = map(format_count, (dataset.seen, dataset.kept, dataset.seen - dataset.kept))
    files = ", ".join(f"{source.path} ({format_count(source.num_rows)} rows)" for source in dataset.sources)
    return [
        Title("PREPARED DATASET", (
            Field("Files", files or "none"),
            Field("Format", "; ".join((dataset.format, *dataset.format_evidence))),
            Field("Rows", f"{seen} seen = {kept} kept + {dropped} dropped"),
        )),
        *_dropped(dataset),
        Heading("SPLITS"), _splits(dataset),
        Heading("MASK PROOF"), *_proof(dataset),
        *_example(dataset),
    ]  # fmt: skip


def _dropped(dataset: PreparedDataset) -> list[Block]:
    if not dataset.dropped:
        return []
    rows = tuple(
        (drop.code, format_count(drop.count), drop.first, f"{drop.message}\nfix: {drop.fix}")
        for drop in dataset.dropped
    )
    return [Heading("ROWS DROPPED"), Table(header=("Code", "Rows", "First", "Why, and the fix"), rows=rows)]


def _splits(dataset: PreparedDataset) -> Table:
    rows = []
    for name in SPLITS:
        if name not in dataset.splits:
            continue
        split = dataset.splits[name]
        share = split.num_learned_tokens / split.num_tokens if split.num_tokens else 0.0
        rows.append((
            name, format_count(split.num_rows), format_count(split.num_groups), format_count(split.num_sequences),
            format_count(split.num_tokens), format_percent(share),
            f"{split.length_p50}/{split.length_p95}/{split.length_max}",
        ))  # fmt: skip
    header = ("Split", "Rows", "Groups", "Sequences", "Tokens", "Learned", "p50/p95/max")
    return Table(header=header, rows=tuple(rows))


def _proof(dataset: PreparedDataset) -> list[Block]:
    proof = dataset.mask_proof
    ways = " and ".join(proof.derivations)
    stops = ", ".join(proof.stop_tokens) or "none"
    return [
        Bullet(f"{format_count(proof.num_proven)} rows proven: {ways} agree on every token"),
        Bullet(f"{format_count(proof.num_disagreeing)} rows where they disagree, left out"),
        Bullet(
            f"every answer ends in a learned stop token: {stops}"
            if proof.end_of_turn_learned
            else f"NOT every answer ends in a learned stop token ({stops}): the model may not learn to stop"
        ),
        Bullet(f"longest sequence allowed: {format_count(dataset.max_length)} tokens"),
    ]


def _example(dataset: PreparedDataset) -> list[Block]:
    if not dataset.example:
        return []
    text = "".join(f"{LEARNED_OPEN}{piece}{LEARNED_CLOSE}" if learned else piece for piece, learned in dataset.example)
    cut = len(text) - _EXAMPLE_CHARACTERS
    shown = (
        text
        if cut <= 0
        else f"{text[: _EXAMPLE_CHARACTERS // 2]}\n[{cut:,} characters]\n{text[-_EXAMPLE_CHARACTERS // 2 :]}"
    )
    return [
        Heading("ONE ROW"),
        Words(f"What stands in {LEARNED_OPEN} {LEARNED_CLOSE} is learned:"),
        Verbatim(shown.strip("\n")),
    ]
