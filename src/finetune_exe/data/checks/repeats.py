"""Rows that say what other rows say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import asked, text
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.label_names import label_counts
from finetune_exe.data.checks.other_question import asks_otherwise
from finetune_exe.data.duplicates.near import in_order
from finetune_exe.data.duplicates.pairs import Pair

_LABELLED_WORDS = 20
"""Two texts with a label that have fewer words are alike by what they say, not because one is a copy."""
_FACT_WORDS = 8
"""Words of an answer that is a fact: a longer one may be put in other words, and still be as right."""
_TOLD_PAIRS = 50
"""Edited copies of which the share of words in order is told: counting it again takes its time."""


def _hits(facts: Facts, pairs: Iterable[Pair]) -> Iterator[Hit]:
    for pair in pairs:
        yield Hit(int(facts.index[pair.index]), "", int(facts.index[pair.of_index]))


def _exact(facts: Facts) -> Iterator[Hit]:
    return _hits(facts, facts.duplicates.exact)


def _normalised(facts: Facts) -> Iterator[Hit]:
    return _hits(facts, facts.duplicates.normalised)


def _near(facts: Facts) -> Iterator[Hit]:
    """Find copies that were touched.

    Short texts with a label are alike because they say the same in many ways; copies are those that say it in the same
    words, with the case or the punctuation of some changed. Nor is another question about the same page a copy.
    """
    least = _LABELLED_WORDS if label_counts(facts) is not None else 0
    lengths = facts.words.lengths
    for pair in facts.duplicates.near:
        if pair.similarity < 1 and asks_otherwise(facts.words, pair.index, pair.of_index):
            continue
        if pair.similarity == 1 or lengths[pair.index] >= least:
            said = "the same words, the case or the marks of some changed"
            if pair.similarity < 1:
                said = f"{pair.similarity:.0%} of all runs of five words are in both"
            yield Hit(int(facts.index[pair.index]), said, int(facts.index[pair.of_index]))
    edited = (pair for pair in facts.duplicates.edited if lengths[pair.index] >= least)
    copies = (pair for pair in edited if not asks_otherwise(facts.words, pair.index, pair.of_index))
    for number, pair in enumerate(copies):
        said = ""
        if number < _TOLD_PAIRS:
            share = in_order(facts.words, pair.index, facts.words, pair.of_index)
            said = f"{share:.0%} of the words are the same, in the same order"
        yield Hit(int(facts.index[pair.index]), said, int(facts.index[pair.of_index]))


def _contained(facts: Facts) -> Iterator[Hit]:
    return _hits(facts, facts.duplicates.contained)


def _conflicting_answer(facts: Facts) -> Iterator[Hit]:
    """Find questions with several answers; a second pair of answers, or a judged answer, is no conflict."""
    if "preference" in facts.layouts or facts.is_judged or label_counts(facts) is not None:
        return iter(())
    pairs = facts.duplicates.conflicting
    if "turns" in facts.layouts:
        # A chat is answered in many ways, by what came before or by the tools at hand; facts are not.
        pairs = tuple(pair for pair in pairs if facts.answer_words[pair.index] <= _FACT_WORDS)
    return _hits(facts, pairs)


_TOLD = (
    "The river rises in the hills, runs past nine villages, turns a dozen mills and reaches the sea at the old harbour."
)
_PAGE = f"{_TOLD} Ships of all countries lie there, and the market by the water begins each day at dawn."
_USUAL = [asked(f"Question {number}?", f"That depends on {number} things.") for number in range(20)]

CHECKS = (
    DataCheck(
        code="exact_duplicate",
        severity="error",
        message="the row says the same as an earlier one, to the letter",
        fix="keep one of them",
        find=_exact,
        example=[*_USUAL, _USUAL[3]],
        counterexample=_USUAL,
    ),
    DataCheck(
        code="normalised_duplicate",
        severity="error",
        message="the row says the same as an earlier one but for case, white space and punctuation",
        fix="keep one of them",
        find=_normalised,
        example=[*_USUAL, asked(" question 3? ", "That depends on 3 things")],
        counterexample=[
            *(asked(f"Close what is open: {signs}", f"{signs[::-1]}") for signs in ("( [", "[ (", "( (", "[ [")),
            *(asked(f"How much is it? 3 {sign} 4", "Work it out.") for sign in "+-*/%"),
        ],
    ),
    DataCheck(
        code="near_duplicate",
        severity="warning",
        message="the row says almost the same as an earlier one",
        fix="keep one of them",
        find=_near,
        example=[
            *_USUAL,
            asked("Where does it rise?", _TOLD),
            asked("Where does it rise?", _TOLD.replace("nine", "ten")),
        ],
        counterexample=[
            *_USUAL,
            asked("Where does it rise?", _TOLD),
            asked("And what does it turn?", "It turns a dozen mills."),
            *(asked(f"{_PAGE}\n\n{question}", "Nine.") for question in ("How many villages?", "What number is told?")),
        ],
    ),
    DataCheck(
        code="contained_duplicate",
        severity="warning",
        message="the row stands whole inside a longer one",
        fix="keep the longer one",
        find=_contained,
        example=[text(_TOLD), text(_TOLD + " Ships of all countries lie there, and the market begins at dawn.")],
        counterexample=[
            text(_TOLD),
            text("Ships of all countries lie there, and the market begins at dawn, by the old harbour."),
        ],
    ),
    DataCheck(
        code="conflicting_answer",
        severity="warning",
        message="the same question has another answer elsewhere",
        fix="keep the better answer",
        find=_conflicting_answer,
        usual=0.05,
        example=[*_USUAL, asked("Question 3?", "There is no profanity in the given sentence.")],
        counterexample=[
            asked(f"Summarise:\n\n{number}", f"It says {number}, and nothing else.") for number in range(20)
        ],
    ),
)
