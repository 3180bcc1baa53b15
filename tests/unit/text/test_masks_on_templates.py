"""Loss masks of twelve families of templates, against a hand-made oracle and against transformers' assistant masks."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.text.chat_templates import FAMILIES, Family, Turn, write_family

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import Sequence, encode, encode_rows
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

BY_NAME = {family.name: family for family in FAMILIES}
MAX_LENGTH = 100_000


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    folder = tmp_path_factory.mktemp("families")
    return {
        family.name: load_tokenizer(write_family(folder / family.name, family), chat_template=None)
        for family in FAMILIES
    }


words = st.text(st.characters(exclude_categories=("Cs", "Co")), min_size=1, max_size=25).filter(
    lambda text: bool(text.strip()) and not any(token in text for family in FAMILIES for token in family.special)
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Draw one to three questions with their answers, perhaps behind a system turn."""
    pairs = draw(st.lists(st.tuples(words, words), min_size=1, max_size=3))
    turns = [turn for question, answer in pairs for turn in (("user", question), ("assistant", answer))]
    return [("system", draw(words)), *turns] if draw(st.booleans()) else turns


def conversation_of(turns: list[Turn], family: Family) -> tuple[Conversation, list[Turn]]:
    """Leave out the system turn where the family takes none."""
    kept = [turn for turn in turns if family.systems or turn[0] != "system"]
    if family.rstrip:  # white space at the beginning of an answer is swallowed, so such a row cannot be proven
        kept = [(role, content.strip()) for role, content in kept]
    messages = tuple(Message(role=role, content=content) for role, content in kept)  # type: ignore[arg-type]
    return Conversation(kind="chat", messages=messages), kept


def runs(sequence: Sequence, tokenizer: ChatTokenizer) -> list[tuple[list[int], str]]:
    """For each learned run, the tokens before it and its text; built from the flags, not from the ranges."""
    flags = sequence.learned
    starts = [i for i, learned in enumerate(flags) if learned and (i == 0 or not flags[i - 1])]
    found = []
    for start in starts:
        end = next((i for i in range(start, len(flags)) if not flags[i]), len(flags))
        found.append((list(sequence.tokens[:start]), tokenizer.decode(sequence.tokens[start:end])))
    return found


@pytest.mark.parametrize("name", BY_NAME)
@given(turns=conversations())
@settings(max_examples=80, deadline=None)
def test_what_is_learned_is_what_the_model_must_say_behind_what_it_will_be_given(
    name: str, turns: list[Turn], tokenizers: dict[str, ChatTokenizer]
) -> None:
    family, tokenizer = BY_NAME[name], tokenizers[name]
    conversation, kept = conversation_of(turns, family)
    encoded = encode(conversation, tokenizer, max_length=MAX_LENGTH)
    assert not isinstance(encoded, RowFault), encoded
    found = [run for sequence in encoded for run in runs(sequence, tokenizer)]
    expected = family.answers(kept)
    assert [text for _, text in found] == [answer for _, answer in expected]
    assert [before for before, _ in found] == [tokenizer.encode(prompt).ids for prompt, _ in expected]


@pytest.mark.parametrize("name", BY_NAME)
@given(turns=conversations())
@settings(max_examples=40, deadline=None)
def test_masks_are_those_of_the_generation_blocks(
    name: str, turns: list[Turn], tokenizers: dict[str, ChatTokenizer]
) -> None:
    """TRL's assistant masks are these: transformers finds the characters of `{% generation %}` blocks."""
    peer = peer_of(tokenizers[name])
    family = BY_NAME[name]
    conversation, kept = conversation_of(turns, family)
    encoded = encode(conversation, tokenizers[name], max_length=MAX_LENGTH)
    assert not isinstance(encoded, RowFault)
    last_answers = [index for index, (role, _) in enumerate(kept) if role == "assistant"]
    for number, sequence in enumerate(encoded):
        shown = kept if len(encoded) == 1 else kept[: last_answers[number] + 1]
        made = peer.apply_chat_template(
            [{"role": role, "content": content} for role, content in shown], tokenize=True, return_dict=True,
            return_assistant_tokens_mask=True, enable_thinking=False,
        )  # fmt: skip
        mask = [bool(flag) for flag in made["assistant_masks"]]
        if len(encoded) > 1:  # a sequence for each answer: the blocks mark the earlier ones too
            mask = last_run(mask)
        if made["input_ids"] == list(sequence.tokens):
            assert mask == list(sequence.learned)
        else:
            prompts = [tokenizers[name].encode(prompt).ids for prompt, _ in family.answers(shown)]
            assert any(made["input_ids"][: len(prompt)] != prompt for prompt in prompts), "it would be served otherwise"
            assert tokenizers[name].decode(made["input_ids"]) == tokenizers[name].decode(sequence.tokens)


def last_run(mask: list[bool]) -> list[bool]:
    """Keep the last run of a mask."""
    end = max((i + 1 for i, learned in enumerate(mask) if learned), default=0)
    start = end
    while start and mask[start - 1]:
        start -= 1
    return [start <= i < end for i in range(len(mask))]


def peer_of(tokenizer: ChatTokenizer) -> Any:
    """Open the same folder with transformers."""
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoTokenizer.from_pretrained(str(tokenizer.folder))


@pytest.mark.parametrize("name", BY_NAME)
def test_rows_in_a_batch_are_as_rows_alone(name: str, tokenizers: dict[str, ChatTokenizer], tmp_path: Path) -> None:
    """The shortcuts learned from earlier rows change nothing: a tokenizer that has seen no row says the same."""
    family = BY_NAME[name]
    texts = ("fox", " the dog\n", "\n\nno!", "'s a b", "[INST", "ünï 😀", "a<b>c")
    rows = [
        conversation_of([("user", question), ("assistant", answer), ("user", answer), ("assistant", question)], family)[
            0
        ]
        for question in texts
        for answer in texts
    ]
    together = encode_rows(rows, tokenizers[name], max_length=MAX_LENGTH)
    folder = write_family(tmp_path / "fresh", family)
    for row, encoded in zip(rows, together, strict=True):
        assert encode_rows([row], load_tokenizer(folder, chat_template=None), max_length=MAX_LENGTH) == [encoded]
        assert encoded.fault is None


def test_special_tokens_that_swallow_space_are_no_hard_boundaries(tokenizers: dict[str, ChatTokenizer]) -> None:
    hard = {name: all(map(t.specials.is_hard, BY_NAME[name].special)) for name, t in tokenizers.items()}
    assert hard == {name: name != "phi-3" for name in BY_NAME}
