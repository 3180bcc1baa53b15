"""Speed, memory and correctness of finding near duplicates, beside datasketch on the same rows.

    python benchmarks/preparing.py ROWS.jsonl [--truth TRUTH.jsonl.gz] [--peer-rows 20000] [--write TABLE.md]

ROWS has the columns instruction, input and output. TRUTH names the planted repeats, one {"i": row, "t": kind, "of":
earlier row} a line. Both contenders begin at the file and end at pairs:

- finetune-exe: a process a core reads and hashes words; MinHash proposes pairs, each is verified on its real runs of
  five words; pairs at 0.7 or above are kept;
- datasketch: MinHash of 128 permutations over the same runs of five words, its LSH at 0.7, and each proposed pair
  verified on the two sets. It sees the first rows only, for it takes minutes where the other takes seconds.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import resource
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from finetune_exe.data.duplicates.find import Duplicates, find_duplicates
from finetune_exe.data.duplicates.jsonl_words import TextColumns, jsonl_words

THRESHOLD, PERMUTATIONS = 0.7, 128
COLUMNS = TextColumns(("instruction", "input"), ("output",))
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")


def shingle_set(row: dict[str, str]) -> set[str]:
    """Give the distinct runs of five words of a row; a character of a script without spaces is a word."""
    text = "\n".join(row[name] for name in ("instruction", "input", "output"))
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", unicodedata.normalize("NFKC", text)).casefold()
    words = _WORD.findall(text.lower())
    return {" ".join(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


def ours(path: Path) -> tuple[Duplicates, float]:
    """Find the duplicates of a file."""
    started = time.perf_counter()
    found = find_duplicates(jsonl_words([path], COLUMNS, workers=os.cpu_count() or 1), thorough=False)
    return found, time.perf_counter() - started


def theirs(path: Path) -> tuple[int, float]:
    """Find near pairs with datasketch, and count them."""
    from datasketch import MinHash, MinHashLSH

    started = time.perf_counter()
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=PERMUTATIONS)
    sets: list[set[str]] = []
    pairs = 0
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            sets.append(shingle_set(json.loads(line)))
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch([run.encode() for run in sets[-1]])
            for other in lsh.query(signature):
                pairs += len(sets[-1] & sets[other]) >= THRESHOLD * len(sets[-1] | sets[other])
            lsh.insert(number, signature)
    return pairs, time.perf_counter() - started


def recall(path: Path, truth: Path, found: Duplicates) -> str:
    """Say how many planted copies at or above the threshold came into the cluster of their model."""
    with gzip.open(truth, "rt", encoding="utf-8") as file:
        planted = [entry for entry in map(json.loads, file) if entry["t"] in ("exact_duplicate", "near_duplicate")]
    wanted = {row for entry in planted for row in (entry["i"], entry["of"])}
    with path.open(encoding="utf-8") as file:
        sets = {number: shingle_set(json.loads(line)) for number, line in enumerate(file) if number in wanted}
    alike = [entry for entry in planted if _jaccard(sets[entry["i"]], sets[entry["of"]]) >= THRESHOLD]
    hits = sum(found.clusters[entry["i"]] == found.clusters[entry["of"]] for entry in alike)
    wrong = _wrong(path, found)
    return f"{hits:,} of {len(alike):,} planted copies at 0.7 or above ({hits / len(alike):.4f}); {wrong} false pairs"


def _wrong(path: Path, found: Duplicates) -> int:
    """Count the pairs called near that are not, by the sets of their words."""
    wanted = {row for pair in found.near for row in (pair.index, pair.of_index)}
    with path.open(encoding="utf-8") as file:
        sets = {number: shingle_set(json.loads(line)) for number, line in enumerate(file) if number in wanted}
    return sum(_jaccard(sets[pair.index], sets[pair.of_index]) < THRESHOLD for pair in found.near)


def _jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other)


def near_duplicates(rows: Path, *, truth: Path | None, peer_rows: int) -> Iterable[str]:
    """Measure both and yield the lines of the table."""
    with rows.open("rb") as file:
        num_rows = sum(1 for _ in file)
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "part.jsonl"
        with rows.open("rb") as file:
            part.write_bytes(b"".join(islice(file, peer_rows)))
        pairs, seconds = theirs(part)
        their_rate = peer_rows / seconds
    found, seconds = ours(rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    rate = num_rows / seconds
    yield "| near duplicates, each verified exactly | rows | seconds | rows a second | times as fast | peak memory |"
    yield "|---|---|---|---|---|---|"
    yield f"| finetune-exe | {num_rows:,} | {seconds:.1f} | {rate:,.0f} | {rate / their_rate:.1f} | {peak:.2f} GB |"
    name = f"datasketch {version('datasketch')}, {PERMUTATIONS} permutations"
    yield f"| {name} | {peer_rows:,} | {peer_rows / their_rate:.1f} | {their_rate:,.0f} | 1.0 | |"
    yield ""
    yield f"finetune-exe names {len(found.exact):,} exact and {len(found.near):,} near duplicates;"
    yield f"datasketch, among its rows, {pairs:,} pairs of either kind."
    if truth is not None:
        yield f"Found: {recall(rows, truth, found)}."


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        "# Preparing, measured", "",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {version('numpy')};",
        "made by `benchmarks/preparing.py`.", "",
        "## Near duplicates", "",
        *near_duplicates(options.rows, truth=options.truth, peer_rows=options.peer_rows),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
