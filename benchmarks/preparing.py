"""Speed, memory and correctness of preparing data, beside other programs on the same rows.

    python benchmarks/preparing.py ROWS.jsonl [--truth TRUTH.jsonl.gz] [--peer PYTHON] [--million MILLION.jsonl]
        [--write benchmarks/preparing.md]

ROWS has the columns instruction, input and output; 200,000 rows are enough for all. TRUTH names the planted repeats,
one {"i": row, "t": kind, "of": earlier row} a line. MILLION is a larger file, for the memory of a long run. PYTHON has
`trl` and `datasets`; another environment will do. datasketch stands beside finetune-exe (`pip install datasketch`).
Measured are, from the file on:

- all checks: `fine-tune dataset ROWS --check` as a user runs it, start and report included;
- near duplicates: a process a core reads and hashes words; MinHash proposes pairs, each is verified on its real runs
  of five words; pairs at 0.7 or above are kept. Beside it datasketch: MinHash of 128 permutations over the same runs
  of five words, its LSH at 0.7, and each proposed pair verified on the two sets. It sees the first rows only, for it
  takes minutes where the other takes seconds;
- tokenising and packing, as in `benchmarks/tokenising.py`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import tokenising
from jsonl_words import TextColumns, jsonl_words

from finetune_exe.data.duplicates.find import Duplicates, find_duplicates

THRESHOLD, PERMUTATIONS = 0.7, 128
FAULTS_FOUND = 3
"""Exit status of a check that found rows with errors."""
COLUMNS = TextColumns(("instruction", "input"), ("output",))
_ONLY_DIVIDES = re.compile(
    r"""(?:[.,;:?]|(?<![0-9])(?<!(?<!\w)[^\W\d])!)(?=[.,;:?!'-]*(?:[\s)\]}"]|$))"""
    r"""|(?<=[^\W\d])'(?=[^\W\d])|(?<=[^\W\d]{2})-(?=[^\W\d]{2})"""
)
"""Marks that only divide the text, written anew from what `finetune_exe.data.duplicates.marks` says of them."""
_WORD = re.compile(r"\w+|[^\s\w]")
_UNSPACED = re.compile(r"([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])")


def shingle_set(row: dict[str, str]) -> set[str]:
    """Give the distinct runs of five words and signs of a row; a character of a script without spaces is a word."""
    text = "\n".join(row[name] for name in ("instruction", "input", "output"))
    if not text.isascii():
        text = _UNSPACED.sub(r" \1 ", unicodedata.normalize("NFKC", text)).casefold()
    words = _WORD.findall(_ONLY_DIVIDES.sub(" ", text.lower()))
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
    num_rows = _num_rows(rows)
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
    yield "Either searches for near duplicates alone: a lean reader hashes the words of its columns. In `--check` above"
    yield "the search is one part of all, and looks for edited copies and contained rows too."
    if truth is not None:
        yield f"Found: {recall(rows, truth, found)}."


class Run(NamedTuple):
    """What a command took."""

    seconds: float
    peak_bytes: int
    """Most memory that it and its processes held at once; pages that they share count once each."""


def run_check(rows: Path) -> Run:
    """Check a file as a user does."""
    command = [sys.executable, "-m", "finetune_exe", "dataset", str(rows), "--check"]
    started = time.perf_counter()
    peak = 0
    with tempfile.TemporaryFile() as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_resident_bytes, [process.pid, *_children(process.pid)])))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
        if process.returncode not in (0, FAULTS_FOUND):
            said.seek(0)
            raise SystemExit(f"the check failed: {said.read()[-1000:].decode()}")
    return Run(seconds, peak)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _resident_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def all_checks(files: Iterable[Path]) -> Iterator[str]:
    """Check files and yield the lines of the table."""
    yield "| all checks, `fine-tune dataset ROWS --check` | rows | seconds | rows a second | peak memory |"
    yield "|---|---|---|---|---|"
    for rows in files:
        number = _num_rows(rows)
        run = run_check(rows)
        rate = number / run.seconds
        yield f"| finetune-exe | {number:,} | {run.seconds:.1f} | {rate:,.0f} | {run.peak_bytes / 1e9:.2f} GB |"


def _num_rows(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--peer", metavar="PYTHON")
    parser.add_argument("--token-rows", type=int, default=100_000)
    parser.add_argument("--million", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        "# Preparing, measured", "",
        f"{os.cpu_count()} cores, Python {platform.python_version()}, numpy {version('numpy')};",
        "made by `benchmarks/preparing.py`.", "",
        "## All checks", "",
        *all_checks(filter(None, (options.rows, options.million))), "",
        "## Near duplicates", "",
        *near_duplicates(options.rows, truth=options.truth, peer_rows=options.peer_rows), "",
        "## Tokenising and packing", "",
        *tokenising.measure(options.rows, num_rows=options.token_rows, peer=options.peer),
    ]  # fmt: skip
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    if options.write:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
