"""Turn what a program or a person wrote into clean lines, in constant memory, and quote them safely."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune_exe.diagnosis.sieve import Sieve
from finetune_exe.errors import FineTuneError

_HEAD, _BLOCK, _PIECE = 1 << 16, 1 << 17, 1 << 16
_QUOTED = 300
_BINARY_SHARE = 0.02

_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_LAUNCHER = re.compile(
    # torchrun, srun, ray, mpirun, pdsh
    r"^(?:(?P<source>\[(?:default|rank) ?\d+\]|\d{1,5}(?=:\s\S)|\(\w+ pid=\d+(?:, ip=[\d.]+)?\)|\[\d+,\d+\](?=<std)"
    r"|[\w.-]{1,60}(?=: (?:\[rank|Traceback|  File|\w*Error:)))(?:<std(?:err|out)>)?:?\s?"
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z\s(?:std(?:err|out) F )?"  # containers
    r"|[|\u2502]\s)"  # boxes drawn around tracebacks
)
_SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[opsur]_[A-Za-z0-9]{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}"
    r"|xox[abprs]-[\w-]{8,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
    r"|(?i:(?:(?<=bearer )|(?<=basic ))[\w.~+/-]{8,}=*)"
)
"""Keys and passwords, known by their form."""
_NAMED_SECRET = re.compile(
    r"(?i)((?:(?:api|access|private|secret)[_-]?key|secret|passw(?:or)?d|passphrase"
    r"|(?:auth|access|hub|hf|hugging_?face|wandb|github|gitlab|bot|refresh)[_-]?token)['\"]?[ \t]*[:=][ \t]*['\"]?"
    r"|(?<![\w-])token(?:=|['\"]:[ \t]*)['\"]?)[^\s&'\",;<>]{4,}"
)
"""Values behind a name that says what they are; the names of special tokens are none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line without colours, control characters and launcher prefixes."""

    number: int
    """Counted from 1 in the file; pieces that a carriage return overwrote share it."""
    text: str
    source: str | None = None
    """Which process of several wrote it, as its launcher says: a rank, a node, a worker."""


def read_file(path: Path, *, sieve: Sieve | None = None) -> Iterator[Line]:
    """Yield the lines of a log.

    Raises:
        FineTuneError: L01 where the file is missing, empty, or no text.
    """
    try:
        with path.open("rb") as stream:
            yield from read_stream(stream, where=str(path), sieve=sieve)
    except OSError as fault:
        raise nothing_to_diagnose(f"it cannot be read: {fault.strerror or fault}", where=str(path)) from fault


def read_stream(stream: BinaryIO, *, where: str, sieve: Sieve | None = None) -> Iterator[Line]:
    """Yield the lines of a stream, in memory that does not grow with it.

    Args:
        stream: What a program or a person wrote, as bytes.
        where: What to call it in errors.
        sieve: Chooses the lines; None lets all through. A line of any length is held in pieces of 64 KiB.

    Raises:
        FineTuneError: L01 where it is empty, or no text.
    """
    head = stream.read(_HEAD)
    if not head.strip():
        raise nothing_to_diagnose("it is empty", where=where)
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    if not wide and sum(byte < 7 for byte in head[:8192]) > _BINARY_SHARE * len(head[:8192]):
        raise nothing_to_diagnose("it is no text but binary data", where=where)
    sieve = sieve or Sieve()
    decoder = codecs.getincrementaldecoder("utf-16")(errors="replace") if wide else None
    number, rest, chunk = 1, b"", head.removeprefix(codecs.BOM_UTF8)
    while chunk:
        plain = chunk if decoder is None else decoder.decode(chunk).encode("utf-8", "replace")
        whole, end, rest = (rest + plain).rpartition(b"\n")
        if end:
            yield from _lines(sieve.sift(whole, number))
            number += whole.count(b"\n") + 1
        while len(rest) > _PIECE:
            yield from _lines(sieve.sift(rest[:_PIECE], number))
            rest = rest[_PIECE:]
        chunk = stream.read(_BLOCK)
    yield from _lines(sieve.sift(rest, number))


def read_text(text: str, *, where: str) -> Iterator[Line]:
    """Yield the lines of a text that is in memory."""
    return read_stream(io.BytesIO(text.encode("utf-8", "replace")), where=where)


def _without_launcher(text: str) -> tuple[str, str | None]:
    """Split a line, without colours and control characters, into what a process wrote and which one it was."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    source = None
    for _ in range(3):
        match = _LAUNCHER.match(text)
        if match is None:
            break
        source = match["source"] or source
        text = text[match.end() :]
    return text.rstrip(), source


def quote(text: str) -> str:
    """Make a line fit to be shown to others: secrets blacked out, no control characters, at most 300 characters."""
    shown = " ".join(quote_secrets(_CONTROL.sub("", text)).split())
    return shown if len(shown) <= _QUOTED else shown[: _QUOTED - 3] + "..."


def quote_secrets(text: str) -> str:
    """Black out tokens, keys and passwords."""
    return _NAMED_SECRET.sub(r"\1[redacted]", _SECRET.sub("[redacted]", text))


def nothing_to_diagnose(why: str, *, where: str) -> FineTuneError:
    """Say that an input holds nothing that could be diagnosed."""
    return FineTuneError(
        "L01",
        what=f"there is nothing to diagnose: {why}",
        where=where,
        why="a diagnosis rests on lines of a log, a trainer_state.json, a run folder, or a description in words",
        fix="give the file your training wrote its output to, or describe what you see with --context",
    )


def _lines(found: Iterator[tuple[int, bytes]]) -> Iterator[Line]:
    for number, raw in found:
        text, source = _without_launcher(raw.decode("utf-8", "replace"))
        if text and not text.isspace():
            yield Line(number=number, text=text, source=source)
