"""Count what becomes of every row and of every learned token."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from finetune_exe.domain.dataset import Alteration, Drop
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import RowFault


@dataclass(slots=True)
class _Reason:
    """Rows that were dropped or changed for one reason; place and words are those of the first."""

    count: int
    index: int
    first: str
    message: str
    fix: str
    num_learned: int | None

    def add(self, other: _Reason) -> None:
        if other.index < self.index:
            self.index, self.first, self.message, self.fix = other.index, other.first, other.message, other.fix
        self.count += other.count
        if other.num_learned is not None:
            self.num_learned = (self.num_learned or 0) + other.num_learned


class Tally:
    """Counts rows by the code of what became of them, holding no more than the first of each."""

    def __init__(self) -> None:
        self._reasons: dict[str, _Reason] = {}

    def add(self, fault: RowFault, *, index: int, place: str, num_learned: int | None = None) -> None:
        """Count a row.

        Args:
            fault: What became of it; a change has no fix.
            index: Its number among all rows.
            place: Where it stands, for a person.
            num_learned: Learned tokens that were lost with it; None where they are not known.
        """
        self._add(fault.code, _Reason(1, index, place, fault.message, fault.fix, num_learned))

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Give the counts as JSON values."""
        return {code: asdict(reason) for code, reason in self._reasons.items()}

    def add_json(self, counts: dict[str, dict[str, Any]]) -> None:
        """Add the counts of another tally, as its `to_json` gave them."""
        for code, reason in counts.items():
            self._add(code, _Reason(**reason))

    def drops(self) -> tuple[Drop, ...]:
        """List the reasons for dropping, most frequent first."""
        return tuple(
            Drop(code=code, count=reason.count, first=reason.first, message=reason.message, fix=reason.fix,
                 num_learned_tokens=reason.num_learned)
            for code, reason in self._ordered()
        )  # fmt: skip

    def alterations(self) -> tuple[Alteration, ...]:
        """List what was changed in rows that were kept, most frequent first."""
        return tuple(
            Alteration(code=code, count=reason.count, first=reason.first, message=reason.message,
                       num_learned_tokens=reason.num_learned or 0)
            for code, reason in self._ordered()
        )  # fmt: skip

    def _add(self, code: str, reason: _Reason) -> None:
        if code in self._reasons:
            self._reasons[code].add(reason)
        else:
            self._reasons[code] = reason

    def _ordered(self) -> list[tuple[str, _Reason]]:
        return sorted(self._reasons.items(), key=lambda item: (-item[1].count, item[1].index, item[0]))


@dataclass(slots=True, kw_only=True)
class Account:
    """Rows and learned tokens by what became of them."""

    dropped: Tally = field(default_factory=Tally)
    changed: Tally = field(default_factory=Tally)
    too_long: list[tuple[int, int]] = field(default_factory=list)
    """Tokens and learned tokens of each sequence that was too long."""
    seen_learned_tokens: int = 0
    """Learned tokens of the rows that were tokenised, before anything was dropped or cut."""
    num_altered: int = 0
    num_ends_learned: int = 0
    """Rows whose every answer ends in a learned stop token."""
    num_unknown: int = 0
    """Tokens that stand for what the vocabulary has no piece for."""

    def add_shard(self, summary: dict[str, Any]) -> None:
        """Count what became of the rows of an encoded shard."""
        self.dropped.add_json(summary["drops"])
        self.changed.add_json(summary["changes"])
        self.too_long += (tuple(entry) for entry in summary["too_long"])
        self.seen_learned_tokens += summary["seen_learned"]
        self.num_altered += summary["num_altered"]
        self.num_ends_learned += summary["ends_learned"]
        self.num_unknown += summary["num_unknown"]

    def refuse_too_long(self, max_length: int) -> None:
        """Refuse to go on where a row was dropped for its length.

        Raises:
            FineTuneError: D30.
        """
        reason = next((drop for drop in self.dropped.drops() if drop.code == "too_long"), None)
        if reason is None:
            return
        longest = max(tokens for tokens, _ in self.too_long)
        raise FineTuneError(
            "D30",
            what=f"{reason.count:,} rows are longer than max_length {max_length:,}, the longest has {longest:,} tokens",
            where=f"first at {reason.first}",
            why="data.on_too_long is refuse",
            fix=f"--set data.max_length={longest}, or data.on_too_long=drop or truncate_prompt",
        )
