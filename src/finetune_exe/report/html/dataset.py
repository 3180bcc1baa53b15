"""A prepared dataset, as a page for a browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from finetune_exe import __version__
from finetune_exe.domain.certificate import MaskCertificate
from finetune_exe.domain.dataset import SPLITS, LabelCount, PreparedDataset, TokenReport
from finetune_exe.report.dataset import learned_tokens, rows_held_out
from finetune_exe.report.html.charts import histogram_figure, labels_table
from finetune_exe.report.html.document import document, fit, section, table, tiles
from finetune_exe.report.html.markup import Child, Markup, data_text, element
from finetune_exe.report.html.tokens import TokenDetail, token_section
from finetune_exe.report.token_view import ShownRow
from finetune_exe.units import format_count, format_percent


class _Detail(NamedTuple):
    entries: int
    """Rows of a table that may be long."""
    characters: int
    """Of any text out of the data."""
    tokens: TokenDetail


_DETAILS = (
    _Detail(entries=200, characters=300, tokens=TokenDetail(rows=3, tokens=600)),
    _Detail(entries=100, characters=160, tokens=TokenDetail(rows=3, tokens=250)),
    _Detail(entries=50, characters=80, tokens=TokenDetail(rows=1, tokens=100)),
    _Detail(entries=20, characters=40, tokens=TokenDetail(rows=0, tokens=0)),
)


def dataset_page(
    dataset: PreparedDataset,
    certificate: MaskCertificate | None,
    rows: Sequence[ShownRow] = (),
    labels: Sequence[LabelCount] = (),
) -> bytes:
    """Write the account of a prepared dataset as one HTML page of at most 300 KB.

    The bytes depend on the arguments alone.

    Args:
        dataset: Its manifest.
        certificate: Of its masks; None where it is not at hand.
        rows: Training rows to show token by token.
        labels: How many rows have each label; none where the answers are no labels.
    """
    evidence = "; ".join((dataset.format, *dataset.format_evidence))
    footer = f"Written by FINETUNE.EXE {__version__} from dataset manifest {dataset.digest()}."

    def page(detail: _Detail) -> bytes:
        sections = [
            section("Overview", _overview(dataset, certificate)),
            _accounting(dataset, detail),
            section("Splits", *_splits(dataset, detail)),
        ]
        if labels:
            sections.append(section("Labels", labels_table(labels)))
        if dataset.tokens is not None:
            sections += [_lengths(dataset, dataset.tokens), _facts(dataset.tokens, detail)]
        sections.append(_masks(dataset, certificate, detail))
        if rows and detail.tokens.rows:
            sections.append(token_section(rows, detail.tokens))
        return document("Prepared dataset", data_text(evidence, 4 * detail.characters), sections, footer=footer)

    return fit(_DETAILS, page)


def _overview(dataset: PreparedDataset, certificate: MaskCertificate | None) -> Markup:
    learned = sum(split.num_learned_tokens for split in dataset.splits.values())
    tokens = sum(split.num_tokens for split in dataset.splits.values())
    share = learned / tokens if tokens else 0.0
    holds = certificate.holds if certificate is not None else dataset.mask_proof.end_of_turn_learned
    return tiles((
        ("Rows kept", format_count(dataset.kept), f"of {format_count(dataset.seen)} seen"),
        ("Rows dropped", format_count(dataset.seen - dataset.kept), "each with a reason"),
        ("Tokens", format_count(tokens), f"{format_percent(share)} of them learned"),
        ("max_length", format_count(dataset.max_length), f"longer conversations: {dataset.on_too_long}"),
        ("Loss masks", "proven" if holds else "with exceptions", "see the certificate below"),
    ))  # fmt: skip


def _accounting(dataset: PreparedDataset, detail: _Detail) -> Markup:
    """Show where every row went."""
    lines: list[Sequence[Child]] = [
        ["kept", format_count(dataset.kept), _of(dataset.kept, dataset.seen), "", "stands in one of the splits", ""]
    ]
    lines += [
        [data_text(drop.code, detail.characters), format_count(drop.count), _of(drop.count, dataset.seen),
         data_text(drop.first, detail.characters), data_text(drop.message, detail.characters),
         data_text(drop.fix, detail.characters)]
        for drop in dataset.dropped[: detail.entries]
    ]  # fmt: skip
    header: tuple[str, ...] = ("Fate", "Rows", "Share", "First", "Why", "Fix")
    seen, kept, lost = map(format_count, (dataset.seen, dataset.kept, dataset.seen - dataset.kept))
    equation = f"{seen} rows seen = {kept} kept + {lost} dropped"
    parts: list[Child] = [table(equation, header, lines, numbers=(1, 2))]
    left = dataset.dropped[detail.entries :]
    if left:
        rest = format_count(sum(drop.count for drop in left))
        parts.append(element("p", f"{rest} more rows were dropped for {len(left)} further reasons, left out here."))
    parts += [element("p", f"Learned tokens: {account}") for account in learned_tokens(dataset)]
    if dataset.altered:
        changes: list[Sequence[Child]] = [
            [data_text(change.code, detail.characters), format_count(change.count),
             format_count(change.num_learned_tokens), data_text(change.first, detail.characters),
             data_text(change.message, detail.characters)]
            for change in dataset.altered[: detail.entries]
        ]  # fmt: skip
        caption = f"{format_count(dataset.num_altered)} of the kept rows were changed"
        parts.append(
            table(caption, ("Change", "Rows", "Learned tokens lost", "First", "What"), changes, numbers=(1, 2))
        )
    files: list[Sequence[Child]] = [
        [data_text(source.path, detail.characters), format_count(source.num_rows), format_count(source.num_bytes),
         element("span", data_text(source.sha256, 16), class_="code")]
        for source in dataset.sources[: detail.entries]
    ]  # fmt: skip
    read = f"Files read: {format_count(len(dataset.sources))}"
    parts.append(table(read, ("File", "Rows", "Bytes", "SHA-256"), files, numbers=(1, 2)))
    return section("Where every row went", *parts)


def _of(part: int, whole: int) -> str:
    return format_percent(part / whole) if whole else ""


def _splits(dataset: PreparedDataset, detail: _Detail) -> list[Child]:
    present = [(name, dataset.splits[name]) for name in SPLITS if name in dataset.splits]
    cells = [
        (name, format_count(split.num_rows), _of(split.num_rows, dataset.kept),
         *map(format_count, (split.num_groups, split.num_sequences, split.num_tokens, split.num_learned_tokens,
                             split.length_p50, split.length_p95, split.length_max)))
        for name, split in present
    ]  # fmt: skip
    header = ("Split", "Rows", "Share", "Groups", "Sequences", "Tokens", "Learned", "Median length", "95 %", "Longest")
    said: list[Child] = [element("p", "Note: ", data_text(note, detail.characters)) for note in dataset.notes]
    said += [element("p", data_text(reason, detail.characters)) for reason in dataset.split_evidence]
    said += [element("p", digests) for digests in rows_held_out(dataset)]
    return [table("The splits; lengths in tokens", header, cells, numbers=range(1, 10)), *said]


def _lengths(dataset: PreparedDataset, tokens: TokenReport) -> Markup:
    parts: list[Child] = []
    if tokens.histogram is not None:
        parts.append(
            histogram_figure("tokens", tokens.histogram, unit="tokens", caption="Sequences by length in tokens")
        )
    quantiles = [(name, format_count(length)) for name, length in tokens.quantiles.items()]
    parts.append(
        table("Tokens of a sequence, by share of the sequences", ("Share", "At most"), quantiles, numbers=(1,))
    )
    costs = [
        (format_count(choice.max_length) + (" (chosen)" if choice.max_length == dataset.max_length else ""),
         format_count(choice.num_rows_too_long), f"{100 * choice.learned_share_lost:.2f} %")
        for choice in tokens.lengths
    ]  # fmt: skip
    header = ("max_length", "Sequences longer", "Learned tokens in them")
    parts.append(table("What another max_length loses", header, costs, numbers=(1, 2)))
    return section("Lengths", *parts)


def _facts(tokens: TokenReport, detail: _Detail) -> Markup:
    used = f"{format_count(tokens.vocabulary_used)} of {format_count(tokens.vocabulary_size)}"
    facts = tiles((
        ("Batches", format_percent(tokens.padding_share), "of the positions hold a token, in batches of this plan"),
        ("Packed", format_percent(tokens.packing_share), "would, in rows of max_length"),
        ("Vocabulary", format_percent(tokens.vocabulary_used / max(1, tokens.vocabulary_size)), f"{used} tokens occur"),
        ("Unknown", format_count(tokens.unknown_tokens), "pieces the vocabulary does not have"),
        ("Advised max_length", format_count(tokens.advised_max_length), "loses at most 0.1 % of the learned tokens"),
    ))  # fmt: skip
    words = [
        (entry.language, format_count(entry.num_words), format_count(entry.num_tokens), f"{entry.tokens_per_word:.2f}")
        for entry in tokens.fertility[: detail.entries]
    ]
    header = ("Language", "Words", "Tokens", "Tokens a word")
    template = element("p", "Chat template: ", data_text(tokens.template, detail.characters))
    return section(
        "Tokens", facts, template, table("Tokens a word takes, in a sample", header, words, numbers=(1, 2, 3))
    )


def _masks(dataset: PreparedDataset, certificate: MaskCertificate | None, detail: _Detail) -> Markup:
    proof = dataset.mask_proof
    stops = ", ".join(proof.stop_tokens) or "none"
    parts: list[Child] = [
        element("p", f"{format_count(proof.num_proven)} rows are proven: {' and '.join(proof.derivations)} agree on "
                f"every token. {format_count(proof.num_disagreeing)} rows where they disagree were left out."),
        element("p", "Tokens that end an answer: ", data_text(stops, detail.characters)),
    ]  # fmt: skip
    if certificate is None:
        return section("Mask certificate", *parts)
    claims: list[Sequence[Child]] = [
        [claim.name, _verdict(claim.holds), format_count(claim.num_true), format_count(claim.num_checked), claim.says]
        for claim in certificate.claims
    ]
    parts.append(table("What was looked at in every row or sequence",
                       ("Claim", "Holds", "True of", "Checked", "What it says"), claims, numbers=(2, 3)))  # fmt: skip
    if certificate.parity:
        engines: list[Sequence[Child]] = [
            [data_text(engine.engine, detail.characters), format_count(engine.num_equal),
             format_count(engine.num_conversations), data_text(engine.note, detail.characters)]
            for engine in certificate.parity[: detail.entries]
        ]  # fmt: skip
        parts.append(table("Other engines that rendered the same conversations",
                           ("Engine", "Equal", "Compared", "Note"), engines, numbers=(1, 2)))  # fmt: skip
    digests = [
        (name, format_count(split.num_rows), format_count(split.num_learned_tokens), data_text(split.digest, 64))
        for name, split in certificate.splits.items()
    ]
    parts.append(
        table("The arrays it is about", ("Split", "Rows", "Learned tokens", "SHA-256"), digests, numbers=(1, 2))
    )
    return section("Mask certificate", *parts)


def _verdict(holds: bool) -> Markup:
    return element(
        "span", "\u2714 yes" if holds else "\u2716 NO", class_="severity good" if holds else "severity error"
    )
