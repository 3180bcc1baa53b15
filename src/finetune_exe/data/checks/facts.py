"""What the checks over all rows need to know of each, in few bytes."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from finetune_exe.data.checks.ending import OpenEnd, open_end
from finetune_exe.data.checks.forms import NO_FORM, Form, Structure, form_of
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.tongue import answer_language, names_language
from finetune_exe.data.duplicates.find import find_duplicates
from finetune_exe.data.duplicates.rows import join_rows, row_text, words_of_rows
from finetune_exe.data.groups import group_hashes, join_groups
from finetune_exe.data.layout import LABEL_CHARACTERS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from finetune_exe.data.duplicates.find import Duplicates
    from finetune_exe.data.duplicates.rows import RowWords
    from finetune_exe.data.groups import Groups

FIELD_CHARACTERS = 200
"""Longest label where the column says that it holds labels: there may be two in it."""
LABELLED_TEXT_CHARACTERS = 1000
"""How much of a text with a label is kept to learn from."""
TAIL_CHARACTERS = 60
"""How much of the end of an answer that breaks off is shown."""
EDGE_CHARACTERS = 20
"""A line at the edge of a text must be so long to be recognised in others."""
EDGE_LINES = 4
"""The first line of a text and the last three."""
_NO_ANSWER = frozenset({
    "n/a", "n.a.", "na", "#n/a", "null", "nan", "nil", "undefined", "todo", "tbd", "?", "??", ".", "..", "...",
    "idk", "lol", "hm", "hmm", "hmm.", "i dunno", "dunno", "see above", "as above", "same as above", "no output",
    "no response", "no answer", "\u65e0", "\u6682\u65e0", "\u7565", "\u043d/\u0434", "don't know", "no data",
    "see attached", "see below", "see link", "lorem", "lorem ipsum", "asdf", "asdfasdf", "xxx",
    "n\\a", "[empty]",
    "[blank]", "(empty)", "(blank)", "\u2026", "-", "--", "\u2013", "\u2014", "_", "/", "[object object]", "[]", "{}",
    "<blank>",
})  # fmt: skip
"""What stands where an answer is missing."""
_NO_WORD = frozenset({"none", "okay", "ok.", "done", "same", "test", "todo", "skip", "pass", "yes.", "sure"})
"""Words that answer nothing where a text is asked for."""
_TO_DO = re.compile(r"(?:TODO|TBD|FIXME)\b")
_TO_DO_CHARACTERS = 40
"""A note of so many characters stands for the whole answer."""
_ASKS_SIGN = re.compile(
    r"\b(?:emo(?:ji|tic)\w*|symbols?|signs?|punctuation|marks?|ur[il]s?|links?|address|website|ids?|uuids?|paths?|files?|operators?"
    r"|characters?|smileys?|which|where)\b",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|https?://\S+|(?:/[\w.-]+){3,}")
_OPENING = " \t\"'(*_\u201c\u201d\u201e\u2018\u2019\u00ab"
_PASSAGE_ENDS = '\n.!?;:,)"\u201c\u201d\u2019\u00bb'
_PASSAGE_WORDS = 15
"""The name of what is asked about may begin a sentence; it is no longer than this."""
_SENTENCE_ENDS = "\n.!?:\u3002\uff01\uff1f"
"""Signs before a passage that begins a sentence; the beginning of the prompt counts too, as "" is in every text."""
_NO_ANSWER_CHARACTERS = max(map(len, _NO_ANSWER))
_ONE_WORD_WANTED = re.compile(
    r"\b(?:one word|single word|yes or no|true or false|classif\w+|categor\w+|which|who|whom|whose|where|when"
    r"|how many|how much"
    r"|is|are|was|were|does|do|did|can|could|would|should|has|have|what|name the|select|choose|identify|fill"
    r"|label|letter|option|answer with)\b",
    re.IGNORECASE,
)


class RowFacts(NamedTuple):
    """The facts of one row."""

    characters: int
    answer_words: int
    end: OpenEnd
    """Whether the last answer breaks off."""
    tail: str
    """How an answer ends that may break off."""
    is_short: bool
    """Whether the answer is one word though more is asked for, or only a sign that it is missing."""
    prompt_key: int
    """Hash of the text that has the label; 0 without a label."""
    answer_key: int
    """Hash of the label; 0 without one."""
    label: str | None
    """The answer, where it is short enough to be a label."""
    labelled_text: str
    """What the label is for; empty without one."""
    language: str | None
    """Language of the last answer; None where it cannot be told."""
    form: Form
    """How the answer begins and ends; none for a text or a label."""
    edges: tuple[int, ...]
    """For a text: hashes of the lines at its edges, 0 for a short one."""
    turns: str | None
    """For a text: how it may be parted into turns, where it is a dialogue."""


def measure(row: RowView) -> RowFacts:
    """Take the facts of a row."""
    answer = row.answer
    stripped = answer.strip()
    words = stripped.count(" ") + stripped.count("\n") + 1 if stripped else 0
    single = row.layout in ("columns", "classification") and len(row.answers) == 1
    longest = LABEL_CHARACTERS if row.layout == "columns" else FIELD_CHARACTERS
    label = answer if single and len(stripped) > 0 and len(answer) <= longest else None
    prose = row.layout != "classification"
    answered = prose and row.layout != "text" and bool(row.messages) and row.messages[-1].role == "assistant"
    language = answer_language(answer if prose else row.prompt)
    form = form_of(stripped) if answered else NO_FORM
    end = open_end(answer) if answered and form.structure is not Structure.PYTHON else OpenEnd.NO_PROSE
    if prose and (end >= OpenEnd.BARE or language is not None) and _is_quoted(stripped, row.prompt):
        end, language = OpenEnd.NO_PROSE, None
    return RowFacts(
        characters=len(row.text),
        answer_words=words,
        end=end,
        tail=stripped[-TAIL_CHARACTERS:] if end >= OpenEnd.OPEN else "",
        is_short=_is_short(row, stripped, words),
        prompt_key=_key(row.prompt) if label is not None and row.prompt.strip() else 0,
        answer_key=_key(answer) if label is not None else 0,
        label=label,
        labelled_text=row.prompt[:LABELLED_TEXT_CHARACTERS] if label is not None else "",
        language=language,
        form=form,
        edges=_edges(row.text) if row.layout == "text" else (),
        turns=row.turns,
    )


def _is_quoted(answer: str, prompt: str) -> bool:
    """Whether an answer is a choice among those given, or a passage of the text that was asked about.

    Its end and its language are then those of the text. What was copied from the beginning of a sentence into the
    middle of one is no passage, but a copy that breaks off.
    """
    place = prompt.find(answer) if answer else -1
    if place < 0:
        return False
    after = prompt[place + len(answer) : place + len(answer) + 1]
    before = prompt[:place].rstrip(_OPENING)[-1:]
    return after in _PASSAGE_ENDS or before not in _SENTENCE_ENDS or answer.count(" ") < _PASSAGE_WORDS


def _is_short(row: RowView, answer: str, words: int) -> bool:
    """Whether an answer is one short word though more is asked for, or only says that it is missing."""
    if words == 1 and (len(answer) <= 3 or answer.casefold() in _NO_WORD) and not answer.isdigit() and _wants_more(row):
        return True
    if _says_nothing(answer) and row.layout in ("columns", "turns") and _ASKS_SIGN.search(row.prompt) is None:
        return True
    if len(answer) <= _TO_DO_CHARACTERS and row.layout in ("columns", "turns") and _TO_DO.match(answer) is not None:
        return True
    return (
        bool(answer)
        and len(answer) <= _NO_ANSWER_CHARACTERS
        and row.layout in ("columns", "turns")
        and (answer.casefold() in _NO_ANSWER or answer.casefold().strip("()[]<>*_") in _NO_ANSWER)
    )


def _says_nothing(answer: str) -> bool:
    """Whether an answer has no letter and no digit, or is an address or an identifier and nothing else."""
    if not answer or " " in answer:
        return bool(answer) and not any(map(str.isalnum, answer))
    return not any(map(str.isalnum, answer)) or _IDENTIFIER.fullmatch(answer) is not None


def _wants_more(row: RowView) -> bool:
    return (
        row.layout in ("columns", "turns")
        and not row.prompt.rstrip().endswith("?")
        and not _ONE_WORD_WANTED.search(row.prompt)
    )


def _context(row: RowView) -> str:
    messages = row.messages
    return messages[0].content if len(messages) == 2 else "\n".join([message.content for message in messages[:-1]])


def _key(text: str) -> int:
    plain = " ".join(text.casefold().split())
    return (
        int.from_bytes(hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") >> 1
        or 1
    )


def _edges(text: str) -> tuple[int, ...]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2:
        return ()
    chosen = lines[-3:] if len(lines) <= EDGE_LINES else [lines[0], *lines[-3:]]
    return tuple(_key(line) if len(line.strip()) >= EDGE_CHARACTERS else 0 for line in chosen)


def _named_languages(rows: Sequence[RowFacts], views: Sequence[RowView]) -> list[bool]:
    """Say for answers in another language than most others whether their prompt speaks of it or of translating."""
    usual = Counter(row.language for row in rows if row.language is not None).most_common(1)
    return [
        row.language is not None
        and row.language != usual[0][0]
        and view.layout != "text"
        and names_language(_context(view), row.language)
        for row, view in zip(rows, views, strict=True)
    ]


@dataclass(slots=True)
class Facts:
    """The facts of all rows that can be read, column by column."""

    index: NDArray[np.int64]
    """Number of the record among all records."""
    characters: NDArray[np.int64]
    answer_words: NDArray[np.int64]
    end: NDArray[np.int8]
    tails: list[str]
    is_short: NDArray[np.bool_]
    prompt_key: NDArray[np.int64]
    answer_key: NDArray[np.int64]
    labels: list[str | None]
    labelled_texts: list[str]
    languages: list[str | None]
    names_language: NDArray[np.bool_]
    """Whether the prompt of an answer in another language than most rows read with it speaks of languages."""
    firsts: NDArray[np.int64]
    """Of the form of each answer, the hash of its first word."""
    lasts: NDArray[np.int64]
    """The same of its last line."""
    structures: NDArray[np.int8]
    """The same, whether it is data."""
    edges: NDArray[np.int64]
    """A row of `EDGE_LINES` hashes for each row."""
    turns: list[str | None]
    """Of each text that is a dialogue, how it may be parted into turns."""
    layouts: frozenset[str]
    """Layouts that occur."""
    is_judged: bool
    """Whether some answers are marked as good or bad ones."""
    words: RowWords
    """The words of every row."""
    groups: Groups
    """What every row has in columns that say which rows belong together."""
    _duplicates: Duplicates | None = None

    @property
    def duplicates(self) -> Duplicates:
        """The rows that repeat others, looked for once; numbers are places in this table."""
        if self._duplicates is None:
            self._duplicates = find_duplicates(self.words)
        return self._duplicates

    def __len__(self) -> int:
        return len(self.index)


def tabulate(index: Sequence[int], views: Sequence[RowView]) -> Facts:
    """Take the facts of some rows, as columns."""
    import numpy as np

    rows = [measure(view) for view in views]

    edges = np.zeros((len(rows), EDGE_LINES), np.int64)
    for number, row in enumerate(rows):
        edges[number, : len(row.edges)] = row.edges
    return Facts(
        index=np.array(index, np.int64),
        characters=np.array([row.characters for row in rows], np.int64),
        answer_words=np.array([row.answer_words for row in rows], np.int64),
        end=np.array([row.end for row in rows], np.int8),
        tails=[row.tail for row in rows],
        is_short=np.array([row.is_short for row in rows], np.bool_),
        prompt_key=np.array([row.prompt_key for row in rows], np.int64),
        answer_key=np.array([row.answer_key for row in rows], np.int64),
        labels=[row.label for row in rows],
        labelled_texts=[row.labelled_text for row in rows],
        languages=[row.language for row in rows],
        names_language=np.array(_named_languages(rows, views), np.bool_),
        firsts=np.array([row.form.first for row in rows], np.int64),
        lasts=np.array([row.form.last for row in rows], np.int64),
        structures=np.array([row.form.structure for row in rows], np.int8),
        edges=edges,
        turns=[row.turns for row in rows],
        layouts=frozenset(view.layout for view in views),
        is_judged=any(view.conversation.label is not None for view in views),
        words=words_of_rows([row_text(view.conversation) for view in views]),
        groups=group_hashes([view.conversation.extra for view in views]),
    )


def join_facts(parts: Sequence[Facts]) -> Facts:
    """Put tables one under the other."""
    import numpy as np

    if not parts:
        return tabulate((), ())
    return Facts(
        index=np.concatenate([part.index for part in parts]),
        characters=np.concatenate([part.characters for part in parts]),
        answer_words=np.concatenate([part.answer_words for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        tails=[tail for part in parts for tail in part.tails],
        is_short=np.concatenate([part.is_short for part in parts]),
        prompt_key=np.concatenate([part.prompt_key for part in parts]),
        answer_key=np.concatenate([part.answer_key for part in parts]),
        labels=[label for part in parts for label in part.labels],
        labelled_texts=[text for part in parts for text in part.labelled_texts],
        languages=[language for part in parts for language in part.languages],
        names_language=np.concatenate([part.names_language for part in parts]),
        firsts=np.concatenate([part.firsts for part in parts]),
        lasts=np.concatenate([part.lasts for part in parts]),
        structures=np.concatenate([part.structures for part in parts]),
        edges=np.concatenate([part.edges for part in parts]),
        turns=[turns for part in parts for turns in part.turns],
        layouts=frozenset().union(*(part.layouts for part in parts)),
        is_judged=any(part.is_judged for part in parts),
        words=join_rows(part.words for part in parts),
        groups=join_groups([part.groups for part in parts], [len(part) for part in parts]),
    )
