"""Text files whose lines are labelled sentences, or tagged words."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.layout import MIN_ROWS_PER_LABEL
from finetune_exe.data.raw import RawRow
from finetune_exe.data.read import read_rows
from finetune_exe.data.tagged_lines import labelled_rows
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats import format_named

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
