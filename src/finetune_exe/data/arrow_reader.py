"""Write the rows of an Arrow file as JSON lines: `python -P -m finetune_exe.data.arrow_reader FILE`.

The library that decodes Arrow can be led astray by a damaged file, down to a crash of the process. So it runs in one of
its own, whose end is no harm, with an upper limit on its memory.
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

ARROW_FILE = b"ARROW1\0\0"
FREE_BYTES = 4 << 30
MOST_TIMES = 16
"""Address space allowed: so much, and so many times the size of the file. A file of 36 MB took 91 MB in all, a packed
one of 13 MB 69 MB."""


def plain(value: Any) -> Any:
    """Turn a value of a table into what JSON has."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case dict():
            return {str(key): plain(held) for key, held in value.items()}
        case list() | tuple():
            return [plain(held) for held in value]
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray():
            return bytes(value).decode(errors="backslashreplace")
        case Decimal() | UUID() | timedelta():
            return str(value)
        case _:
            return str(value)


def main() -> int:
    """Write the rows to stdout, or why they cannot be read to stderr."""
    path = Path(sys.argv[1])
    _limit_memory(FREE_BYTES + MOST_TIMES * path.stat().st_size)
    try:
        _write(path)
    except BrokenPipeError:
        return 0
    except (ValueError, TypeError, ArithmeticError, LookupError, OSError, EOFError, RuntimeError, MemoryError) as fault:
        print(str(fault).splitlines()[0][:300] if str(fault) else type(fault).__name__, file=sys.stderr)
        return 1
    return 0


def _write(path: Path) -> None:
    import msgspec
    import nanoarrow
    from nanoarrow.ipc import InputStream

    encode = msgspec.json.Encoder().encode
    with path.open("rb") as file:
        if file.read(len(ARROW_FILE)) != ARROW_FILE:
            file.seek(0)
        with InputStream.from_readable(file) as source:
            for batch in nanoarrow.ArrayStream(source):
                for record in batch.iter_py():
                    sys.stdout.buffer.write(encode(plain(record)) + b"\n")
    sys.stdout.buffer.flush()


def _limit_memory(num_bytes: int) -> None:
    try:
        import resource
    except ImportError:
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (num_bytes if hard < 0 else min(num_bytes, hard), hard))


if __name__ == "__main__":
    sys.exit(main())
