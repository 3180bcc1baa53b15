"""Rows of one shared dirty file that stand in another, where their planted defects are listed."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from finetune_exe.data.check import check

COPIED, LISTED = "leak_train.jsonl", "alpaca_mixed.jsonl"


def keys(path: Path) -> list[str]:
    """Give what tells the rows of a file apart; a line that is no row is told by itself."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            found.append(json.dumps([row.get(name) for name in ("instruction", "input", "output")]))
        except (ValueError, AttributeError):
            found.append(line)
    return found


def test_alarms_in_copied_rows_are_defects_that_were_planted_where_they_come_from(dirty: Path) -> None:
    """The truth of the copies lists no defect at all, so that each of these counts as a false alarm there."""
    truths = {name: json.loads((dirty / f"{name}.truth.json").read_text()) for name in (COPIED, LISTED)}
    assert truths[COPIED]["defects"] == []
    listed, planted = keys(dirty / LISTED), defaultdict(set)
    for defect in truths[LISTED]["defects"]:
        if defect.get("index") is not None:
            planted[listed[defect["index"]]].add(defect["type"])
    copied = keys(dirty / COPIED)
    alarms = [
        (finding.code, row.index)
        for finding in check([str(dirty / COPIED)], workers=1).findings
        if finding.severity in ("error", "warning")
        for row in finding.rows
    ]
    unexplained = [(code, index) for code, index in alarms if code not in planted[copied[index]]]
    assert len(alarms) > 40
    assert {code for code, _ in unexplained} <= {"truncated_output"}, unexplained
    assert len(unexplained) <= 2
