"""Short answers to questions: exact match, words in common, abstaining, and words found in the context."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean

_ABSTAINS = re.compile(
    r"\b(unanswerable|no answer|not (?:mentioned|stated|given|specified|provided)|cannot be (?:answered|determined)"
    r"|(?:i )?do(?:n't| not) know|unknown)\b",
    re.IGNORECASE,
)


class Answers:
    """Scores answers as SQuAD does."""

    name = "qa"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score exact matches and words in common; references may be several, in the column `answers`."""
        exact, overlap, abstain, grounded = [], [], [], []
        for item in items:
            accepted = [item.reference, *_more(item)]
            exact.append(float(any(normalise(item.answer) == normalise(text) for text in accepted)))
            overlap.append(max(word_f1(item.answer, text) for text in accepted))
            abstain.append(float(abstains(item.answer) == abstains(item.reference)))
            words = normalise(item.answer).split()
            context = set(normalise(item.prompt).split())
            grounded.append(mean([float(word in context) for word in words]) if words else 1.0)
        return TaskScores(
            items={"exact_match": exact, "word_f1": overlap},
            figures={"abstain_accuracy": mean(abstain), "words_in_prompt": mean(grounded)},
        )


def normalise(text: str) -> str:
    """Leave out case, punctuation, articles and extra space.

    Source: Rajpurkar et al., EMNLP 2016, D16-1264; its evaluation script.
    """
    unhyphenated = text.casefold().replace("-", " ")
    bare = "".join(character for character in unhyphenated if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def word_f1(answer: str, reference: str) -> float:
    """Give the F1 of the words of an answer; without a word on either side, whether both have none."""
    ours, theirs = normalise(answer).split(), normalise(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs))


def abstains(text: str) -> bool:
    """Say whether an answer says that there is none."""
    return not text.strip() or (bool(_ABSTAINS.search(text)) and len(text.split()) <= 25)


def _more(item: Answered) -> list[str]:
    answers = item.columns.get("answers")
    if isinstance(answers, dict):
        answers = answers.get("text")
    return [text for text in answers if isinstance(text, str)] if isinstance(answers, list) else []
