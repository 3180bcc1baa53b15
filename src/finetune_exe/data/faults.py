"""Every fault that arises while a file or a row is read: its code, how bad it is, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from finetune_exe.errors import FineTuneError

Severity = Literal["error", "warning", "info"]


class FaultKind(NamedTuple):
    """What a code means: an error loses the row or the rest of the file, the others lose nothing unless said."""

    severity: Severity
    meaning: str
    fix: str


FILE_FAULTS: dict[str, FaultKind] = {
    "encoding": FaultKind(
        "warning", "the text is not plain UTF-8 with LF line ends", "save the file as UTF-8 with LF line ends"
    ),
    "wrong_extension": FaultKind(
        "warning", "the name promises another kind of file than it is", "give the file the name of what it holds"
    ),
    "wrapped": FaultKind(
        "info", "the rows stand in a list inside an object", "nothing need be done; JSONL holds the rows alone"
    ),
    "column_oriented": FaultKind(
        "info", "the file holds one list a column rather than one object a row", "nothing need be done"
    ),
    "no_header": FaultKind(
        "warning", "the table has no header; its columns are numbered", "write a header above the first line"
    ),
    "blank_line": FaultKind("warning", "a line between the rows is blank", "remove the line"),
    "corrupt_compression": FaultKind(
        "error", "the compressed file is cut off or damaged", "fetch the file again; what could be unpacked was read"
    ),
    "compression_bomb": FaultKind(
        "error", "the file unpacks to far more than it can rightly hold", "unpack it yourself and look inside"
    ),
    "empty_file": FaultKind("error", "the file holds no row", "give a file with rows, or take it out of the folder"),
    "unreadable_file": FaultKind("error", "the file cannot be read as data", "give a file of rows"),
}  # fmt: skip
"""Faults of a file as a whole; a `FileNote` carries one of them."""

LINE_FAULTS: dict[str, FaultKind] = {
    "truncated_line": FaultKind("error", "the line breaks off in the middle", "complete the line, or remove it"),
    "truncated_last_line": FaultKind("error", "the file breaks off in its last line", "fetch the file again, whole"),
    "trailing_comma": FaultKind("error", "a comma stands where nothing follows", "remove the comma"),
    "single_quotes": FaultKind(
        "error", "the line is written as Python prints it, not as JSON", "write it with json.dumps"
    ),
    "two_objects_one_line": FaultKind("error", "two rows stand on one line", "break the line between them"),
    "comment_line": FaultKind("error", "the line is a comment, which JSON does not have", "remove the line"),
    "nan_literal": FaultKind("warning", "NaN or Infinity is no JSON value; it is read as null", "write null instead"),
    "unescaped_newline": FaultKind("error", "a line break stands unescaped inside a text", r"write it as \n"),
    "unescaped_control": FaultKind("error", "a control character stands unescaped", r"write it as \u00XX"),
    "duplicate_key": FaultKind("warning", "a key is given twice; only the last value is read", "keep one of the two"),
    "invalid_escape": FaultKind("error", "a backslash stands before a character it cannot escape", r"double it: \\"),
    "lone_surrogate": FaultKind("error", "an escape stands for half a character", "correct the escape, or remove it"),
    "invalid_utf8": FaultKind("error", "bytes of the line are not UTF-8", "save the line as UTF-8"),
    "malformed_line": FaultKind("error", "the line is not JSON", "correct the line, or remove it"),
    "line_too_long": FaultKind("error", "the line is too long for a row", "break the file into rows, one a line"),
    "too_deep": FaultKind("error", "the row is nested too deeply", "flatten the row"),
    "too_many_keys": FaultKind("error", "the row has too many keys", "keep the columns to learn from"),
    "ragged_row": FaultKind(
        "error", "the record has another number of fields than the header", "put quotes around a field with a delimiter"
    ),
    "unclosed_quote": FaultKind("error", "a quoted field does not end", 'close it; write a quote in it twice: ""'),
    "stray_quote": FaultKind("error", "a quote stands inside a field", 'quote the field, and write "" for a quote'),
    "not_a_row": FaultKind("error", "a number or a constant stands in place of a row", "write each row as an object"),
}  # fmt: skip
"""Faults of a place in a file. The two warnings leave the row readable: its conversation carries the note."""

ROW_FAULTS: dict[str, FaultKind] = {
    "bare_array": FaultKind("error", "the row is a bare list", "put it in an object"),
    "bare_string": FaultKind("error", "the row is a bare string", "put it in an object"),
    "missing_key": FaultKind("error", "the row lacks a column", "add the column, or drop the row"),
    "null_content": FaultKind("error", "a text is null", "write the text, or drop the row"),
    "non_string_content": FaultKind("error", "a value stands where text should be", "write the value as a string"),
    "bad_history": FaultKind("error", "the history is no list of pairs", 'write [["question", "answer"], ...]'),
    "empty_messages": FaultKind("error", "the row has no turn at all", "drop the row"),
    "messages_not_a_list": FaultKind("error", "the turns are no list", "write the turns as a list"),
    "missing_role": FaultKind("error", "a turn does not say who speaks", "say who speaks in every turn"),
    "unknown_role": FaultKind("error", "nobody is known by a turn's role", "use system, user, assistant or tool"),
    "missing_content": FaultKind("error", "a turn says nothing", "write what is said"),
    "mixed_keys_in_one_conversation": FaultKind(
        "error", "the turns of one row name their keys differently", "name the keys of every turn alike"
    ),
    "non_text_content": FaultKind("error", "a turn holds an image or another part than text", "keep text parts only"),
    "unsupported_weight": FaultKind("error", "a loss weight is neither 0 nor 1", "use 0 or 1"),
    "rejected_answer": FaultKind("error", "the row marks its own answer as a bad one", "keep the good answers only"),
    "turns_unclear": FaultKind(
        "error", "the text does not go from question to answer by turns", "part the row by hand, or name other marks"
    ),
    "cannot_convert": FaultKind("error", "the format has no place for part of the row", "convert to chatml"),
    "no_assistant": FaultKind("error", "the conversation has no answer to learn from", "add the answer"),
    "empty_answer": FaultKind("error", "an answer is empty", "write the answer, or drop the row"),
    "empty_text": FaultKind("error", "the text is empty", "drop the row"),
    "exact_duplicate": FaultKind("error", "the row says the same as an earlier one", "leave it out"),
}  # fmt: skip
"""Faults that lose a row."""

ROW_NOTES: dict[str, FaultKind] = {
    "role_name_variant": FaultKind(
        "warning", "a role goes by another name than system, user, assistant or tool", "use the four names"
    ),
    "messages_as_json_string": FaultKind(
        "warning", "the turns are written as a JSON text, not as a list", "write the turns as a list"
    ),
    "sharegpt_schema_in_messages_file": FaultKind(
        "warning", "the row says conversations, from and value where the others say messages, role and content",
        "convert the file to one layout: fine-tune dataset chatml FILE",
    ),
    "schema_mixed": FaultKind(
        "warning", "the row has another layout than the others, or mixes two",
        "convert the file to one layout: fine-tune dataset FORMAT FILE",
    ),
    "extra_message_key": FaultKind(
        "info", "a turn has a key that chat templates do not read", "nothing need be done; it is kept aside"
    ),
    "content_parts": FaultKind(
        "info", "a turn's text is a list of typed parts; they are joined", "nothing need be done"
    ),
    "call_as_text": FaultKind(
        "warning", "a turn that should call a tool is no JSON object with a name and arguments; it is learned as text",
        'write it as {"name": "...", "arguments": {...}}, or as a list of such',
    ),
    "unknown_key": FaultKind(
        "info", "the row has a column that the others do not have", "check its spelling; it is kept aside"
    ),
    "json_in_string": FaultKind(
        "warning", "a text is itself a row written as JSON", "put its values in the columns they belong to"
    ),
    "tools_not_written": FaultKind(
        "warning", "the model's chat template does not write the definitions of the row's tools",
        "choose a base model whose template does, or say in the system prompt which tools there are",
    ),
    "end_mark_written": FaultKind(
        "warning", "an answer ends with a mark for the end, which the chat template would write a second time",
        "nothing need be done: preparing takes it off; take it off for programs that do not",
    ),
    "part_read": FaultKind(
        "info", "the row holds several answers or paths; the first or best-ranked one is read", "nothing need be done"
    ),
}  # fmt: skip
"""What is odd about a row that is read all the same: the codes that `Conversation.notes` may hold, beside
`nan_literal` and `duplicate_key`."""

FAULTS: dict[str, FaultKind] = {**FILE_FAULTS, **LINE_FAULTS, **ROW_FAULTS, **ROW_NOTES}
"""All of them by code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNote:
    """What is unusual about a file as a whole, or about lines of it that hold no record."""

    code: str
    """A key of `FILE_FAULTS`."""
    source: str
    """The file, as the user named it."""
    message: str
    fix: str
    lines: tuple[int, ...] = ()
    """Lines it is about, from 1 (of blank lines the first thousand); empty for the file as a whole."""

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return FILE_FAULTS[self.code].severity


Tell = Callable[[FileNote], None]
"""Called with each note as soon as it is known, some of them when the last row has been read."""


def insist(note: FileNote) -> None:
    """Let a note go, unless part of the file would be lost with it.

    Raises:
        FineTuneError: D01 for a note that is an error.
    """
    if note.severity == "error":
        raise FineTuneError(
            "D01",
            what="the file cannot be read to its end",
            where=note.source,
            why=note.message,
            fix=note.fix,
        )


def file_note(
    code: str, source: object, message: str | None = None, *, fix: str | None = None, lines: tuple[int, ...] = ()
) -> FileNote:
    """Write a note, with the table's words where no better ones are at hand."""
    kind = FILE_FAULTS[code]
    return FileNote(code=code, source=str(source), message=message or kind.meaning, fix=fix or kind.fix, lines=lines)
