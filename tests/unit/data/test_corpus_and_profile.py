"""The embedded corpus and the quick look at data."""

from __future__ import annotations

import ast
import itertools
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.plans import alpaca_rows, write_jsonl

from finetune_exe.data.deduplicate import content_key
from finetune_exe.data.profile import profile_data
from finetune_exe.data.raw import RawRow
from finetune_exe.data.stdlib_corpus import QUESTION, corpus_files, corpus_rows, module_rows
from finetune_exe.domain.task import DataProfile
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Conversation, Message

FT = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft"
MODULE = '''
class A:
    @property
    def good(self):
        """Return the good value.

        More about it.
        """
        return self.value

    async def nested(self):
        """Wrap a function around
        another one.
        """
        def inner(x):
            """Give back what was given"""
            return x
        return inner

def bare():
    """Have nothing but this docstring."""

def one_line(): """Stand on one line only."""; return 1

def short(x):
    """Too short."""
    return x
'''


def test_functions_are_found_without_their_docstrings(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(MODULE)
    rows = [entry.row for entry in module_rows(path, "pkg.module")]
    head, foot = QUESTION.split("{source}")
    pairs = []
    for row in rows:
        assert isinstance(row, dict)
        question, answer = (turn["content"] for turn in row["messages"])
        pairs.append((question.removeprefix(head).removesuffix(foot), answer))
        assert row["module"] == "pkg.module"
    assert pairs == [
        ("@property\ndef good(self):\n    return self.value", "Return the good value."),
        ("def inner(x):\n    return x", "Give back what was given"),
    ]


def test_the_corpus_is_large_parses_and_has_a_fixed_order() -> None:
    rows = list(itertools.islice(corpus_rows(), 300))
    assert rows == list(itertools.islice(corpus_rows(), 300))
    for entry in rows:
        assert isinstance(entry.row, dict)
        source = entry.row["messages"][0]["content"].split("```python\n")[1].removesuffix("\n```")
        [function] = ast.parse(source).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        answer = entry.row["messages"][1]["content"]
        assert answer not in source or ast.get_docstring(function) is None
    assert not any("test" in path.parts or "site-packages" in path.parts for path in corpus_files())


def test_a_file_that_does_not_parse_has_no_rows(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text('"""Old."""\nprint "hello"\n')
    assert list(module_rows(tmp_path / "old.py", "old")) == []


def test_the_embedded_corpus_is_profiled_with_its_modules() -> None:
    profile = profile_data(["stdlib"])
    assert profile.format == "chatml"
    assert profile.group_by == "module"
    assert 3000 < profile.num_rows < 8000
    assert profile.num_unreadable == 0
    assert profile.labels == ()
    assert profile.answer_characters_p95 <= 120


def chat(*contents: str) -> Conversation:
    roles = itertools.cycle(("user", "assistant"))
    return Conversation(
        kind="chat",
        messages=tuple(Message(role=role, content=content) for role, content in zip(roles, contents, strict=False)),  # type: ignore[arg-type]
    )


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_white_space_and_composition_do_not_make_a_row_new(contents: list[str]) -> None:
    spaced = [f" {unicodedata.normalize('NFD', content)}\n" for content in contents]
    assert content_key(chat(*contents)) == content_key(chat(*spaced))


def test_roles_borders_learning_and_tools_make_a_row_new() -> None:
    base = chat("a b", "c")
    others = [
        chat("a", "b c"),
        chat("a b", "C"),
        chat("a b", "c", "d"),
        Conversation(kind="chat", messages=base.messages, extra={"tools": [{"name": "f"}]}),
        Conversation(kind="chat", messages=(base.messages[0], Message(role="assistant", content="c", learn=False))),
    ]
    assert len({content_key(base), *map(content_key, others)}) == 6
    assert content_key(base) == content_key(Conversation(kind="chat", messages=base.messages, extra={"id": 7}))


def profile_of(name: str) -> DataProfile:
    if not (FT / name).is_file():
        pytest.skip("the folder of real data is not beside the repository")
    return profile_data([str(FT / name)])


def test_banking77_has_its_77_labels() -> None:
    profile = profile_of("classification/banking77_train.csv")
    categories = json.loads((FT / "classification" / "banking77_categories.json").read_text())
    assert sorted(profile.labels) == sorted(categories)
    assert profile.num_rows == 10003
    assert profile.distinct_answers == 77


@pytest.mark.parametrize(
    "name", ["reasoning/gsm8k_train.jsonl", "alpaca/alpaca_en_demo.json", "completion/c4_demo.jsonl"]
)
def test_open_answers_are_no_labels(name: str) -> None:
    assert profile_of(name).labels == ()


def test_numbers_of_a_profile_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = [{"prompt": "p" * n, "completion": "c" * 2 * n, "user": f"u{n % 12}"} for n in range(1, 101)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    with path.open("a") as file:
        file.write("{broken\n")
    profile = profile_data([str(path)])
    assert (profile.num_rows, profile.num_unreadable, profile.num_turns_mean) == (100, 1, 2)
    assert (profile.prompt_characters_p50, profile.answer_characters_p50) == (51, 102)
    assert (profile.answer_characters_p95, profile.row_characters_p99) == (192, 300)
    assert profile.row_characters_mean == pytest.approx(151.5)
    assert profile.distinct_answers == 100
    assert profile.group_by == "user"


def test_rows_that_are_marked_as_bad_are_said_to_be_dropped(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"answer {n}", "label": n % 4 != 0} for n in range(80)]
    found = profile_data([str(write_jsonl(tmp_path / "rows.jsonl", rows))])
    assert found.format == "kto"
    assert any(lack.startswith("25% of the rows mark their answer as a bad one") for lack in found.missing)


def test_a_large_file_is_counted_whole_and_measured_in_part(tmp_path: Path) -> None:
    rows = [{"text": "a" if n < 30_000 else "bbb"} for n in range(60_000)]
    profile = profile_data([str(write_jsonl(tmp_path / "rows.jsonl", rows))])
    assert profile.num_rows == 60_000
    assert profile.row_characters_mean == pytest.approx(2.0, abs=0.01)


def test_rows_that_are_not_of_the_format_named_are_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(3))
    with pytest.raises(FineTuneError) as caught:
        profile_data([str(path)], format_name="chatml")
    assert caught.value.code == "D04"
    assert "'messages'" in caught.value.why


def test_rows_have_lines() -> None:
    assert all(isinstance(entry, RawRow) and entry.line for entry in itertools.islice(corpus_rows(), 20))


def test_a_column_of_groups_is_named_as_the_rows_write_it(tmp_path: Path) -> None:
    """The plan hands the name on to the split, which looks for that very column."""
    rows = [
        {"prompt": f"Is {n} even?", "completion": f"{n % 2 == 0}, it is.", "Source": f"page {n // 2}"}
        for n in range(40)
    ]
    assert profile_data([str(write_jsonl(tmp_path / "rows.jsonl", rows))]).group_by == "Source"
