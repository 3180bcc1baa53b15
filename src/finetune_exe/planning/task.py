"""Which kind of task is asked for."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from typing import get_args

from finetune_exe.domain.plan import Task
from finetune_exe.domain.task import AnswerKind, DataProfile, TaskType, TextTask
from finetune_exe.domain.values import Confidence
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.task_signs import task_signs
from finetune_exe.planning.scripts import spaced

_OBJECT = 0.25
"""What a sign is worth again when the request begins with it: a task is named first, its matter later."""
_GIVEN = 0.5
"""What is left of a sign's worth where it speaks of what goes in: what comes out decides."""
_REQUEST = re.compile(
    r"\b(?:your|the|our) (?:task|job|goal|aim)(?: here)? is to\b"
    r"|\b(?:you|we|i) (?:need|have|want|would like|are (?:asked|expected|required|supposed))"
    r"(?: (?:it|you|a model|ai))? to\b"
    r"|\b(?:you (?:should|must)|we ask you to)\b",
    re.IGNORECASE,
)
_INPUT = re.compile(
    r"\b(?:given|(?:provided|presented) with|based on|out of|from|you(?:'re| are| will be)? (?:shown|reading))\b"
    r"(?:(?!\b(?:in)?to\b)[^,.;:])*",
    re.IGNORECASE,
)


_UNTOLD = "neither words nor data say what is to be done"
_RIVAL = 2 / 3
"""A kind whose signs weigh so much of the heaviest kind's may be meant as well."""

_MOST = 0.8
"""Share of the rows that settles what the data are."""
_ENOUGH_TO_TELL = 20
_FORMS: tuple[tuple[TaskType, tuple[AnswerKind, ...], str], ...] = (
    ("code", ("code", "sql"), "source code"),
    ("extraction", ("json",), "JSON"),
    ("reasoning", ("worked", "number"), "numbers, or end in the number they arrive at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """A type, and what speaks for it."""

    type: TaskType
    words: str
    rivals: tuple[TaskType, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The kind of a task, and how sure that is."""

    type: TaskType
    evidence: tuple[str, ...]
    """What decided it, and what spoke for another."""
    source: str
    confidence: Confidence
    others: tuple[TaskType, ...] = ()
    """Kinds that it may be as well, likeliest first."""


class DeclinedTaskError(FineTuneError):
    """The task is none for a language model (C08)."""

    def __init__(self, task: Task) -> None:
        super().__init__(
            "C08",
            what="this is no task for fine-tuning a language model",
            where=f"the task {task.description!r}",
            why=task.evidence[0] + "; here text comes in and text goes out",
            fix="use a tool made for it; or describe the text the model reads and the text it shall write, or say "
            "what that is by --task-type",
        )
        self.task = task

    def __reduce__(self) -> tuple[object, ...]:
        return DeclinedTaskError, (self.task,)


def classify_task(description: str, profile: DataProfile | None, *, told: TextTask | None = None) -> Reading:
    """Judge what kind of task a description and the data ask for, with what decided it.

    What the user says it is counts first; then the form of the answers where it is plain; then the words. A sign counts
    more where the request begins, and half where it speaks of what is given.

    Returns:
        Its type is "other" where the words speak of images, sound, forecasts or retrieval rather than text.
    """
    shown = _plain_in(profile) if profile is not None else None
    words = _read_words(description)
    read = shown or words
    if told is not None:
        evidence = ["you said so"]
        if read and read.type != told:
            evidence.append(f"by itself it reads as {read.type}: {read.words}")
        return Reading(type=told, evidence=tuple(evidence), source="you", confidence="high")
    others: tuple[TaskType, ...] = ()
    if shown:
        evidence = [shown.words]
        if words and words.type != shown.type:
            evidence.append(f"the description by itself reads as {words.type}: {words.words}")
            others = () if words.type == "other" else (words.type,)
        elif words:
            evidence.append(words.words)
        return Reading(type=shown.type, evidence=tuple(evidence), source="the data", confidence="high", others=others)
    if words:
        sure: Confidence = "low" if words.rivals else "medium"
        return Reading(
            type=words.type, evidence=(words.words,), source="the description", confidence=sure, others=words.rivals
        )
    others = tuple(type for type in get_args(TextTask) if type != "generation")
    return Reading(type="generation", evidence=(_UNTOLD,), source="an assumption", confidence="low", others=others)


def _read_words(description: str) -> _Verdict | None:
    """Weigh the signs in a description; None where there is none."""
    scores: dict[TaskType, float] = defaultdict(float)
    words: dict[TaskType, list[str]] = defaultdict(list)
    description = spaced(unicodedata.normalize("NFKC", description))
    request = _REQUEST.search(description)
    begin = request.end() if request else 0
    given = [match.span() for match in _INPUT.finditer(description)]
    for sign in task_signs():
        seen = {match[0].strip().lower(): match.start() for match in reversed(list(sign.pattern.finditer(description)))}
        for rank, (word, start) in enumerate(sorted(seen.items(), key=lambda item: abs(item[1] - begin))):
            early = 1 + _OBJECT * max(0, 3 - abs(start - begin) / 40)
            fed = sign.type != "other" and any(low < start < high for low, high in given)
            scores[sign.type] += sign.weight * early * (_GIVEN if fed else 1) / (1 + rank)
            words[sign.type].append(f"'{word}'")
    if not scores:
        return None
    best = max(scores, key=lambda type: scores[type])
    found = ", ".join(list(dict.fromkeys(words[best]))[:4])
    rivals = [type for type in scores if type not in (best, "other") and scores[type] >= _RIVAL * scores[best]]
    return _Verdict(
        type=best,
        words=f"the description says {found}",
        rivals=tuple(sorted(rivals, key=lambda type: scores[type], reverse=True)),
    )


def _plain_in(profile: DataProfile) -> _Verdict | None:
    """Name the task that the form of the data leaves no doubt about."""
    if profile.labels:
        return _Verdict(type="classification", words=f"the data have {len(profile.labels)} labels as answers")
    if profile.format == "completion":
        return _Verdict(type="completion", words="the data are plain texts without prompts")
    if profile.format == "squad":
        return _Verdict(type="qa", words="the data are questions on passages")
    if profile.format == "function_calls":
        return _Verdict(type="extraction", words="the data are questions to be answered by a function call")
    if profile.num_turns_mean > 3:
        return _Verdict(type="chat", words=f"the data have {profile.num_turns_mean:.1f} messages in a row")
    for type, kinds, name in _FORMS:
        share = sum(profile.answer_kinds.get(kind, 0.0) for kind in kinds)
        if share >= _MOST:
            return _Verdict(type=type, words=f"{share:.0%} of the answers are {name}")
    if profile.translated_share >= _MOST and profile.num_rows >= _ENOUGH_TO_TELL:
        return _Verdict(
            type="translation",
            words=f"{profile.translated_share:.0%} of the answers are in another language than the prompt",
        )
    return None
