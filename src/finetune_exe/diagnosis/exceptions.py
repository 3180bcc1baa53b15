"""Find what was raised: the exceptions of the process that failed, not the launcher's report that one did."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from finetune_exe.diagnosis.read import Line

_KEPT = 64
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

    @property
    def wrapper(self) -> bool:
        """Whether it only says that another process, or an exception before it, failed."""
        return bool(_WRAPPERS.search(f"{self.type} {self.message}"))

    @property
    def text(self) -> str:
        """Type and message on one line."""
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(slots=True)
class ExceptionFinder:
    """Collect exceptions from a log read line by line, keeping the last 64."""

    found: deque[Raised] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _frames: deque[str] = field(default_factory=lambda: deque(maxlen=_FRAMES))
    _inside: bool = False
    _open: Raised | None = None
    _open_lines: int = 0

    def feed(self, line: Line) -> None:
        """Take the next line."""
        text = line.text
        if _HEADER.search(text):
            self._frames.clear()
            self._inside, self._open = True, None
            return
        if _CHAINED.search(text):
            self._open = None
            return
        match = _RAISED.match(text)
        if match:
            self._raise(line.number, match["type"], match["message"] or "")
        elif self._inside and not _FRAME.search(text):
            kind, _, message = text.strip().partition(": ")
            if re.fullmatch(r"[A-Za-z_][\w.]*", kind):
                self._raise(line.number, kind, message)
            self._inside = False
        elif self._inside:
            self._frames.append(text)
        elif self._open and self._open_lines < _MESSAGE_LINES and not _LOGGED.match(text):
            self._open.message = f"{self._open.message} {text.strip()}"[:2000]
            self._open_lines += 1
        else:
            self._open = None

    def decisive(self) -> Iterator[Raised]:
        """Yield the exceptions that say why, the wrappers left out; the earliest of the last failure comes first."""
        return (raised for raised in self.found if not raised.wrapper)

    def _raise(self, number: int, kind: str, message: str) -> None:
        self._open = Raised(number=number, type=kind, message=message, frames=tuple(self._frames))
        self._open_lines = 0
        self._inside = False
        self.found.append(self._open)
