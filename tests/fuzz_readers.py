"""Feed the readers damaged files until something other than a clear refusal comes out.

    python -m tests.fuzz_readers --seconds 600 --seed 1 [--files DIR]

Files are made of every kind that is read, and real ones are taken from --files; each is cut, spliced, flipped,
repeated and stuffed with nasty pieces, given a random name, and read to the end, its format found, its rows turned
into conversations and written back. Anything but a `FineTuneError` is a crash: the file is kept and the seed printed.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from finetune_exe.data.faults import FAULTS
from finetune_exe.data.ingest import open_sources, read_entry
from finetune_exe.data.sources import find_sources
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import RowFault
from finetune_exe.text.formats import FORMATS

MAX_BYTES = 40_000
SLOW_SECONDS = 20.0
TEXTS = ("Hi", "", "spät 🙂", "a\nb", '"quoted"', "{", "[]", "\\", "\u2028", "x" * 3000, "Was? ", "0", "null")
ROWS: tuple[Any, ...] = (
    {"instruction": "Say", "input": "", "output": "Done"},
    {"prompt": "Say", "completion": "Done", "system": None, "history": [["a", "b"]]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}], "weight": 0}]},
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "tools": "[{}]"},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "system": "s"},
    {"prompt": "p", "chosen": "a", "rejected": "b"},
    {"chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "user", "content": "a"}], "rejected_response": "b"},
    {"prompt": "p", "completion": "c", "label": True},
    {"text": "whole", "label": 1}, {"text": "whole"}, "bare", [{"role": "user", "content": "x"}], 7, None,
    {"prompt": {"text": "q", "role": "prompter", "replies": [{"text": "a", "role": "assistant", "rank": 0, "replies": []}]}},
    {"instruction": "i", "instances": [{"input": "", "output": "o"}]},
    {"question": "q", "context": "c", "answers": {"text": ["a"], "answer_start": [0]}},
    {"question": "q", "choices": ["a", "b"], "answer": "B"}, {"premise": "p", "choice1": "a", "choice2": "b", "label": 1},
    {"tokens": ["a", "b"], "tags": ["B-x", "O"]}, {"userInput": {"text": "t"}, "labels": [1]},
    {"prompt": [{"role": "user", "content": "q"}], "reward_model": {"ground_truth": "1"}},
    {"question": [[{"role": "user", "content": "q"}]], "function": []}, {"ground_truth": [{"f": {}}]},
    {"source": "a:1", "code": "truncated_line", "message": "m", "row": '{"text": "a"'},
    {"frage": "Was ist das?", "antwort": "Ein Haus."},
)  # fmt: skip
NASTY = (
    b"\0", b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\n\n", b'"', b"'", b"\\", b"\\ud800",
    b"\\u12", b"NaN", b"-Infinity", b"1e999", b"[" * 300, b"]" * 300, b'{"a":' * 200, b",,", b"//", b"/*", b"\xc3",
    b"\xe2\x80\xa8", b"\x1f\x8b\x08", b"PAR1", b"ARROW1\0\0", b"\x28\xb5\x2f\xfd", b"9" * 400, b"\t", b";", b"|",
    b'"data": [', b'{"paragraphs": [{"qas": [', b"\x1a", b"\x85", b"__label__a ", b"word O\n" * 5,
)  # fmt: skip
SUFFIXES = (
    ".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet", ".arrow", ".jsonl.gz", ".json.zst", ".csv.bz2", ".xz",
    ".conll", ".ndjson", ".dat", "",
)  # fmt: skip
Make = Callable[[random.Random], bytes]


def varied(value: Any, rng: random.Random) -> Any:
    """Change some of the values in a row."""
    if rng.random() < 0.08:
        return rng.choice([None, 1, 2.5, True, [], {}, rng.choice(TEXTS), [None], {"a": [{}]}])
    if isinstance(value, dict):
        kept = {key: varied(held, rng) for key, held in value.items() if rng.random() > 0.03}
        return {rng.choice(TEXTS) or "k": 1, **kept} if rng.random() < 0.05 else kept
    if isinstance(value, list):
        return [varied(held, rng) for held in value] * (2 if rng.random() < 0.05 else 1)
    return rng.choice(TEXTS) if isinstance(value, str) and rng.random() < 0.3 else value


def some_rows(rng: random.Random) -> list[Any]:
    """Make rows, mostly of one kind."""
    kind = rng.choice(ROWS)
    return [varied(rng.choice(ROWS) if rng.random() < 0.1 else kind, rng) for _ in range(rng.choice((1, 2, 5, 40)))]


def json_lines(rng: random.Random) -> bytes:
    """Write rows as JSON lines."""
    return "\n".join(json.dumps(row, ensure_ascii=rng.random() < 0.5) for row in some_rows(rng)).encode(
        errors="replace"
    )


def document(rng: random.Random) -> bytes:
    """Write rows as one JSON value."""
    rows: Any = some_rows(rng)
    if rng.random() < 0.3:
        rows = {rng.choice(("data", "rows", "x", "messages")): rows, "version": 1}
    return json.dumps(rows, indent=rng.choice((None, 0, 2))).encode()


def table(rng: random.Random) -> bytes:
    """Write rows as a delimited table."""
    mark = rng.choice(",\t;|")
    lines = [mark.join(("text", "label", "id"))]
    for _ in range(rng.randrange(30)):
        cells = [rng.choice(TEXTS) for _ in range(3 if rng.random() > 0.1 else rng.randrange(6))]
        lines.append(mark.join(f'"{cell}"' if rng.random() < 0.5 else cell for cell in cells))
    return rng.choice(("\n", "\r\n", "\r")).join(lines).encode(rng.choice(("utf-8", "utf-16", "utf-8-sig")), "replace")


def prose(rng: random.Random) -> bytes:
    """Write a text."""
    return "".join(f"{rng.choice(TEXTS)} {number}.\n" for number in range(rng.randrange(400))).encode()


def parquet(rng: random.Random) -> bytes:
    """Write a Parquet file."""
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        query = "SELECT i AS id, 'q' || i AS prompt, [i, 2] AS list, {'a': 1} AS nested FROM range(20) t(i)"
        duckdb.sql(f"COPY ({query}) TO '{path}'")
        return path.read_bytes()


def arrow(rng: random.Random) -> bytes:
    """Write an Arrow stream, or the beginning of an Arrow file."""
    import nanoarrow
    from nanoarrow.ipc import StreamWriter

    names = ("prompt", "completion", "id")
    schema = nanoarrow.struct({name: nanoarrow.string() for name in names})
    columns = [nanoarrow.c_array([f"{name} {number}" for number in range(9)], nanoarrow.string()) for name in names]
    file = io.BytesIO()
    with StreamWriter.from_writable(file) as writer:
        writer.write_array(nanoarrow.c_array_from_buffers(schema, 9, buffers=[None], children=columns))
    return (b"ARROW1\0\0" if rng.random() < 0.5 else b"") + file.getvalue()


def packed(rng: random.Random) -> bytes:
    """Pack another file."""
    import zstandard

    content = rng.choice((json_lines, document, table))(rng)
    return rng.choice((gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress))(content)


MAKERS: tuple[Make, ...] = (
    json_lines,
    json_lines,
    json_lines,
    document,
    document,
    table,
    table,
    prose,
    parquet,
    arrow,
    packed,
)


def mutate(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Damage a file in a few places."""
    data = bytearray(content)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 10))):
        at = rng.randrange(len(data) + 1)
        reach = rng.randrange(1, 60)
        match rng.randrange(8):
            case 0:
                del data[at : at + reach]
            case 1:
                data[at:at] = rng.choice(NASTY)
            case 2 if data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            case 3:
                del data[at:]
            case 4:
                data[at:at] = data[max(0, at - reach) : at] * rng.randrange(1, 6)
            case 5 if other:
                start = rng.randrange(len(other))
                data[at:at] = other[start : start + reach * 10]
            case 6:
                data[at:at] = bytes(rng.randrange(256) for _ in range(reach))
            case _:
                data[at : at + reach] = data[at : at + reach][::-1]
    if rng.random() < 0.03:
        data = bytearray(
            bytes(data).decode(errors="replace").encode(rng.choice(("utf-16", "utf-16-be", "utf-32")), "replace")
        )
    return bytes(data)


def try_file(path: Path) -> str:
    """Read a file in both ways it is read, and say how it ended.

    Raises:
        Exception: Whatever a reader lets out that is no refusal.
    """
    ended = _try(path, tolerant=True)
    _try(path, tolerant=False)
    return ended


def _try(path: Path, *, tolerant: bool) -> str:
    try:
        opened = open_sources(
            find_sources([str(path)]), format_name=None, unreadable=[] if tolerant else None, preferences=tolerant
        )
        for opening in opened:
            for entry in opening.entries:
                read = read_entry(entry, opening)
                if isinstance(read, RowFault):
                    assert read.code in FAULTS, read.code
                    continue
                assert all(note in FAULTS for note in read.notes), read.notes
                json.dumps(read.extra).encode()
                for target in FORMATS:
                    written = target.write(read)
                    assert written == entry.row or target.name != read.origin.get("format"), (target.name, entry.row)  # type: ignore[union-attr]
    except FineTuneError as refusal:
        str(refusal)
        return refusal.code
    return "read"


def fuzz(seconds: float, seed: int, files: Sequence[Path], keep: Path, *, rounds: int | None = None) -> Counter[str]:
    """Try files until the time or the rounds are over, and count how they ended; crashes count as "crash"."""
    endings: Counter[str] = Counter()
    until = time.monotonic() + seconds
    number = 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until and (rounds is None or number < rounds):
            rng = random.Random(f"{seed}:{number}")  # noqa: S311
            content = rng.choice(files).read_bytes() if files and rng.random() < 0.4 else rng.choice(MAKERS)(rng)
            start = rng.randrange(max(1, len(content) - MAX_BYTES)) if rng.random() < 0.5 else 0
            data = mutate(content[start : start + MAX_BYTES], rng.choice(MAKERS)(rng), rng)
            path = Path(folder) / f"rows{rng.choice(SUFFIXES)}"
            path.write_bytes(data)
            begun = time.monotonic()
            try:
                ending = try_file(path)
                ending = "slow" if time.monotonic() - begun > SLOW_SECONDS else ending
            except Exception:  # noqa: BLE001
                ending = "crash"
                print(f"seed {seed}, number {number}, {path.name}", file=sys.stderr)
                traceback.print_exc()
            if ending in ("crash", "slow"):
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{ending}-{seed}-{number}-{path.name}").write_bytes(data)
            endings[ending] += 1
            path.unlink()
            number += 1
    return endings


def main() -> int:
    """Fuzz from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=Path, help="folder of real files to damage too")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where files that crash are put")
    options = parser.parse_args()
    files = [path for path in options.files.rglob("*") if path.is_file()] if options.files else []
    endings = fuzz(options.seconds, options.seed, files, options.keep)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{endings.total():,} files: {dict(endings.most_common())}; peak memory {peak:,} MB")
    return 1 if endings["crash"] or endings["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
