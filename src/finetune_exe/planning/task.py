"""Which kind of task a description asks for."""

from __future__ import annotations

from collections import defaultdict

from finetune_exe.domain.plan import Task
from finetune_exe.domain.task import DataProfile, TaskType
from finetune_exe.knowledge.task_signs import task_signs

_OBJECT = 0.25
"""What a sign is worth again when the description begins with it: a task is named first, its matter later."""


def classify_task(description: str, profile: DataProfile | None) -> Task:
    """Judge what kind of task a description and the data ask for, with the words that decided it.

    Returns:
        The task; its type is "other" where the words speak of images, sound, forecasts or retrieval rather than text.
    """
    scores: dict[TaskType, float] = defaultdict(float)
    words: dict[TaskType, list[str]] = defaultdict(list)
    for sign in task_signs():
        seen = {match[0].lower(): match.start() for match in reversed(list(sign.pattern.finditer(description)))}
        for rank, (word, start) in enumerate(sorted(seen.items(), key=lambda item: item[1])):
            early = 1 + _OBJECT * max(0, 3 - start / 40)
            scores[sign.type] += sign.weight * early / (1 + rank)
            words[sign.type].append(f"'{word}'")
    evidence: dict[TaskType, str] = {
        type: f"the description says {', '.join(dict.fromkeys(found[:4]))}" for type, found in words.items()
    }
    if profile is not None:
        for type, weight, seen_in_data in _signs_of(profile):
            scores[type] += weight
            evidence[type] = f"{evidence[type]}; {seen_in_data}" if type in evidence else seen_in_data
    if not scores:
        return Task(
            description=description,
            type="generation",
            evidence=("neither words nor data say more than that text comes in and text goes out",),
        )
    best = max(scores, key=lambda type: scores[type])
    return Task(description=description, type=best, evidence=(evidence[best],))


def _signs_of(profile: DataProfile) -> list[tuple[TaskType, float, str]]:
    """What the data speak for: (type, weight, words)."""
    signs: list[tuple[TaskType, float, str]] = []
    if profile.labels:
        signs.append(("classification", 8, f"the data have {len(profile.labels)} labels as answers"))
    if profile.format == "completion":
        signs.append(("completion", 8, "the data are plain texts without prompts"))
    if profile.num_turns_mean > 3:
        signs.append(("chat", 4, f"the data have {profile.num_turns_mean:.1f} messages in a row"))
    return signs
