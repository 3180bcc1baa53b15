"""Labels of classification data."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from finetune_exe.data.checks.check import DataCheck, Hit
from finetune_exe.data.checks.example import labelled
from finetune_exe.data.checks.facts import Facts
from finetune_exe.data.checks.label_names import canonical, is_typo, label_counts, labels_in
from finetune_exe.data.checks.label_noise import unlikely_labels

_TYPO_CHARACTERS = 6
"""Shorter labels differ by one letter though they are two."""
_TYPO_SHARE = 0.1
"""How seldom a mistyped label comes beside the right one."""
_MIN_SETTLED, _SETTLED_SHARE = 3, 0.1
"""How often a label comes that is surely one, and as a share of an even share of the rows."""
_MAX_SEVERAL = 0.1
"""Share of the rows above which several labels in a field are how this data is."""
_MIN_ABBREVIATED, _MIN_SENTENCE_SPACES = 3, 2
"""Letters of an abbreviation, and spaces of a label that is a sentence."""
_IMBALANCE = 20
"""How many times as many rows the commonest label has as the rarest."""


def _wrapped(counts: Counter[str]) -> dict[str, str]:
    """Map seldom labels that are a known one with words or marks of data around it, or its beginning, to that one."""
    known = _settled(counts)
    meant: dict[str, str] = {}
    for label, count in counts.items():
        name = canonical(label)
        if name in known or count > _TYPO_SHARE * counts.total() / max(1, len(known)):
            continue
        held = labels_in(name, known)
        if len(held) == 1 and (_is_sentence(label) or _is_data(label) or _is_numbered(name, held[0])):
            meant[label] = held[0]
        begun = [other for other in known if other.startswith(name) and len(name) < len(other)]
        if len(begun) == 1 and len(name) >= _MIN_ABBREVIATED and name.isalpha():
            meant[label] = begun[0]
    return meant


def _is_sentence(label: str) -> bool:
    return label.count(" ") >= _MIN_SENTENCE_SPACES


def _is_numbered(name: str, held: str) -> bool:
    """Whether a label has nothing but a number beside it."""
    return (
        set(re.findall(r"\w+", name.replace(held, " "))) != set() and name.replace(held, "").strip(" ()[]#").isdigit()
    )


def _is_data(label: str) -> bool:
    """Whether a label is written as a list, an object or a cell of data."""
    return label[:1] in "[{(<" and label[-1:] in "]})>"


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
    meant = _wrapped(counts)
    meant |= {label: labels[0] for labels in groups.values() for label in labels[1:]}
    totals = {name: sum(counts[label] for label in labels) for name, labels in groups.items()}
    for name, labels in groups.items():
        if len(name) < _TYPO_CHARACTERS:
            continue
        for other, total in totals.items():
            if totals[name] <= _TYPO_SHARE * total and is_typo(name, other):
                meant.update(dict.fromkeys(labels, groups[other][0]))
                break
    return meant


def _several_labels(facts: Facts) -> Iterator[Hit]:
    """Find label fields that hold two known labels and nothing else but marks and words that join them."""
    counts = label_counts(facts)
    if counts is None:
        return
    known = _settled(counts)
    several: dict[str, str] = {}
    for label in counts:
        name = canonical(label)
        if name not in known and len(held := labels_in(name, known)) > 1 and _is_joined(name, held):
            several[label] = " and ".join(sorted(held))
    if sum(counts[label] for label in several) > _MAX_SEVERAL * counts.total():
        return
    for place, said in enumerate(facts.labels):
        if said is not None and said in several:
            yield Hit(int(facts.index[place]), f"{said!r} holds {several[said]}")


def _settled(counts: Counter[str]) -> set[str]:
    """Give the labels, in canonical form, that come often enough to be ones."""
    totals: Counter[str] = Counter()
    for label, count in counts.items():
        totals[canonical(label)] += count
    least = max(_MIN_SETTLED, _SETTLED_SHARE * counts.total() / max(1, len(totals)))
    return {name for name, count in totals.items() if count >= least}


def _is_joined(name: str, held: Sequence[str]) -> bool:
    rest = f" {name} "
    for label in held:
        rest = rest.replace(label, " ")
    return set(re.findall(r"\w+", rest)) <= {"and", "or", "und", "et", "y", "e"}


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
        code="several_labels",
        severity="warning",
        message="the label field holds two labels where the others hold one",
        fix="keep the one that fits, or make one row for each",
        find=_several_labels,
        example=[*_USUAL, labelled("I lost my card and the pin is blocked", "card_lost, pin_blocked")],
        counterexample=[*_USUAL, labelled("I lost my card", "card lost")],
    ),
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
