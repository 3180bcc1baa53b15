"""Rows token by token: what is learned is told without colour too, and no row can steer the terminal."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.report.token_view import ShownRow, ShownToken, render_tokens

ROW = ShownRow(source="rows.jsonl:3", tokens=(
    ShownToken(id=1, text="<|im_start|>", learned=False), ShownToken(id=9, text="\n", learned=False),
    ShownToken(id=5, text=" fox", learned=True), ShownToken(id=7, text="\ufffd", learned=True),
))  # fmt: skip
COLOUR = re.compile("\x1b\\[[0-9;]*m")


def test_plain_marks_stand_for_colour() -> None:
    plain = render_tokens([ROW], colour=False)
    assert plain.splitlines()[2:] == ["row 1, rows.jsonl:3: 4 tokens, 2 learned", "<|im_start|>|\\n|", "[ fox][<7>]"]
    coloured = render_tokens([ROW], colour=True)
    green = re.findall("\x1b\\[30;42m(.*?)\x1b\\[0m", coloured)
    assert green == [" fox", "<7>"]


@given(st.lists(st.tuples(st.text(max_size=6), st.booleans()), min_size=1, max_size=5), st.booleans())
def test_no_text_steers_the_terminal(drawn: list[tuple[str, bool]], colour: bool) -> None:
    row = ShownRow(
        source="f:1", tokens=tuple(ShownToken(id=n, text=t, learned=flag) for n, (t, flag) in enumerate(drawn))
    )
    text = COLOUR.sub("", render_tokens([row], colour=colour)) if colour else render_tokens([row], colour=colour)
    assert all(character.isprintable() or character == "\n" for character in text)
