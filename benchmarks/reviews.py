"""Review the configuration files that programs ship as examples, as they are and with one mistake planted in each.

    python benchmarks/reviews.py axolotl/examples LLaMA-Factory/examples torchtune/recipes/configs

Every file as it is should get no error; the errors that it gets are listed, to be held against the program's own
parser. Then, kind by kind, one mistake is planted in each file that has the place for it: found is one that is named
in its line.
"""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from finetune_exe.domain.review import ConfigurationReview
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.peers import Peer, peers
from finetune_exe.review.review import review_file

Planted = tuple[str, int] | None
"""The text with a mistake, and the line where it stands."""
TOP_LEVEL = re.compile(r"^([A-Za-z_]\w*):[ \t]+([^\s#\[{|>&*'\"][^#\n]*?)[ \t]*(?:#.*)?$")


def keys_of(text: str) -> Iterator[tuple[int, str, str]]:
    """Give line, name and value of the outermost settings."""
    for number, line in enumerate(text.splitlines()):
        found = TOP_LEVEL.match(line)
        if found:
            yield number, found[1], found[2]


def misspelt(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Take a letter out of a key, or exchange two."""
    places = [(number, name) for number, name, _ in keys_of(text) if len(name) > 6 and name in peer.types]
    if not places:
        return None
    number, name = rng.choice(places)
    at = rng.randrange(1, len(name) - 2)
    wrong = name[:at] + name[at + 1 :] if rng.random() < 0.5 else name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    return None if wrong == name or wrong in peer.types else replaced(text, number, name, wrong)


def twice(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Give a key a second time at the end."""
    places = list(keys_of(text))
    if not places:
        return None
    _, name, value = rng.choice(places)
    return appended(text, f"{name}: {value}")


def no_number(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Give a number's key a word."""
    places = [
        (number, name, value)
        for number, name, value in keys_of(text)
        if peer.types.get(name) in ("int", "float") and re.fullmatch(r"[-+.\deE]+", value)
    ]
    if not places:
        return None
    number, name, value = rng.choice(places)
    return replaced(text, number, f"{name}: {value}", f"{name}: many")


def unknown(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Add a key that nobody knows."""
    return appended(text, "favourite_colour: red")


def rate(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Make the learning rate ten thousand times larger."""
    for number, name, value in keys_of(text):
        if name == "learning_rate" and re.fullmatch(r"[-+.\deE]+", value) and 1e-7 < float(value) < 0.1:
            return replaced(text, number, value, f"{float(value) * 10_000:g}")
    return None


def formats(text: str, peer: Peer, rng: random.Random) -> Planted:
    """Turn float16 on beside bfloat16."""
    given = {name: value for _, name, value in keys_of(text)}
    if given.get("bf16") != "true" or "fp16" in given:
        return None
    return appended(text, "fp16: true")


KINDS: dict[str, Callable[[str, Peer, random.Random], Planted]] = {
    "a key misspelt": misspelt, "a key twice": twice, "a word for a number": no_number, "a key nobody knows": unknown,
    "a learning rate 10,000 times too high": rate, "two number formats": formats,
}  # fmt: skip


def replaced(text: str, number: int, old: str, new: str) -> Planted:
    """Change a line."""
    lines = text.splitlines()
    lines[number] = lines[number].replace(old, new, 1)
    return "\n".join(lines) + "\n", number + 1


def appended(text: str, line: str) -> Planted:
    """Add a line at the end."""
    whole = text.rstrip("\n") + "\n"
    return whole + line + "\n", whole.count("\n") + 1


def main() -> None:
    """Print what was found, as Markdown."""
    names = (path for folder in sys.argv[1:] for path in sorted(Path(folder).rglob("*.y*ml")))
    files: list[tuple[Path, ConfigurationReview]] = []
    for path in names:
        try:
            files += [(path, review) for review in review_file(path)]
        except FineTuneError:
            continue
    counts = Counter(review.tool for _, review in files)
    print("| program | files | with an error | errors | warnings | notes |\n|---|---|---|---|---|---|")
    for tool, number in counts.items():
        mine = [review for _, review in files if review.tool == tool]
        severities = [sum(review.count(kind) for review in mine) for kind in ("error", "warning", "note")]  # type: ignore[arg-type]
        wrong = sum(1 for review in mine if review.count("error"))
        print(f"| {tool} | {number} | {wrong} | {' | '.join(map(str, severities))} |")
    for path, review in files:
        for finding in review.findings:
            if finding.severity == "error":
                print(f"- {'/'.join(path.parts[-3:])}:{finding.line}: {finding.what}")
    print("\n| planted | files | found | other errors |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, plant in KINDS.items():
            print(f"| {kind} | {' | '.join(map(str, planted_and_found(plant, files, Path(folder))))} |")


def planted_and_found(
    plant: Callable[[str, Peer, random.Random], Planted], files: list[tuple[Path, ConfigurationReview]], folder: Path
) -> tuple[int, int, int]:
    """Plant one mistake in each file; count the files, those where it is named, and errors that came with it."""
    rng, planted, found, others = random.Random(0), 0, 0, 0  # noqa: S311 - no secret
    for path, before in files:
        text = path.read_text("utf-8-sig")
        made = plant(text, peers()[before.tool], rng)
        if made is None:
            continue
        planted += 1
        copy = folder / path.name
        copy.write_text(made[0], encoding="utf-8")
        (after,) = review_file(copy, tool=before.tool)
        old = {(finding.code, finding.key) for finding in before.findings}
        new = [finding for finding in after.findings if (finding.code, finding.key) not in old]
        named = [finding for finding in new if finding.line == made[1] and finding.severity != "note"]
        found += bool(named) or any(finding.code == "contradiction" for finding in new)
        others += sum(1 for finding in new if finding.severity == "error" and finding not in named)
    return planted, found, others


if __name__ == "__main__":
    main()
