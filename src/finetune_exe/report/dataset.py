"""What became of the user's rows."""

from __future__ import annotations

from collections.abc import Iterator

from finetune_exe.domain.dataset import SPLITS, Drop, PreparedDataset
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
FERTILITY_SHOWN = 6
FERTILITY_SHARE = 0.02
"""Of all words: of less, a language is mostly names and fragments taken for it."""


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
            Field("Rows", f"{seen} seen = {kept} kept{_altered_note(dataset)} + {dropped} dropped"),
            *(Field("Learned tokens", account) for account in learned_tokens(dataset)),
        )),
        *(Bullet(f"note: {note}") for note in dataset.notes),
        *_dropped(dataset),
        *_altered(dataset),
        Heading("SPLITS"), _splits(dataset), *(Bullet(reason) for reason in dataset.split_evidence),
        *(Bullet(digests) for digests in rows_held_out(dataset)),
        *_tokens(dataset),
        Heading("MASK PROOF"), *_proof(dataset),
        *_example(dataset),
    ]  # fmt: skip


def _dropped(dataset: PreparedDataset) -> list[Block]:
    if not dataset.dropped:
        return []
    rows = tuple(
        (drop.code, format_count(drop.count), _tokens_of(drop), drop.first, f"{drop.message}\nfix: {drop.fix}")
        for drop in dataset.dropped
    )
    header = ("Code", "Rows", "Tokens", "First", "Why, and the fix")
    return [Heading("ROWS DROPPED"), Table(header=header, rows=rows)]


def _tokens_of(drop: Drop) -> str:
    return "" if drop.num_learned_tokens is None else format_count(drop.num_learned_tokens)


def _altered_note(dataset: PreparedDataset) -> str:
    if not dataset.num_altered:
        return ""
    as_they_are, altered = format_count(dataset.kept - dataset.num_altered), format_count(dataset.num_altered)
    return f" ({as_they_are} as they are, {altered} altered)"


def learned_tokens(dataset: PreparedDataset) -> Iterator[str]:
    """Account for the learned tokens as for the rows; rows that were not tokenised have none to count."""
    if dataset.seen_learned_tokens is None:
        return
    kept = sum(split.num_learned_tokens for split in dataset.splits.values())
    dropped = sum(drop.num_learned_tokens or 0 for drop in dataset.dropped)
    cut = sum(change.num_learned_tokens for change in dataset.altered)
    seen, lost = format_count(dataset.seen_learned_tokens), format_count(abs(cut))
    altered = f"+ {lost} lost by altering" if cut >= 0 else f"- {lost} gained by altering"
    yield f"{seen} seen = {format_count(kept)} kept + {format_count(dropped)} dropped {altered}"


def _altered(dataset: PreparedDataset) -> list[Block]:
    if not dataset.altered:
        return []
    rows = tuple(
        (change.code, format_count(change.count), format_count(change.num_learned_tokens),
         f"{change.message}; first at {change.first}")
        for change in dataset.altered
    )  # fmt: skip
    return [Heading("ROWS ALTERED"), Table(header=("Code", "Rows", "Tokens lost", "What"), rows=rows)]


def _tokens(dataset: PreparedDataset) -> list[Block]:
    """Say how the rows look to the model."""
    report = dataset.tokens
    if report is None:
        return []
    quantiles = ", ".join(f"{name} {format_count(tokens)}" for name, tokens in report.quantiles.items())
    costs = tuple(
        (format_count(choice.max_length), format_count(choice.num_rows_too_long), f"{choice.learned_share_lost:.2%}")
        for choice in report.lengths
    )
    least = FERTILITY_SHARE * sum(entry.num_words for entry in report.fertility)
    spoken = [entry for entry in report.fertility if entry.num_words >= least]
    words = ", ".join(f"{entry.language} {entry.tokens_per_word:.2f}" for entry in spoken[:FERTILITY_SHOWN])
    return [
        Heading("TOKENS"),
        Bullet(f"tokens of a sequence, by share of sequences: {quantiles}"),
        Bullet(
            f"max_length {format_count(dataset.max_length)}, longer conversations: {dataset.on_too_long}; "
            f"{format_count(report.advised_max_length)} would lose at most 0.1 % of the learned tokens"
        ),
        Bullet(
            f"positions that hold a token: {format_percent(report.padding_share)} in batches of this plan, "
            f"{format_percent(report.packing_share)} if packed into rows of max_length"
        ),
        Bullet(f"tokens per word: {words or 'no words'}"),
        Bullet(
            f"{format_count(report.vocabulary_used)} of {format_count(report.vocabulary_size)} tokens of the "
            f"vocabulary occur; {format_count(report.unknown_tokens)} pieces are unknown to it"
        ),
        Bullet(f"chat template: {report.template}"),
        Heading("WHAT ANOTHER MAX_LENGTH LOSES"),
        Table(header=("max_length", "Sequences longer", "Learned tokens in them"), rows=costs),
    ]


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


def rows_held_out(dataset: PreparedDataset) -> Iterator[str]:
    """Name the sides results are measured on, so that two preparations can be told apart."""
    named = [f"{name} {dataset.splits[name].members[:12]}" for name in SPLITS[1:]
             if name in dataset.splits and dataset.splits[name].members]  # fmt: skip
    if named:
        yield f"digest of the rows held out, equal as long as they are the same: {', '.join(named)}"


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
