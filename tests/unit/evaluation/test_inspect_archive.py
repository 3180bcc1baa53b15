"""Inspect's own archives are read as what it dumps of them."""

from __future__ import annotations

import json
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard
from tests.unit.evaluation.result_rows import tool_files

from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation import result_layouts
from finetune_exe.evaluation.result_files import Keys, read_results


def test_a_packed_log_of_inspect_is_told_how_to_become_json(tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(FineTuneError) as caught:
        read_results(tmp_path / "log.eval", Keys())
    assert "inspect log dump" in caught.value.why


Packing = Literal["stored", "deflated", "zstandard"]


def archive(path: Path, members: list[tuple[str, bytes]], packing: Packing) -> Path:
    """Write members as Inspect does; what Zstandard packed is stored and called so, as zipfile cannot."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packing == "deflated" else zipfile.ZIP_STORED) as file:
        for name, content in members:
            file.writestr(name, zstandard.compress(content) if packing == "zstandard" else content)
            if packing == "zstandard":
                member = file.filelist[-1]
                member.compress_type, member.CRC, member.file_size = 93, zlib.crc32(content), len(content)
    return path


def archived(samples: list[dict[str, Any]]) -> list[tuple[str, bytes]]:
    named = [
        (f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample).encode()) for sample in samples
    ]
    return [("_journal/start.json", b"{}"), *named, ("header.json", b"{}"), ("reductions.json", b"[]")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("packing", ["stored", "deflated", "zstandard"])
def test_an_archive_of_inspect_is_read_as_its_dump_is(packing: Packing, tmp_path: Path) -> None:
    log = tool_files()["inspect"]
    (tmp_path / "log.json").write_text(json.dumps(log))
    asked_again = {**log["samples"][0], "scores": {"match": {"value": "I"}}}
    path = archive(tmp_path / "log.eval", archived([asked_again, *log["samples"]]), packing)
    read, dumped = read_results(path, Keys()), read_results(tmp_path / "log.json", Keys())
    assert {item: (result.score, result.texts, result.cluster) for item, result in read.items()} == {
        item: (result.score, result.texts, result.cluster) for item, result in dumped.items()
    }


@pytest.mark.parametrize("packing", ["stored", "deflated", "zstandard"])
def test_an_archive_that_is_damaged_or_grows_too_large_is_refused(
    packing: Packing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = archived(tool_files()["inspect"]["samples"])
    path = archive(tmp_path / "log.eval", members, packing)
    whole = path.read_bytes()
    place = whole.index(b"samples/1_epoch_1.json") + 40
    path.write_bytes(whole[:place] + bytes(9) + whole[place + 9 :])
    with pytest.raises(FineTuneError, match="damaged"):
        read_results(path, Keys())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FineTuneError, match="damaged"):
        read_results(path, Keys())
    path.write_bytes(whole)
    most = sum(len(content) for name, content in members if name.startswith("samples/"))
    for room, fits in ((most, True), (most - 1, False)):
        monkeypatch.setattr(result_layouts, "_MOST_BYTES", room)
        with nullcontext() if fits else pytest.raises(FineTuneError, match="more than a gigabyte"):
            read_results(path, Keys())


def test_an_archive_of_something_else_and_a_sample_that_is_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="no log of Inspect"):
        read_results(archive(tmp_path / "a.eval", [("../../a.json", b"{}")], "deflated"), Keys())
    assert [path.name for path in tmp_path.iterdir()] == ["a.eval"]
    with pytest.raises(FineTuneError, match="line 1: it is no JSON"):
        read_results(archive(tmp_path / "b.eval", [("samples/1_epoch_1.json", b"{")], "deflated"), Keys())
