"""Take a quick look at data: what `analyze` needs to know, without a tokenizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from finetune_exe.data.answers import answer_kind
from finetune_exe.data.deduplicate import content_key
from finetune_exe.data.groups import GROUP_NAMES, MIN_GROUPS
from finetune_exe.data.ingest import open_sources
from finetune_exe.data.language import language_of
from finetune_exe.data.layout import LABEL_CHARACTERS, MAX_LABELS, MIN_ROWS_PER_LABEL
from finetune_exe.data.raw import BadLine
from finetune_exe.data.sources import find_sources
from finetune_exe.domain.task import AnswerKind, DataProfile, FormatName
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.detect import Detection
from finetune_exe.text.formats.dialogue_marks import turns_in, usual_turns
from finetune_exe.text.thinking import thinking_of, without_thinking

MAX_SAMPLED = 20_000
"""Rows kept to tell lengths and repeats: a share is then known to 0.7 points (two standard deviations)."""
MAX_LANGUAGES = 2_000
"""Rows whose language is looked at: a share is then known to 2.2 points."""
MIN_LANGUAGE_SHARE = 0.02
"""Rarer languages are not named: of 5,155 English answers, 0.6 % were taken for another, for none more than 0.1 %."""
MUCH_EMPTY = 0.05
"""So many empty answers are said in the plan; the check names every one."""
MOSTLY_SINGLE = 0.05
"""Fewer rows than this share with several answers: the last answer may be a label."""
MAX_DIALOGUES = 1_000
"""Texts that are looked at for whether they are dialogues."""
OPENING = 300
"""Characters of a prompt and an answer kept to tell their language."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """One row, without its text but for what may be a label."""

    turns: int
    answers: int
    prompt: int
    answer_length: int
    characters: int
    answer: str
    """The last answer where it is short enough for a label, otherwise its digest."""
    kind: AnswerKind
    has_system: bool
    thinks: bool
    is_bad: bool
    """Whether the row marks its own answer as a bad one."""
    prompt_opening: str
    answer_opening: str
    groups: dict[str, str]
    """Values of the columns that may say which rows belong together, by name as the rows write it."""


class _Repeats:
    """Counts rows that repeat others, in constant memory: looks only at keys that an ever finer sieve lets through."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._sieve = 1

    def add(self, key: str) -> None:
        number = int(key[:16], 16)
        if number % self._sieve:
            return
        self._counts[number] = self._counts.get(number, 0) + 1
        if len(self._counts) > MAX_SAMPLED:
            self._sieve *= 2
            self._counts = {key: count for key, count in self._counts.items() if key % self._sieve == 0}

    @property
    def share(self) -> float:
        """Share of rows that say the same as an earlier one."""
        total = sum(self._counts.values())
        return (total - len(self._counts)) / total if total else 0.0


def profile_data(paths: Sequence[str], *, format_name: FormatName | None = None) -> DataProfile:
    """Describe the rows at the paths.

    All rows are read and counted; of more than 20,000 an even sample is measured, and repeats are counted among an
    even sample of what is said. Memory does not grow with the number of rows.

    Args:
        paths: Files, folders, patterns, or "stdlib".
        format_name: Form of the rows; None looks for itself.

    Raises:
        FineTuneError: C05, D01 to D04 or D07 where the data cannot be read at all.
    """
    opened = open_sources(find_sources(paths), format_name=format_name)
    num_rows, num_unreadable, stride = 0, 0, 1
    faults = Counter[str]()
    sample: list[_Measured] = []
    repeats = _Repeats()
    first_fault: RowFault | None = None
    dialogues: list[str | None] = []
    for opening in opened:
        for entry in opening.entries:
            if isinstance(entry, BadLine):
                num_unreadable += 1
                continue
            read = opening.detection.format.read(entry.row)
            if isinstance(read, RowFault):
                first_fault = first_fault or read
                faults[read.code] += 1
            else:
                repeats.add(content_key(read))
                if read.origin.get("column") and read.kind == "text" and len(dialogues) < MAX_DIALOGUES:
                    dialogues.append(turns_in(read.messages[0].content))
                if num_rows % stride == 0:
                    sample.append(_measure(read))
            num_rows += 1
            if len(sample) > MAX_SAMPLED:
                sample, stride = sample[::2], stride * 2
    detection = opened[0].detection
    if not sample:
        raise _nothing_readable(num_rows, detection.format.name, paths, first_fault)
    described = _describe(
        sample, detection, num_rows=num_rows, num_unreadable=num_unreadable, faults=faults, repeats=repeats.share
    )
    missing = (*_faulty(faults, num_rows, paths), *described.missing)
    return described.model_copy(update={"turns": usual_turns(dialogues), "missing": missing})


def _measure(conversation: Conversation) -> _Measured:
    messages = conversation.messages
    lengths = [len(message.content) for message in messages]
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    last = answers[-1] if answers else None
    answer = without_thinking(messages[last].content) if last is not None else ""
    thoughts = [len(thinking_of(message)) for message in messages]
    lengths = [max(length, thought + len(without_thinking(message.content)) if thought else 0)
               for length, thought, message in zip(lengths, thoughts, messages, strict=True)]  # fmt: skip
    asked = next((message.content for message in messages[:last] if message.role == "user"), "")
    return _Measured(
        turns=len(lengths),
        answers=len(answers),
        prompt=sum(lengths[:last]),
        answer_length=lengths[last] if last is not None else 0,
        thinks=last is not None and thoughts[last] > 0,
        characters=sum(lengths),
        answer=answer if len(answer) <= LABEL_CHARACTERS else f"{hash(answer)} {answer[:LABEL_CHARACTERS]}",
        kind="prose" if conversation.kind == "text" and answer.strip() else answer_kind(answer),
        is_bad=conversation.label is False,
        has_system=any(message.role == "system" for message in messages),
        prompt_opening=asked[:OPENING],
        answer_opening=answer[:OPENING],
        groups={
            key: str(value)
            for key, value in conversation.extra.items()
            if key.casefold() in GROUP_NAMES and isinstance(value, str | int)
        },
    )


def _describe(
    sample: Sequence[_Measured],
    detection: Detection,
    *,
    num_rows: int,
    num_unreadable: int,
    faults: Counter[str],
    repeats: float,
) -> DataProfile:
    """Sum up the measured rows."""
    prompts = sorted(row.prompt for row in sample)
    answers = sorted(row.answer_length for row in sample)
    characters = sorted(row.characters for row in sample)
    distinct = Counter(row.answer for row in sample)
    kinds = Counter(row.kind for row in sample)
    languages, translated = _languages(sample)
    multi_turn = sum(row.answers > 1 for row in sample) / len(sample)
    closed = detection.format.name != "completion" and multi_turn < MOSTLY_SINGLE
    empty, bad = kinds["empty"] / len(sample), sum(row.is_bad for row in sample) / len(sample)
    return DataProfile(
        format=detection.format.name,
        format_evidence=detection.evidence,
        num_rows=num_rows,
        num_unreadable=num_unreadable,
        num_unusable=faults.total() + round(bad * (num_rows - faults.total())),
        num_turns_mean=sum(row.turns for row in sample) / len(sample),
        prompt_characters_p50=_quantile(prompts, 0.5),
        prompt_characters_p95=_quantile(prompts, 0.95),
        answer_characters_p50=_quantile(answers, 0.5),
        answer_characters_p95=_quantile(answers, 0.95),
        row_characters_mean=sum(characters) / len(characters),
        row_characters_p50=_quantile(characters, 0.5),
        row_characters_p99=_quantile(characters, 0.99),
        row_characters_max=characters[-1],
        distinct_answers=len(distinct),
        labels=_labels(distinct) if closed else (),
        group_by=_group_column(sample),
        multi_turn_share=multi_turn,
        system_prompt_share=sum(row.has_system for row in sample) / len(sample),
        empty_answer_share=empty,
        thinking_share=sum(row.thinks for row in sample) / len(sample),
        duplicate_share=repeats,
        answer_kinds={kind: count / len(sample) for kind, count in kinds.most_common()},
        languages=languages,
        translated_share=translated,
        missing=tuple(
            _missing(
                detection.format.name,
                rows=len(sample),
                of="the others" if faults else "the rows",
                empty=empty,
                bad=bad,
                distinct=distinct,
            )
        ),
    )


def _languages(sample: Sequence[_Measured]) -> tuple[dict[str, float], float]:
    """Give the share of each language among the answers, and of rows whose prompt is in another one."""
    looked_at = sample[:: max(1, len(sample) // MAX_LANGUAGES)]
    counts, pairs, translated = Counter[str](), 0, 0
    for row in looked_at:
        language = language_of(row.answer_opening) if row.kind in ("prose", "worked") else None
        if language is None:
            continue
        counts[language] += 1
        asked = language_of(row.prompt_opening)
        pairs += asked is not None
        translated += asked not in (None, language)
    total = counts.total()
    shares = {code: count / total for code, count in counts.most_common() if count >= MIN_LANGUAGE_SHARE * total}
    return shares, translated / pairs if pairs else 0.0


def _faulty(faults: Counter[str], num_rows: int, paths: Sequence[str]) -> Iterator[str]:
    """Say how many rows are not as their layout wants, and the commonest reason."""
    if faults:
        [(code, count)] = faults.most_common(1)
        reason = code if count == faults.total() else f"mostly {code}"
        yield (
            f"{faults.total():,} of {num_rows:,} rows cannot be read and are dropped ({reason}): "
            f"`{typed('fine-tune', 'dataset', '--check', *paths)}` names them"
        )


def _missing(
    format_name: FormatName, *, rows: int, of: str, empty: float, bad: float, distinct: Counter[str]
) -> Iterator[str]:
    """Say what the rows lack to be learned from."""
    if empty == 1:
        yield "no row has an answer"
    elif empty > MUCH_EMPTY:
        yield f"{empty:.0%} of {of} have no answer"
    if bad:
        yield f"{bad:.0%} of {of} mark their answer as a bad one (label: false), and such rows are dropped"
    if format_name != "completion" and rows >= MIN_ROWS_PER_LABEL and len(distinct) == 1 and empty < 1:
        yield "every row has the same answer: there is nothing to tell apart"


def _quantile(ordered: Sequence[int], share: float) -> int:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _labels(answers: Counter[str]) -> tuple[str, ...]:
    """Take the answers as labels where they are few, short, and each is given often."""
    labels = {answer: count for answer, count in answers.items() if answer.strip()}
    if not 2 <= len(labels) <= MAX_LABELS:
        return ()
    if sum(labels.values()) < MIN_ROWS_PER_LABEL * len(labels) or max(map(len, labels)) > LABEL_CHARACTERS:
        return ()
    return tuple(sorted(labels, key=lambda label: (-labels[label], label)))


def _group_column(sample: Sequence[_Measured]) -> str | None:
    """Find a column whose values repeat, yet are many enough to be shared out."""
    columns = {name for row in sample for name in row.groups}
    for name in sorted(columns, key=lambda column: (GROUP_NAMES.index(column.casefold()), column)):
        counts = Counter(value for row in sample if (value := row.groups.get(name)))
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
