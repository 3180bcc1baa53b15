"""The YAML subset: what is written reads the same, here and elsewhere; what is left out is refused with its place."""

import pytest
import ruamel.yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_exe.domain.yaml_text import parse_yaml, write_yaml
from finetune_exe.errors import FineTuneError

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def nests_lists(value: object) -> bool:
    """Lists directly in lists never occur in a plan."""
    if isinstance(value, dict):
        return any(nests_lists(item) for item in value.values())
    return isinstance(value, list) and any(isinstance(item, list) or nests_lists(item) for item in value)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5).filter(lambda content: not nests_lists(content)))
def test_what_is_written_reads_the_same_here_and_elsewhere(content: dict) -> None:
    text = write_yaml(content, comments={}) if content else "{}"
    assert parse_yaml(text, where="t").plain() == content
    assert ruamel.yaml.YAML(typ="safe", pure=True).load(text) == content


@pytest.mark.parametrize(
    "word", ["yes", "No", "on", "OFF", "null", "~", "1e3", "0x1F", "1_000", "12:30:45", "2026-11-22"]
)
def test_words_that_readers_disagree_about_are_quoted(word: str) -> None:
    yaml11 = ruamel.yaml.YAML(typ="safe", pure=True)
    yaml11.version = (1, 1)
    assert yaml11.load(write_yaml({"key": word}, comments={})) == {"key": word}


@pytest.mark.parametrize(
    ("text", "value"),
    [("2e-4", 2e-4), ("1E3", 1000.0), (".5", 0.5), ("no", "no"), ("'3'", "3"), ("+3", 3), ("", None), ("True", True)],
)
def test_scalars_have_their_yaml_1_2_type(text: str, value: object) -> None:
    found = parse_yaml(f"a: {text}", where="t").plain()
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_nothing_is_taken_over_from_another_group() -> None:
    assert parse_yaml("a: {<<: {b: 1}}", where="t").plain() == {"a": {"<<": {"b": 1}}}


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "3:1", "given before, in line 1"),
        ("a: &x 1\n", "1:4", "anchors"),
        ("a: 1\nb: *x\n", "2:4", "aliases"),
        ("a: !!python/object/apply:os.system [echo]\n", "1:4", "tags"),
        ("a: !x 1\n", "1:4", "tags"),
        ("a:\n\tb: 1\n", "2:1", "tab"),
        ("1: 2\n", "1:1", "key must be text"),
        ("? [a]\n: 2\n", "1:3", "key must be text"),
        ("a: 1\n---\nb: 2\n", "2:1", "second document"),
        ("%YAML 1.1\n---\na: 1\n", "", "directive"),
        ("a: [1, 2\nb: 3\n", "", "expected"),
        ("", "1:1", "empty"),
        ("a: \x00\n", "", ""),
        ("a: " + "[" * 500, "", "deeper"),
    ],
)
def test_what_plans_do_not_use_is_refused_with_its_place(text: str, place: str, said: str) -> None:
    with pytest.raises(FineTuneError) as caught:
        parse_yaml(text, where="plan.yaml")
    assert caught.value.code == "C01"
    assert caught.value.where.startswith(f"plan.yaml:{place}")
    assert said in caught.value.what
