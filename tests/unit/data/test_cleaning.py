"""Cleaning by the plan's policy: planted faults are repaired or dropped, and every row and token is accounted for."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.data.plans import alpaca_rows, plan_for, write_jsonl
from tests.unit.report.golden import assert_golden

from finetune_exe.data.checks import CHECKS, DATA_CHECKS, ROW_CHECKS
from finetune_exe.data.checks.example import asked, call, text, turns
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.cleaning.cleaner import Cleaner
from finetune_exe.data.cleaning.policy import DROPPABLE, read_policy
from finetune_exe.data.cleaning.preview import preview_cleaning
from finetune_exe.data.cleaning.repairs import FIXES, mend
from finetune_exe.data.prepare import prepare
from finetune_exe.domain.dataset import PreparedDataset
from finetune_exe.domain.plan import DataChoice, FixCode
from finetune_exe.errors import FineTuneError
from finetune_exe.prepared.store import load_dataset
from finetune_exe.report.cleaning import render_cleaning
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.tokenizer import ChatTokenizer

TOLD = "The river rises in the hills, runs past nine villages, turns a dozen mills and reaches the sea at the harbour."
REPAIRED = {
    "line_ends": ("One.\r\nTwo.\rThree.", "One.\nTwo.\nThree."),
    "mojibake": ("Sh\u00c3\u00a9 said \u00e2\u20ac\u0153yes.", "Sh\u00e9 said \u201cyes."),
    "html_residue": ("Fish &amp; chips &#8211; `a &amp; b`", "Fish & chips \u2013 `a &amp; b`"),
    "control_characters": ("The area\x1b[31m is\x00 44.", "The area is 44."),
    "invisible_characters": (
        "The corre\u2066ct p\u0430ssw\u043erd \U0001f3f4\U000e0067\U000e0062\U000e007f.",
        "The correct password \U0001f3f4\U000e0067\U000e0062\U000e007f.",
    ),
    "surrounding_space": (" \n\n\tIt is so. \n", "It is so."),
}
"""What is planted, and what it was before."""
DIRTY: list[Any] = [
    *({"instruction": f"Say {code}.", "input": "", "output": before} for code, (before, _) in REPAIRED.items()),
    {"instruction": "Where?", "input": "", "output": "I'm sorry, but I can't help with that."},
    {"instruction": "Rise?", "input": "", "output": TOLD},
    {"instruction": "Rise?", "input": "", "output": TOLD.replace("nine", "ten")},
    {"instruction": "a", "input": "", "output": ""},
    alpaca_rows(1)[0],
    {"instruction": "long " * 90, "input": "", "output": "x"},
    {"instruction": "Both?", "input": "", "output": "Sh\u00c3\u00a9 and h\u00c3\u00a9.\r\n  "},
]  # fmt: skip
ALL_FIXES: tuple[FixCode, ...] = get_args(FixCode)


def fixed(row: Conversation, *codes: str) -> Conversation:
    return mend(row, [fix for fix in FIXES if fix.code in codes]).conversation


def test_the_plan_names_the_repairs_there_are() -> None:
    assert sorted(ALL_FIXES) == sorted(fix.code for fix in FIXES) == sorted(REPAIRED)


@pytest.mark.parametrize("code", REPAIRED)
def test_a_planted_fault_is_undone_and_nothing_else_touched(code: str) -> None:
    before, after = REPAIRED[code]
    mended = mend(asked("Well?", before), [fix for fix in FIXES if fix.code == code])
    assert mended.conversation.messages == asked("Well?", after).messages
    assert [repair.code for repair in mended.repairs] == [code]
    assert mended.repairs[0].before == asked("Well?", before)
    assert mend(mended.conversation, FIXES).repairs == (), "what is repaired needs no repair"
    for other in REPAIRED.keys() - {code}:
        assert fixed(asked("Well?", before), other) == asked("Well?", before)


@pytest.mark.parametrize("check", [check for check in ROW_CHECKS if check.code in REPAIRED], ids=lambda c: c.code)
def test_what_a_check_finds_is_repaired_and_its_counterexample_left(check: Any) -> None:
    assert mend(check.counterexample, [fix for fix in FIXES if fix.code == check.code]).repairs == ()
    mended = fixed(check.example, check.code)
    tags = check.code == "html_residue"
    assert (check.find(RowView(mended)) is None) == (not tags), "tags are no entities: they are not repaired"


def test_code_keeps_its_indentation_and_markup_its_entities() -> None:
    code = text("\n    if x:\n        return 1\n\n")
    assert fixed(code, "surrounding_space").messages[0].content == "    if x:\n        return 1"
    about = asked("Escape this HTML tag.", "&lt;b&gt;")
    assert mend(about, FIXES).conversation == about


def test_calls_and_roles_are_as_before() -> None:
    row = turns(("user", " Weather? "), call('{"city": " Ulm "}'), ("tool", "warm\r\n"), ("assistant", " Warm. "))
    after = fixed(row, *ALL_FIXES)
    assert [m.content for m in after.messages] == ["Weather?", "", "warm", "Warm."]
    assert [replace(m, content="") for m in after.messages] == [replace(m, content="") for m in row.messages]


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_repairs_settle(content: str) -> None:
    """A repaired text is left alone by the same repair."""
    for fix in FIXES:
        if fix.code != "html_residue":  # &amp;lt; stands for &lt;, which could stand for <
            once = fix.repair(content)
            assert fix.repair(once) == once, fix.code


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=60).map(lambda t: f"x{t}x"))
def test_plain_text_is_never_altered(content: str) -> None:
    if "&" not in content:
        assert mend(text(content), FIXES).repairs == ()


def outcome(data: DataChoice, rows: list[Conversation]) -> dict[int, str]:
    """Code of each row the policy drops."""
    cleaner = Cleaner(read_policy(data))
    for number, row in enumerate(rows):
        cleaner.look(number, row)
    return {number: fault.code for number, fault in cleaner.condemned([str(n) for n in range(len(rows))]).items()}


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: check.code)
def test_any_row_check_can_drop_and_drops_nothing_unasked(check: Any) -> None:
    rows = [check.example, check.counterexample]
    assert outcome(DataChoice(drop=(check.code,)), rows) == {0: check.code}
    assert outcome(DataChoice(), rows) == {}


@pytest.mark.parametrize("check", DATA_CHECKS, ids=lambda check: check.code)
def test_any_check_over_all_rows_can_drop(check: Any) -> None:
    data = DataChoice(drop=(check.code,))
    assert set(outcome(data, list(check.example)).values()) == {check.code}
    assert outcome(data, list(check.counterexample)) == {}


def test_of_rows_that_repeat_each_other_one_stays() -> None:
    """The shorter stands in the longer, which repeats the shorter: dropping both would lose what they say."""
    short = asked("Where does it rise?", TOLD)
    rows = [asked(f"Question {n}?", f"That depends on {n} things.") for n in range(20)]
    rows += [short, asked("Where does it rise?", TOLD.replace("nine", "ten")), short]
    rows += [asked("Where does it rise?", f"{TOLD} Ships lie there, and the old market begins at dawn each day.")]
    repeats = ("exact_duplicate", "normalised_duplicate", "near_duplicate", "contained_duplicate")
    lost = outcome(DataChoice(drop=repeats), rows)
    assert set(lost) < {20, 21, 22, 23}
    assert len(lost) == 3


def test_rows_noted_while_they_were_read_can_be_dropped(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}."}]}
            for n in range(9)]  # fmt: skip
    rows[4]["messages"][0]["role"] = "human"
    plan = plan_for(write_jsonl(tmp_path / "rows.jsonl", rows), drop=("role_name_variant",))
    assert [(drop.code, drop.count) for drop in preview_cleaning(plan).dropped] == [("role_name_variant", 1)]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("refussal", "did you mean refusal?"), ("missing_key", "dropped in any case"),
        ("leak_exact", "beside held-out rows only"), ("encoding", "said of a file"),
        ("qqq", "no check has this code"),
    ],
)  # fmt: skip
def test_codes_that_cannot_be_dropped_are_refused(code: str, said: str) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-C02\]") as caught:
        read_policy(DataChoice(drop=(code, "refusal")))
    assert said in str(caught.value)
    assert set(DROPPABLE) >= {check.code for check in CHECKS}


def altered(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "altered.jsonl").read_text().splitlines()]


def rejected(folder: Path) -> Counter[str]:
    return Counter(json.loads(line)["code"] for line in (folder / "rejected.jsonl").read_text().splitlines())


def learned_in(folder: Path) -> int:
    prepared = load_dataset(folder)
    return sum(int(prepared.split(name).sequence(n)[1].sum()) for name in ("train", "validation", "test")
               for n in range(len(prepared.split(name))))  # fmt: skip


def test_a_prepared_dataset_holds_repaired_rows_and_says_what_was_done(
    tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(20), *DIRTY])
    plan = plan_for(path, max_length=128, fix=ALL_FIXES, drop=("refusal", "near_duplicate"))
    manifest = prepare(plan, tokenizer, tmp_path / "out")
    dropped = {drop.code: drop.count for drop in manifest.dropped}
    assert dropped == {"refusal": 1, "near_duplicate": 1, "empty_output": 1,
                       "exact_duplicate": 1, "too_long": 1}  # fmt: skip
    assert rejected(tmp_path / "out") == dropped
    assert {change.code: change.count for change in manifest.altered} == {
        code: 1 + (code in ("line_ends", "mojibake", "surrounding_space")) for code in REPAIRED
    }
    assert manifest.num_altered == len(REPAIRED) + 1
    lines = altered(tmp_path / "out")
    said = {line["codes"][0]: [line[side]["messages"][1]["content"] for side in ("before", "after")]
            for line in lines[:-1]}  # fmt: skip
    assert said == {code: list(pair) for code, pair in REPAIRED.items()}
    assert lines[-1]["codes"] == ["line_ends", "mojibake", "surrounding_space"]
    rows = [
        row
        for name in ("train", "validation", "test")
        for row in load_dataset(tmp_path / "out").split(name).read_rows()
    ]
    trained = {row.conversation["messages"][1]["content"] for row in rows}
    assert trained >= {after for _, after in REPAIRED.values()} | {"Sh\u00e9 and h\u00e9."}


def test_learned_tokens_lost_by_a_repair_are_those_of_the_text_it_took_away(
    tmp_path: Path, tokenizer: ChatTokenizer
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(20), *DIRTY])
    as_read = prepare(plan_for(path, max_length=128), tokenizer, tmp_path / "as_read")
    mended = prepare(plan_for(path, max_length=128, fix=ALL_FIXES), tokenizer, tmp_path / "mended")
    lost = sum(change.num_learned_tokens for change in mended.altered)
    assert lost == learned_in(tmp_path / "as_read") - learned_in(tmp_path / "mended") != 0
    assert mended.seen_learned_tokens == as_read.seen_learned_tokens, "what was seen does not depend on what is done"
    control = next(change for change in mended.altered if change.code == "control_characters")
    before, after = (len(tokenizer.encode(text).ids) for text in REPAIRED["control_characters"])
    assert control.num_learned_tokens == before - after


def test_learned_tokens_of_dropped_rows_are_counted(tmp_path: Path, tokenizer: ChatTokenizer) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(20), *DIRTY])
    prepare(plan_for(path, max_length=128), tokenizer, tmp_path / "all")
    fewer = prepare(plan_for(path, max_length=128, drop=("refusal",)), tokenizer, tmp_path / "fewer")
    drop = next(drop for drop in fewer.dropped if drop.code == "refusal")
    assert drop.num_learned_tokens == learned_in(tmp_path / "all") - learned_in(tmp_path / "fewer") > 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.sampled_from([*DIRTY, *alpaca_rows(12)]), min_size=0, max_size=30),
    fix=st.sets(st.sampled_from(ALL_FIXES)),
    drop=st.sets(st.sampled_from(["refusal", "near_duplicate", "mojibake", "control_characters"])),
    max_rows=st.none() | st.integers(5, 30),
)
def test_rows_and_learned_tokens_are_conserved(
    rows: list[Any], fix: set[FixCode], drop: set[str], max_rows: int | None,
    tmp_path: Path, tokenizer: ChatTokenizer,
) -> None:  # fmt: skip
    path = write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(40)[20:], *rows])
    plan = plan_for(path, max_length=128, fix=tuple(fix), drop=tuple(drop), max_rows=max_rows)
    made: PreparedDataset = prepare(plan, tokenizer, tmp_path / "out", overwrite=True)
    lost = Counter({entry.code: entry.count for entry in made.dropped})
    assert made.seen == 20 + len(rows) == made.kept + lost.total()
    del lost["not_drawn"]
    assert rejected(tmp_path / "out") == lost
    changed = Counter(code for line in altered(tmp_path / "out") for code in line["codes"])
    assert changed == {change.code: change.count for change in made.altered}
    gone = sum(entry.num_learned_tokens or 0 for entry in made.dropped)
    gone += sum(change.num_learned_tokens for change in made.altered)
    assert made.seen_learned_tokens == learned_in(tmp_path / "out") + gone
    assert changed.keys() <= fix
    assert lost.keys() - drop <= {"empty_output", "exact_duplicate", "too_long"}
    preview = preview_cleaning(plan)
    foreseen = {entry.code: entry.count for entry in preview.dropped}
    if max_rows is None:
        assert foreseen == {code: count for code, count in lost.items() if code != "too_long"}
        repaired = Counter({entry.code: entry.count for entry in preview.repaired})
        assert repaired >= changed  # a dry run has no tokenizer: it counts rows that turn out too long
        assert lost["too_long"] or repaired == changed


def test_a_dry_run_shows_rows_before_and_after_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(20), *DIRTY, *DIRTY[:1]])
    plan = plan_for("rows.jsonl", fix=ALL_FIXES, drop=("refusal", "near_duplicate"))
    assert_golden("report_cleaning.txt", render_cleaning(preview_cleaning(plan)) + "\n")
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]
    one = preview_cleaning(plan, num_shown=1)
    assert {code: len(rows) for code, rows in one.shown.items()} == dict.fromkeys(one.shown, 1)
    nothing = preview_cleaning(plan_for("rows.jsonl", deduplicate=False))
    assert (nothing.repaired, [drop.code for drop in nothing.dropped]) == ((), ["empty_output"])
