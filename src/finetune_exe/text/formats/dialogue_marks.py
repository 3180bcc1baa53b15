"""Recognise texts that hold whole dialogues, and say how they can be parted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from finetune_exe.text.formats.format import Row
from finetune_exe.text.formats.marked_turns import form_of, known_forms

USUAL_SHARE = 0.9
"""Share of the texts that are dialogues of one form, where that is the way they are made."""
MOST_CHARACTERS = 8000
"""Longer texts with words for marks are documents, not a question with its answer."""
_SPEAKERS = "Instruction|Input|Prompt|Question|Human|User|Response|Output|Answer|Assistant|Completion"
_EDGE = re.compile(
    r"^(?:#{0,4} ?[A-Z][A-Za-z ]{0,24}:|<[a-z]{2,12}>:)|(?:^|(?<=\s))(?:USER|ASSISTANT):"
    rf"|#{{2,4}} ?(?:{_SPEAKERS})\b:?",
    re.MULTILINE,
)


def turns_in(text: str) -> str | None:
    """Say how a text may be parted: the name of a known form, or its first and last mark, where they differ."""
    if (form := form_of(text)) is not None:
        return form.said
    if len(text) > MOST_CHARACTERS or not (":" in text or "##" in text):
        return None
    marks = _EDGE.findall(text)
    return f"{marks[0]},{marks[-1]}" if marks and marks[0] != marks[-1] else None


def usual_turns(found: Sequence[str | None]) -> str | None:
    """Say how nearly all texts may be parted, by what was found in each."""
    counts = Counter(said for said in found if said is not None)
    for usual, _ in counts.most_common(1):
        alike = sum(count for said, count in counts.items() if are_alike(said, usual))
        return usual if alike >= USUAL_SHARE * len(found) else None
    return None


def are_alike(said: str, other: str) -> bool:
    """Whether two forms differ in white space alone, so that a text may seem to be of either."""
    form, known = known_forms().get(said), known_forms().get(other)
    if form is None or known is None:
        return said == other
    return (form.marks["user"], form.every_turn_ends) == (known.marks["user"], known.every_turn_ends)


def turns_in_columns(rows: Sequence[Row]) -> str | None:
    """Say how the texts of a column may be parted that holds whole dialogues."""
    objects = [row for row in rows if isinstance(row, dict)]
    for column in dict.fromkeys(key for row in objects[:50] for key in row):
        texts = [row.get(column) if isinstance(row, dict) else None for row in rows]
        said = usual_turns([turns_in(text) if isinstance(text, str) else None for text in texts])
        if said is not None:
            return said
    return None
