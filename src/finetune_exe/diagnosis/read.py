"""Turn what a program or a person wrote into clean lines, in constant memory, and quote them safely."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from finetune_exe.errors import FineTuneError

_PIECE = 1 << 16
_QUOTED = 300
_BINARY_SHARE = 0.02

_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_LAUNCHER = re.compile(
    r"^(?:\[(?:default|rank)\d+\]:\s?"  # torchrun
    r"|\d{1,5}:\s(?=\S)|\(\w+ pid=\d+(?:, ip=[\d.]+)?\)\s?"  # srun --label, ray
    r"|\[\d+,\d+\]<std(?:err|out)>:\s?"  # mpirun
    r"|\d{4}-\d\d-\d\dT[\d:.]+Z\s(?:std(?:err|out) F )?"  # containers
    r"|[|\u2502]\s)"  # boxes drawn around tracebacks
)
_SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|sk-[A-Za-z0-9_-]{8,}|gh[opsur]_[A-Za-z0-9]{8,}|github_pat_\w{8,}|glpat-[\w-]{8,}"
    r"|xox[abprs]-[\w-]{8,}|AKIA[A-Z0-9]{12,}|AIza[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
    r"|(?i:(?<=bearer )[\w.~+/-]{8,}=*)"
    r"|(?i:(?:(?<=api_key=)|(?<=api-key=)|(?<=token=)|(?<=password=)|(?<=secret=)))[^\s&'\"]{4,}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line without colours, control characters and launcher prefixes."""

    number: int
    """Counted from 1 in the file; pieces that a carriage return overwrote share it."""
    text: str


def read_file(path: Path) -> Iterator[Line]:
    """Yield the lines of a log.

    Raises:
        FineTuneError: L01 where the file is missing, empty, or no text.
    """
    try:
        with path.open("rb") as stream:
            yield from read_stream(stream, where=str(path))
    except OSError as fault:
        raise nothing_to_diagnose(f"it cannot be read: {fault.strerror or fault}", where=str(path)) from fault


def read_stream(stream: BinaryIO, *, where: str) -> Iterator[Line]:
    """Yield the lines of a stream that `where` names; a line of any length is held in pieces of 64 Ki characters."""
    head = stream.read(8192)
    if not head.strip():
        raise nothing_to_diagnose("it is empty", where=where)
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    if encoding != "utf-16" and sum(byte < 9 for byte in head) > _BINARY_SHARE * len(head):
        raise nothing_to_diagnose("it is no text but binary data", where=where)
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    number, rest, chunk = 1, "", head
    while chunk:
        *whole, rest = (rest + decoder.decode(chunk)).split("\n")
        for text in whole:
            yield from _parts(text, number)
            number += 1
        if len(rest) > _PIECE:
            yield from _parts(rest, number)
            rest = ""
        chunk = stream.read(_PIECE)
    yield from _parts(rest + decoder.decode(b"", final=True), number)


def read_text(text: str, *, where: str) -> Iterator[Line]:
    """Yield the lines of a text that is in memory."""
    return read_stream(io.BytesIO(text.encode("utf-8", "replace")), where=where)


def clean(text: str) -> str:
    """Take away colours, control characters, and what launchers put before each line of a child process."""
    if "\x1b" in text:
        text = _TERMINAL.sub("", text)
    text = _CONTROL.sub("", text)
    for _ in range(3):
        match = _LAUNCHER.match(text)
        if match is None:
            break
        text = text[match.end() :]
    return text.rstrip()


def quote(text: str) -> str:
    """Make a line fit to be shown to others: secrets blacked out, no control characters, at most 300 characters."""
    shown = " ".join(_SECRET.sub("[redacted]", _CONTROL.sub("", text)).split())
    return shown if len(shown) <= _QUOTED else shown[: _QUOTED - 3] + "..."


def nothing_to_diagnose(why: str, *, where: str) -> FineTuneError:
    """Say that an input holds nothing that could be diagnosed."""
    return FineTuneError(
        "L01",
        what=f"there is nothing to diagnose: {why}",
        where=where,
        why="a diagnosis rests on lines of a log, a trainer_state.json, a run folder, or a description in words",
        fix="give the file your training wrote its output to, or describe what you see with --context",
    )


def _parts(text: str, number: int) -> Iterator[Line]:
    """Yield what a line held, one after the other, where carriage returns overwrote it."""
    for part in text.split("\r"):
        cleaned = clean(part)
        if cleaned.strip():
            yield Line(number=number, text=cleaned)
