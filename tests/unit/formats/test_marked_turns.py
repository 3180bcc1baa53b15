"""Dialogues in one text, parted at the marks that a user names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.cli import main as edge
from finetune_exe.errors import BAD_DATA, OK, USAGE, FineTuneError
from finetune_exe.text.conversation import Conversation, RowFault
from finetune_exe.text.formats.detect import detect_format
from finetune_exe.text.formats.dialogue_marks import turns_in
from finetune_exe.text.formats.marked_turns import turn_form, with_turns

MARKS = {
    "Q: {}\nA: {}": "Q:,A:",
    "Human: {}\n\nAssistant: {}": "Human:,Assistant:",
    "###Instruction {}\n###Output {}": "###Instruction,###Output",
    "### Instruction:\n{}\n\n### Response:\n{}": "### Instruction:,### Response:",
    "### Human: {}### Assistant: {}": "### Human:,### Assistant:",
    "<human>: {}\n<bot>: {}": "<human>:,<bot>:",
    "USER: {} ASSISTANT: {}": "USER:,ASSISTANT:",
    "Frage: {}\nAntwort: {}": "Frage:,Antwort:",
}
NAMED = {"### Instruction:,### Response:": "alpaca", "USER:,ASSISTANT:": "vicuna"}
"""Marks that are those of a known form."""
LAYOUTS = pytest.mark.parametrize("layout", MARKS)
SAID = st.text("ab .?\n:", min_size=1).map(str.strip).filter(bool)


def turns_of(read: Conversation | RowFault) -> list[tuple[str, str]]:
    assert isinstance(read, Conversation), read
    return [(message.role, message.content) for message in read.messages]


@LAYOUTS
@given(pairs=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=4), opening=SAID | st.just(""))
def test_what_was_put_together_is_parted_again(layout: str, pairs: list[tuple[str, str]], opening: str) -> None:
    row = {"id": 7, "text": "\n".join([*([opening] if opening else []), *(layout.format(*pair) for pair in pairs)])}
    parted = with_turns(turn_form(MARKS[layout]))
    read = parted.read(row)
    expected = [("system", opening)] if opening else []
    expected += [turn for asked, answered in pairs for turn in (("user", asked), ("assistant", answered))]
    assert turns_of(read) == expected
    assert isinstance(read, Conversation)
    assert read.extra == {"id": 7}
    assert parted.write(read) == row


@LAYOUTS
def test_the_marks_of_a_text_are_known(layout: str) -> None:
    said = NAMED.get(MARKS[layout], MARKS[layout])
    assert turns_in(layout.format("Why is it so?", "Because.")) == said
    assert turns_in("\n".join([layout.format("Why?", "Because."), layout.format("And?", "So.")])) == said


@pytest.mark.parametrize("text", ["No mark at all.", "Note: a single one.", "## Overview\nText.\n## References\nMore."])
def test_other_texts_have_no_marks(text: str) -> None:
    assert turns_in(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("A: yes\nQ: no?", "mark 1 of the text is 'A:', not 'Q:'"),
        ("Q: a?\nQ: b?\nA: c", "mark 2 of the text is 'Q:', not 'A:'"),
        ("Q: a?\nA: b\nQ: c?", "no 'A:' follows the last 'Q:'"),
        ("Q: a?\nA:\n", "nothing stands behind mark 2 of the text, 'A:'"),
        ("FAQ: a? Plan A: b", "no text of the row holds 'Q:' or 'A:'"),
    ],
)
def test_a_text_that_does_not_go_by_turns_is_refused_and_not_guessed_at(text: str, said: str) -> None:
    read = with_turns(turn_form("Q:,A:")).read({"text": text})
    assert isinstance(read, RowFault)
    assert (read.code, read.message) == ("turns_unclear", said)


def test_the_longer_of_two_marks_is_read_first_and_a_word_is_whole() -> None:
    read = with_turns(turn_form("###Q,###QA")).read({"text": "###Q one ###QAs\n###QA two"})
    assert turns_of(read) == [("user", "one ###QAs"), ("assistant", "two")]


@LAYOUTS
def test_a_column_of_dialogues_is_asked_about_with_what_to_type(layout: str) -> None:
    rows = [{"prompt": layout.format(f"How much is {n}?", n)} for n in range(20)]
    with pytest.raises(FineTuneError) as asked:
        detect_format(rows, where="rows.jsonl")
    assert asked.value.code == "D03"
    assert NAMED.get(MARKS[layout], MARKS[layout]) in asked.value.fix


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_are_parted_on_the_command_line_and_all_accounted_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"prompt": f"Q: How much is {n} and 1?\nA: It is {n + 1}."} for n in range(20)]
    rows[4] = {"prompt": "It is as it is."}
    path, out = write(tmp_path / "rows.jsonl", rows), tmp_path / "new.jsonl"
    assert edge._run(["dataset", "--check", path], debug=False) == BAD_DATA
    assert "--turns Q:,A:" in capsys.readouterr().err
    assert edge._run(["dataset", "prompt_completion", path, "--turns", "Q:,A:", "-o", str(out)], debug=False) == OK
    said = capsys.readouterr().err
    assert "19 of 20 rows converted" in said
    assert "1 not (turns_unclear): no text of the row holds 'Q:' or 'A:'" in said
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert written[0] == {"prompt": "How much is 0 and 1?", "completion": "It is 1."}
    assert len(written) == 19


def test_no_text_is_parted_unless_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"Human: How much is {n} and 1?\nAssistant: It is {n + 1}."} for n in range(20)]
    path = write(tmp_path / "rows.jsonl", rows)
    assert edge._run(["dataset", "completion", path], debug=False) == OK
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    edge._run(["dataset", "--check", path], debug=False)
    assert "20 texts are parted by --turns Human:,Assistant:" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "words",
    [
        ["chatml", "rows.jsonl", "--turns", "Q:"],
        ["chatml", "rows.jsonl", "--turns", "Q:,Q:"],
        ["chatml", "rows.jsonl", "--turns", "Q:,A:", "--columns", "a,b"],
        ["--check", "rows.jsonl", "--turns", "Q:,A:"],
        ["--plan", "plan.yaml", "--turns", "Q:,A:"],
    ],
)
def test_marks_go_with_a_conversion_only(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert edge._run(["dataset", *words], debug=False) == USAGE
    assert "--turns" in capsys.readouterr().err or "--plan" in words
