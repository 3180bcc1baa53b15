"""Conversations that a chat template wrote as one text, parted again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.text.chat_templates import FAMILIES, Family, Turn

from finetune_exe.cli import main as edge
from finetune_exe.data.profile import profile_data
from finetune_exe.errors import BAD_DATA, OK, USAGE
from finetune_exe.knowledge.turn_forms import TemplateTurns, template_turns
from finetune_exe.text.conversation import Conversation, Message, Role, RowFault
from finetune_exe.text.formats.dialogue_marks import turns_in
from finetune_exe.text.formats.marked_turns import turn_form, with_turns
from finetune_exe.text.render import ChatTemplate, compile_template

FORMS = {
    "chatml": "chatml", "qwen2.5": "chatml", "qwen3": "chatml", "llama-2": "llama-2", "llama-3": "llama-3",
    "mistral": "mistral", "gemma": "gemma", "phi-3": "zephyr", "zephyr": "zephyr", "alpaca": "alpaca",
    "granite": "granite", "command-r": "command-r",
}  # fmt: skip
"""The form that each family of templates writes."""
TRIM = ("llama-2", "llama-3", "gemma", "command-r")
"""Families whose templates take white space off the ends of turns."""
QWEN = ("system", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.")
SAID = st.text("ab <|[]/#:.\n", min_size=1).filter(str.strip)
FAMILY = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
FORM = pytest.mark.parametrize("form", template_turns(), ids=lambda form: form.name)


def template_of(family: Family) -> ChatTemplate:
    names = {"bos_token": family.bos or "", "eos_token": family.eos}
    return compile_template(family.template, special_tokens=names, where=family.name)


def rendered(family: Family, turns: Sequence[Turn]) -> str:
    messages = tuple(Message(role=role, content=content) for role, content in turns)  # type: ignore[arg-type]
    return template_of(family).render(messages, answer_next=False, columns={})


def parted(text: str, said: str) -> list[Turn]:
    read = with_turns(turn_form(said)).read({"text": text})
    assert isinstance(read, Conversation), read
    return [(message.role, message.content) for message in read.messages]


def why_not(text: str, said: str) -> str:
    read = with_turns(turn_form(said)).read({"text": text})
    assert isinstance(read, RowFault), read
    assert read.code == "turns_unclear"
    return read.message


@FAMILY
@given(pairs=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3), system=SAID | st.none())
def test_what_a_chat_template_wrote_is_parted_to_the_letter(
    family: Family, pairs: list[tuple[str, str]], system: str | None
) -> None:
    turns: list[Turn] = [("system", system)] if system and family.systems else []
    turns += [turn for asked, answered in pairs for turn in (("user", asked), ("assistant", answered))]
    expected = [QWEN, *turns] if family.name == "qwen2.5" and turns[0][0] != "system" else list(turns)
    if family.name in TRIM:
        expected = [(role, content.strip()) for role, content in turns]
    if expected[0][0] == "system" and family.name == "alpaca":  # it has no mark of its own
        expected[0] = ("system", expected[0][1].strip())
    assert parted(rendered(family, turns), FORMS[family.name]) == expected


@FAMILY
def test_the_form_of_a_template_is_recognised(family: Family) -> None:
    turns = [
        ("user", "How much is 1 and 1?"),
        ("assistant", "It is 2.\n\nSurely."),
        ("user", "So?"),
        ("assistant", "No."),
    ]
    for asked in (turns, turns[:2], [("system", "Be brief."), *turns] if family.systems else turns):
        assert turns_in(rendered(family, asked)) == FORMS[family.name]


@FORM
@given(pairs=st.lists(st.tuples(SAID.map(str.strip), SAID.map(str.strip)), min_size=1, max_size=3), begun=st.booleans())
def test_every_form_of_the_table_is_parted_as_it_is_written(
    form: TemplateTurns, pairs: list[tuple[str, str]], begun: bool
) -> None:
    text = (form.begins[0] if form.begins and begun else "") + "".join(
        form.user[0]
        + asked
        + (form.ends[0] if form.every_turn_ends else "")
        + form.assistant[0]
        + answered
        + form.ends[0]
        for asked, answered in pairs
    )
    assert parted(text, form.name) == [turn for a, b in pairs for turn in (("user", a), ("assistant", b))]


@FORM
def test_a_text_that_breaks_the_form_is_refused(form: TemplateTurns) -> None:
    ended = form.ends[0] if form.every_turn_ends else ""
    asked, answered = form.user[0] + "Is it?" + ended, form.assistant[0] + "It is." + form.ends[0]
    assert parted(asked + answered, form.name) == [("user", "Is it?"), ("assistant", "It is.")]
    assert "stands outside of the turns" in why_not(f"{asked}{answered} and so on{asked}{answered}", form.name)
    assert "nothing stands behind mark 2" in why_not(asked + form.assistant[0] + form.ends[0], form.name)
    assert "follows the last" in why_not(asked + answered + asked, form.name)
    if form.every_turn_ends:
        assert "no end stands behind turn 1" in why_not(form.user[0] + "Is it?" + answered, form.name)
    else:
        assert "mark 2 of the text is" in why_not(asked + asked + answered, form.name)


@FORM
def test_every_spelling_of_a_mark_is_known(form: TemplateTurns) -> None:
    end = form.ends[0] if form.every_turn_ends else ""
    for asks, answers, last in product(form.user, form.assistant, form.ends):
        behind_system = asks not in form.user[:1] and "/" in asks
        begun = form.system[0] + "Be brief." if behind_system else ""
        expected = [("system", "Be brief.")] if behind_system else []
        expected += [("user", "Is it?"), ("assistant", "It is.")]
        assert parted(f"{begun}{asks}Is it?{end}{answers}It is.{last}", form.name) == expected


def test_other_roles_are_read_where_a_form_has_them() -> None:
    text = "".join(f"<|im_start|>{role}\n{said}<|im_end|>\n" for role, said in (
        ("system", ""), ("user", "How warm?"), ("tool", "3 C"), ("assistant", "It is 3 C."),
    ))  # fmt: skip
    expected: list[tuple[Role, str]] = [
        ("system", ""), ("user", "How warm?"), ("tool", "3 C"), ("assistant", "It is 3 C."),
    ]  # fmt: skip
    assert parted(text, "chatml") == expected
    stranger = text.replace("<|im_start|>tool", "<|im_start|>critic")
    assert why_not(stranger, "chatml") == "'<|im_start|>critic\\n3 C' stands outside of the turns"


def test_instruction_and_input_are_one_question_as_in_columns() -> None:
    opening = template_turns()[[form.name for form in template_turns()].index("alpaca")].begins[1]
    text = f"{opening}### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3"
    assert parted(text, "alpaca") == [("user", "Add.\n\n1 and 2"), ("assistant", "3")]
    assert parted(text.replace("1 and 2", ""), "alpaca") == [("user", "Add."), ("assistant", "3")]
    assert turns_in(text) == "alpaca"
    twice = text.replace("\n\n### Response", "\n\n### Input:\n3\n\n### Response")
    assert parted(twice, "alpaca")[0] == ("user", "Add.\n\n1 and 2\n\n3")


def test_a_question_in_one_column_and_its_answer_in_the_next_are_joined() -> None:
    row = {"id": 3, "prompt": "[INST] Is it? [/INST]", "completion": " It is.</s>"}
    read = with_turns(turn_form("llama-2")).read(row)
    assert isinstance(read, Conversation)
    assert [message.content for message in read.messages] == ["Is it?", "It is."]
    assert read.extra == {"id": 3}
    aside = with_turns(turn_form("Q:,A:")).read({"prompt": "Q: Is it?\nA: It is.", "completion": "Not joined."})
    assert isinstance(aside, Conversation)
    assert aside.messages[-1].content == "It is."


LLAMA = "[INST] How much is {} and 1? [/INST] It is {}. </s>"


def write(path: Path, rows: Sequence[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def findings(path: str, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[str, list[int], str]]:
    edge._run(["dataset", "--check", "--json", path], debug=False)
    return {
        found["code"]: (found["severity"], [row["line"] for row in found["rows"]], found["rows"][0]["extract"])
        for found in json.loads(capsys.readouterr().out)["findings"]
    }


def test_the_check_says_how_to_part_rendered_texts_and_accuses_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "rows.jsonl", [{"text": LLAMA.format(n, n + 1)} for n in range(30)])
    found = findings(path, capsys)
    assert found == {"prompt_in_text": ("info", [*range(1, 31)], "30 texts are parted by --turns llama-2")}
    assert profile_data([path]).turns == "llama-2"
    out = tmp_path / "new.jsonl"
    assert edge._run(["dataset", "chatml", path, "--turns", "llama-2", "-o", str(out)], debug=False) == OK
    assert "30 of 30 rows converted" in capsys.readouterr().err
    assert findings(str(out), capsys) == {}
    assert profile_data([str(out)]).turns is None


def test_a_broken_text_among_rendered_ones_is_accused_and_left_out_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": LLAMA.format(n, n + 1)} for n in range(30)]
    rows[6] = {"text": "[INST] How much is 6 and 1? [INST] It is 7. </s>"}
    path = write(tmp_path / "rows.jsonl", rows)
    assert findings(path, capsys)["special_token"][:2] == ("error", [7])
    assert (
        edge._run(["dataset", "chatml", path, "--turns", "llama-2", "-o", str(tmp_path / "n.jsonl")], debug=False) == OK
    )
    said = capsys.readouterr().err
    assert "29 of 30 rows converted" in said
    assert f"1 not (turns_unclear): mark 2 of the text is '[INST]', not '[/INST]', first at {path}:7" in " ".join(
        said.split()
    )


def test_white_space_at_the_end_of_a_turn_makes_no_other_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": f"<s>[INST] How much is {n}{' ' * (n % 4 == 0)}[/INST] It is {n}.</s>"} for n in range(30)]
    assert {turns_in(row["text"]) for row in rows} == {"mistral", "llama-2"}
    found = findings(write(tmp_path / "rows.jsonl", rows), capsys)
    assert found == {"prompt_in_text": ("info", [*range(1, 31)], "30 texts are parted by --turns mistral")}


def test_a_rendered_text_among_plain_ones_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"The harbour has room for {n} ships, and {n * 7} came last year."} for n in range(30)]
    rows[4] = {"text": LLAMA.format(1, 2)}
    found = findings(write(tmp_path / "rows.jsonl", rows), capsys)["special_token"]
    assert found == ("error", [5], "a whole dialogue: --turns llama-2")


@pytest.mark.parametrize(
    ("tail", "form"),
    [
        ("\n\n### Instruction:\nWho came?\n\n### Response:\nTwo ships.", "alpaca"),
        (" USER: Who came? ASSISTANT: Two ships.", "vicuna"),
    ],
)
def test_a_text_that_ends_as_a_dialogue_among_plain_ones_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tail: str, form: str
) -> None:
    rows = [{"text": f"The harbour has room for {n} ships, and {n * 7} came last year."} for n in range(30)]
    rows[4]["text"] += tail
    found = findings(write(tmp_path / "rows.jsonl", rows), capsys)["special_token"]
    assert found == ("error", [5], f"a whole dialogue: --turns {form}")
    mostly = [{"text": row["text"] + (tail if n % 3 else "")} for n, row in enumerate(rows)]
    assert "special_token" not in findings(write(tmp_path / "mostly.jsonl", mostly), capsys)


def test_columns_that_hold_a_rendered_prompt_are_told_how_to_part_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    rows = [
        {"prompt": f"{asked}\n\n### Instruction:\nAdd {n} and 1.\n\n### Response:\n", "completion": f"It is {n + 1}."}
        for n in range(30)
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    found = findings(path, capsys)
    assert "special_token" not in found
    severity, lines, extract = found["template_residue"]
    assert (severity, len(lines), extract[:16]) == ("warning", 30, "(--turns alpaca)")
    assert edge._run(["dataset", "prompt_completion", path, "--turns", "alpaca"], debug=False) == OK
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first == {"prompt": "Add 0 and 1.", "completion": "It is 1."}


def test_a_form_nobody_knows_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert edge._run(["dataset", "chatml", "rows.jsonl", "--turns", "lama-2"], debug=False) == USAGE
    assert "did you mean llama-2?" in capsys.readouterr().err


def test_a_form_that_no_row_has_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = write(tmp_path / "rows.jsonl", [{"text": LLAMA.format(1, 2)}]), tmp_path / "new.jsonl"
    assert edge._run(["dataset", "chatml", path, "--turns", "gemma", "-o", str(out)], debug=False) == BAD_DATA
    assert "no text of the row holds" in capsys.readouterr().err
    assert edge._run(["dataset", "chatml", path, "-o", str(out)], debug=False) == BAD_DATA
    assert "fix:   part it: --turns llama-2" in capsys.readouterr().err
    assert not out.exists()


def test_the_guide_names_every_form() -> None:
    guide = (Path(__file__).resolve().parents[3] / "docs" / "guides" / "data-files.md").read_text()
    assert all(f"| `{form.name}` | {form.title} |" in guide for form in template_turns())
