"""What a user is told when something cannot be done: what, where, why, and the fix."""

from __future__ import annotations

import shlex
from typing import NamedTuple

OK, USAGE, GATE, BAD_DATA, MISSING, BUG, EXISTS, IO, RESUMABLE, NO_ROOM, INTERRUPTED = (
    0, 2, 3, 65, 69, 70, 73, 74, 75, 78, 130,
)  # fmt: skip


class ErrorKind(NamedTuple):
    """One stable error code: its title (the docs page's heading) and the exit status it ends the program with."""

    title: str
    exit_status: int


ERRORS: dict[str, ErrorKind] = {
    "A01": ErrorKind("The path lies outside of what was allowed", USAGE),
    "A02": ErrorKind("A file of the skill was changed by somebody else", EXISTS),
    "A03": ErrorKind("The request cannot be run", USAGE),
    "A04": ErrorKind("No process is training into this run folder", USAGE),
    "B01": ErrorKind("The program made a mistake", BUG),
    "C01": ErrorKind("The plan is not valid YAML", USAGE),
    "C02": ErrorKind("The plan has a key or a value it may not have", USAGE),
    "C04": ErrorKind("A --set has no effect that can be understood", USAGE),
    "C05": ErrorKind("The plan names no data", USAGE),
    "C06": ErrorKind("The document was made by another version", USAGE),
    "C07": ErrorKind("The document is damaged", BAD_DATA),
    "C08": ErrorKind("The task is not one this program can train", GATE),
    "C10": ErrorKind("The wish cannot be met", GATE),
    "C11": ErrorKind("Two settings exclude each other", USAGE),
    "C12": ErrorKind("The setting cannot be searched over", USAGE),
    "C13": ErrorKind("The study cannot go on", USAGE),
    "C14": ErrorKind("The time is too short for a search", GATE),
    "C15": ErrorKind("The configuration file cannot be read", USAGE),
    "C16": ErrorKind("The configuration is for no training program that is known", USAGE),
    "C17": ErrorKind("The configuration cannot be carried over into a plan", USAGE),
    "D01": ErrorKind("The file cannot be read as data", BAD_DATA),
    "D02": ErrorKind("The file holds no row", BAD_DATA),
    "D03": ErrorKind("The format of the rows is unknown", BAD_DATA),
    "D04": ErrorKind("Too few rows are left to train on", BAD_DATA),
    "D05": ErrorKind("The prepared dataset is damaged or belongs to another plan", BAD_DATA),
    "D06": ErrorKind("The chat template cannot be used", BAD_DATA),
    "D07": ErrorKind("The data file or folder does not exist", BAD_DATA),
    "D08": ErrorKind("The column to group by does not exist", BAD_DATA),
    "D09": ErrorKind("The test rows are not those that were frozen", BAD_DATA),
    "D30": ErrorKind("A row is longer than max_length", BAD_DATA),
    "D31": ErrorKind("A worker ended before its work was done", RESUMABLE),
    "E01": ErrorKind("The run has nothing to evaluate", BAD_DATA),
    "E02": ErrorKind("The runs do not show a learning curve", GATE),
    "E03": ErrorKind("The results cannot be compared", BAD_DATA),
    "E04": ErrorKind("A line of the results cannot be used", BAD_DATA),
    "E05": ErrorKind("The regression suite cannot be used", BAD_DATA),
    "E06": ErrorKind("The endpoint gives no usable answer", IO),
    "E07": ErrorKind("The model has not passed, so it is not exported", GATE),
    "H01": ErrorKind("The GPU is not known", USAGE),
    "I01": ErrorKind("A file cannot be written", IO),
    "I02": ErrorKind("A path cannot be used", IO),
    "I11": ErrorKind("The disk has too little room for the run", NO_ROOM),
    "I12": ErrorKind("The disk is full: a checkpoint was not written", IO),
    "I13": ErrorKind("The prepared rows cannot be read", IO),
    "L01": ErrorKind("There is nothing here to diagnose", BAD_DATA),
    "L02": ErrorKind("There is nothing to patch", BAD_DATA),
    "M01": ErrorKind("The model cannot be found", USAGE),
    "M02": ErrorKind("The model folder has no tokenizer", BAD_DATA),
    "M03": ErrorKind("The model folder is not complete", BAD_DATA),
    "M04": ErrorKind("The converted model does not compute what it should", BAD_DATA),
    "M05": ErrorKind("The model's dimensions are not known", USAGE),
    "M11": ErrorKind("The rows hold tokens that the model does not have", BAD_DATA),
    "M12": ErrorKind("A safetensors file is not sound", BAD_DATA),
    "O01": ErrorKind("The output exists already", EXISTS),
    "O02": ErrorKind("Another process is training into this run folder", EXISTS),
    "O03": ErrorKind("The plan cannot be written for that trainer", USAGE),
    "O04": ErrorKind("No row can be written for that trainer", BAD_DATA),
    "O05": ErrorKind("The file breaks the rules of the service", BAD_DATA),
    "O06": ErrorKind("The service does not take the job", IO),
    "O07": ErrorKind("The model cannot be written in that form", USAGE),
    "R01": ErrorKind("A line is no recorded run", BAD_DATA),
    "S01": ErrorKind("The search has nothing to compare with", GATE),
    "T01": ErrorKind("Training met numbers that are not finite", BUG),
    "T02": ErrorKind("The plan asks for what this trainer cannot do", USAGE),
    "T11": ErrorKind("The run was stopped and can go on", RESUMABLE),
    "T12": ErrorKind("None of the run's checkpoints can be trusted", BAD_DATA),
    "T13": ErrorKind("The run cannot go on: something changed since", USAGE),
    "T14": ErrorKind("The memory is too small for one row", USAGE),
    "T21": ErrorKind("Another process of the training is gone or hangs", RESUMABLE),
    "T22": ErrorKind("The processes do not know where they meet", USAGE),
    "T23": ErrorKind("The job was not taken", USAGE),
    "X01": ErrorKind("A component is not installed", MISSING),
}


class FineTuneError(Exception):
    """A fault the user can mend, said in four parts.

    Args:
        code: A key of `ERRORS`; it fixes the exit status and the docs page.
        what: What is wrong, with its numbers.
        where: The file, line, column or setting.
        why: Why it cannot simply go on.
        fix: What to type or change.
    """

    def __init__(self, code: str, *, what: str, where: str, why: str, fix: str) -> None:
        assert code in ERRORS, code
        super().__init__(code, what, where, why, fix)
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.code, self.what, self.where, self.why, self.fix)

    def __str__(self) -> str:
        return (
            f"error[FT-{self.code}]: {self.what}\n  where: {self.where}\n  why:   {self.why}\n  fix:   {self.fix}\n"
            f"  more:  docs/errors/FT-{self.code}.md"
        )

    @property
    def exit_status(self) -> int:
        """The process exit status this error ends with."""
        return ERRORS[self.code].exit_status


def _rebuild(code: str, what: str, where: str, why: str, fix: str) -> FineTuneError:
    return FineTuneError(code, what=what, where=where, why=why, fix=fix)


def typed(*words: object) -> str:
    """Write a command as it can be typed: a path with blanks, or with signs that the shell obeys, in quotes."""
    return shlex.join(map(str, words))


def missing_component(package: str, *, extra: str, needed_for: str) -> FineTuneError:
    """Say that an optional package is absent, and the one command that brings it."""
    return FineTuneError(
        "X01",
        what=f"{needed_for} needs the package {package!r}, which is not installed",
        where="this Python environment",
        why=f"it belongs to the optional part [{extra}], left out of the small default install",
        fix=f'pip install "finetune-exe[{extra}]"',
    )
