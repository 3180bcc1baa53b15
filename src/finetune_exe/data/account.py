"""Count what becomes of every row and of every learned token."""

from __future__ import annotations

from dataclasses import dataclass
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
    num_learned: int | None = None

    def add(self, other: _Reason) -> None:
        if other.index < self.index:
            self.index, self.first, self.message, self.fix = other.index, other.first, other.message, other.fix
        self.count += other.count
        if other.num_learned is not None:
            self.num_learned = (self.num_learned or 0) + other.num_learned


class Account:
    """Adds up rows and learned tokens by what became of them."""

    def __init__(self) -> None:
        self._drops: dict[str, _Reason] = {}
        self._changes: dict[str, _Reason] = {}
        self.too_long: list[tuple[int, int]] = []
        """Tokens and learned tokens of each sequence that was too long."""
        self.seen_learned_tokens = 0
        """Learned tokens of the rows that were tokenised, before anything was dropped or cut."""
        self.num_altered = 0
        self.num_ends_learned = 0
        """Rows whose every answer ends in a learned stop token."""
        self.num_unknown = 0

    def lose(self, fault: RowFault, *, index: int, place: str) -> None:
        """Count a row that was lost before it was tokenised."""
        _add(self._drops, fault.code, _Reason(1, index, place, fault.message, fault.fix))

    def add_shard(self, summary: dict[str, Any]) -> None:
        """Count what became of the rows of an encoded shard."""
        for counts, entries in ((self._drops, summary["drops"]), (self._changes, summary["changes"])):
            for code, entry in entries.items():
                _add(counts, code, _Reason(**entry))
        self.too_long += (tuple(entry) for entry in summary["too_long"])
        self.seen_learned_tokens += summary["seen_learned"]
        self.num_altered += summary["num_altered"]
        self.num_ends_learned += summary["ends_learned"]
        self.num_unknown += summary["num_unknown"]

    def drops(self) -> tuple[Drop, ...]:
        """List the reasons for dropping, most frequent first."""
        return tuple(
            Drop(code=code, count=reason.count, first=reason.first, message=reason.message, fix=reason.fix,
                 num_learned_tokens=reason.num_learned)
            for code, reason in _ordered(self._drops)
        )  # fmt: skip

    def alterations(self) -> tuple[Alteration, ...]:
        """List what was changed in rows that were kept, most frequent first."""
        return tuple(
            Alteration(code=code, count=reason.count, first=reason.first, message=reason.message,
                       num_learned_tokens=reason.num_learned or 0)
            for code, reason in _ordered(self._changes)
        )  # fmt: skip

    def refuse(self, code: str, *, max_length: int) -> None:
        """Refuse to go on where a row was dropped for this reason.

        Raises:
            FineTuneError: D30.
        """
        reason = self._drops.get(code)
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


def _add(counts: dict[str, _Reason], code: str, reason: _Reason) -> None:
    if code in counts:
        counts[code].add(reason)
    else:
        counts[code] = reason


def _ordered(counts: dict[str, _Reason]) -> list[tuple[str, _Reason]]:
    return sorted(counts.items(), key=lambda item: (-item[1].count, item[1].index, item[0]))
