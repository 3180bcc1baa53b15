"""Whether a tuned model writes personal data of its training rows out, given what stands before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from finetune_exe.models.scoring import Alternatives, score_alternatives
from finetune_exe.prepared.store import StoredRow
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.render import TemplateRefusedError
from finetune_exe.text.tokenizer import ChatTokenizer

MOST_SPANS = 64
"""Pieces of personal data that are asked for."""
MOST_ROWS = 5_000
"""Rows looked through."""
_PERSONAL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|\+?\d(?:[ ./()-]{0,2}\d){7,}")
"""E-mail addresses, and numbers of eight digits and more: telephone, account, card and identity numbers."""


def personal_spans(rows: Iterable[StoredRow], tokenizer: ChatTokenizer, *, max_length: int) -> list[Alternatives]:
    """Find personal data in learned answers, each with all that stands before it.

    What the prompt says too is left out: to repeat it is no memory.
    """
    found = (
        span for row in islice(rows, MOST_ROWS)
        for span in _spans(from_json(row.conversation), tokenizer, max_length)
    )  # fmt: skip
    return list(islice(found, MOST_SPANS))


def written_out(model: Any, spans: Sequence[Alternatives], *, pad_token_id: int) -> list[bool]:
    """Say of each whether the model would write it greedily."""
    return [score[0].greedy for score in score_alternatives(model, spans, pad_token_id=pad_token_id)]


def _spans(row: Conversation, tokenizer: ChatTokenizer, max_length: int) -> Iterator[Alternatives]:
    last = next((n for n in range(len(row.messages) - 1, -1, -1) if row.messages[n].role == "assistant"), None)
    if last is None:
        return
    answer = row.messages[last].content
    found = list(_PERSONAL.finditer(answer))
    if not found:
        return
    before = tokenizer.bos_token or ""
    if row.kind == "chat":
        if tokenizer.template is None:
            return
        try:
            before = tokenizer.template.render(row.messages[:last], answer_next=True, columns=row.extra)
        except TemplateRefusedError:
            return
    for match in found:
        if match[0] in before or (match.start() == 0 and not before):
            continue
        start = tokenizer.encode((before + answer[: match.start()]).rstrip()).ids
        whole = tokenizer.encode(before + answer[: match.end()]).ids
        shared = next((n for n, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), len(start))
        if 0 < shared < len(whole) <= max_length:
            branch = tuple(whole[shared:])
            yield Alternatives(prefix=tuple(whole[:shared]), branches=(branch,), num_scored=(len(branch),))
