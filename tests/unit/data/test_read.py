"""Reading files: every container, every encoding, every kind of damage."""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data import columnar
from finetune_exe.data.faults import FileNote
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.data.sources import find_sources
from finetune_exe.errors import FineTuneError

ROWS = [{"instruction": f"Frage {n}: wie spät?", "input": "", "output": f"Zwölf, {n}"} for n in range(6)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8)


def rows(path: Path) -> list[Any]:
    return [entry.row for entry in read_rows(path) if isinstance(entry, RawRow)]


def bad(path: Path) -> list[BadLine]:
    return [entry for entry in read_rows(path) if isinstance(entry, BadLine)]


def table(delimiter: str) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(ROWS[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue()


def refusal(path: Path, code: str) -> FineTuneError:
    with pytest.raises(FineTuneError) as caught:
        list(read_rows(path))
    assert caught.value.code == code
    assert path.name in caught.value.where
    return caught.value


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": zstandard.ZstdCompressor().compress,
    "bz2": lambda content: bz2.compress(content, 1),
    "xz": lzma.compress,
}
CONTAINERS: dict[str, bytes] = {
    "rows.jsonl": LINES.encode(),
    "lines_called.json": LINES.encode(),
    "array_called.jsonl": json.dumps(ROWS).encode(),
    "array.json": json.dumps(ROWS, indent=2).encode(),
    "wrapped.json": json.dumps({"version": "1", "data": ROWS}).encode(),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode(),
    "comma.csv": table(",").encode(),
    "semicolon.csv": table(";").encode(),
    "bar.csv": table("|").encode(),
    "tab.tsv": table("\t").encode(),
    "packed.jsonl.gz": gzip.compress(LINES.encode()),
    "packed_called.jsonl": gzip.compress(LINES.encode()),
    "packed.jsonl.zst": zstandard.ZstdCompressor().compress(LINES.encode()),
    "packed.json.bz2": bz2.compress(json.dumps(ROWS).encode()),
    "packed.csv.xz": lzma.compress(table(",").encode()),
    "two_members.jsonl.gz": gzip.compress(LINES[:150].encode()) + gzip.compress(LINES[150:].encode()),
    "utf32.jsonl": LINES.encode("utf-32"),
    "unit.csv": table("\x1f").encode(),
    "numbered.json": json.dumps({key: {str(n): row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}).encode(),
    "dialogues.json": json.dumps({"title": "x", "dialogues": ROWS}).encode(),
    "lines_called.csv": LINES.encode(),
    "lines_called.txt": LINES.encode(),
    "behind_each_other.json": "".join(json.dumps(row) for row in ROWS).encode(),
    "pretty_behind_each_other.jsonl": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "array_called.txt": json.dumps(ROWS).encode(),
    "table_called.txt": table("\t").encode(),
    "dos.jsonl": LINES.encode() + b"\x1a",
    "pretty.jsonl": json.dumps(ROWS, indent=4).encode(),
    "bom.jsonl": LINES.encode("utf-8-sig"),
    "bom.csv": table(",").encode("utf-8-sig"),
    "utf16.jsonl": LINES.encode("utf-16"),
    "utf16be.jsonl": LINES.encode("utf-16-be"),
    "utf16.csv": table(",").encode("utf-16"),
    "crlf.jsonl": LINES.replace("\n", "\r\n").encode(),
    "cr.jsonl": LINES.replace("\n", "\r").encode(),
    "no_last_newline.jsonl": LINES.rstrip().encode(),
    "blank_lines.jsonl": ("\n" + LINES.replace("\n", "\n\n")).encode(),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_and_encoding_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONTAINERS[name])
    assert rows(tmp_path / name) == ROWS


def test_parquet_gives_the_same_rows(tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "rows.jsonl").write_text(LINES)
    source, target = str(tmp_path / "rows.jsonl"), str(tmp_path / "rows.parquet")
    duckdb.sql(f"COPY (SELECT * FROM read_json('{source}')) TO '{target}'")  # noqa: S608
    assert rows(tmp_path / "rows.parquet") == ROWS
    odd = tmp_path / "output=none" / "rows*[1].parquet"
    odd.parent.mkdir()
    for name in ("rows*[1].parquet", "rows2[1].parquet", "rows21.parquet"):
        (odd.parent / name).write_bytes((tmp_path / "rows.parquet").read_bytes())
    assert rows(odd) == ROWS, "a name is no pattern, and no column"


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6))
def test_csv_agrees_with_the_writer_of_the_standard_library(
    tmp_path_factory: Any, cells: list[tuple[str, ...]]
) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([("a", "b", "c"), *cells])
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    path.write_bytes(file.getvalue().encode())
    assert rows(path) == [dict(zip("abc", row, strict=True)) for row in cells]


def test_csv_rows_have_the_line_they_begin_at(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"two\nlines",a\nplain,b\none,two,three\nlast,c\n')
    entries = list(read_rows(path))
    assert [entry.line for entry in entries] == [2, 4, 5, 6]
    assert [entry.code for entry in bad(path)] == ["ragged_row"]


def test_an_unclosed_quote_says_which_lines_it_swallowed(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\na,b\n"never closed,c\nd,e\n')
    [line] = bad(path)
    assert line.line == 3
    assert "lines 3 to 4" in line.message


def test_elements_of_an_array_have_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n  {"text": "a"},\n\n  {"text":\n "b"}, 7\n]')
    entries = list(read_rows(path))
    assert [entry.line for entry in entries] == [2, 4, 5]
    assert [entry.code for entry in bad(path)] == ["not_a_row"]


def test_one_chat_is_one_row_and_not_a_table(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path.write_text(json.dumps(chat))
    assert rows(path) == [chat]


def test_bare_lists_of_messages_are_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    chat = [{"role": "user", "content": "a"}]
    path.write_text(f"{json.dumps(chat)}\n{json.dumps(chat)}\n")
    assert rows(path) == [chat, chat]


def test_a_text_is_cut_at_paragraphs_into_the_text(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    text = "".join(f"Paragraph {n} " + "word " * (n % 7 + 1) + "\n\n" for n in range(200))
    path.write_text(text)
    entries = list(read_rows(path))
    sections = rows(path)
    assert "".join(sections) == text
    assert 10 < len(sections) < 60
    assert all(section.startswith("Paragraph") for section in sections)
    starts = [text.splitlines()[entry.line - 1] for entry in entries if entry.line]
    assert all(section.startswith(start) for section, start in zip(sections, starts, strict=True))


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ('{"instruction": "a", "outp', "truncated_line"),
        ('{"instruction": "a", "output":', "truncated_line"),
        ('{"instruction": tr', "truncated_line"),
        ("{'instruction': 'a', 'output': None}", "single_quotes"),
        ('{"instruction": "a",}', "trailing_comma"),
        ('{"instruction": "a"},', "trailing_comma"),
        ('{"instruction": "a"} {"instruction": "b"}', "two_objects_one_line"),
        ('{"instruction": "a"}, {"instruction": "b"}', "two_objects_one_line"),
        ("// a comment", "comment_line"),
        ("# a comment", "comment_line"),
        (r'{"instruction": "C:\temp\new", "output": "\d"}', "invalid_escape"),
        ('{"instruction": "tab\there"}', "unescaped_control"),
        ('{"instruction": "a\0b"}', "unescaped_control"),
        ('{"instruction": "a" "output": "b"}', "malformed_line"),
        ("[" * 5000 + "]" * 5000, "too_deep"),
        ('{"a": ' * 150 + "1" + "}" * 150, "too_deep"),
        (json.dumps(dict.fromkeys(map(str, range(10_001)))), "too_many_keys"),
        ("just words", "malformed_line"),
        ('{"instruction": "sp\\u00', "truncated_line"),
    ],
)
def test_case_a_a_broken_line_is_set_aside_with_its_number(tmp_path: Path, damage: str, code: str) -> None:
    path = tmp_path / "rows.jsonl"
    lines = LINES.splitlines()
    path.write_text("\n".join([*lines[:3], damage, *lines[3:]]))
    assert rows(path) == ROWS
    [line] = bad(path)
    assert (line.line, line.code) == (4, code)
    assert line.text == damage


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.dat"])
@pytest.mark.parametrize(
    "first", ['"a": 1, "b": 2}', ',{"a": 1}', '\xff{"p" :"q", "r": 2', 'x y, z, {"a": 1', '{"a": 1, "b', "[1, 2"]
)
def test_rows_behind_a_broken_first_line_are_read(tmp_path: Path, name: str, first: str) -> None:
    path = tmp_path / name
    wanted = [{"a": number, "b": f"{number}, and so on"} for number in range(5)]
    path.write_text("\n".join([first, *map(json.dumps, wanted)]), encoding="latin-1")
    assert rows(path) == wanted
    assert [line.line for line in bad(path)] == [1]


@pytest.mark.parametrize("count", [1, 2, 9, 40])
@pytest.mark.parametrize("between", ["\n,\n", ",\n", "\n,"])
def test_an_array_with_each_element_on_lines_of_its_own_is_one_value(tmp_path: Path, count: int, between: str) -> None:
    path = tmp_path / "rows.jsonl"
    wanted = [{"a": number} for number in range(count)]
    path.write_text("[\n" + between.join(map(json.dumps, wanted)) + "\n]\n")
    assert rows(path) == wanted


def test_case_a_a_broken_element_of_an_array_is_set_aside_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n  {"text": "a"},\n  {"text": "b" "c"},\n  {"text": "d"}\n]')
    assert rows(path) == [{"text": "a"}, {"text": "d"}]
    [line] = bad(path)
    assert (line.line, line.code, line.text) == (3, "malformed_line", '{"text": "b" "c"}')


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_that_breaks_off_gives_the_rows_before(tmp_path: Path, indent: int | None) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS, indent=indent)[:-30])
    assert rows(path) == ROWS[:-1]
    [line] = bad(path)
    assert line.code == "truncated_last_line"
    assert line.text


def test_a_broken_object_that_fills_a_file_is_refused_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{\n"data": [{"text": "a"},\n{"text": "b" "c"}]\n}')
    assert "line 3, column 14" in refusal(path, "D01").why


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", '[{"text": "\\ud83d\\ude00"}, {"text": "\\ud800"}]'),
        ("rows.jsonl", '{"text": "\\ud83d\\ude00"}\n{"text": "\\ud800"}\n'),
    ],
)
def test_half_a_character_is_set_aside(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    assert rows(path) == [{"text": "\N{GRINNING FACE}"}]
    assert [line.code for line in bad(path)] == ["lone_surrogate"]


def test_case_d_a_table_called_json_is_read_as_a_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(table(","))
    assert rows(path) == ROWS


def test_case_d_prose_called_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("This is not data\n")
    assert "neither JSON nor a table" in refusal(path, "D01").why


def test_case_e_a_line_that_is_not_utf8_is_set_aside_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [line.encode() + b"\n" for line in LINES.splitlines()]
    lines[2] = LINES.splitlines()[2].encode("latin-1") + b"\n"
    path.write_bytes(b"".join(lines))
    [line] = bad(path)
    assert (line.line, line.code) == (3, "invalid_utf8")
    offset = next(n for n, byte in enumerate(path.read_bytes()) if byte == 0xE4)
    assert f"byte {offset}" in line.message
    assert len(rows(path)) == len(ROWS) - 1


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json", "rows.tsv"])
def test_files_in_one_byte_a_character_are_read_and_it_is_said(tmp_path: Path, name: str) -> None:
    content = {
        "rows.csv": table(";"), "rows.tsv": table("\t"), "rows.jsonl": LINES,
        "rows.json": json.dumps(ROWS, ensure_ascii=False, indent=1),
    }[name]  # fmt: skip
    path = tmp_path / name
    path.write_bytes(content.encode("cp1252"))
    notes: list[FileNote] = []
    assert [entry.row for entry in read_rows(path, notes.append) if isinstance(entry, RawRow)] == ROWS
    [note] = notes
    assert note.code == "encoding"
    assert "CP1252" in note.message


def test_a_line_cut_inside_a_character_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINES.encode() + '{"instruction": "spä'.encode()[:-1])
    assert rows(path) == ROWS
    assert [line.code for line in bad(path)] == ["truncated_last_line"]


@pytest.mark.parametrize(
    ("content", "header"),
    [
        ("good film,pos\nbad film,neg\nfine film,pos\nawful,neg\n", False),
        ("1,good film\n0,bad film\n", False),
        ("text,label\ngood film,pos\nbad film,neg\n", True),
        ("text,2021\na,3\nb,4\n", True),
        ("0,1\ngood film,pos\nbad film,neg\n", True),
    ],
)
def test_a_table_without_a_header_loses_no_row(tmp_path: Path, content: str, header: bool) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    notes: list[FileNote] = []
    found = [entry for entry in read_rows(path, notes.append) if isinstance(entry, RawRow)]
    assert len(found) == content.count("\n") - header
    assert [note.code for note in notes] == ([] if header else ["no_header"])
    assert isinstance(found[0].row, dict)
    assert list(found[0].row) == (content.splitlines()[0].split(",") if header else ["column_1", "column_2"])
    assert found[0].line == 1 + header


def test_a_text_that_is_neither_utf8_nor_western_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes("Привет, мир\nКак дела?\n".encode("cp1251"))
    error = refusal(path, "D01")
    assert "byte 0 " in error.why
    assert "iconv" in error.fix


def test_records_of_a_table_that_are_not_utf8_are_set_aside_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\nspät,a\n".encode() + b"sp\xe4t,b\nlate,c\n")
    assert [row["label"] for row in rows(path)] == ["a", "c"]
    [line] = bad(path)
    assert (line.line, line.code, line.row) == (3, "invalid_utf8", {"text": r"sp\xe4t", "label": "b"})
    assert f"byte {path.read_bytes().index(0xE4)} " in line.message


@pytest.mark.parametrize("content", [b"", b"\n \n", b"[]", b"\xef\xbb\xbf"])
def test_empty_files_hold_no_row(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    refusal(path, "D02")
    header_only = tmp_path / "rows.csv"
    header_only.write_text("text,label\n")
    refusal(header_only, "D02")


@pytest.mark.parametrize("content", [b"\x00\x01\x02\x03" * 9, b"PK\x03\x04zip", b"\x80\x04\x95pickle", b"PAR1broken"])
def test_binary_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    refusal(path, "D01")


@pytest.mark.parametrize("name", ["gz", "zst", "bz2", "xz"])
def test_a_cut_archive_is_refused_or_read_as_far_as_it_goes(tmp_path: Path, name: str) -> None:
    many = "".join(f'{{"text": "{hashlib.sha256(str(n).encode()).hexdigest()}"}}\n' for n in range(9000))
    path = tmp_path / f"rows.jsonl.{name}"
    packed = PACKERS[name](many.encode())
    path.write_bytes(packed[: len(packed) * 9 // 10])
    assert "damaged" in refusal(path, "D01").why
    notes: list[FileNote] = []
    read = [entry.row for entry in read_rows(path, notes.append) if isinstance(entry, RawRow)]
    assert 100 < len(read) < 9000
    assert read == [json.loads(line) for line in many.splitlines()[: len(read)]]
    assert [note.code for note in notes] == ["corrupt_compression"]


def arrow_file(path: Path) -> Path:
    import nanoarrow
    from nanoarrow.ipc import StreamWriter

    schema = nanoarrow.struct({name: nanoarrow.string() for name in ROWS[0]})
    columns = [nanoarrow.c_array([row[name] for row in ROWS], nanoarrow.string()) for name in ROWS[0]]
    with StreamWriter.from_path(path) as writer:
        writer.write_array(nanoarrow.c_array_from_buffers(schema, len(ROWS), buffers=[None], children=columns))
    return path


def test_arrow_streams_and_files_give_the_same_rows(tmp_path: Path) -> None:
    stream = arrow_file(tmp_path / "rows.arrows")
    assert rows(stream) == ROWS
    (tmp_path / "rows.arrow").write_bytes(b"ARROW1\0\0" + stream.read_bytes())
    assert rows(tmp_path / "rows.arrow") == ROWS
    entries = read_rows(stream)
    next(entries)
    entries.close()  # type: ignore[attr-defined]


def test_a_damaged_arrow_file_is_refused_even_where_its_decoder_crashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = arrow_file(tmp_path / "rows.arrow")
    path.write_bytes(path.read_bytes()[:300])
    assert "damaged" in refusal(path, "D01").why
    path.write_bytes(b"ARROW1\0\0" + b"\xff" * 7)
    assert "damaged" in refusal(path, "D01").why
    crashing = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setattr(columnar, "ARROW_READER", crashing)
    assert "signal 11" in refusal(path, "D01").why


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,text\na,b\n")
    assert "'text'" in refusal(path, "D01").why


def test_folders_patterns_and_repeats_give_each_file_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "notes.md", ".hidden.jsonl"):
        (tmp_path / name).write_text(LINES)
    found = find_sources([str(tmp_path), str(tmp_path / "*.jsonl"), str(tmp_path / "a.jsonl"), "stdlib"])
    assert [Path(source.name).name for source in found] == ["a.jsonl", "b.jsonl", "stdlib"]


@pytest.mark.parametrize(
    ("path", "hint"), [("train.json", "train.jsonl"), ("empty_folder", "give a file"), ("*.parquet", "check the path")]
)
def test_a_path_that_leads_nowhere_names_its_neighbours(tmp_path: Path, path: str, hint: str) -> None:
    (tmp_path / "train.jsonl").write_text(LINES)
    (tmp_path / "empty_folder").mkdir()
    with pytest.raises(FineTuneError) as caught:
        find_sources([str(tmp_path / path)])
    assert caught.value.code == "D07"
    assert hint in caught.value.fix


@pytest.mark.parametrize(
    ("text", "named"),
    [("tatsu-lab/alpaca", "hf://tatsu-lab/alpaca"), ("rows/train", None), ("nowhere/train.jsonl", None),
     ("https://huggingface.co/datasets/tatsu-lab/alpaca/tree/main/data", "hf://tatsu-lab/alpaca"), ("a/b/c", None)],
)  # fmt: skip
def test_a_dataset_of_the_hub_that_is_given_as_a_path_is_told_how_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, named: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows").mkdir()
    with pytest.raises(FineTuneError) as caught:
        find_sources([text])
    assert ("hf://" in caught.value.fix) == (named is not None)
    assert (named or "check the path") in caught.value.fix


def test_no_path_at_all_is_refused() -> None:
    with pytest.raises(FineTuneError) as caught:
        find_sources([])
    assert caught.value.code == "C05"


def test_json_lines_and_tables_are_streamed(tmp_path: Path) -> None:
    import tracemalloc

    text = "a" * 400
    (tmp_path / "rows.jsonl").write_text(f'{{"text": "{text}"}}\n' * 20_000)
    (tmp_path / "rows.csv").write_text("text,label\n" + f"{text},b\n" * 20_000)
    (tmp_path / "rows.json").write_text(json.dumps([{"text": text}] * 20_000))
    for path in tmp_path.iterdir():
        tracemalloc.start()
        assert sum(1 for _ in read_rows(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < path.stat().st_size


def test_rows_of_a_list_on_one_line_are_told_apart_by_their_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": 2},\n {"a": 3}, {"a":\n 4}, {"a": 5}]')
    assert [entry.line for entry in read_rows(path)] == [None, None, None, None, 3]
    [source] = find_sources([str(path)])
    assert [source.place(raw, number) for number, raw in enumerate(source.rows(lambda _: None), 1)] == [
        *(f"{path}, row {number}" for number in (1, 2, 3, 4)), f"{path}:3",
    ]  # fmt: skip
