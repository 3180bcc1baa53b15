"""Text files whose lines are labelled sentences, or tagged words."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.check import check
from finetune_exe.data.convert import convert
from finetune_exe.data.layout import MIN_ROWS_PER_LABEL
from finetune_exe.data.profile import profile_data
from finetune_exe.data.raw import RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.data.tagged_lines import labelled_rows
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats import format_named
from finetune_exe.text.formats.marked_turns import turn_form

SST2 = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft" / "classification" / "sst2_dev.txt"
sentences = st.text(st.characters(categories=("L", "P", "Nd")), min_size=1).map(lambda text: f"a{text}")


@given(
    st.lists(st.tuples(st.sampled_from(["0", "1", "-1"]), sentences), min_size=20, max_size=60),
    st.sampled_from(["", "__label__"]),
)
def test_labelled_lines_come_back_as_they_were(rows: list[tuple[str, str]], prefix: str) -> None:
    found = labelled_rows("".join(f"{prefix}{label} {text}\n\n" for label, text in rows))
    labels = [label for label, _ in rows]
    counting = sum(int(after) == int(before) + 1 for before, after in pairwise(labels))
    if len(set(labels)) < 2 or (not prefix and counting > len(rows) / 2):
        assert found is None
        return
    assert found is not None
    assert [(row.row["label"], row.row["text"]) for row in found if isinstance(row.row, dict)] == rows
    assert [row.line for row in found] == list(range(1, 2 * len(rows), 2))


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{verse} In the beginning was verse {verse}\n" for _ in range(50) for verse in range(1, 31)),
        "0 good\n1 bad\n" * (MIN_ROWS_PER_LABEL - 1),
        "0 good\n1 bad\n" * 20 + "no label here\n",
        "1 only one label\n" * 50,
        "".join(f"{year} something happened\n" for year in range(1900, 2000)),
        "__label__a __label__b two labels\n__label__c one\n" * 20,
        "",
    ],
    ids=["verses", "too few", "one without", "one label", "years", "two labels a line", "empty"],
)
def test_prose_is_not_taken_for_labels(text: str) -> None:
    assert labelled_rows(text) is None


def test_a_real_file_of_labelled_sentences() -> None:
    if not SST2.is_file():
        pytest.skip("the shared data files are not here")
    rows = list(read_rows(SST2))
    assert len(rows) == 872
    assert {row.row["label"] for row in rows if isinstance(row, RawRow) and isinstance(row.row, dict)} == {"0", "1"}
    assert rows[0] == RawRow(row={"text": "one long string of cliches .", "label": "0"}, line=1)


@pytest.mark.parametrize("name", ["train.conll", "train.txt", "train.tsv"])
def test_tagged_words_become_sentences(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("-DOCSTART-\tO\n\nEmpire\tB-location\nState\tI-location\nis\tO\n\t\nParis\tB-location\n")
    rows = [entry for entry in read_rows(path) if isinstance(entry, RawRow)]
    assert [(row.line, row.row) for row in rows] == [
        (3, {"tokens": ["Empire", "State", "is"], "tags": ["B-location", "I-location", "O"]}),
        (7, {"tokens": ["Paris"], "tags": ["B-location"]}),
    ]
    read = format_named("annotated").read(rows[0].row)
    assert isinstance(read, Conversation)
    assert read.messages[0].content == "Empire State is"
    assert json.loads(read.messages[1].content) == [{"text": "Empire State", "label": "location"}]


def test_a_table_with_a_column_of_letters_is_still_a_table(tmp_path: Path) -> None:
    path = tmp_path / "blood.csv"
    path.write_text("prompt,completion\nwhich group,O\nand this,A\n")
    assert len(list(read_rows(path))) == 2


DIALOGUES = {
    "a line each": ("[INST] How deep is\t{}? [/INST] It is {} feet. </s>\n", "llama-2"),
    "a paragraph each": ("Human: How deep is {}?\nAssistant: It is {} feet.\nAs far as I know.\n\n", "Human:,Assistant:"),
    "a paragraph each, written by a template": (
        "<|im_start|>user\nHow deep is {}?<|im_end|>\n<|im_start|>assistant\nIt is {} feet.<|im_end|>\n\n\n", "chatml",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIALOGUES)
def test_dialogues_of_plain_text_are_a_row_each(tmp_path: Path, kind: str) -> None:
    form, turns = DIALOGUES[kind]
    path = tmp_path / "talks.txt"
    path.write_text("\n" + "".join(form.format(number, number) for number in range(40)))
    report = check([str(path)])
    assert report.records == 40
    [found] = report.findings
    assert (found.code, found.rows[0].extract) == ("prompt_in_text", f"40 texts are parted by --turns {turns}")
    each = form.count("\n")
    assert [row.line for row in found.rows] == [2 + each * number for number in range(40)]
    written: list[Any] = []
    convert([str(path)], target="chatml", write=written.append, turns=turn_form(turns))
    assert written[39]["messages"][0]["content"].split() == ["How", "deep", "is", "39?"]


def test_where_dialogues_end_is_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "talks.txt"
    path.write_text("".join(f"Human: How deep is {n}?\n\nAssistant: It is {n} feet.\n\n" for n in range(40)))
    assert "prompt_in_text" not in {finding.code for finding in check([str(path)]).findings}
    assert profile_data([str(path)]).turns is None
    with pytest.raises(FineTuneError) as refused:
        convert([str(path)], target="chatml", write=print, turns=turn_form("Human:,Assistant:"))
    assert refused.value.code == "D03"
    assert "blank lines between dialogues" in refused.value.fix
