"""Whether test rows were trained on, whole or in large part."""

from __future__ import annotations

import re
from collections.abc import Iterable

from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.values import Check
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.stored import from_json

RUN = 8
"""Words of a run."""
SHARED = 0.7
"""Share of a row's runs that must stand in one training set to call it seen."""


def contamination(data: PreparedFolder) -> Check:
    """Look for test rows among the training rows: the same words, or most runs of eight words."""

    def rows(split: SplitName) -> list[list[str]]:
        return [_words(from_json(row.conversation)) for row in data.split(split).stream_rows()]

    train, test = rows("train"), rows("test")
    whole = {tuple(words) for words in train}
    runs = {run for words in train for run in _runs(words)}
    same = sum(tuple(words) in whole for words in test)
    alike = 0
    for words in test:
        own = list(_runs(words))
        alike += tuple(words) not in whole and bool(own) and sum(run in runs for run in own) >= SHARED * len(own)
    common = _boilerplate(test)
    passed = not same and (not alike or common)
    return Check(
        name="no test row was trained on",
        passed=passed,
        detail=f"{same} test rows stand in the training rows too, {alike} for the most part"
        + (" (all rows share most of their words: a template)" if alike and common else ""),
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


def _runs(words: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(RUN)), strict=False)
