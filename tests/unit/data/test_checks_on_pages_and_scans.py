"""What is left of web pages and of printed pages in a text, and texts that only speak of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.judged import codes, codes_of

from finetune_exe.data.checks.example import pair, text

PROSE = (
    "The harbour was dug by hand in the winter of the great frost, and it lets the boats rest when the sea is rough. "
    "It is one of the few that a ship can enter at any time of the day, so it is of use to all who live by the sea."
)
STYLES = [
    ".entry-title{margin:0 0 10px;font-size:24px}",
    "#main .post a:hover { color: #c00; text-decoration: none; }",
    "@media (max-width: 600px) { .menu { display: none; } }",
    "body {\n  background-color: #fff;\n  padding: 0;\n}",
    "@font-face { font-family: 'Lato'; src: url(lato.woff2); }",
    "li.item, li.item:first-child { list-style: none }",
]
SCRIPTS = [
    "window.dataLayer = window.dataLayer || []; function gtag(){dataLayer.push(arguments);}",
    "(adsbygoogle = window.adsbygoogle || []).push({});",
    "jQuery(document).ready(function($) { $('.menu').hide(); });",
    "var box = document.getElementById('box'); if (box) { box.focus(); }",
    "$(function() { $('a').click(open); });",
    "//<![CDATA[\nvar x = {};\n//]]>",
]
MISREAD = "It was tlie custom ofthe men to dig, aud tbe women wliich lived there bave told us tliat it was so."
DIVIDED = "The har-\nbour was dug by the men of the vil-\nlage, and the bish-\nop had it blessed, as was the cus-\ntom of the time."


@pytest.mark.parametrize("dump", [*STYLES, *SCRIPTS])
@pytest.mark.parametrize("before", [True, False])
def test_styles_and_scripts_of_a_page_are_found_beside_its_text(dump: str, *, before: bool) -> None:
    said = f"{dump}\n{PROSE}" if before else f"{PROSE}\n{dump}"
    assert "page_script" in codes(said)
    assert "page_script" in codes_of(text(said))
    assert "page_script" not in codes(said, "How do I hide the menu of my page with CSS or JavaScript?")
    assert "page_script" not in codes(f"{PROSE}\n```\n{dump}\n```")
    assert "page_script" not in codes(dump)
    assert "page_script" not in codes_of(text(f"{dump}\n" * 12))


@pytest.mark.parametrize("said", [
    PROSE, f"{PROSE} The set {{1, 2}} and f(x) {{x: 3}} are equal.", f'{PROSE} {{"color": "red", "width": 3}}',
    f"{PROSE} The union of \\textbf{{boats}} and \\frac{{a}}{{b}}.", f"{PROSE} Use ${{name}} or {{name}} here.",
    f"{PROSE} Write this rule into the style sheet: .title {{ color: #333; }}",
])  # fmt: skip
def test_braces_of_other_kinds_are_no_page(said: str) -> None:
    assert "page_script" not in codes(said)
    assert "page_script" not in codes_of(text(said))


def test_notices_of_a_page_are_found_in_an_answer_too() -> None:
    page = f"Skip to content\n{PROSE}\nWe use cookies to make this better.\nCopyright. All rights reserved."
    assert "boilerplate" in codes(page, "Who dug the harbour of the old town?")
    assert "boilerplate" not in codes(page, "Write the footer of my website.")
    assert "boilerplate" not in codes(f"{PROSE}\nAll rights reserved.", "Who dug the harbour?")


def test_a_scanned_page_is_told_by_misread_and_by_divided_words() -> None:
    for scan in (MISREAD, DIVIDED):
        assert "scan_noise" in codes(scan)
        assert "scan_noise" in codes_of(text(scan))
        assert "scan_noise" not in codes(scan, "Correct the spelling of this scanned page.")
    assert "scan_noise" not in codes("People write tho for though, aud for and, and tbe for the.")
    assert "scan_noise" not in codes("- well-\n- known\n- so-\n- called\n- re-\n- read\n- pre-\n- set")


@given(st.lists(st.sampled_from(["the", "boats", "of", "tho", "and", "are", "well-known"]), min_size=5, max_size=40))
def test_usual_words_are_no_misread_ones(words: list[str]) -> None:
    assert "scan_noise" not in codes(" ".join(words))


def test_a_fault_of_the_worse_answer_alone_is_told() -> None:
    broken = "Sh\u00c3\u00a9 said \u00e2\u20ac\u0153yes\u00e2\u20ac\u009d, and so it was."
    assert "rejected_fault" in codes_of(pair("Who was it?", PROSE, broken))
    assert "rejected_fault" in codes_of(pair("Who was it?", PROSE, "It was him. <|im_end|>"))
    assert "rejected_fault" not in codes_of(pair("Who was it?", PROSE, "I do not know."))
    both = codes_of(pair("Who was it?", broken, broken.replace("yes", "no")))
    assert "mojibake" in both
    assert "rejected_fault" not in both
    assert "rejected_fault" not in codes_of(replace(pair("Who was it?", PROSE, broken), rejected=()))


@pytest.mark.parametrize("hostile", [
    "a-b " * 50_000 + "{", "word " * 50_000 + "{ }", "a { color: " + "x" * 200_000, "function f(" + "a," * 100_000 + ") {",
    "a{margin:" * 20_000, "- " * 100_000 + "{margin:0}", "(" * 200_000 + "{", "a-\n" * 50_000,
])  # fmt: skip
def test_long_texts_of_signs_are_judged_and_are_no_pages(hostile: str) -> None:
    assert codes_of(text(hostile)).isdisjoint({"page_script", "boilerplate"})
