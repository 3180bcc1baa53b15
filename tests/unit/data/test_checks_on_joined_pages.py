"""Faults in text whose lines were joined to one, and sums, errors and notes in the middle of a sentence."""

from __future__ import annotations

import pytest
from tests.unit.data.judged import codes, codes_of, found

from finetune_exe.data.checks.example import asked, text

SAID = (
    "The harbour was dug by hand in the winter of the great frost, and it lets the boats rest when the sea is rough. "
    "It is one of the few that a ship can enter at any time of the day."
)


@pytest.mark.parametrize(("code", "answer"), [
    ("boilerplate", f"{SAID} We use cookies to give you more. By going on you accept our privacy policy."),
    ("boilerplate", f"{SAID} \u00a9 2019 Harbour Press Ltd. All rights reserved. Terms of Service | Privacy Policy"),
    ("page_script", f"{SAID} window.dataLayer = window.dataLayer || []; function gtag(){{dataLayer.push(arguments);}} gtag('js', new Date()); {SAID}"),
    ("page_script", f"{SAID} .top {{ margin: 0 auto; width: 90px; }} @media (max-width: 600px) {{ .nav {{ display: none; }} }} {SAID}"),
    ("page_script", f"{SAID} (function(d, s, id) {{ if (d.getElementById(id)) return; }}(document, 'script', 'x')); {SAID}"),
    ("draft_mark", f"{SAID} TODO: ask the pilot about it."),
    ("draft_mark", f"{SAID} Lorem ipsum dolor sit amet, consectetur adipiscing elit. {SAID}"),
    ("error_text", "Error 429: Rate limit exceeded. Please try again in 20s."),
    ("generator_mark", f"{SAID} citeturn0search3"),
    ("gibberish", "aQ7xP0bVn3LkT9wZr2YsGd8e Rf5HjU1mKc6NoWq4BtXiEp7v Zs2DgLy9AhJr0CkQn5FwMu8"),
    ("html_residue", f"{SAID} it&#8217;s &ldquo;deep&rdquo; there."),
    ("invisible_characters", f"The\u00ad {SAID}"),
    ("missing_value", "NaN"),
    ("scan_noise", "The harb0ur was dug by the t0wn in the c0ld of a l0ng winter, as they t1ld us."),
    ("source_residue", f"{SAID}[citation needed] {SAID}"),
    ("source_residue", f"{SAID} It is old, as \\cite{{smith2004}} and \\ref{{fig:1}} show."),
    ("unfilled_placeholder", f"{SAID} <INSERT COMPANY NAME HERE> paid for it."),
    ("wrong_sum", f"{SAID} It took 17 + 25 = 43 men."),
])  # fmt: skip
def test_a_fault_is_found_in_the_middle_of_a_line_in_an_answer_and_in_a_text(code: str, answer: str) -> None:
    assert code in codes(answer)
    assert code in codes_of(text(answer))


@pytest.mark.parametrize("answer", [
    f"{SAID} We read the privacy policy of nine shops. Three of them sell what they know.",
    f"{SAID} He wrote TODO on a slip and went out. It is a to-do list: bread, milk.",
    "Error bars show 429 or more. Rate limits are a matter of taste.",
    f"{SAID} It is their turn. Turn 0 is the search for it.",
    f"{SAID} See [1], [the map](map.md) and a set \\{{a, b\\}} of ships.",
    f"{SAID} <INSERT> is a key, and 2 < INSERT > 1 is none.",
    "Terminals l0n and l1n are on pier b2b, by the 100m line; see h0me.example and #p0rt1sea.",
    "It took 12 + 20 + 7 = 39 men, 8 x 1 1/2 = 12 ropes, 3*30 = 30 + 60 days, 22 - 6 = 2*8 hours and 5-3=2 boats.",
    "In binary, 1 + 1 = 10.",
    "Nobody knows what undefined land lies there.",
])  # fmt: skip
def test_what_only_looks_like_such_a_fault_is_none(answer: str) -> None:
    assert codes(answer) == set()
    assert codes_of(text(answer)) == set()


def test_a_program_may_leave_a_note_to_its_writer() -> None:
    assert codes("def depth(ship):\n    return ship.draught + 1  # TODO: waves\n") == set()


def test_entities_of_a_program_are_no_residue_and_those_of_prose_are_where_code_is_asked_about() -> None:
    question = "What does the function of the harbour do?"
    assert "html_residue" in codes(f"{SAID} It&rsquo;s deep.", question)
    assert "html_residue" not in codes("It is a &amp;&amp; b.", question)


def test_a_phrase_without_a_full_stop_breaks_nothing_off_and_still_tells_the_custom() -> None:
    usual = [asked("Explain it.", f"It is number {number} of the things that one can explain.") for number in range(60)]
    phrase = asked("Make up a new flavor of ice cream.", "Popcorn jelly bean ice cream")
    cut = asked("Explain it.", "It is deep. It was dug by hand in the winter of the great")
    assert found("truncated_output", [*usual, phrase, cut]) == [61]
    assert found("truncated_output", [*usual, *[phrase] * 6, cut]) == []
