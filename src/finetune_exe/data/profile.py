"""Take a quick look at data: what `analyze` needs to know, without a tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.data.ingest import open_sources
from finetune_exe.data.raw import BadLine
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.task import DataProfile, FormatName
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, RowFault

MAX_SAMPLED = 20_000
MAX_LABELS = 200
MIN_ROWS_PER_LABEL = 5
MAX_LABEL_CHARACTERS = 60
MIN_GROUPS = 10
GROUP_NAMES = (
    "module", "document", "document_id", "doc_id", "conversation_id", "dialogue_id", "thread_id", "session_id",
    "group", "user_id", "user", "author", "source", "url", "title", "file",
)  # fmt: skip
"""Columns that say which rows belong together, the surest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """One row in numbers."""

    num_turns: int
    prompt: int
    answer: str
    characters: int


def profile_data(paths: Sequence[str], *, format_name: FormatName | None = None) -> DataProfile:
    """Describe the rows at the paths.

    All rows are counted; of more than 20,000 an even sample is measured.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        format_name: Form of the rows; None looks for itself.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    opened = open_sources(find_sources(paths), format_name=format_name)
    num_rows, num_unreadable, stride = 0, 0, 1
    sample: list[Conversation] = []
    first_fault: RowFault | None = None
    for opening in opened:
        for entry in opening.entries:
            if isinstance(entry, BadLine):
                num_unreadable += 1
                continue
            if num_rows % stride == 0:
                read = opening.detection.format.read(entry.row)
                if isinstance(read, RowFault):
                    first_fault = first_fault or read
                else:
                    sample.append(read)
            num_rows += 1
            if len(sample) > MAX_SAMPLED:
                sample, stride = sample[::2], stride * 2
    detection = opened[0].detection
    if not sample:
        raise _nothing_readable(num_rows, detection.format.name, paths, first_fault)
    sizes = [_measure(conversation) for conversation in sample]
    prompts = sorted(size.prompt for size in sizes)
    answers = sorted(len(size.answer) for size in sizes)
    characters = sorted(size.characters for size in sizes)
    distinct = Counter(size.answer for size in sizes)
    return DataProfile(
        format=detection.format.name,
        format_evidence=detection.evidence,
        num_rows=num_rows,
        num_unreadable=num_unreadable,
        num_turns_mean=sum(size.num_turns for size in sizes) / len(sizes),
        prompt_characters_p50=_quantile(prompts, 0.5),
        answer_characters_p50=_quantile(answers, 0.5),
        answer_characters_p95=_quantile(answers, 0.95),
        row_characters_mean=sum(characters) / len(characters),
        row_characters_p99=_quantile(characters, 0.99),
        distinct_answers=len(distinct),
        labels=_labels(distinct, detection.format.name),
        group_by=_group_column(sample),
    )


def _measure(conversation: Conversation) -> _Sizes:
    lengths = [len(message.content) for message in conversation.messages]
    last = max((i for i, m in enumerate(conversation.messages) if m.role == "assistant"), default=None)
    return _Sizes(
        num_turns=len(lengths),
        prompt=sum(lengths[:last]),
        answer=conversation.messages[last].content if last is not None else "",
        characters=sum(lengths),
    )


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _labels(answers: Counter[str], format_name: FormatName) -> tuple[str, ...]:
    """Take the answers as labels where there are few, short, and each is given often."""
    labels = {answer: count for answer, count in answers.items() if answer.strip()}
    if format_name != "prompt_completion" or not 2 <= len(labels) <= MAX_LABELS:
        return ()
    if sum(labels.values()) < MIN_ROWS_PER_LABEL * len(labels) or max(map(len, labels)) > MAX_LABEL_CHARACTERS:
        return ()
    return tuple(sorted(labels, key=lambda label: (-labels[label], label)))


def _group_column(sample: Sequence[Conversation]) -> str | None:
    """Find a column whose values repeat, yet are many enough to be shared out."""
    names = {key.casefold(): key for conversation in sample for key in conversation.extra}
    for name in (names[name] for name in GROUP_NAMES if name in names):
        values = [conversation.extra.get(name) for conversation in sample]
        counts = Counter(str(value) for value in values if isinstance(value, str | int) and value != "")
        if MIN_GROUPS <= len(counts) < counts.total() and counts.total() == len(sample):
            return name
    return None


def _nothing_readable(
    num_rows: int, format_name: FormatName, paths: Sequence[str], fault: RowFault | None
) -> FineTuneError:
    return FineTuneError(
        "D04",
        what=f"none of {num_rows:,} rows can be read as {format_name}",
        where=", ".join(paths),
        why=fault.message if fault else "no line is a row",
        fix=fault.fix if fault else "correct the lines",
    )
