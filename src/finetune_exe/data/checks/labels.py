"""Labels of classification data."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import labelled
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.label_names import canonical, is_typo, label_counts
from finetune_exe.data.checks.label_noise import unlikely_labels

_TYPO_CHARACTERS = 6
"""Shorter labels differ by one letter though they are two."""
_TYPO_SHARE = 0.1
"""How seldom a mistyped label comes beside the right one."""
_IMBALANCE = 20
"""How many times as many rows the commonest label has as the rarest."""


def _label_variant(facts: Facts) -> Iterator[Hit]:
    counts = label_counts(facts)
    if counts is None:
        return
    meant = _spelling_meant(counts)
    for place, label in enumerate(facts.labels):
        if label is not None and label in meant:
            yield Hit(int(facts.index[place]), f"{label!r} for {meant[label]!r}")


def _spelling_meant(counts: Counter[str]) -> dict[str, str]:
    """Map rarer spellings to the commonest spelling of the label they mean."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label, _ in counts.most_common():
        groups[canonical(label)].append(label)
    meant = {label: labels[0] for labels in groups.values() for label in labels[1:]}
    totals = {name: sum(counts[label] for label in labels) for name, labels in groups.items()}
    for name, labels in groups.items():
        if len(name) < _TYPO_CHARACTERS:
            continue
        for other, total in totals.items():
            if totals[name] <= _TYPO_SHARE * total and is_typo(name, other):
                meant.update(dict.fromkeys(labels, groups[other][0]))
                break
    return meant


def _class_imbalance(facts: Facts) -> Iterator[Hit]:
    counts = label_counts(facts)
    if counts is None:
        return
    totals: Counter[str] = Counter()
    for label, count in counts.items():
        totals[canonical(label)] += count
    rare = {name for name, count in totals.items() if count * _IMBALANCE < max(totals.values())}
    for place, name in enumerate(facts.labels):
        if name is not None and canonical(name) in rare:
            yield Hit(int(facts.index[place]), name[:40])


def _label_noise(facts: Facts) -> Iterator[Hit]:
    counts = label_counts(facts)
    if counts is None:
        return
    places = [
        place for place, label in enumerate(facts.labels) if label is not None and facts.labelled_texts[place].strip()
    ]
    texts = [facts.labelled_texts[place] for place in places]
    names = [canonical(facts.labels[place] or "") for place in places]
    for number, likelier in unlikely_labels(texts, names):
        yield Hit(
            int(facts.index[places[number]]), f"{facts.labels[places[number]]!r}, but others like it are {likelier!r}"
        )


_TEXTS = (
    ("I lost my card somewhere", "card_lost"), ("my card was stolen, it is lost", "card_lost"),
    ("the lost card is mine", "card_lost"),
    ("the pin is blocked again", "pin_blocked"), ("unblock my pin please, it is blocked", "pin_blocked"),
    ("blocked pin", "pin_blocked"),
)  # fmt: skip
_USUAL = [labelled(f"{said} {number}", label) for number in range(10) for said, label in _TEXTS]

CHECKS = (
    DataCheck(
        code="label_variant",
        severity="warning",
        message="the label is written in another way than the same label elsewhere",
        fix="write each label in one way",
        find=_label_variant,
        example=[*_USUAL, labelled("my lost card", "Card Lost "), labelled("my pin", "pin_blokced")],
        counterexample=_USUAL,
    ),
    DataCheck(
        code="label_noise",
        severity="info",
        message="texts like this one have another label",
        fix="look at the row, and correct its label if it is wrong",
        find=_label_noise,
        example=[*_USUAL, labelled("I lost my card, my lost card", "pin_blocked")],
        counterexample=_USUAL,
    ),
    DataCheck(
        code="class_imbalance",
        severity="info",
        message="the label is far rarer than the commonest one",
        fix="add rows with it, or weigh them more",
        find=_class_imbalance,
        example=[
            *_USUAL,
            *(labelled(f"{said} and so on {number}", "pin_blocked") for number in range(100) for said in ("pin",)),
        ]
        + [labelled(f"where is my transfer {number}", "transfer") for number in range(5)],
        counterexample=_USUAL,
    ),
)
