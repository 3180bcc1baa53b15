"""Whole chat files for OpenAI's fine-tuning: rules, tokens and what training on them costs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.domain.values import Interval
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.rows import tokens_of
from finetune_exe.export.openai_rows import MIN_ROWS, MOST_BYTES, RuleFault, row_faults
from finetune_exe.knowledge.hosted_models import HostedModel, hosted_models

MOST_FAULTS = 100
"""Faults kept of one file; all are counted."""
_AROUND_A_TURN, _AROUND_A_ROW = 3, 3
"""Tokens that the service puts around each turn, and at the end. Source: OpenAI cookbook, how to count tokens."""
_OTHER_LETTERS = Interval(low=0.3, mid=0.7, high=1.6)
"""Tokens of a letter outside ASCII."""
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFile:
    """What was found in a file."""

    path: str
    num_rows: int
    num_bytes: int
    num_faults: int
    faults: tuple[RuleFault, ...]
    """The first of them; line 0 stands for the file as a whole."""
    tokens: Interval
    """Of the whole file."""
    longest: Interval
    """Of the longest row."""
    counted: bool
    """Whether tokens were counted, rather than judged from letters."""
    digests: frozenset[str]
    """Of the rows, to find those that two files share."""


def check_chat_file(path: Path, *, model: str, count: CountTokens | None = None) -> ChatFile:
    """Hold every line of a file against the service's rules, and count its tokens.

    Args:
        path: JSON lines.
        model: Whose limits; of a model that is not known, none.
        count: Counts the tokens of a text; None judges them from letters.

    Raises:
        FineTuneError: D07 where there is no such file, D01 where it is no text.
    """
    limits, faults, digests = hosted_models().get(model), list[RuleFault](), set[str]()
    low = mid = high = 0.0
    longest = Interval(low=0, mid=0, high=0)
    num_rows = num_faults = 0
    for number, line in enumerate(_lines(path), start=1):
        num_rows += 1
        row, found = row_faults(line, number)
        tokens = _row_tokens(row, count) if row is not None else Interval(low=0, mid=0, high=0)
        if limits is not None and tokens.low > limits.longest_example_tokens:
            found.append(RuleFault(number, "too_long", _too_long(tokens, limits)))
        num_faults += len(found)
        faults += found[: MOST_FAULTS - len(faults)]
        low, mid, high = low + tokens.low, mid + tokens.mid, high + tokens.high
        longest = max(longest, tokens, key=lambda tokens: tokens.mid)
        digests.add(hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest())
    num_bytes = path.stat().st_size
    whole = list(_file_faults(num_rows, num_bytes))
    return ChatFile(
        path=str(path), num_rows=num_rows, num_bytes=num_bytes, num_faults=num_faults + len(whole),
        faults=(*whole, *faults), tokens=Interval(low=low, mid=mid, high=high), longest=longest,
        counted=count is not None, digests=frozenset(digests),
    )  # fmt: skip


def require_sound(files: Sequence[ChatFile]) -> None:
    """Refuse files that break the rules, or that share rows.

    Raises:
        FineTuneError: O05.
    """
    broken = [file for file in files if file.num_faults]
    shared = len(frozenset.intersection(*(file.digests for file in files))) if len(files) > 1 else 0
    if not broken and not shared:
        return
    first = broken[0].faults[0] if broken else None
    raise FineTuneError(
        "O05",
        what=f"{sum(file.num_faults for file in broken):,} faults in {len(broken)} files"
        if broken
        else f"{shared:,} rows stand in both files",
        where=f"{broken[0].path}{f':{first.line}' if first and first.line else ''}"
        if broken
        else " and ".join(file.path for file in files),
        why=first.message if first else "what is learned cannot measure how well it was learned",
        fix="`fine-tune openai check FILE` lists them all" if broken else "take them out of one of the two",
    )


def training_cost(tokens: Interval, epochs: float, model: str) -> Interval | None:
    """Give the price of training in US dollars; None for a model whose price is not known."""
    known = hosted_models().get(model)
    if known is None:
        return None
    a_token = known.usd_per_million_tokens * epochs / 1e6
    return Interval(low=tokens.low * a_token, mid=tokens.mid * a_token, high=tokens.high * a_token)


def tiktoken_counter(model: str) -> CountTokens | None:
    """Load the tokenizer of a model; None without the package tiktoken, its files, or a known model."""
    known = hosted_models().get(model)
    try:
        import tiktoken

        encoding = tiktoken.get_encoding(known.encoding if known is not None else "o200k_base")
    except (ImportError, OSError):  # it fetches its files at first use
        return None
    return lambda text: len(encoding.encode(text, disallowed_special=()))


def _lines(path: Path) -> Iterator[str]:
    """Read line by line, whatever the size."""
    offset = 0
    try:
        with path.open("rb") as file:
            for raw in file:
                yield raw.decode("utf-8").removesuffix("\n")
                offset += len(raw)
    except OSError as fault:
        missing = isinstance(fault, FileNotFoundError)
        raise FineTuneError(
            "D07", what="there is no such file" if missing else f"the file cannot be read: {fault.strerror}",
            where=str(path), why="its rows are to be sent",
            fix="fine-tune dataset --plan plan.yaml --export openai -o data",
        ) from None  # fmt: skip
    except UnicodeDecodeError as fault:
        raise FineTuneError(
            "D01", what=f"the file is no UTF-8 text: {fault.reason} at byte {offset + fault.start:,}", where=str(path),
            why="the service reads nothing else", fix="fine-tune dataset chatml FILE -o OUT.jsonl writes it anew",
        ) from fault  # fmt: skip


def _file_faults(num_rows: int, num_bytes: int) -> list[RuleFault]:
    faults = []
    if num_rows < MIN_ROWS:
        faults.append(RuleFault(0, "too_few_rows", f"{num_rows} rows; the service wants {MIN_ROWS} at least"))
    if num_bytes > MOST_BYTES:
        faults.append(RuleFault(0, "too_large", f"{num_bytes:,} bytes; the service takes {MOST_BYTES:,} at most"))
    return faults


def _too_long(tokens: Interval, limits: HostedModel) -> str:
    return f"about {tokens.mid:,.0f} tokens; {limits.name} reads {limits.longest_example_tokens:,} of an example"


def _row_tokens(row: dict[str, Any], count: CountTokens | None) -> Interval:
    turns = [turn for turn in row.get("messages") or [] if isinstance(turn, dict)]
    texts = [text for turn in turns for text in _texts(turn)]
    if row.get("tools"):
        texts.append(json.dumps(row["tools"]))
    around = len(turns) * (_AROUND_A_TURN + 1) + _AROUND_A_ROW
    if count is not None:
        exact = float(around + sum(map(count, texts)))
        return Interval(low=exact, mid=exact, high=exact)
    plain = sum((text.isascii() and len(text)) or sum(map(str.isascii, text)) for text in texts)
    other = sum(map(len, texts)) - plain
    judged = tokens_of(plain, longest=float("inf"))
    return Interval(
        low=around + judged.low + other * _OTHER_LETTERS.low,
        mid=around + judged.mid + other * _OTHER_LETTERS.mid,
        high=around + judged.high + other * _OTHER_LETTERS.high,
    )


def _texts(turn: dict[str, Any]) -> list[str]:
    content = turn.get("content")
    texts = [content] if isinstance(content, str) else []
    if isinstance(content, list):
        texts = [str(part.get("text", "")) for part in content if isinstance(part, dict)]
    if turn.get("tool_calls"):
        texts.append(json.dumps(turn["tool_calls"]))
    return texts
