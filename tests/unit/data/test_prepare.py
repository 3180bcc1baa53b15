"""Preparing data: every row is accounted for, and bad input gets a right answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl
from tests.unit.report.golden import assert_golden

from finetune_exe.data.check import check
from finetune_exe.data.convert import convert
from finetune_exe.data.manifest import dataset_key
from finetune_exe.data.prepare import prepare
from finetune_exe.domain.dataset import SPLITS, PreparedDataset
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import load_dataset
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"
EMPTY = {"instruction": "a", "input": "", "output": ""}


def refusal(rows: list[Any], folder: Path, tokenizer: ChatTokenizer, **settings: Any) -> FineTuneError:
    folder.mkdir(exist_ok=True)
    path = write_jsonl(folder / "rows.jsonl", rows)
    with pytest.raises(FineTuneError) as caught:
        prepare(plan_for(path, **settings), tokenizer, folder / "out")
    assert sorted(entry.name for entry in folder.iterdir()) == ["rows.jsonl"], "nothing half-written is left"
    return caught.value


def dropped(manifest: PreparedDataset) -> dict[str, int]:
    return {drop.code: drop.count for drop in manifest.dropped}


def test_golden_manifest(tmp_path: Path, tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [*alpaca_rows(20), EMPTY, alpaca_rows(1)[0], {"instruction": "a"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(plan_for("rows.jsonl"), tokenizer, Path("out"))
    assert manifest.inputs["plan"] == plan_for("rows.jsonl").digest()
    shown = manifest.model_copy(update={"inputs": {"plan": "..."}, "key": "...", "tokenizer_digest": "..."})
    assert_golden("prepared_dataset.json", shown.pretty_json())


def test_arrays_hold_what_the_template_renders(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(30))
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    prepared = load_dataset(tmp_path / "out")
    assert prepared.manifest == manifest
    assert (manifest.seen, manifest.kept, manifest.dropped) == (30, 30, ())
    assert manifest.mask_proof.num_proven == 30
    assert manifest.mask_proof.end_of_turn_learned
    rows_seen = []
    for name in SPLITS:
        data = prepared.split(name)
        rows = data.read_rows()
        assert len(data) == len(rows) == manifest.splits[name].num_rows
        for index in range(len(data)):
            tokens, learned = data.sequence(index)
            row = rows[data.rows[index]]
            question, answer = from_json(row.conversation).messages
            text = tokenizer.decode(tokens.tolist())
            assert text == (
                f"<|im_start|>user\n{question.content}<|im_end|>\n<|im_start|>assistant\n{answer.content}<|im_end|>\n"
            )
            assert tokenizer.decode(tokens[learned].tolist()) == f"{answer.content}<|im_end|>"
            rows_seen.append(row.source)
    assert sorted(rows_seen) == sorted(f"{path}:{n}" for n in range(1, 31))
    assert "".join(text for text, _ in manifest.example).endswith("<|im_end|>\n")


BAD_ROWS: list[Any] = [EMPTY, {"instruction": "a", "output": None}, {"instruction": "a"}, alpaca_rows(1)[0], "x", [1]]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(bad=st.lists(st.sampled_from(BAD_ROWS), max_size=12), max_rows=st.none() | st.integers(3, 40))
def test_every_row_is_kept_or_dropped_with_a_reason(
    tmp_path: Path, tokenizer: ChatTokenizer, bad: list[Any], max_rows: int | None
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(14), *bad])
    with path.open("a") as file:
        file.write('{"broken\n')
    manifest = prepare(plan_for(path, max_rows=max_rows, format="alpaca"), tokenizer, tmp_path / "out", overwrite=True)
    counts = dropped(manifest)
    assert manifest.seen == 15 + len(bad) == manifest.kept + sum(counts.values())
    assert manifest.kept == min(14, max_rows or 14)
    rejected = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    codes = Counter(json.loads(line)["code"] for line in rejected)
    assert codes == Counter({code: count for code, count in counts.items() if code != "not_drawn"})


def test_case_a_a_truncated_line_costs_itself_only(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(12))
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:30]
    path.write_text("\n".join(lines))
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    [drop] = manifest.dropped
    assert (drop.code, drop.count, drop.first) == ("truncated_line", 1, f"{path}:7")
    assert manifest.kept == 11


def test_case_b_an_empty_output_is_dropped_and_counted(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    rows = alpaca_rows(12)
    rows[6]["output"] = " \n"
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    assert dropped(manifest) == {"whitespace_output": 1}
    assert manifest.dropped[0].first == f"{path}:7"


def test_case_b2_all_outputs_empty_is_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    error = refusal([{**row, "output": ""} for row in alpaca_rows(12)], tmp_path, tokenizer)
    assert (error.code, error.exit_status) == ("D04", 65)
    assert "0 of 12 rows" in error.what
    assert "12 rows: an assistant turn is empty" in error.why


@pytest.mark.parametrize(
    ("bad", "code"), [({"instruction": "a"}, "missing_key"), ({"instruction": "a", "output": None}, "null_content")]
)
def test_case_c_and_c2_a_row_without_its_answer_is_dropped_and_counted(
    tmp_path: Path, tokenizer: ChatTokenizer, bad: dict[str, Any], code: str
) -> None:
    rows = alpaca_rows(12)
    rows[6] = bad
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    assert dropped(manifest) == {code: 1}
    assert "'output'" in manifest.dropped[0].message


def test_case_d_a_table_called_json_is_prepared(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = tmp_path / "rows.json"
    path.write_text("instruction,output\n" + "".join(f"What is {n}?,It is {n}.\n" for n in range(12)))
    assert prepare(plan_for(path), tokenizer, tmp_path / "out").kept == 12


def test_case_e_bytes_that_are_not_utf8_cost_their_row_only(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(12))
    lines = path.read_bytes().split(b"\n")
    lines[6] = lines[6].replace(b"plus", b"\xe9")
    path.write_bytes(b"\n".join(lines))
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    assert dropped(manifest) == {"invalid_utf8": 1}


def test_case_f_every_row_too_long_is_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    error = refusal(alpaca_rows(12), tmp_path, tokenizer, max_length=8)
    assert error.code == "D04"
    assert "12 rows" in error.why
    assert "max_length" in error.fix


def test_no_line_is_a_row(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    (tmp_path / "rows.jsonl").write_text("{'a': 1}\n" * 4)
    with pytest.raises(FineTuneError) as caught:
        prepare(plan_for(tmp_path / "rows.jsonl"), tokenizer, tmp_path / "out")
    assert caught.value.code == "D04"
    assert "line 1" in caught.value.where


def test_an_output_that_exists_is_not_touched(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(12))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    with pytest.raises(FineTuneError) as caught:
        prepare(plan_for(path), tokenizer, tmp_path / "out")
    assert caught.value.code == "O01"
    assert (tmp_path / "out" / "mine").read_text() == "kept"


def test_files_of_two_formats_are_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(3))
    second = write_jsonl(tmp_path / "b.jsonl", [{"text": "c"}] * 3)
    with pytest.raises(FineTuneError) as caught:
        prepare(plan_for(first, second), tokenizer, tmp_path / "out")
    assert caught.value.code == "D03"
    assert "a.jsonl is alpaca" in caught.value.where


def test_duplicates_across_files_name_the_first(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", alpaca_rows(6))
    second = write_jsonl(tmp_path / "b.jsonl", [{**row, "output": f" {row['output']}\n"} for row in alpaca_rows(8)])
    manifest = prepare(plan_for(first, second), tokenizer, tmp_path / "out")
    assert dropped(manifest) == {"exact_duplicate": 6}
    assert manifest.dropped[0].message.endswith(f"{first}:1")
    assert [source.num_rows for source in manifest.sources] == [6, 8]
    assert prepare(plan_for(first, second, deduplicate=False), tokenizer, tmp_path / "all").kept == 14


def test_groups_stay_on_one_side(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    rows = [{**row, "user": f"u{n % 9}"} for n, row in enumerate(alpaca_rows(60))]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    prepare(plan_for(path, group_by="user"), tokenizer, tmp_path / "out")
    prepared = load_dataset(tmp_path / "out")
    groups = [{row.group for row in prepared.split(name).read_rows()} for name in SPLITS]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 9


@pytest.mark.parametrize("held", [{"from": "web"}, None, ["web"], "web", 0], ids=str)
def test_columns_beside_the_conversation_may_hold_anything(held: Any, tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    rows = [{**row, "user": 0, **({"meta": held} if n else {})} for n, row in enumerate(alpaca_rows(9))]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    assert prepare(plan_for(path), tokenizer, tmp_path / "out").kept == 9
    error = refusal(rows, tmp_path / "again", tokenizer, group_by="user")
    assert error.code == "D04", "one group, not a column that no row has"


def test_an_unknown_group_column_is_refused_with_the_near_one(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    error = refusal([{**row, "user_id": 1} for row in alpaca_rows(6)], tmp_path, tokenizer, group_by="userid")
    assert error.code == "D08"
    assert "did you mean 'user_id'" in error.what


def test_other_test_rows_than_the_frozen_ones_are_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(60))
    first = prepare(plan_for(path), tokenizer, tmp_path / "out")
    digest = first.splits["test"].members
    frozen = plan_for(path, test_digest=digest[:12])
    assert prepare(frozen, tokenizer, tmp_path / "out", overwrite=True).splits["test"].members == digest
    assert dataset_key(frozen, tokenizer) == first.key
    write_jsonl(path, alpaca_rows(90))
    with pytest.raises(FineTuneError) as caught:
        prepare(frozen, tokenizer, tmp_path / "out", overwrite=True)
    assert caught.value.code == "D09"
    assert digest[:12] in caught.value.what
    assert load_dataset(tmp_path / "out").manifest.splits["test"].members == digest
    assert prepare(plan_for(path), tokenizer, tmp_path / "out", overwrite=True).splits["test"].members != digest


def test_too_few_groups_are_refused(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    error = refusal(
        [{**row, "user": n % 2} for n, row in enumerate(alpaca_rows(9))], tmp_path, tokenizer, group_by="user"
    )
    assert error.code == "D04"
    assert "2 groups" in error.what


def test_a_text_file_is_held_out_in_part_and_learned_whole(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    (tmp_path / "book.txt").write_text("".join(f"The fox jumps over dog number {n}.\n\n" for n in range(400)))
    manifest = prepare(plan_for(tmp_path / "book.txt", max_length=64), tokenizer, tmp_path / "out")
    assert manifest.format == "completion"
    assert all(manifest.splits[name].num_rows for name in SPLITS)
    train = manifest.splits["train"]
    assert train.num_sequences > train.num_rows
    assert train.length_max <= 64
    assert manifest.mask_proof.end_of_turn_learned


def test_written_out_end_tokens_are_removed_and_it_is_said(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    marks = ("<|endoftext|>", "</s>", "<|im_end|>\n")  # the second is none of this model's
    rows = [{"prompt": f"Sum of {n}", "completion": f"It is {n}.{marks[n % 3]}"} for n in range(9)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    manifest = prepare(plan_for(path), tokenizer, tmp_path / "out")
    assert manifest.kept == 9
    [change] = manifest.altered
    assert (change.code, change.count, manifest.num_altered) == ("end_marker_removed", 9, 9)
    shown = "".join(text for text, _ in manifest.example)
    assert "<|endoftext|>" not in shown
    assert "</s>" not in shown


def test_progress_ends_where_it_said(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    told: list[tuple[str, int, int]] = []
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(150))
    prepare(plan_for(path), tokenizer, tmp_path / "out", progress=lambda *step: told.append(step))
    for stage in ("read", "encode", "write"):
        assert [step for step in told if step[0] == stage][-1] == (stage, 150, 150)


def test_the_key_follows_content_and_settings_and_nothing_else(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(12))
    moved = write_jsonl(tmp_path / "moved.jsonl", alpaca_rows(12))
    changed = write_jsonl(tmp_path / "changed.jsonl", alpaca_rows(13))
    key = dataset_key(plan_for(path), tokenizer)
    assert prepare(plan_for(path), tokenizer, tmp_path / "out").key == key
    assert dataset_key(plan_for(moved), tokenizer) == key
    others = [
        plan_for(changed),
        plan_for(path, max_length=64),
        plan_for(path, test_fraction=0.2),
        plan_for(path, seed=1),
    ]
    assert len({key, *(dataset_key(plan, tokenizer) for plan in others)}) == 5
    assert load_dataset(tmp_path / "out").manifest.key == key


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(20), EMPTY])
    for name in ("one", "two"):
        prepare(plan_for(path), tokenizer, tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "two").iterdir())
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_check_reports_what_prepare_drops(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    rows = [*alpaca_rows(6), EMPTY, alpaca_rows(3)[2], {"instruction": "long " * 200, "output": "a"}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    report = check([str(path)])
    assert (report.records, report.kept, report.masks_checked) == (9, 7, False)
    found = {finding.code: finding.rows for finding in report.findings}
    assert found.keys() == {"empty_output", "exact_duplicate"}
    [duplicate] = found["exact_duplicate"]
    assert (duplicate.index, duplicate.line, duplicate.of_index) == (7, 8, 2)
    with_masks = check([str(path)], tokenizer=tokenizer, max_length=100)
    assert (with_masks.kept, with_masks.masks_checked) == (6, True)
    manifest = prepare(plan_for(path, max_length=100), tokenizer, tmp_path / "out")
    errors = {finding.code: len(finding.rows) for finding in with_masks.findings if finding.severity == "error"}
    assert dropped(manifest) == errors


def test_convert_writes_what_the_target_can_carry_and_counts_the_rest(tmp_path: Path) -> None:
    two_turns = {"messages": [{"role": role, "content": role} for role in ("user", "assistant") * 2]}
    one_turn = {"messages": two_turns["messages"][:2], "id": 1}
    path = write_jsonl(tmp_path / "rows.jsonl", [one_turn, two_turns, {"messages": []}])
    written: list[Any] = []
    conversion = convert([str(path)], target="prompt_completion", write=written.append)
    assert written == [{"prompt": "user", "completion": "assistant", "id": 1}]
    assert conversion.written == 1
    assert (conversion.source_format, conversion.seen) == ("chatml", 3)
    assert {drop.code: drop.first for drop in conversion.dropped} == {
        "cannot_convert": f"{path}:2",
        "empty_messages": f"{path}:3",
    }


@pytest.mark.parametrize(
    "name", ["chat/lf_v1_sft_demo.jsonl", "sharegpt/glaive_toolcall_en_demo.json", "alpaca/lf_identity.json"]
)
def test_real_files_are_prepared_with_every_row_accounted_for(
    tmp_path: Path, tokenizer: ChatTokenizer, name: str
) -> None:
    path = SHARED / "data" / "ft" / name
    if not path.is_file():
        pytest.skip("the folder of real data is not beside the repository")
    manifest = prepare(plan_for(path, max_length=4096, max_rows=80), tokenizer, tmp_path / "out")
    assert manifest.mask_proof.num_proven == manifest.kept > 60
    assert manifest.mask_proof.end_of_turn_learned
    load_dataset(tmp_path / "out")
