"""Files that would break a reader: each gets a clear answer, in bounded time and memory."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from finetune_exe.data import csv_rows, encoding, packing
from finetune_exe.data.check import check
from finetune_exe.data.faults import FAULTS, FILE_FAULTS, FileNote
from finetune_exe.data.ingest import ingest, open_sources
from finetune_exe.data.profile import profile_data
from finetune_exe.data.raw import BadLine, RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.data.sources import find_sources
from finetune_exe.errors import FineTuneError

ROW = '{"instruction": "a", "output": "b"}\n'


def read(path: Path) -> tuple[list[Any], list[str], list[str]]:
    """Give rows, codes of bad lines, codes of notes."""
    notes: list[FileNote] = []
    entries = list(read_rows(path, notes.append))
    return (
        [entry.row for entry in entries if isinstance(entry, RawRow)],
        [entry.code for entry in entries if isinstance(entry, BadLine)],
        [note.code for note in notes],
    )


def refusal(path: Path) -> FineTuneError:
    with pytest.raises(FineTuneError) as caught:
        list(read_rows(path))
    assert caught.value.code == "D01"
    assert caught.value.exit_status == 65
    return caught.value


@pytest.mark.parametrize("content", [b"", b"\n\n  \n", b"[]", b"[\n]\n", b'{"data": []}', b"\xef\xbb\xbf\n"])
def test_a_check_of_an_empty_file_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.json"
    path.write_bytes(content)
    report = check([str(path)])
    assert (report.records, report.kept, report.format) == (0, 0, None)
    assert [(finding.code, finding.severity) for finding in report.findings] == [("empty_file", "error")]


def test_a_good_file_beside_an_empty_one_is_still_checked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    (tmp_path / "b.jsonl").write_text(ROW)
    report = check([str(tmp_path)])
    assert (report.records, report.kept, report.format) == (1, 1, "alpaca")
    assert [finding.code for finding in report.findings] == ["empty_file"]
    with pytest.raises(FineTuneError) as caught:
        open_sources(find_sources([str(tmp_path)]), format_name=None)
    assert caught.value.code == "D02"


def test_a_line_of_a_hundred_megabytes_costs_itself_only(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        file.write(ROW + '{"instruction": "')
        for _ in range(100):
            file.write("x" * (1 << 20))
        file.write('"}\n' + ROW)
    tracemalloc.start()
    rows, bad, _ = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 2
    assert bad == ["line_too_long"]
    assert peak < 3 * encoding.MAX_LINE_BYTES


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    monkeypatch.setattr(packing, "FREE_BYTES", 1 << 20)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(pack((b'{"text": "' + b"a" * (1 << 20) + b'"}\n') * 150))
    tracemalloc.start()
    assert "times" in refusal(path).why
    rows, _, notes = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "compression_bomb" in notes
    assert rows
    assert peak < 200 << 20


def test_rows_that_repeat_are_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(ROW.encode() * 200_000))
    assert len(read(path)[0]) == 200_000


def test_columns_without_end_are_read_or_refused(tmp_path: Path) -> None:
    wide = {f"c{number}": "x" for number in range(200_000)}
    (tmp_path / "wide.csv").write_text(",".join(wide) + "\n" + ",".join(wide.values()) + "\n")
    assert "200,000 columns" in refusal(tmp_path / "wide.csv").why
    (tmp_path / "wide.jsonl").write_text(json.dumps(wide) + "\n")
    with pytest.raises(FineTuneError) as caught:
        open_sources(find_sources([str(tmp_path / "wide.jsonl")]), format_name=None)
    assert (caught.value.code, caught.value.why) == ("D04", "the row has too many keys")
    assert len(str(caught.value)) < 5000
    narrow = "".join(f'{{"instruction": "a{n}", "output": "b"}}\n' for n in range(9))
    (tmp_path / "wide.jsonl").write_text(narrow + json.dumps({"instruction": "a", **wide}) + "\n")
    opened = open_sources(find_sources([str(tmp_path / "wide.jsonl")]), format_name=None)
    faults = [row.fault for row in ingest(opened, deduplicate=True) if not hasattr(row, "conversation")]
    assert [fault.code for fault in faults] == ["too_many_keys"]
    assert len(faults[0].message) < 1000
    assert all(len(phrase) < 2000 for phrase in opened[0].detection.evidence)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
@pytest.mark.parametrize("depth", [99, 103, 900, 100_000])
def test_deep_nesting_costs_the_row(tmp_path: Path, name: str, depth: int) -> None:
    path = tmp_path / name
    deep = '{"instruction": "a", "output": "b", "x": ' + "[" * (depth - 2) + "]" * (depth - 2) + "}"
    path.write_text(
        ROW + deep + "\n" + ROW if name == "rows.jsonl" else f"[\n{ROW.strip()},\n{deep},\n{ROW.strip()}\n]"
    )
    rows, bad, _ = read(path)
    assert (len(rows), bad) == ((3, []) if depth < 100 else (2, ["too_deep"]))


def test_zeros_in_a_line_cost_the_line_and_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(ROW * 20 + '{"instruction": "a\0b", "output": "c"}\n' + ROW)
    rows, bad, _ = read(path)
    assert (len(rows), bad) == (21, ["unescaped_control"])
    path.write_bytes(bytes(range(256)) * 40)
    assert "zero" in refusal(path).why


@pytest.mark.parametrize(
    ("parts", "kind", "fix"),
    [
        (("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "an Excel workbook", "as CSV"),
        (("docProps/app.xml", "docProps/core.xml", "xl/theme/theme1.xml"), "an Excel workbook", "as CSV"),
        (("[Content_Types].xml", "_rels/.rels", "word/document.xml"), "a Word document", "as .txt"),
        (("train.jsonl", "words/part.jsonl"), "a ZIP archive", "unzip"),
    ],
)
def test_a_file_of_an_office_program_is_not_to_be_unpacked(
    tmp_path: Path, parts: tuple[str, ...], kind: str, fix: str
) -> None:
    path = tmp_path / "rows.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in parts:
            archive.writestr(part, "<xml/>" * 99)
    refused = refusal(path)
    assert kind in refused.why
    assert fix in refused.fix


def test_an_open_document_and_an_old_excel_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.ods"
    for form, kind in (("spreadsheet", "an OpenDocument table"), ("text", "an OpenDocument text")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("mimetype", f"application/vnd.oasis.opendocument.{form}")
        assert kind in refusal(path).why
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500))
    assert "old Excel" in refusal(path).why


def test_pipes_devices_folders_and_link_circles_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    assert "pipe" in refusal(pipe).why
    assert "device" in refusal(Path("/dev/zero")).why
    (tmp_path / "folder.jsonl").mkdir()
    assert "folder" in refusal(tmp_path / "folder.jsonl").why
    (tmp_path / "round.jsonl").symlink_to(tmp_path / "round.jsonl")
    with pytest.raises(FineTuneError) as caught:
        find_sources([str(tmp_path / "round.jsonl")])
    assert caught.value.code == "D07"
    assert "circle" in caught.value.why


def test_an_unclosed_quote_does_not_swallow_a_big_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_FIELD_CHARACTERS", 1000)
    path = tmp_path / "rows.csv"
    path.write_text('text,label\na,b\n"' + "c,d\n" * 1000)
    rows, bad, _ = read(path)
    assert rows[0] == {"text": "a", "label": "b"}
    assert bad[0] == "unclosed_quote"
    assert len(rows) > 700


def test_a_cut_archive_is_no_training_data_unless_it_is_only_checked(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    lines = "".join(
        f'{{"instruction": "say {n * 7919 % 10007}", "output": "{n * 104729 % 7919}"}}\n' for n in range(5000)
    )
    path.write_bytes(gzip.compress(lines.encode())[:-4000])
    with pytest.raises(FineTuneError):
        profile_data([str(path)])
    report = check([str(path)])
    assert 1000 < report.records < 5000
    assert "corrupt_compression" in {finding.code for finding in report.findings}


def test_every_code_that_the_readers_write_is_in_the_table() -> None:
    import re

    source = Path(encoding.__file__).parents[1]
    files = [
        *(source / "text" / "formats").glob("*.py"),
        source / "text" / "encode.py",
        *(source / "data").glob("*.py"),
    ]
    ours = [
        path for path in files if path.name not in ("encode.py", "encoded.py", "intake.py", "prepare.py", "check.py")
    ]
    written = {code for path in ours for code in re.findall(r'code="([a-z_0-9]+)"', path.read_text())}
    assert len(written) > 15
    assert written <= FAULTS.keys()
    assert all(kind.severity in ("error", "warning", "info") and kind.meaning and kind.fix for kind in FAULTS.values())
    told = {code for path in ours for code in re.findall(r'file_note\(\s*"([a-z_]+)"', path.read_text())}
    assert told <= FILE_FAULTS.keys()
