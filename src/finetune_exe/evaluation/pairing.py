"""Items of two files that are the same item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.result_files import ItemResult

Results = dict[str, ItemResult]
SHOWN = 60
"""Characters of a text that tell it from another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One item in both files."""

    a: ItemResult
    b: ItemResult
    cluster: str

    @property
    def scores(self) -> tuple[float, float]:
        """Give the scores of A and of B, where texts are not compared: items without one were left out."""
        assert self.a.score is not None
        assert self.b.score is not None
        return self.a.score, self.b.score

    def texts(self, name: str) -> tuple[str | None, str | None]:
        """Give a text as both files have it, all white space alike; None where one has none."""
        one, other = (side.texts.get(name) for side in (self.a, self.b))
        return None if one is None else " ".join(one.split()), None if other is None else " ".join(other.split())


def pair_items(name_a: str, name_b: str, a: Results, b: Results) -> list[Pair]:
    """Pair the items that both files have.

    Raises:
        FineTuneError: E03 where there is none, or the files disagree about what an item is, or belongs to.
    """
    shared = [item for item in a if item in b]
    if not shared:
        examples = f"{name_a} has {next(iter(a))!r}, {name_b} has {next(iter(b))!r}"
        raise FineTuneError(
            "E03",
            what=f"the files share no item ({len(a)} and {len(b)} items)",
            where=f"{name_a} and {name_b}",
            why=f"a paired comparison needs the same items under both models; {examples}",
            fix="score both models on the same items, under the same names; another field: --item KEY",
        )
    pairs = [
        Pair(a=a[item], b=b[item], cluster=a[item].cluster or b[item].cluster or f"item {item}") for item in shared
    ]
    _refuse_torn(
        name_a, name_b, "cluster", [(pair.a.item, pair.a.cluster, pair.b.cluster) for pair in pairs],
        why="which items belong together decides how sure a difference is",
        fix="give each item the same cluster in both files, or leave it out of one of them",
    )  # fmt: skip
    for what, told in (("reference", pairs), ("prompt", [pair for pair in pairs if None in pair.texts("reference")])):
        _refuse_torn(
            name_a, name_b, what, [(pair.a.item, *pair.texts(what)) for pair in told],
            why=f"items with another {what} are not the same item, though they have the same name",
            fix="name each item by what is asked, not by its place in a file; where it was only asked in other words, "
            f"leave the field {what!r} out of one file",
        )  # fmt: skip
    return pairs


def _refuse_torn(
    name_a: str, name_b: str, what: str, sides: Sequence[tuple[str, str | None, str | None]], *, why: str, fix: str
) -> None:
    """Refuse items of which the files say different things; one that says nothing does not disagree."""
    torn = [(item, one, other) for item, one, other in sides if one is not None and other is not None and one != other]
    if torn:
        item, one, other = torn[0]
        differ = (place for place, (x, y) in enumerate(zip(one, other, strict=False)) if x != y)
        start = max(0, next(differ, min(len(one), len(other))) - SHOWN // 2)
        raise FineTuneError(
            "E03",
            what=f"the files disagree about the {what} of {len(torn)} of {len(sides)} items",
            where=f"item {item!r}: {one[start:][:SHOWN]!r} in {name_a}, {other[start:][:SHOWN]!r} in {name_b}",
            why=why,
            fix=fix,
        )


def asked_otherwise(pairs: Sequence[Pair]) -> list[str]:
    """Say of how many items the reference is the same and the prompt is not."""
    prompts = [pair.texts("prompt") for pair in pairs]
    otherwise = sum(None not in sides and sides[0] != sides[1] for sides in prompts)
    if not otherwise:
        return []
    return [
        f"{otherwise} of {len(pairs)} items were asked in other words of B than of A; their references are the same"
    ]
