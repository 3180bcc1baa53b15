"""What the duplicates are held against: the same questions answered slowly, on the texts themselves."""

from __future__ import annotations

import random
import re
from itertools import combinations

from finetune_exe.data.duplicates.rows import RowText


def seeded(seed: int) -> random.Random:
    """Give random numbers that are the same in every run."""
    return random.Random(seed)  # noqa: S311


_ONLY_DIVIDES = re.compile(
    r"""(?:[.,;:?]|(?<![0-9])(?<!(?<![a-z0-9_])[a-z_])!)(?=[.,;:?!'-]*(?:[\s)\]}"]|$))"""
    r"""|(?<=[a-z_])'(?=[a-z_])|(?<=[a-z_]{2})-(?=[a-z_]{2})"""
)


def words(text: str) -> list[str]:
    """Split ASCII text into words and signs, without case and the marks that only divide it."""
    return re.findall(r"[a-z0-9_]+|[^\sa-z0-9_]", _ONLY_DIVIDES.sub(" ", text.lower()))


def row_words(row: RowText) -> list[str]:
    """Give the words of prompt and answer."""
    return words(row.prompt) + words(row.answer)


def shingle_set(row: RowText, size: int = 5) -> set[tuple[str, ...]]:
    """Give all runs of five words; a shorter row is one run, an empty one none."""
    found = row_words(row)
    if len(found) < size:
        return {tuple(found)} if found else set()
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def jaccard(one: RowText, other: RowText) -> float:
    """Share of runs in both of those in either."""
    left, right = shingle_set(one), shingle_set(other)
    return len(left & right) / len(left | right) if left | right else 1.0


def near_clusters(rows: list[RowText], threshold: float) -> set[frozenset[int]]:
    """Compare all rows with all, and join those at or above the threshold."""
    root = list(range(len(rows)))
    for one, other in combinations(range(len(rows)), 2):
        if jaccard(rows[one], rows[other]) >= threshold and row_words(rows[one]):
            merged, gone = root[one], root[other]
            root = [merged if name == gone else name for name in root]
    clusters: dict[int, set[int]] = {}
    for row, name in enumerate(root):
        clusters.setdefault(name, set()).add(row)
    return {frozenset(members) for members in clusters.values()}


def common_subsequence(one: list[int], other: list[int]) -> int:
    """Length of the longest common subsequence, by the table everybody knows."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, left in enumerate(one):
        for j, right in enumerate(other):
            table[i + 1][j + 1] = table[i][j] + 1 if left == right else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]
