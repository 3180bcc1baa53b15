"""Question and answer that stand together in one column, as translations do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.ingest import open_sources
from finetune_exe.data.sources import find_sources
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.formats.detect import detect_format
from finetune_exe.text.formats.infer import with_columns
from finetune_exe.text.formats.within import WithinColumn, texts_within

PATHS = ("translation.de", "translation.en")
GERMAN = WithinColumn(inner=with_columns(*PATHS), paths=PATHS)
TEXTS = st.text(min_size=1, max_size=8)
ROWS = st.fixed_dictionaries(
    {"translation": st.fixed_dictionaries({"de": TEXTS, "en": TEXTS}, optional={"fr": TEXTS})},
    optional={"id": st.integers(), "de": TEXTS},
)


@given(ROWS)
def test_rows_come_back_as_they_were(row: dict[str, Any]) -> None:
    read = GERMAN.read(row)
    assert isinstance(read, Conversation)
    assert [message.content for message in read.messages] == [row["translation"]["de"], row["translation"]["en"]]
    assert GERMAN.write(read) == row


def test_which_of_two_languages_asks_is_a_question_with_its_answer_in_the_message() -> None:
    rows = [{"id": str(n), "translation": {"de": f"{n} Tage", "en": f"{n} days"}} for n in range(20)]
    with pytest.raises(FineTuneError, match=r"--columns translation\.de,translation\.en") as asked:
        detect_format(rows, where="wmt.jsonl")
    assert asked.value.code == "D03"


@pytest.mark.parametrize(
    "rows",
    [
        [], ["a text"], [{"translation": {"de": "a"}}], [{"translation": {"de": "a", "en": 1}}],
        [{"translation": {"de": "a", "en": "b"}}, {"translation": {"de": "a", "fr": "b"}}],
    ],
)  # fmt: skip
def test_other_columns_hold_no_such_texts(rows: list[Any]) -> None:
    assert texts_within(rows) == ()


@pytest.mark.parametrize(
    "row", [{"translation": {"de": "Ja", "en": "Yes"}}, {"translation.de": "Ja", "translation.en": "Yes"}]
)
def test_columns_are_named_from_outside_in_or_as_they_are_called(row: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    columns = dict(zip(("prompt", "answer"), PATHS, strict=True))
    (opened,) = open_sources(find_sources([str(file)]), format_name=None, columns=columns)
    read = opened.detection.format.read(row)
    assert isinstance(read, Conversation)
    assert [message.content for message in read.messages] == ["Ja", "Yes"]
    assert opened.detection.format.write(read) == row
