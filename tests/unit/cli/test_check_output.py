"""What `dataset --check` shows of many rows and many faults."""

from __future__ import annotations

import json
from pathlib import Path

from finetune_exe.data.check import check
from finetune_exe.domain.dataset import CheckFinding, CheckReport, DataQuality, FindingRow
from finetune_exe.report.check import PLACES_SHOWN, render_check


def test_each_file_is_named_once_and_further_places_are_counted(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"say {number}", "completion": f"ok, that was {number}"}) for number in range(6)]
    for name, extra in (("a.jsonl", ["broken"] * 3 + lines[:1]), ("b.jsonl", ["broken"] * 7)):
        own = [line.replace("say", f"say {name}") for line in lines]
        (tmp_path / name).write_text("\n".join([*own, *(line.replace("say", f"say {name}") for line in extra)]) + "\n")
    wrapped = render_check(check([str(tmp_path)]))
    text = "".join(wrapped.split())  # a long path is wrapped anywhere
    assert f"{tmp_path}/a.jsonl:7,line8,line9,{tmp_path}/b.jsonl:7,line8,line9" in text
    assert f"line11and{10 - PLACES_SHOWN}more" in text
    assert f"{tmp_path}/a.jsonl:10(withline1)" in text


def test_the_row_that_is_repeated_is_named_by_where_it_stands(tmp_path: Path) -> None:
    rows = [{"prompt": f"What of {name}?", "completion": f"It was {name}'s."} for name in ("Ann", "Bob", "Cid", "Dot")]
    (tmp_path / "a.csv").write_text("prompt,completion\n" + "".join(f"{r['prompt']},{r['completion']}\n" for r in rows))
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(rows[number]) + "\n" for number in (2, 2)))
    (tmp_path / "c.json").write_text(json.dumps([{"prompt": "Who?", "completion": "Eve and Fay."}] * 2))
    text = "".join(render_check(check([str(tmp_path)])).split())
    assert f"b.jsonl:1(with{tmp_path}/a.csv:4),line2(with{tmp_path}/a.csv:4)" in text
    assert "c.json,row2(withrow1)" in text  # both begin on the one line that there is
    held_out = check([str(tmp_path / "a.csv")], validation=[str(tmp_path / "b.jsonl")])
    assert f"b.jsonl:1(with{tmp_path}/a.csv:4)" in "".join(render_check(held_out).split())


def test_a_format_judged_by_some_rows_says_so(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"say {number}", "completion": f"ok, that was {number}"}) for number in range(1200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    report = check([str(tmp_path / "rows.jsonl")])
    assert report.records == report.kept == 1200
    assert report.format_evidence[-1] == "judged by the first 1,000 rows"


def test_records_of_a_file_without_lines_name_it_once_and_the_same_extract_stands_once() -> None:
    rows = tuple(
        FindingRow(index=number, line=None, source=f"a.json, row {number + 1}", extract="twice the same")
        for number in (3, 5, 8)
    )
    finding = CheckFinding(code="near_duplicate", severity="warning", message="m", fix="f", rows=rows)
    quality = DataQuality(score=1.0, sound=1.0, distinct=1.0, unsuspicious=1.0)
    report = CheckReport(
        format="chatml",
        format_evidence=(),
        records=9,
        kept=9,
        masks_checked=False,
        quality=quality,
        findings=(finding,),
    )
    text = render_check(report)
    assert "where: a.json, row 4, row 6, row 9" in text
    assert text.count("twice the same") == 1
