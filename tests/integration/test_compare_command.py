"""`fine-tune compare` as a user meets it: statuses, the JSON contract, and bad files."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.integration.conftest import FineTune

from finetune_exe.errors import BAD_DATA, GATE, OK, USAGE


def write(path: Path, scores: list[float], **more: object) -> Path:
    path.write_text("".join(json.dumps({"item": i, "score": s, **more}) + "\n" for i, s in enumerate(scores)))
    return path


def test_a_verdict_for_people_for_programs_and_for_a_gate(fine_tune: FineTune, tmp_path: Path) -> None:
    rng = random.Random(1)  # noqa: S311 - test data
    base = [rng.random() for _ in range(200)]
    a, b = write(tmp_path / "a.jsonl", base), write(tmp_path / "b.jsonl", [s + 0.2 + rng.random() / 10 for s in base])
    assert "IMPROVED" in fine_tune("compare", a, b).out
    found = fine_tune("compare", a, b, "--json").json
    assert (found["verdict"], found["n"], found["clusters"]) == ("improved", 200, 200)
    assert found["ci95"][0] < found["difference"] < found["ci95"][1]
    assert fine_tune("compare", a, b, "--gate").status == OK
    assert fine_tune("compare", b, a, "--gate").status == GATE
    assert fine_tune("compare", a, b, "--lower-is-better", "--json").json["verdict"] == "regressed"
    assert "WHAT A COMPARISON COULD FIND" in fine_tune("compare", a).out


def test_one_file_that_holds_both_models_is_divided_by_a_field(fine_tune: FineTune, tmp_path: Path) -> None:
    rows = [f"q{i},{model},{score}" for i in range(30) for model, score in (("base", i % 2), ("tuned", 1))]
    table = tmp_path / "both.csv"
    table.write_text("item,model,score\n" + "\n".join(rows) + "\n")
    found = fine_tune("compare", table, "--a", "model=base", "--b", "model=tuned", "--json").json
    assert (found["n"], found["mean_a"], found["mean_b"], found["verdict"]) == (30, 0.5, 1.0, "improved")
    assert found["b"] == f"{table} (model=tuned)"
    assert fine_tune("compare", table, "--a", "model=base", "--json").json["n"] == 30
    assert "stands at line" in fine_tune("compare", table, "--b", "model=tuned").err
    assert "base (30), tuned (30)" in fine_tune("compare", table, "--a", "model=x", "--b", "model=tuned").err
    assert fine_tune("compare", table, "--a", "model").status == USAGE


def test_items_that_were_not_judged_are_left_out_on_request(fine_tune: FineTune, tmp_path: Path) -> None:
    a = write(tmp_path / "a.jsonl", [i % 4 / 4 for i in range(20)])
    b = tmp_path / "b.jsonl"
    b.write_text(a.read_text().replace('"score": 0.75', '"score": null'))
    assert "--leave-out-unscored" in fine_tune("compare", a, b).err
    assert fine_tune("compare", a, b, "--leave-out-unscored", "--json").json["n"] == 15
    assert fine_tune("compare", b, "--leave-out-unscored", "--json").json["n"] == 15


def test_programs_are_compared_by_the_chance_that_one_of_several_passes(fine_tune: FineTune, tmp_path: Path) -> None:
    for name, good in (("a", 1), ("b", 3)):
        rows = [{"task_id": f"t{i}", "passed": sample < (good + i) % 5} for i in range(40) for sample in range(4)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    one, three = (fine_tune("compare", a, b, "--json", "--pass-at", k).json for k in (1, 3))
    assert one["mean_a"] == one["mean_b"] == 0.5
    assert three["mean_a"] == (0.75 + 1 + 1 + 1 + 0) / 5
    assert fine_tune("compare", a, b, "--pass-at", 3, "--metric", "chrf").status == USAGE
    assert "fewer than --pass-at 9" in fine_tune("compare", a, b, "--pass-at", 9).err


def test_the_level_of_the_interval_is_said_with_one_file_and_with_two(fine_tune: FineTune, tmp_path: Path) -> None:
    rng = random.Random(2)  # noqa: S311 - test data
    a, b = (write(tmp_path / f"{name}.jsonl", [rng.random() for _ in range(60)]) for name in "ab")
    usual, wide = (fine_tune("compare", a, b, "--json", *more).json for more in ((), ("--confidence", "0.999")))
    assert usual["interval"] == usual["ci95"]
    assert (wide["ci95"], wide["confidence_level"]) == (None, 0.999)
    assert wide["interval"][0] < usual["interval"][0] < usual["interval"][1] < wide["interval"][1]
    assert "99.9 % interval: " in fine_tune("compare", a, b, "--confidence", "0.999").out
    foreseen = [fine_tune("compare", a, "--json", *more).json for more in ((), ("--confidence", "0.999"))]
    smallest = [[entry["difference"] for entry in found["detectable"]] for found in foreseen]
    assert all(usual < wide for usual, wide in zip(*smallest, strict=True))
    assert "with intervals of 99.9 %" in fine_tune("compare", a, "--confidence", "0.999").out


def test_bad_files_are_refused(fine_tune: FineTune, tmp_path: Path) -> None:
    a, other = write(tmp_path / "a.jsonl", [1.0, 0.0]), tmp_path / "other.jsonl"
    other.write_text('{"item": "x", "score": 1}\n')
    for bad, code in ((other, "E03"), (tmp_path / "gone.jsonl", "D07")):
        done = fine_tune("compare", a, bad)
        assert done.status == BAD_DATA
        assert f"error[FT-{code}]" in done.err
        assert done.out == ""
    other.write_text('{"item": 0, "score": NaN}\n')
    assert "FT-E04" in fine_tune("compare", a, other).err
    for option in ("--gate", "--lower-is-better", "--margin=0.1", "--slice=x", "--metric=chrf"):
        done = fine_tune("compare", a, option)
        assert done.status == USAGE
        assert f"{option.partition('=')[0]} needs a second file" in done.err
    assert fine_tune("compare", a, a, "--margin", "-1").status == USAGE
