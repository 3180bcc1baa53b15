"""Encode one shard of rows: what a worker does, here, in another process or on another machine."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from finetune_exe import __version__
from finetune_exe.data.account import Tally
from finetune_exe.data.encoded import EncodedConversation, encode_conversations, ends_in
from finetune_exe.data.prompt_tokens import PromptCounter
from finetune_exe.data.spool import SpooledRow, read_all_spooled
from finetune_exe.prepared.shards import read_summary, write_shard
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.stored import to_json
from finetune_exe.text.tokenizer import ChatTokenizer

if TYPE_CHECKING:
    from finetune_exe.domain.plan import OnTooLong
    from finetune_exe.domain.task import FormatName


class Condemned(NamedTuple):
    """A row that is dropped because the plan says so."""

    number: int
    """Among the rows of its shard."""
    fault: RowFault


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardJob:
    """Everything needed to encode a shard on any machine that sees the same folders; it goes there as JSON."""

    rows: str
    """File of the rows."""
    rows_digest: str
    drawn: tuple[int, ...] | None
    """Numbers of the rows to encode; None for all."""
    num_drawn: int
    """How many rows that is."""
    shards: str
    """Folder that gets the shard's own folder."""
    model: str
    chat_template: str | None
    tokenizer_digest: str
    template_digest: str
    max_length: int
    on_too_long: OnTooLong
    format_name: FormatName
    condemned: tuple[Condemned, ...] = ()
    """Rows that are encoded only to count what is lost with them."""
    paired: bool = False
    """Whether each row becomes two sequences, with the better and with the worse answer."""

    @property
    def address(self) -> str:
        """Name of the shard's folder: a hash of all that its content follows from, our version included."""
        policy = [(number, fault.code, fault.message) for number, fault in self.condemned]
        parts = [
            self.rows_digest, self.drawn, policy, self.tokenizer_digest, self.template_digest, self.max_length,
            self.on_too_long, *(["paired"] if self.paired else []), __version__,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    @property
    def target(self) -> Path:
        """The shard's folder."""
        return Path(self.shards) / self.address

    def to_json(self) -> str:
        """Write the job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ShardJob:
        """Read a job back."""
        values = json.loads(text)
        drawn = values.pop("drawn")
        condemned = (Condemned(number, RowFault(**fault)) for number, fault in values.pop("condemned"))
        return cls(**values, drawn=None if drawn is None else tuple(drawn), condemned=tuple(condemned))


def encode_shard(job: ShardJob, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Encode a shard's rows and write them; a shard that is there already is left as it is.

    Returns:
        Its summary.
    """
    done = read_summary(job.target)
    if done is not None:
        return done
    rows = read_all_spooled(Path(job.rows))
    numbers = range(len(rows)) if job.drawn is None else job.drawn
    contents = _Contents(tokenizer, job.format_name)
    encoded = encode_conversations(
        [rows[number].conversation for number in numbers],
        tokenizer,
        max_length=job.max_length,
        on_too_long=job.on_too_long,
        paired=job.paired,
    )
    condemned = dict(job.condemned)
    stages = _count_stages([rows[number] for number in numbers], tokenizer, job)
    for number, result, before in zip(numbers, encoded, stages, strict=True):
        judged = replace(result, fault=condemned[number]) if number in condemned else result
        contents.add(number, rows[number], judged, before)
    write_shard(
        job.target, arrays=contents.arrays, rows=contents.rows, lost=contents.lost, altered=contents.altered,
        summary=contents.summary(),
    )  # fmt: skip
    summary = read_summary(job.target)
    assert summary is not None
    return summary


def _count_stages(rows: Sequence[SpooledRow], tokenizer: ChatTokenizer, job: ShardJob) -> list[list[int]]:
    """Count, for each row, the learned tokens it had before each of its repairs."""
    stages = [repair.before for row in rows for repair in row.repairs]
    found = encode_conversations(stages, tokenizer, max_length=job.max_length, paired=job.paired) if stages else []
    encoded = iter(found)
    return [[result.num_learned for result in islice(encoded, len(row.repairs))] for row in rows]


COUNTS = (
    "seen_learned", "ends_learned", "prompt_tokens", "prompt_tokens_unlearned", "rows_with_learned", "num_altered",
    "num_unknown",
)  # fmt: skip


class _Contents:
    """Collects what a shard holds."""

    def __init__(self, tokenizer: ChatTokenizer, format_name: FormatName) -> None:
        self._tokenizer = tokenizer
        self._format = format_named(format_name)
        self._tokens, self._learned = array("i"), bytearray()
        self._lengths, self._owners, self._kept = array("q"), array("i"), array("i")
        self.rows: list[bytes] = []
        self.lost: list[bytes] = []
        self.altered: list[bytes] = []
        self._dropped, self._changed = Tally(), Tally()
        self._too_long: list[tuple[int, int]] = []
        self._counts = dict.fromkeys(COUNTS, 0)
        self._unknown = tokenizer.unknown_token_id
        self._prompts = PromptCounter(tokenizer)
        self._leading_bos = {"0": 0, "1": 0, "more": 0}

    @property
    def arrays(self) -> dict[str, Any]:
        """The arrays as the shard's files hold them."""
        import numpy as np

        learned = np.frombuffer(bytes(self._learned), dtype=np.bool_)
        return {
            "tokens": self._tokens, "learned": learned, "lengths": self._lengths,
            "owners": self._owners, "kept": self._kept,
        }  # fmt: skip

    def add(self, number: int, row: SpooledRow, result: EncodedConversation, before: Sequence[int]) -> None:
        """Add a row, kept or lost; `before` has its learned tokens before each of its repairs."""
        import msgspec

        learned = [*before, result.num_learned]
        self._counts["seen_learned"] += learned[0]
        if result.fault is not None:
            self._lose(row, result, result.fault, learned[0])
            return
        for sequence in result.sequences:
            start = len(self._tokens)
            self._tokens.extend(sequence.tokens)
            self._learned += bytes(len(sequence.tokens))
            for first, end in sequence.ranges:
                self._learned[start + first : start + end] = b"\x01" * (end - first)
            self._lengths.append(len(sequence.tokens))
            self._owners.append(len(self._kept))
            self._check(sequence.tokens)
        counts = self._counts
        counts["ends_learned"] += ends_in(result, self._tokenizer.stop_token_ids)
        prompts = self._prompts.count(result.conversation, result.sequences)
        counts["prompt_tokens"] += prompts.num_checked
        counts["prompt_tokens_unlearned"] += prompts.num_unlearned
        counts["rows_with_learned"] += any(sequence.num_learned for sequence in result.sequences)
        self._kept.append(number)
        if row.repairs or result.changes:
            self._alter(row, result)
        if row.repairs:
            from finetune_exe.data.cleaning.repairs import FIX_MESSAGES  # most shards have none

            for repair, (had, has) in zip(row.repairs, pairwise(learned), strict=True):
                self._change(row, repair.code, FIX_MESSAGES[repair.code], had - has)
        for change in result.changes:
            self._change(row, change.code, change.message, change.num_learned_lost)
        stored = {"source": row.place, "group": row.group, "conversation": to_json(result.conversation)}
        self.rows.append(msgspec.json.encode(stored, enc_hook=str))

    def summary(self) -> dict[str, Any]:
        """Give the counts."""
        return {
            "num_rows": len(self._kept),
            "num_sequences": len(self._lengths),
            "num_tokens": len(self._tokens),
            "num_learned": self._learned.count(1),
            "drops": self._dropped.to_json(),
            "changes": self._changed.to_json(),
            "too_long": self._too_long,
            "leading_bos": self._leading_bos,
            **self._counts,
        }

    def _check(self, tokens: tuple[int, ...]) -> None:
        if self._unknown is not None:
            self._counts["num_unknown"] += tokens.count(self._unknown)
        bos = self._tokenizer.bos_token_id
        leading = next((i for i, token in enumerate(tokens) if token != bos), len(tokens)) if tokens[0] == bos else 0
        self._leading_bos[str(leading) if leading < 2 else "more"] += 1

    def _alter(self, row: SpooledRow, result: EncodedConversation) -> None:
        import msgspec

        self._counts["num_altered"] += 1
        codes = [repair.code for repair in row.repairs] + [change.code for change in result.changes]
        before, after = to_json(_as_read(row)), to_json(result.conversation)
        line = {"source": row.place, "codes": codes, "before": before, "after": after}
        self.altered.append(msgspec.json.encode({"index": row.index, "line": line}, enc_hook=str))

    def _lose(self, row: SpooledRow, result: EncodedConversation, fault: RowFault, learned: int) -> None:
        import msgspec

        num_learned = learned if result.sequences or row.repairs else None
        self._dropped.add(fault, index=row.index, place=row.place, num_learned=num_learned)
        if fault.code == "too_long":
            self._too_long += [(len(sequence.tokens), sequence.num_learned) for sequence in result.sequences]
        written = self._format.write(_as_read(row))
        content = to_json(_as_read(row)) if isinstance(written, RowFault) else written
        line = {"source": row.place, "code": fault.code, "message": fault.message, "row": content}
        self.lost.append(msgspec.json.encode({"index": row.index, "line": line}, enc_hook=str))

    def _change(self, row: SpooledRow, code: str, message: str, num_learned: int) -> None:
        change = RowFault(code=code, message=message, fix="")
        self._changed.add(change, index=row.index, place=row.place, num_learned=num_learned)


def _as_read(row: SpooledRow) -> Conversation:
    return row.repairs[0].before if row.repairs else row.conversation
