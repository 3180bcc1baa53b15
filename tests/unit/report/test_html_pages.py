"""Pages for a browser: golden files, and that no text out of data can run, load, hide or overflow anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.report import sample
from tests.unit.report.golden import assert_golden

from finetune_exe.domain.certificate import Claim, EngineParity, MaskCertificate, SplitMasks
from finetune_exe.domain.dataset import (
    CheckFinding,
    CheckReport,
    DataQuality,
    Drop,
    FindingRow,
    Histogram,
    LabelCount,
    PreparedDataset,
    SourceFile,
)
from finetune_exe.domain.evaluation import Evaluation
from finetune_exe.report.html.check import check_page
from finetune_exe.report.html.dataset import dataset_page
from finetune_exe.report.html.document import PAGE_BYTES
from finetune_exe.report.html.evaluation import evaluation_page
from finetune_exe.report.html.markup import Markup, element, escape
from finetune_exe.report.token_view import ShownRow, ShownToken

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)></style></title></svg></textarea><!--"
    "<a href='javascript:alert(3)'>\" onload=\"alert(4)\x00\x1b[2J\x7f\u202egnp.exe\u2066\u200b&lt;&#x3c;]]>\r\n"
    "<link rel=stylesheet href=//x.example/y.css><base href=//x.example><iframe srcdoc='<p>'>@import url(//x.example)"
)
ALLOWED = {"class", "id", "role", "scope", "tabindex", "width", "height", "x", "x1", "x2", "y", "y1", "y2", "viewbox",
           "text-anchor", "lang", "charset", "content", "http-equiv", "name"}  # fmt: skip
VOID = {"meta", "br"}


class Reading(HTMLParser):
    """A page as a parser sees it, and everything in it that is not as it should be."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.text = ""
        self.marked = ""
        self.captions = 0
        self.ids: list[str] = []
        self.described: list[str] = []
        self.undescribed = 0
        self.feed(page.decode())
        self.close()
        self.faults += [f"never closed: {tag}" for tag in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name not in ALLOWED and not name.startswith("aria-"):
                self.faults.append(f"{tag} has {name}={value}")
            if name == "id":
                self.ids.append(value or "")
            if name == "aria-labelledby":
                self.described += (value or "").split()
        hidden = ("aria-hidden", "true") in attrs
        self.undescribed += tag == "svg" and not hidden and not {"role", "aria-labelledby"} <= {*dict(attrs)}

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"{tag} is closed out of turn")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "mark" in self.open:
            self.marked += data

    def handle_comment(self, data: str) -> None:
        self.faults.append(f"comment {data}")


def finding(code: str = "pii_email", text: str = "x@y.example", rows: int = 3, **fields: object) -> CheckFinding:
    found = tuple(
        FindingRow(index=number, line=number + 1, source=f"{text}:{number + 1}", extract=text) for number in range(rows)
    )
    return CheckFinding(code=code, severity="warning", rows=found, message=text, fix=text).model_copy(update=fields)


def check_report(text: str = "rows.jsonl") -> CheckReport:
    return CheckReport(
        format="alpaca", format_evidence=(text,), records=1200, kept=1100, masks_checked=False,
        quality=DataQuality(sound=0.95, distinct=0.99, unsuspicious=0.9, score=0.85),
        characters=Histogram(edges=(50, 70, 100, 150), counts=(3, 1196, 1)),
        labels=(LabelCount(label=text, count=900), LabelCount(label="no", count=300)),
        findings=(
            finding("empty_output", text, 100, severity="error"),
            finding("encoding", text, 0, severity="info", source=text), finding("pii_email", text),
        ),
    )  # fmt: skip


def certificate(text: str = "<|im_end|>") -> MaskCertificate:
    return MaskCertificate(
        tokenizer_digest="t", template_digest="t", stop_tokens=(text,), stop_token_ids=(2,), derivations=("a", "b"),
        rows_not_proven=0, sequences_with_leading_bos=0,
        splits={"train": SplitMasks(num_rows=1, num_sequences=1, num_tokens=9, num_learned_tokens=3, digest="d")},
        claims=(
            Claim(name="derivations_agree", says="both agree", num_checked=9, num_true=9, holds=True),
            Claim(name="one_bos", says="one beginning", num_checked=9, num_true=8, holds=False),
        ),
        parity=(EngineParity(engine=text, num_conversations=9, num_equal=9, note=text),),
    )  # fmt: skip


def prepared(text: str = "train.jsonl") -> PreparedDataset:
    drops = tuple(
        drop.model_copy(update={"first": text, "message": text, "fix": text}) for drop in sample.dataset().dropped
    )
    tokens = sample.dataset().tokens
    assert tokens is not None
    histogram = Histogram(edges=(100, 150, 200, 300, 500, 700), counts=(0, 2900, 1000, 880, 20))
    return sample.dataset().model_copy(update={
        "dropped": drops, "sources": (SourceFile(path=text, sha256="0" * 64, num_bytes=1, num_rows=5012),),
        "tokens": tokens.model_copy(update={"histogram": histogram, "template": text}),
        "notes": (text,), "split_evidence": (text,),
        "splits": {name: split.model_copy(update={"members": f"{name:a<64}"}) for name, split in sample.dataset().splits.items()},
    })  # fmt: skip


def test_the_page_says_what_was_not_followed_and_which_rows_are_held_out() -> None:
    read = Reading(PAGES["dataset"]("plain text")).text
    assert "Note: plain text" in read
    assert "validation validationaa, test testaaaaaaaa" in read


def rows(text: str = " fox", length: int = 2) -> list[ShownRow]:
    given = (ShownToken(id=1, text="<|im_start|>", learned=False), ShownToken(id=9, text="\n", learned=False))
    learned = tuple(ShownToken(id=5, text=text, learned=True) for _ in range(length))
    return [ShownRow(source=text, tokens=given + learned)] * 3


def evaluation(text: str) -> Evaluation:
    whole = sample.evaluation()
    answers = dict.fromkeys(("source", "prompt", "reference", "baseline", "candidate"), text)
    return whole.model_copy(update={
        "baseline": text, "candidate": text, "comparison_notes": (text,),
        "samples": tuple(row.model_copy(update=answers) for row in whole.samples),
        "readiness": tuple(
            check.model_copy(update={"name": text, "detail": text, "fix": check.fix and text}) for check in whole.readiness
        ),
        "comparisons": tuple(comparison.model_copy(update={"test": text}) for comparison in whole.comparisons),
    })  # fmt: skip


PAGES: dict[str, Callable[[str], bytes]] = {
    "check": lambda text: check_page(check_report(text), rows(text)),
    "dataset": lambda text: dataset_page(prepared(text), certificate(text), rows(text), check_report(text).labels),
    "evaluation": lambda text: evaluation_page(evaluation(text)),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_golden_one(name: str) -> None:
    page = PAGES[name]("plain text")
    assert page == PAGES[name]("plain text")
    assert_golden(f"report_{name}.html", page.decode())


@pytest.mark.parametrize("name", PAGES)
def test_text_out_of_data_adds_no_element_and_no_attribute(name: str) -> None:
    plain, hostile = Reading(PAGES[name]("plain text")), Reading(PAGES[name](HOSTILE))
    assert hostile.faults == plain.faults == []
    assert hostile.tags == plain.tags
    assert "<script>alert(1)</script>" in hostile.text
    assert "<U+202E>gnp.exe" in hostile.text


@pytest.mark.parametrize("name", PAGES)
def test_nothing_can_run_or_be_asked_for(name: str) -> None:
    page = PAGES[name](HOSTILE).decode()
    reading = Reading(page.encode())
    assert not {"script", "img", "link", "base", "iframe", "object", "embed", "a", "form", "use", "image"} & {
        *reading.tags
    }
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert page.index("Content-Security-Policy") < page.index("<style>")
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face|expression|\\", style)
    assert page.count("<style") == page.count("</style>") == 1
    unseen = {
        character for character in page if character != "\n" and (character < " " or "\x7f" <= character <= "\x9f")
    }
    assert not unseen | ({*"\u202e\u2066\u200b"} & {*page})


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_read_aloud_and_by_keyboard(name: str) -> None:
    reading = Reading(PAGES[name]("plain text"))
    levels = [int(tag[1]) for tag in reading.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 == levels.count(1)
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert reading.tags.count("table") == reading.tags.count("caption") == reading.tags.count("thead")
    assert len(reading.ids) == len({*reading.ids})
    assert reading.undescribed == 0
    assert {*reading.described} <= {*reading.ids}
    assert reading.marked.count("[learned: ") == (0 if name == "evaluation" else 3)
    page = PAGES[name]("plain text").decode()
    assert 'lang="en"' in page
    assert "prefers-color-scheme:dark" in page
    assert re.search(r"mark\{[^}]*text-decoration:underline", page)


def test_what_is_learned_is_marked_and_nothing_else() -> None:
    reading = Reading(check_page(check_report(), rows(" fox", 2)))
    assert reading.marked == "Underlined on green" + 3 * "[learned:  fox fox :learned]"


def test_the_numbers_are_those_of_the_documents() -> None:
    check = Reading(check_page(check_report())).text
    assert "1,200 rows seen = 1,100 without an error + 100 with at least one." in check
    assert "85.0 %" in check
    assert "90075.0 %" in check
    dataset = Reading(dataset_page(prepared(), certificate())).text
    assert "5,012 rows seen = 4,800 kept + 212 dropped" in dataset
    assert "Learned tokens: 76,900 seen = 76,750 kept + 0 dropped + 150 lost by altering" in dataset
    assert "\u2716 NO" in dataset
    assert "with exceptions" in dataset


def test_a_bar_is_as_long_as_its_count() -> None:
    page = check_page(check_report()).decode()
    assert re.findall(r'<rect x="0" y="25%" width="([0-9.]+)%"', page) == ["100.0", "33.3"]
    heights = [int(height) for height in re.findall(r'height="(\d+)" class="bar"', page)]
    assert heights == [2, 148, 2]


def test_the_rarest_of_many_labels_are_one_line_that_dwarfs_no_bar() -> None:
    labels = tuple(LabelCount(label=f"label {number}", count=30 - number % 3) for number in range(77))
    page = check_page(check_report().model_copy(update={"labels": labels})).decode()
    assert re.findall(r'<rect x="0" y="25%" width="([0-9.]+)%"', page)[:3] == ["100.0", "96.6", "93.3"]
    rest = sum(entry.count for entry in labels[24:])
    assert f"(53 more){rest:,}" in Reading(page.encode()).text


def test_the_numbers_of_a_histogram_stay_inside_it_and_apart() -> None:
    edges = tuple(10 * number for number in range(22))
    many = check_report().model_copy(update={"characters": Histogram(edges=edges, counts=(5,) * 21)})
    page = check_page(many).decode()
    drawn = page[page.index("<svg", page.index("Length of the rows")) :]
    drawn = drawn[: drawn.index("</svg>")]
    named = re.findall(r'<text x="([0-9.]+)%" y="191" text-anchor="(\w+)">(\d+)<', drawn)
    assert [edge for *_, edge in named] == ["0", "30", "60", "90", "120", "150", "180", "210"]
    assert named[0][1:] == ("start", "0")
    assert named[-1] == ("98.7", "end", "210")
    assert drawn.count('class="many"') == 21
    assert ".many{display:none}" in page
    assert 'class="few"' in check_page(check_report()).decode()


WORST = {"markup": HOSTILE * 2, "codes": "\U000e0001" * 500, "signs": "<" * 500}


@pytest.mark.parametrize("text", [*WORST.values()], ids=[*WORST])
def test_no_page_is_larger_than_promised(text: str) -> None:
    findings = tuple(finding(f"{text}{number}", text, 9) for number in range(400))
    labels = tuple(LabelCount(label=f"{text}{number}", count=1) for number in range(400))
    report = check_report(text).model_copy(update={"findings": findings, "labels": labels})
    page = check_page(report, rows(text, 5000))
    assert len(page) <= PAGE_BYTES
    assert "more are left out here" in page.decode()
    drops = tuple(Drop(code=f"{text}{number}", count=1, first=text, message=text, fix=text) for number in range(400))
    source = prepared().sources[0].model_copy(update={"path": text})
    dataset = prepared(text).model_copy(update={"dropped": drops, "sources": (source,) * 400})
    page = dataset_page(dataset, certificate(text), rows(text, 5000))
    assert len(page) <= PAGE_BYTES
    assert Reading(page).faults == []
    found = evaluation(text * 20)
    page = evaluation_page(found.model_copy(update={
        "samples": found.samples * 50, "readiness": found.readiness * 10, "suites": found.suites * 100,
        "comparisons": found.comparisons * 10,
    }))  # fmt: skip
    assert len(page) <= PAGE_BYTES
    assert Reading(page).faults == []


@given(st.text())
def test_escaped_text_is_read_back_with_its_unseen_characters_as_codes(text: str) -> None:
    reading = Reading(element("p", text, aria_label=text).source.encode())
    assert reading.tags == ["p"]
    assert reading.faults == []
    codes = re.compile(r"<U\+([0-9A-F]{4,6})>")
    plain = codes.sub("", text)
    escaped = Reading(f"<p>{escape(plain)}</p>".encode()).text
    assert codes.sub(lambda code: chr(int(code[1], 16)), escaped) == plain


def test_elements_that_run_or_load_cannot_be_made() -> None:
    for tag in ("script", "img", "a", "iframe", "style"):
        with pytest.raises(AssertionError):
            element(tag)
    for attribute in ("onclick", "href", "src", "style"):
        with pytest.raises(AssertionError):
            element("p", **{attribute: "x"})
    assert element("p", Markup("<b>"), "<b>").source == "<p><b>&lt;b&gt;</p>"


def test_a_broken_character_is_shown_as_its_code() -> None:
    assert escape("a\ud800b") == "a&lt;U+D800&gt;b"


def test_words_and_signs_written_with_joiners_stay_whole() -> None:
    persian, family = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f467"
    assert escape(persian + family + "\u200b") == f"{persian}{family}&lt;U+200B&gt;"


def test_a_page_of_nothing_says_so() -> None:
    empty = check_report().model_copy(
        update={"records": 0, "kept": 0, "findings": (), "labels": (), "characters": None}
    )
    text = Reading(check_page(empty)).text
    assert "There is no row to judge." in text
    assert "Nothing is wrong with these rows." in text


def test_golden_files_are_small() -> None:
    folder = Path(__file__).resolve().parents[2] / "golden"
    assert all(path.stat().st_size < 40_000 for path in folder.glob("report_*.html"))
