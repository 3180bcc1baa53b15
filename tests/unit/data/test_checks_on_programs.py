"""Programs that cannot be read, parts of them that nobody wrote, and what windows and ciphers leave in answers."""

from __future__ import annotations

import ast
import codecs
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.data.judged import codes

from finetune_exe.data.check import check
from finetune_exe.data.checks.forms import Structure, form_of
from finetune_exe.data.checks.programs import is_program

ANSWER = "The harbour was dug by hand in the winter of the great frost. It lets the boats rest when the sea is rough."


def program(number: int) -> str:
    return (
        f"def total_{number}(values):\n    result = {number}\n    for value in values:\n        if value < {number + 3}:\n"
        f"            result += value * {number}\n    return result"
    )


BROKEN: dict[str, Callable[[str], str]] = {
    "cut off": lambda said: said[: said.index(" in values")],
    "numbered": lambda said: "\n".join(f"{n} {line}" for n, line in enumerate(said.split("\n"), 1)),
    "a difference": lambda said: "\n".join(f"+{line}" for line in said.split("\n")),
    "a session": lambda said: "\n".join(f">>> {line}" for line in said.split("\n")),
    "escaped for a page": lambda said: said.replace("<", "&lt;"),
    "line ends written out": lambda said: said.replace("\n", "\\n"),
    "without its indents": lambda said: "\n".join(line.strip() for line in said.split("\n")),
    "with spaces that do not break": lambda said: said.replace("    ", "\u00a0" * 4),
    "with quotes of a word processor": lambda said: f"{said}\nprint(\u201cdone\u201d)",
    "what leads in to it alone": lambda _: "Certainly! Here is the code you asked for:",
}


def reported(path: Path, answers: Sequence[str]) -> dict[str, list[int | None]]:
    rows = [{"instruction": f"Write function {n}.", "input": "", "output": answer} for n, answer in enumerate(answers)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {finding.code: [row.index for row in finding.rows] for finding in check([str(path)]).findings}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_program_that_cannot_be_read_stands_out_among_those_that_can(tmp_path: Path, kind: str) -> None:
    answers = [program(number) for number in range(60)]
    assert "unlike_others" not in reported(tmp_path / "sound.jsonl", answers)
    answers[17] = BROKEN[kind](answers[17])
    assert reported(tmp_path / "rows.jsonl", answers)["unlike_others"] == [17]


def test_where_half_the_answers_are_programs_only_broken_ones_are_told(tmp_path: Path) -> None:
    answers = [program(n) if n % 3 else f"Boat {n} lies at the quay, and its men are on land." for n in range(60)]
    assert "unlike_others" not in reported(tmp_path / "sound.jsonl", answers)
    answers[17] = BROKEN["without its indents"](answers[17])
    assert reported(tmp_path / "rows.jsonl", answers)["unlike_others"] == [17]


SOUND = {
    "quoted as wikis make bold": "def close(handle):\n    '''Close the handle.'''\n    handle.close()",
    "letters as escapes": 'def plain(word):\n    return word.replace("\\u0627", "a").replace("\\u062a", "t")',
    "a matrix of one number": "def one(size):\n    if not size:\n        return matrix([[1]])\n    return grid(size)",
    "a page in its words": 'def page(rows):\n    """Write <ul class="rows"><li>each row</li></ul>."""\n    return join(rows)',
    "no stop at its end": "def verb(self, token):\n    # Is it a verb? Try.\n    value = self.find(token)\n    return value",
    "an error for what is not done": (
        "def solve(kind):\n    if kind in KNOWN:\n        return KNOWN[kind]\n    raise NotImplementedError(kind)"
    ),
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_program_is_not_judged_as_prose(tmp_path: Path, kind: str) -> None:
    told = reported(tmp_path / "rows.jsonl", [*(program(number) for number in range(60)), SOUND[kind]])
    assert all(60 not in rows for rows in told.values()), told


@pytest.mark.parametrize(
    "said",
    [
        "set(NAME harbour)\nfind_package(${NAME} REQUIRED)\ntarget_link_libraries(boat ${NAME})",
        "#!/bin/sh\nharbour=$1\ncd ${harbour} || exit 1\nls -l",
        "my $ok = 1;\nmy $all = ${package_name};\nprint $all;",
    ],
)
def test_variables_of_scripts_are_no_gaps_of_a_template(said: str) -> None:
    assert "unfilled_placeholder" not in codes(said, "Write the second part of it.")
    assert "unfilled_placeholder" in codes(f"Dear ${{customer}},\nyour boat is ready.\n{ANSWER}", "Write to her.")


@pytest.mark.parametrize("said", ["Berlin (Germany)", "run(it)", "Note (see below), it is so = fine", "x ="])
def test_a_name_with_a_remark_is_no_program(said: str) -> None:
    assert not is_program(said)


@pytest.mark.parametrize(
    "said", ["-" * 19_000 + "1", "a" + ".b" * 9_000, "x = " + "[" * 9_000, "a = " + "not " * 4_000 + "b", "a = 1\0"]
)
def test_programs_that_are_made_to_break_readers_are_only_not_read(said: str) -> None:
    assert form_of(f"x = 1\n{said}").structure == Structure.BROKEN


def test_a_program_in_a_fence_is_read_without_it() -> None:
    assert form_of(f"```python\n{program(1)}\n```").structure == Structure.PYTHON
    assert form_of("It is so. (Or not.)").structure == Structure.NONE
    ast.parse(program(1))


@pytest.mark.parametrize(
    ("said", "asked_for"),
    [
        ("def f(a):\n    # TODO: implement\n    pass", "Write it as a stub."),
        ("def f(a):\n    raise NotImplementedError", "Write an abstract class."),
        ("def f(a):\n    b = a\n    # ... rest of the code ...", "Write a template."),
        ("a = 1;\n// existing code here\nb = 2;", "Write the outline."),
        ("a = 1;\n// Rest of the code remains the same\nb = 2;", "Write the outline."),
    ],
)
def test_a_part_of_a_program_that_nobody_wrote_is_a_draft_unless_asked_for(said: str, asked_for: str) -> None:
    assert "draft_mark" in codes(said, "Write a function that doubles a number.")
    assert "draft_mark" not in codes(said, asked_for)
    for remark in ("the rest is read by the caller", "existing file is replaced", "rest of the file holds the rows"):
        assert "draft_mark" not in codes(f"{program(1)}\n# {remark}\n", "Write a function.")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (f"Thought for 12 seconds\n\n{ANSWER}", "generator_mark"),
        (f"Thought for a few minutes, it was clear: {ANSWER}", None),
        (f"<thought>The user wants to know of the harbour.\n{ANSWER}", "special_token"),
        (f"<thought>Short.</thought>{ANSWER}", None),
        (f"{ANSWER}\n\nReply\nShare\nReport\nSave\nFollow", "source_residue"),
        (f"{ANSWER}\nThey had to\nshare\nand save", None),
        ("<html><head><title>502 Bad Gateway</title></head><body></body></html>", "error_text"),
        ("<html><head><title>The harbour</title></head><body>It is deep.</body></html>", None),
        (f"{{% if harbour %}}{ANSWER}{{% endif %}}", "unfilled_placeholder"),
        (f"{ANSWER} It is {{%}} deep.", None),
        ("(see attached)", "too_short"),
        (codecs.encode(f"{ANSWER} An old man and an old dog sat in it.", "rot13"), "gibberish"),
        (f"{ANSWER} La mer en hiver."[::-1], "gibberish"),
    ],
)
def test_what_windows_pages_and_ciphers_leave_is_found_and_what_looks_like_it_is_not(
    tmp_path: Path, answer: str, code: str | None
) -> None:
    rows = [
        {"instruction": f"Tell me of the harbour, part {n}.", "output": f"{ANSWER} It is {n} feet."} for n in range(9)
    ]
    rows.append({"instruction": "Tell me of the harbour and its boats.", "output": answer})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {finding.code for finding in check([str(path)]).findings for row in finding.rows if row.index == 9}
    told -= {"near_duplicate", "contained_duplicate", "html_residue"}
    assert (code in told) if code else not told


@pytest.mark.parametrize("lead", ["Q: {}\nA: {}", "Question: {}\nAnswer: {}", "**User:** {}\n{}"])
def test_a_short_question_that_is_named_and_said_again_is_found(lead: str) -> None:
    question = "How deep is the harbour?"
    assert "prompt_repeated" in codes(lead.format(question, ANSWER), question)
    assert "prompt_repeated" not in codes(lead.format("How old is it?", ANSWER), question)
