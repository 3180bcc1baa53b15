"""Whether test rows were trained on, whole or in large part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.values import Check
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.stored import from_json

RUN = 8
"""Words of a run."""
LONG = 12
"""Words of an answer that two rows do not have in common by chance."""
SHARED = 0.7
"""Share of a row's runs that must stand in one training set to call it seen."""
FEW = 0.01
"""Share of the test rows up to which such rows move no score by more than that, and come about where rows are short."""


def contamination(data: PreparedFolder) -> Check:
    """Look for test rows among the training rows: the same words, most runs of eight words, or a long answer of theirs.

    A question put in other words leaves its answer as it was. An answer that several rows have is a form of words.
    """

    def rows(split: SplitName) -> list[Conversation]:
        return [from_json(row.conversation) for row in data.split(split).stream_rows()]

    of_train, of_test = rows("train"), rows("test")
    train, test = list(map(_words, of_train)), list(map(_words, of_test))
    whole = {tuple(words) for words in train}
    runs = {run for words in train for run in _runs(words)}
    same = sum(tuple(words) in whole for words in test)
    alike = 0
    for words in test:
        own = list(_runs(words))
        alike += tuple(words) not in whole and bool(own) and sum(run in runs for run in own) >= SHARED * len(own)
    answers = [Counter(map(_answer, rows)) for rows in (of_train, of_test)]
    answered = sum(
        len(answer := _answer(row)) >= LONG and all(said[answer] == 1 for said in answers) and tuple(words) not in whole
        for row, words in zip(of_test, test, strict=True)
    )
    common, few = _boilerplate(test), alike <= FEW * len(test)
    passed = not same and not answered and (few or common)
    return Check(
        name="no test row was trained on",
        passed=passed,
        detail=f"{same} test rows stand in the training rows too, {alike} for the most part"
        + (" (all rows share most of their words: a template)" if alike and common else "")
        + (" (too few to move a score)" if alike and few and not common else "")
        + (f", {answered} have the whole long answer of one" if answered else ""),
        fix=None if passed else "set data.deduplicate to true and group rows that belong together: data.group_by",
    )


def _boilerplate(test: list[list[str]]) -> bool:
    """Say whether most test rows share their runs with each other, as rows of one template do."""
    seen: dict[tuple[str, ...], int] = {}
    for words in test:
        for run in set(_runs(words)):
            seen[run] = seen.get(run, 0) + 1
    shared = [sum(seen[run] > 1 for run in own) / len(own) for words in test if (own := list(_runs(words)))]
    return bool(shared) and sum(shared) / len(shared) > SHARED / 2


def _words(row: Conversation) -> list[str]:
    return re.findall(r"\w+", " ".join(f"{m.role} {m.content}" for m in row.messages).casefold())


def _answer(row: Conversation) -> tuple[str, ...]:
    said = [str(message.content) for message in row.messages if message.role == "assistant"]
    return tuple(re.findall(r"\w+", said[-1].casefold())) if said else ()


def _runs(words: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(RUN)), strict=False)
