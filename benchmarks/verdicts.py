"""How often a comparison finds a difference where there is none, over clusters, sizes, shared variance and shapes.

    python benchmarks/verdicts.py [--draws 2000] [--clusters 4,5,6] [--seed 1]

Prints Markdown for `verdicts.md`. Every draw is judged by the code that `fine-tune compare` runs; only random signs are
fewer (999), and the ends of intervals are not looked for: an interval misses the truth where the test refuses it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from finetune_exe.evaluation import signs, student_t
from finetune_exe.evaluation.spread import choose_kind, counted_parts, p_value_of_few, standard_error

Numbers = NDArray[np.float64]
COUNTS = (4, 5, 6, 8, 10, 15, 20, 30, 100)
SHARED = (0.0, 0.2, 0.6)
ITEMS = 8
LEVEL = 0.05


def normal(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    return _both(rng.standard_normal, index, shared)


def exponential(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    return _both(lambda n: rng.exponential(size=n) - 1, index, shared)


def lognormal(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """Skewness 3.3."""
    return _both(lambda n: np.exp(0.75 * rng.standard_normal(n)) - math.exp(0.75**2 / 2), index, shared)


def right_or_wrong(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """Two of five items differ."""
    latent = normal(rng, index, shared)
    return 1.0 * (latent > 0.84) - (latent < -0.84)


def seldom_different(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """One of ten items differs."""
    latent = normal(rng, index, shared)
    return 1.0 * (latent > 1.645) - (latent < -1.645)


def bounded(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """Scores between 0 and 100, piled up at both ends."""
    hard, gain = 1.5 * rng.standard_normal(len(index)), normal(rng, index, shared)
    return 100 / (1 + np.exp(-hard - gain / 2)) - 100 / (1 + np.exp(-hard + gain / 2))


def mostly_ties(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """Four of five items tie; the gains of the others are exponential."""
    return exponential(rng, index, shared) * (rng.random(len(index)) < 0.2)


def lost_clusters(rng: np.random.Generator, index: Numbers, shared: float) -> Numbers:
    """One cluster of five loses on six of ten items, the others win on three of twenty; without sharing, items do."""
    lost = (rng.random(int(index.max()) + 1) < 0.2)[index] if shared else rng.random(len(index)) < 0.2
    chance = np.where(lost, 0.6, 0.15)
    return np.where(lost, -1.0, 1.0) * (rng.random(len(index)) < chance)


def _both(draw: Callable[[int], Numbers], index: Numbers, shared: float) -> Numbers:
    ofs = draw(int(index.max()) + 1)[index]
    return np.asarray(math.sqrt(shared) * ofs + math.sqrt(1 - shared) * draw(len(index)))


SHAPES = {
    shape.__name__.replace("_", " "): shape
    for shape in (normal, exponential, lognormal, right_or_wrong, seldom_different, bounded, mostly_ties, lost_clusters)
}


def alike(count: int) -> list[int]:
    return [ITEMS] * count


def unlike(count: int) -> list[int]:
    """Sizes as quantiles of a lognormal distribution, the largest about ten to fifty times the smallest."""
    places = [NormalDist().inv_cdf((rank + 0.5) / count) for rank in range(count)]
    return [max(1, round(ITEMS * math.exp(0.9 * place))) for place in places]


def one_huge(count: int) -> list[int]:
    """One cluster holds half of all items."""
    return [ITEMS * (count - 1)] + [ITEMS] * (count - 1)


SIZES = (alike, unlike, one_huge)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One design."""

    count: int
    sizes: str
    shared: float
    shape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Shares of draws."""

    cell: Cell
    ours: float
    """A difference is found where there is none."""
    one_side: float
    """Half of the interval's misses should be on either side; this is the worse one."""
    plain: float
    """The same by Student's t of the cluster-corrected error alone."""
    power: float
    """A difference is found that is 2.8 true standard errors."""
    plain_power: float


def p_values(differences: Numbers, index: Numbers) -> tuple[float, float, float]:
    """Give the p value of the program, that of the plain t test, and the sign of the difference."""
    sums, weights = np.bincount(index, weights=differences), np.bincount(index).astype(np.float64)
    parts = counted_parts(weights)
    error = standard_error(sums, weights)
    if error == 0:
        return 1.0, 1.0, 0.0
    plain = student_t.two_sided_p(float(sums.sum() / weights.sum()) / error, df=len(sums) - 1)
    side = float(np.sign((parts * sums).sum()))
    if choose_kind(parts * sums, parts * weights) == "t":
        return plain, plain, side
    return p_value_of_few(differences, np.ones(len(differences)), index, parts)(0.0), plain, side


def measure(work: tuple[Cell, int, int]) -> Rates:
    cell, draws, seed = work
    signs.NUM_FLIPS = 999
    rng = np.random.default_rng([seed, *cell.sizes.encode(), *cell.shape.encode(), cell.count, int(10 * cell.shared)])
    sizes = next(make for make in SIZES if make.__name__ == cell.sizes)(cell.count)
    index = np.repeat(np.arange(cell.count), sizes)
    drawn = [SHAPES[cell.shape](rng, index, cell.shared) for _ in range(draws)]
    effect = 2.8 * float(np.std([values.mean() for values in drawn]))
    null = np.array([p_values(values, index) for values in drawn])
    shifted = np.array([p_values(values + effect, index) for values in drawn[: draws // 4]])
    found = null[:, 0] < LEVEL
    return Rates(
        cell=cell,
        ours=float(found.mean()),
        one_side=max(float((found & (null[:, 2] == side)).mean()) for side in (-1, 1)),
        plain=float((null[:, 1] < LEVEL).mean()),
        power=float((shifted[:, 0] < LEVEL).mean()),
        plain_power=float((shifted[:, 1] < LEVEL).mean()),
    )


def report(rates: list[Rates]) -> Iterator[str]:
    counts = list(dict.fromkeys(rate.cell.count for rate in rates))

    def table(title: str, show: Callable[[list[Rates]], str]) -> Iterator[str]:
        yield from (
            "",
            f"## {title}",
            "",
            "| clusters | " + " | ".join(SHAPES) + " |",
            "|---:|" + "---:|" * len(SHAPES),
        )
        for count in counts:
            cells = [[r for r in rates if (r.cell.count, r.cell.shape) == (count, shape)] for shape in SHAPES]
            yield f"| {count} | " + " | ".join(map(show, cells)) + " |"

    def mean_and_worst(value: Callable[[Rates], float]) -> Callable[[list[Rates]], str]:
        return lambda cells: f"{100 * sum(map(value, cells)) / len(cells):.1f} ({100 * max(map(value, cells)):.1f})"

    yield from table(
        "Differences found where there is none, in percent: mean of nine designs (worst of them)",
        mean_and_worst(lambda r: r.ours),
    )
    yield from table("The same by the plain clustered t test", mean_and_worst(lambda r: r.plain))
    yield from table(
        "Misses of the 95 % interval on its worse side (2.5 if fair)", mean_and_worst(lambda r: r.one_side)
    )
    yield from table(
        "Differences of 2.8 true standard errors found, clusters alike, beside the plain test",
        lambda cells: "{:.0f} of {:.0f}".format(
            *(
                100 * sum(values) / len(values)
                for values in zip(*((r.power, r.plain_power) for r in cells if r.cell.sizes == "alike"), strict=True)
            )
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="of each design")
    parser.add_argument("--clusters", default=",".join(map(str, COUNTS)))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cells", action="store_true", help="print every design")
    chosen = parser.parse_args()
    work = [
        (Cell(count=count, sizes=make.__name__, shared=shared, shape=shape), chosen.draws, chosen.seed)
        for count in map(int, chosen.clusters.split(",")) for make in SIZES for shared in SHARED for shape in SHAPES
    ]  # fmt: skip
    rates = []
    with ProcessPoolExecutor(2) as pool:
        for rate in pool.map(measure, work):
            rates.append(rate)
            if chosen.cells:
                found = " ".join(f"{100 * share:.1f}" for share in astuple(rate)[1:])
                print(*astuple(rate.cell), found, sep="\t", flush=True)
    print("\n".join(report(rates)))


if __name__ == "__main__":
    main()
