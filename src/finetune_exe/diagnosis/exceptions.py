"""Find what was raised: the exceptions of the process that failed, not the launcher's report that one did."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune_exe.diagnosis.read import Line

_KEPT = 32
_MOST_STREAMS = 4096
_MESSAGE_LINES = 8
_FRAMES = 12

_HEADER = re.compile(r"Traceback \(most recent call last\)")
_FRAME = re.compile(r"^\s*(?:File [\"<]?\S+|-+>\s*\d+|\d+\s{2,}|\^+\s*$|~|\.\.\.)|^\s{2,}\S|in <cell line")
_RAISED = re.compile(
    r"^\W{0,4}(?:uncaught |error |)(?P<type>(?:[A-Za-z_]\w*\.)*"
    r"(?:[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Failed|Timeout)|ArrowInvalid|Exception))\b"
    r"\s*(?::\s*(?P<message>.*))?$"
)
_LOGGED = re.compile(r"^(?:\[|\{|\d{4}-|\d\d/\d\d|E\d{4}|W\d{4}|INFO|WARNING|ERROR|DEBUG|wandb:|\s*\d+%\|)")
_MIDWAY = re.compile(r"\s*File \"[^\"]+\", line \d+")
_CHAINED = re.compile(r"(?:direct cause of the following|During handling of the above) exception")
_WRAPPERS = re.compile(
    r"ChildFailedError|SubprocessException|DatasetGenerationError|RayTaskError|TrainingFailedError|SystemExit|ProcessExitedException"
    r"|ProcessRaisedException|ActorDiedError|CalledProcessError(?=.*(?:python|torchrun|accelerate|deepspeed))"
)


@dataclass(slots=True, kw_only=True)
class Raised:
    """One exception of a traceback, or one that stands alone."""

    number: int
    """Line of its type and message."""
    type: str
    message: str
    frames: tuple[str, ...]
    """Last lines of the traceback above it, oldest first."""
    source: str | None = None
    """Which of several processes raised it."""
    chained: bool = False
    """Whether it was raised because of the one before it, or while that was handled."""

    @property
    def wrapper(self) -> bool:
        """Whether it only says that another process, or an exception before it, failed."""
        return bool(_WRAPPERS.search(f"{self.type} {self.message}"))

    @property
    def text(self) -> str:
        """Type and message on one line."""
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(slots=True)
class _Stream:
    """What one process is in the middle of writing."""

    frames: deque[str] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    inside: bool = False
    chained: bool = False
    open: Raised | None = None
    open_lines: int = 0


@dataclass(slots=True)
class ExceptionFinder:
    """Collect exceptions from a log read line by line, keeping the first 32 and the last 32.

    Lines of several processes may be interleaved; each process's traceback is put together by itself.
    """

    first: list[Raised] = field(default_factory=list)
    last: deque[Raised] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _streams: dict[str | None, _Stream] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether a traceback or a message of several lines is being read."""
        return any(stream.inside or stream.open for stream in self._streams.values())

    def feed(self, line: Line) -> bool:
        """Take the next line; say whether an exception, or the head of its traceback, stands in it."""
        stream = self._streams.get(line.source)
        if stream is None:
            if len(self._streams) >= _MOST_STREAMS:
                self._streams.clear()
            stream = self._streams[line.source] = _Stream()
        text = line.text
        if _HEADER.search(text) or (not stream.inside and 'File "' in text and _MIDWAY.match(text)):
            stream.frames.clear()
            stream.inside, stream.open = True, None
            if not _HEADER.search(text):
                stream.frames.append(text)
            return True
        if _CHAINED.search(text):
            stream.open, stream.chained = None, True
            return True
        match = _RAISED.match(text)
        if match:
            self._raise(stream, line, match["type"], match["message"] or "")
            return True
        return self._continue(stream, line)

    def decisive(self) -> Iterator[Raised]:
        """Yield the exceptions that say why, the wrappers left out; the earliest comes first."""
        return (raised for raised in (*self.first, *self.last) if not raised.wrapper)

    def _continue(self, stream: _Stream, line: Line) -> bool:
        """Take a line that begins nothing."""
        text = line.text
        if stream.inside and not _FRAME.search(text):
            kind, _, message = text.strip().partition(": ")
            stream.inside = False
            if re.fullmatch(r"[A-Za-z_][\w.]*", kind):
                self._raise(stream, line, kind, message)
                return True
        elif stream.inside:
            stream.frames.append(text)
        elif stream.open and stream.open_lines < _MESSAGE_LINES and not _LOGGED.match(text):
            stream.open.message = f"{stream.open.message} {text.strip()}"[:2000]
            stream.open_lines += 1
        else:
            stream.open = None
        return False

    def _raise(self, stream: _Stream, line: Line, kind: str, message: str) -> None:
        stream.open = Raised(
            number=line.number, type=kind, message=message, frames=tuple(stream.frames), source=line.source,
            chained=stream.chained,
        )  # fmt: skip
        stream.open_lines, stream.inside, stream.chained = 0, False, False
        (self.first if len(self.first) < _KEPT else self.last).append(stream.open)
