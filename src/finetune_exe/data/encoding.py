"""Open a data file, whatever it is packed and encoded in, as lines of UTF-8."""

from __future__ import annotations

import codecs
import io
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from finetune_exe.data.faults import FileNote, Tell, file_note
from finetune_exe.data.packing import BLOCK_BYTES, Packing, packing_of, unpacked
from finetune_exe.errors import FineTuneError

HEAD_BYTES = 1 << 16
"""Bytes from which the encoding and the container are told."""
MAX_LINE_BYTES = 64 << 20
"""A longer line is set aside: no row is so long."""
LOOK_AHEAD_BYTES = 64 << 20
"""How far is looked for valid UTF-8 before a file is taken for CP1252."""
BINARY_KINDS = {
    b"PK\x03\x04": ("a ZIP archive", "unpack it first: unzip FILE"),
    b"SQLite": ("a SQLite database", "export the table as CSV or JSONL"),
    b"\x80\x04\x95": ("a Python pickle", "save it as JSONL; pickles run code when they are read"),
    b"\x89HDF": ("an HDF5 file", "export the table as Parquet or JSONL"),
    b"%PDF": ("a PDF", "save its text as .txt"),
    b"\xd0\xcf\x11\xe0": ("a file of an old Excel or Word", "save the table as CSV, or the text as .txt"),
}
_SHEET, _TEXT = "save each sheet as CSV (UTF-8)", "save its text as .txt"
OFFICE_KINDS = {
    re.compile(rb"PK\x03\x04.{26}xl/(_rels/|theme/|worksheets/|\w+\.xml)", re.DOTALL): ("an Excel workbook", _SHEET),
    re.compile(rb"PK\x03\x04.{26}word/(_rels/|theme/|\w+\.xml)", re.DOTALL): ("a Word document", _TEXT),
    re.compile(rb"mimetypeapplication/vnd\.oasis\.opendocument\.spreadsheet"): ("an OpenDocument table", _SHEET),
    re.compile(rb"mimetypeapplication/vnd\.oasis\.opendocument\.text"): ("an OpenDocument text", _TEXT),
}
"""What tells ZIP archives that nobody means to unpack, by the names of their first files."""
TABLES = (b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff")
"""First bytes of Parquet, of an Arrow file and of an Arrow stream."""
MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class OverlongLine(bytes):
    """The beginning of a line that is too long to be held."""

    num_bytes: int
    """Its whole length."""


class Head(NamedTuple):
    """The beginning of a file."""

    packing: Packing | None
    codec: str
    content: bytes
    """Unpacked, and as UTF-8 without mark where it was in another encoding."""
    whole: bool
    """Whether that is all of it."""


class _Form(NamedTuple):
    """How the text of a file is encoded, told from its beginning."""

    codec: str
    marked: bool
    carriage_returns: bool
    """Whether lines end in a carriage return alone."""
    crlf: bool


def read_head(path: Path) -> Head:
    """Read the beginning of a file.

    Raises:
        FineTuneError: D01 for a file of another kind than data, or one the system does not let us read.
    """
    with _unpacked(path, _quiet) as (packing, start, whole, _):
        if start.startswith(TABLES):
            return Head(packing, "binary", start, whole)
        form = _form(start, path)
        if form.codec == "utf-8":
            return Head(packing, form.codec, start.removeprefix(codecs.BOM_UTF8), whole)
        text = codecs.getincrementaldecoder(form.codec)("replace").decode(start)
        return Head(packing, form.codec, text.encode(errors="replace"), whole)


def utf8_blocks(path: Path, tell: Tell, *, crlf_is_usual: bool = False) -> Iterator[bytes]:
    """Yield a text file in blocks of UTF-8 without byte order mark, lines ending in LF or CRLF.

    Packed files are unpacked, UTF-16 and UTF-32 are recoded, bare carriage returns become line ends. Text in one
    byte a character is recoded from CP1252 where nothing speaks for UTF-8; other bytes that are not UTF-8 are passed
    on as they are. What was done is told.

    Raises:
        FineTuneError: D01 for a binary file, or one the system does not let us read.
    """
    with _unpacked(path, tell) as (_, start, _, rest):
        form = _form(start, path)
        for note in _form_notes(form, path, crlf_is_usual=crlf_is_usual):
            tell(note)
        if form.codec != "utf-8":
            yield from _recoded(chain((start,), rest), form, path)
            return
        for block in chain((start.removeprefix(codecs.BOM_UTF8),), rest):
            yield block.replace(b"\r", b"\n") if form.carriage_returns else block


def utf8_lines(path: Path, tell: Tell, *, crlf_is_usual: bool = False) -> Iterator[bytes]:
    """Yield the lines of a text file, line ends included, as `utf8_blocks` gives them.

    Raises:
        FineTuneError: As `utf8_blocks`.
    """
    lines = _lines(utf8_blocks(path, tell, crlf_is_usual=crlf_is_usual))
    for line in lines:
        if line.isascii():
            yield line
            continue
        if _is_utf8(line) or not is_western(path):
            yield line
            break
        tell(western_note(path))
        yield _from_western(line)
        yield from map(_from_western, lines)
    yield from lines


def is_western(path: Path) -> bool:
    """Judge whether a file with bytes that are not UTF-8 is in CP1252 as a whole.

    It is where no line is valid UTF-8 beyond ASCII, there is more than one byte beyond it, and they seldom follow
    each other, as accents and typographic marks do not and the letters of other alphabets do.
    """
    length = beyond = in_words = 0
    for line in _lines(utf8_blocks(path, _quiet)):
        length += len(line)
        if length > LOOK_AHEAD_BYTES:
            break
        if line.isascii():
            continue
        if _is_utf8(line) or re.search(rb"[\x81\x8d\x8f\x90\x9d]", line):
            return False
        beyond += len(re.findall(rb"[\x80-\xff]", line))
        in_words += sum(map(len, re.findall(rb"[\x80-\xff]{3,}", line)))
    return beyond > 1 and in_words <= 0.25 * beyond


def western_note(path: Path) -> FileNote:
    """Say that a file is read as CP1252."""
    why = "the text is not UTF-8 but has one byte a character; it is read as CP1252 (Latin-1)"
    return file_note("encoding", path, why)


def decode(line: bytes, *, path: Path, number: int, offset: int) -> str:
    """Decode a line whose file cannot be read in part.

    Args:
        line: Its bytes.
        path: The file.
        number: The line's number, from 1.
        offset: Bytes before the line.

    Raises:
        FineTuneError: D01 where it is not UTF-8, or too long.
    """
    if isinstance(line, OverlongLine):
        raise unreadable(path, f"line {number} has {line.num_bytes:,} bytes", "break the text into lines", line=number)
    try:
        return line.decode()
    except UnicodeDecodeError as fault:
        raise unreadable(
            path,
            f"byte {offset + fault.start:,} (0x{line[fault.start]:02x}, line {number}) is not UTF-8",
            f"convert it from its own encoding, as in: iconv -f CP1252 -t UTF-8 {path.name} > utf8_{path.name}",
        ) from fault


def unreadable(path: Path, why: str, fix: str, *, line: int | None = None) -> FineTuneError:
    """Say that a file as a whole cannot be read as data."""
    return FineTuneError(
        "D01",
        what="the file cannot be read as data",
        where=f"{path}, line {line}" if line is not None else str(path),
        why=why,
        fix=fix,
    )


class _Unpacked(NamedTuple):
    """The bytes of a file, out of whatever it is packed in."""

    packing: Packing | None
    start: bytes
    whole: bool
    """Whether the start is all of it."""
    rest: Iterator[bytes]


@contextmanager
def _unpacked(path: Path, tell: Tell) -> Iterator[_Unpacked]:
    """Open a file, but no folder, pipe or device, which may never end; what the system refuses is error FT-D01."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
            raise unreadable(path, f"it is {kind}, not a file", "write the rows to a file and give that")
        with path.open("rb") as file:
            packing = packing_of(file.read(8))
            file.seek(0)
            plain = iter(lambda: file.read(BLOCK_BYTES), b"")
            blocks = unpacked(file, packing, path, tell) if packing is not None else plain
            yield _Unpacked(packing, *_start(blocks), blocks)
    except OSError as fault:
        raise unreadable(
            path, f"the system says: {fault.strerror or fault}", "check the path and its rights"
        ) from fault


def _quiet(note: FileNote) -> None:
    """Let a note go that the reading itself will tell again."""


def _start(blocks: Iterator[bytes]) -> tuple[bytes, bool]:
    """Take the head off the blocks, and say whether there was no more."""
    pieces: list[bytes] = []
    length = 0
    for block in blocks:
        pieces.append(block)
        length += len(block)
        if length >= HEAD_BYTES:
            return b"".join(pieces), False
    return b"".join(pieces), True


class _BlockFile(io.RawIOBase):
    """Blocks as a file, so that lines are found at the speed of the C library."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _lines(blocks: Iterator[bytes]) -> Iterator[bytes]:
    with io.BufferedReader(_BlockFile(blocks), BLOCK_BYTES) as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = _passed_over(line, file.readline)
            yield line


def _passed_over(line: bytes, rest: Callable[[int], bytes]) -> OverlongLine:
    begun = OverlongLine(line[:200])
    begun.num_bytes = len(line)
    while more := rest(MAX_LINE_BYTES):
        begun.num_bytes += len(more)
        if more.endswith(b"\n"):
            break
    return begun


def _form(start: bytes, path: Path) -> _Form:
    for magic, known in BINARY_KINDS.items():
        if start.startswith(magic):
            kind, fix = next((office for pattern, office in OFFICE_KINDS.items() if pattern.search(start)), known)
            raise unreadable(path, f"it is {kind}", fix)
    mark = next(((mark, codec) for mark, codec in MARKS if start.startswith(mark)), None)
    codec = mark[1] if mark else _unmarked(start)
    if codec == "utf-8":
        _refuse_binary(start, path)
        text = start
    else:
        text = codecs.getincrementaldecoder(codec)("replace").decode(start).encode(errors="replace")
    ends = text.count(b"\n")
    return _Form(
        codec=codec,
        marked=mark is not None,
        carriage_returns=not ends and b"\r" in text,
        crlf=ends > 0 and text.count(b"\r\n") > ends / 2,
    )


def _unmarked(start: bytes) -> str:
    """Tell UTF-16 without a mark by the zeros, which stand beside every ASCII character and on one side only."""
    pairs = len(start) // 2
    high, low = start[0 : 2 * pairs : 2].count(0), start[1 : 2 * pairs : 2].count(0)
    if not pairs or max(high, low) < 0.1 * pairs or min(high, low) > 0.01 * pairs:
        return "utf-8"
    codec = "utf-16-be" if high > low else "utf-16-le"
    text = codecs.getincrementaldecoder(codec)("replace").decode(start[: 2 * pairs])
    return codec if all(character >= " " or character in "\t\r\n" for character in set(text)) else "utf-8"


def _refuse_binary(start: bytes, path: Path) -> None:
    """Refuse what is no text; a few stray zeros in a text spoil their own rows only."""
    controls = len(re.findall(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", start))
    if not start.count(0) or controls <= 0.02 * len(start):
        return
    zero = start.index(0)
    raise unreadable(
        path,
        f"byte {zero:,} is zero, as in a binary file",
        "give JSONL, JSON, CSV, TSV, Parquet, Arrow or plain text; or remove that byte",
        line=start.count(b"\n", 0, zero) + 1,
    )


def _form_notes(form: _Form, path: Path, *, crlf_is_usual: bool) -> Iterator[FileNote]:
    if form.codec != "utf-8":
        marked = "with" if form.marked else "without"
        yield file_note("encoding", path, f"the text is {form.codec.upper()} {marked} byte order mark; it is recoded")
    elif form.marked:
        yield file_note("encoding", path, "the text begins with a byte order mark, which is passed over")
    if form.carriage_returns:
        yield file_note("encoding", path, "the lines end in bare carriage returns; they are read as line ends")
    if form.crlf and not crlf_is_usual:
        yield file_note("encoding", path, "the lines end in CRLF, as on Windows")


def _recoded(blocks: Iterator[bytes], form: _Form, path: Path) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(form.codec)("strict")
    offset = 0
    for block in chain(blocks, (None,)):
        try:
            text = decoder.decode(block or b"", final=block is None)
        except UnicodeDecodeError as fault:
            place = f"byte {offset + fault.start:,} or one near it does not belong in {form.codec.upper()}"
            raise unreadable(path, f"the text is damaged: {place}", "save the file as UTF-8") from fault
        offset += len(block or b"")
        if form.carriage_returns:
            text = text.replace("\r", "\n")
        yield text.encode(errors="surrogatepass")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_western(line: bytes) -> bytes:
    return line if line.isascii() else line.decode("cp1252", errors="replace").encode()
