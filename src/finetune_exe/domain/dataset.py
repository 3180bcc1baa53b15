"""The prepared dataset: what was read, what was kept, and the proof of its masks."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from finetune_exe.domain.document import Document, Value
from finetune_exe.domain.plan import OnTooLong
from finetune_exe.domain.task import FormatName

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class SourceFile(Value):
    """One file that was read."""

    path: str
    sha256: str
    num_bytes: int
    num_rows: int


class Drop(Value):
    """Rows left out for one reason."""

    code: str
    """Stable name of the reason, such as `exact_duplicate` or `no_assistant`."""
    count: int
    first: str
    """Where the first of them is: file:line."""
    message: str
    fix: str
    num_learned_tokens: int | None = None
    """Learned tokens they would have had; None where they were not tokenised."""


class Alteration(Value):
    """Rows that were kept, but changed in one way."""

    code: str
    """Stable name of the change, such as `end_marker_removed` or `prompt_truncated`."""
    count: int
    first: str
    """Where the first of them is: file:line."""
    message: str
    num_learned_tokens: int
    """Learned tokens that they had before and have no more; negative where they have more than before."""


class LengthChoice(Value):
    """What another max_length would cost."""

    max_length: int
    num_rows_too_long: int
    learned_share_lost: float
    """Share of the learned tokens in sequences longer than this."""


class Fertility(Value):
    """How many tokens the tokenizer needs for a word, by language."""

    language: str
    num_words: int
    num_tokens: int

    @property
    def tokens_per_word(self) -> float:
        """Tokens for each word."""
        return self.num_tokens / self.num_words


class Histogram(Value):
    """How often a number lies between which borders."""

    edges: tuple[int, ...]
    """Borders of the bins, one more than bins, ascending; a bin holds its lower border, not its upper one."""
    counts: tuple[int, ...]
    """How many lie in each bin."""

    @model_validator(mode="after")
    def _bins_have_borders(self) -> Self:
        if len(self.edges) != len(self.counts) + 1 or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError("a histogram has one ascending border more than counts")
        return self


class LabelCount(Value):
    """One answer of a small closed set."""

    label: str
    count: int


class TokenReport(Value):
    """How the rows look to the model."""

    quantiles: dict[str, int]
    """Tokens of a sequence at each quantile, those that are too long included."""
    lengths: tuple[LengthChoice, ...]
    """What each of some lengths would cost, shortest first."""
    advised_max_length: int
    """The shortest of them that loses no more than a thousandth of the learned tokens."""
    packing_share: float
    """Share of full positions if sequences were packed into rows of max_length."""
    padding_share: float
    """Share of full positions in batches of rows of like length, as the plan makes them."""
    fertility: tuple[Fertility, ...]
    vocabulary_size: int
    vocabulary_used: int
    """Different tokens that occur."""
    unknown_tokens: int
    """Tokens the vocabulary has no piece for."""
    template: str
    """Where the chat template comes from, and what it does."""
    histogram: Histogram | None = None
    """Tokens of the sequences, those that are too long included; None where they were not counted."""


class Split(Value):
    """One side of the split."""

    num_rows: int
    num_groups: int
    num_sequences: int
    """Training sequences; more than rows where long texts were cut in pieces."""
    num_tokens: int
    num_learned_tokens: int
    length_p50: int
    length_p95: int
    length_max: int
    """Sequence lengths in tokens."""
    digest: str
    """SHA-256 over the token, mask and boundary arrays."""
    members: str = ""
    """SHA-256 over the identities of its rows, by what they say: equal where the same rows stand on this side, in
    whatever order, with whatever tokenizer."""


class MaskProof(Value):
    """Result of deriving every row's loss mask twice, independently."""

    num_proven: int
    num_disagreeing: int
    """Rows where the derivations differ: never trained on, counted among the drops."""
    end_of_turn_learned: bool
    """Whether every learned answer ends in a learned stop token."""
    stop_tokens: tuple[str, ...]
    derivations: tuple[str, ...] = ("prefix rendering", "marked content")


class PreparedDataset(Document):
    """Manifest of a prepared dataset; it is written last, so its presence means the dataset is whole."""

    key: str
    """Digest of everything that determines the content: files, settings, template, tokenizer, code version."""
    format: FormatName
    format_evidence: tuple[str, ...]
    sources: tuple[SourceFile, ...]
    seen: int
    kept: int
    dropped: tuple[Drop, ...] = ()
    altered: tuple[Alteration, ...] = ()
    """Rows among the kept ones that were changed; a row changed twice counts under both."""
    num_altered: int = 0
    """Rows among the kept ones that were changed in some way."""
    seen_learned_tokens: int | None = None
    """Learned tokens of all rows that were tokenised, before anything was dropped or cut; None where not counted."""
    on_too_long: OnTooLong = "drop"
    paired: bool = False
    """Whether each row is two sequences, one after the other: with the better answer, and with the worse."""
    tokens: TokenReport | None = None
    splits: dict[SplitName, Split]
    split_evidence: tuple[str, ...] = ()
    """What decided which row stands on which side."""
    notes: tuple[str, ...] = ()
    """What the user should know: wishes that were not followed, and test rows that are others than before."""
    mask_proof: MaskProof
    template_digest: str
    tokenizer_digest: str
    bos_token: str | None = None
    pad_token_id: int = Field(ge=0)
    max_length: int
    example: tuple[tuple[str, bool], ...] = ()
    """One training row as pieces of text, each with whether it is learned, to look at."""

    @model_validator(mode="after")
    def _every_row_accounted_for(self) -> Self:
        lost = self.seen - self.kept - sum(drop.count for drop in self.dropped)
        if lost:
            raise ValueError(f"seen {self.seen} is not kept {self.kept} plus dropped; {lost} rows unaccounted for")
        if self.seen_learned_tokens is not None:
            gone = sum(drop.num_learned_tokens or 0 for drop in self.dropped)
            gone += sum(change.num_learned_tokens for change in self.altered)
            kept = sum(split.num_learned_tokens for split in self.splits.values())
            if gone + kept != self.seen_learned_tokens:
                raise ValueError(
                    f"{self.seen_learned_tokens} learned tokens seen are not {kept} kept plus {gone} dropped or cut"
                )
        return self


class FindingRow(Value):
    """One row that a finding is about."""

    index: int | None
    """Number of the record, from 0, over all files of its split; None for a line that holds no record."""
    line: int | None
    """Line of its file, from 1; None where the file has no lines, or several rows on one."""
    of_index: int | None = None
    """The other record, where the fault is one of two: for a duplicate the one it repeats, for a leak the one it
    repeats of the training rows."""
    of_source: str | None = None
    """Where that one stands, for a person."""
    split: SplitName = "train"
    """Which of the given files it stands in."""
    source: str
    """file:line, for a person."""
    extract: str = ""
    """What shows the fault, shortened; left out after the first rows of a finding."""


Severity = Literal["error", "warning", "info"]


class CheckFinding(Value):
    """One kind of fault and all the rows that have it."""

    code: str
    severity: Severity
    """Error: a provable fault. Warning: very probably one. Info: advice, or the way this data is."""
    rows: tuple[FindingRow, ...]
    """Empty for a fault of a file as a whole."""
    message: str
    fix: str
    source: str | None = None
    """For a fault of a file as a whole: the file."""


class DataQuality(Value):
    """How good data is: shares of the rows, all of equal weight, 0 to 1."""

    sound: float
    """Rows without an error that is no duplicate or leak: they can be read, and nothing provable is wrong with them."""
    distinct: float
    """Rows that repeat no other."""
    unsuspicious: float
    """Rows without a warning."""
    score: float
    """Rows without any error or warning; never more than the least of the three."""


class CheckReport(Document):
    """What `fine-tune dataset --check` found."""

    format: FormatName | None
    """None where no file could be read."""
    format_evidence: tuple[str, ...]
    records: int
    """Rows seen, unreadable ones included."""
    kept: int
    """Rows without an error."""
    masks_checked: bool
    """Whether a tokenizer was at hand to derive the loss masks too."""
    quality: DataQuality
    characters: Histogram | None = None
    """Characters of the rows that can be read; None where there is none."""
    labels: tuple[LabelCount, ...] = ()
    """The answers, most frequent first, where they are a small closed set."""
    findings: tuple[CheckFinding, ...]
    """Faults: errors first, then warnings, then advice, each most frequent first."""
