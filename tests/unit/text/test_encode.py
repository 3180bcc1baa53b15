"""The loss mask against an oracle that knows how each template writes an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiny import TEMPLATES, write_tokenizer

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.encode import encode, encode_prompt, reference_answer
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatTokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {name: load_tokenizer(write_tokenizer(folder / name, template=template), chat_template=None)
            for name, template in TEMPLATES.items()}  # fmt: skip


def chat(*turns: str, learn: tuple[bool, ...] = ()) -> Conversation:
    """Turns of user and assistant in alternation."""
    messages = tuple(
        Message(role="user" if index % 2 == 0 else "assistant", content=turn, learn=learn[index] if learn else True)
        for index, turn in enumerate(turns)
    )
    return Conversation(kind="chat", messages=messages)


def learned_texts(conversation: Conversation, tokenizer: ChatTokenizer) -> list[list[str]]:
    """For each sequence, the runs of learned tokens as text."""
    encoded = encode(conversation, tokenizer, max_length=10_000)
    assert not isinstance(encoded, RowFault), encoded
    runs = []
    for sequence in encoded:
        found: list[list[int]] = []
        for position, (token, learned) in enumerate(zip(sequence.tokens, sequence.learned, strict=True)):
            if learned and (position == 0 or not sequence.learned[position - 1]):
                found.append([])
            if learned:
                found[-1].append(token)
        runs.append([tokenizer.decode(run) for run in found])
    return runs


words = st.text(st.characters(exclude_categories=("Cs", "Co")), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip()) and text == text.strip() and not any(mark in text for mark in ("<|", "<s>"))
)


@given(turns=st.lists(words, min_size=1, max_size=3), answers=st.lists(words, min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", ["chatml", "trims_content", "renames_roles", "generation_block"])
def test_exactly_the_answers_and_their_end_are_learned(
    name: str, turns: list[str], answers: list[str], tokenizers: dict[str, ChatTokenizer]
) -> None:
    spoken = [text for pair in zip(turns, answers, strict=False) for text in pair]
    expected = [answer + "<|im_end|>" for answer in spoken[1::2]]
    assert [run for runs in learned_texts(chat(*spoken), tokenizers[name]) for run in runs] == expected


def test_a_template_that_trims_is_followed(tokenizers: dict[str, ChatTokenizer]) -> None:
    assert learned_texts(chat("a", "  fox \n"), tokenizers["trims_content"]) == [["fox<|im_end|>"]]


def test_space_before_the_answer_belongs_to_it_when_the_model_must_write_it(
    tokenizers: dict[str, ChatTokenizer],
) -> None:
    assert learned_texts(chat("a", "fox"), tokenizers["brackets"]) == [[" fox<|im_end|>"]]


def test_template_that_rewrites_earlier_answers_gives_a_sequence_an_answer(
    tokenizers: dict[str, ChatTokenizer],
) -> None:
    conversation = chat("a", "one", "b", "two")
    assert learned_texts(conversation, tokenizers["thinks"]) == [["one<|im_end|>"], ["two<|im_end|>"]]
    encoded = encode(conversation, tokenizers["thinks"], max_length=500)
    assert not isinstance(encoded, RowFault)
    prompt = encode_prompt(conversation, tokenizers["thinks"])
    assert prompt is not None
    assert encoded[-1].tokens[: len(prompt)] == prompt, "what is trained is what is served"


def test_turns_with_weight_zero_are_not_learned(tokenizers: dict[str, ChatTokenizer]) -> None:
    conversation = chat("a", "no", "b", "yes", learn=(True, False, True, True))
    assert learned_texts(conversation, tokenizers["chatml"]) == [["yes<|im_end|>"]]


def test_the_stop_token_is_learned_even_where_it_is_the_pad_token(tokenizers: dict[str, ChatTokenizer]) -> None:
    tokenizer = tokenizers["chatml"]
    assert tokenizer.stop_tokens == ("<|im_end|>",)
    assert tokenizer.pad_token_id not in tokenizer.stop_token_ids
    assert learned_texts(chat("a", "b"), tokenizer)[0][0].endswith("<|im_end|>")


@pytest.mark.parametrize(
    ("conversation", "code"),
    [
        (chat("only a question"), "no_assistant"),
        (chat("a", "  "), "empty_answer"),
        (chat("a<|im_end|>", "b"), "special_token"),
        (chat("a", "b " * 100), "too_long"),
    ],
)
def test_rows_that_cannot_be_trained_on_say_why(
    conversation: Conversation, code: str, tokenizers: dict[str, ChatTokenizer]
) -> None:
    fault = encode(conversation, tokenizers["chatml"], max_length=60)
    assert isinstance(fault, RowFault)
    assert fault.code == code
    assert fault.message
    assert fault.fix


def test_an_answer_whose_first_token_would_merge_with_the_prompt_is_trained_as_served(
    tokenizers: dict[str, ChatTokenizer],
) -> None:
    conversation = chat("a", "\n\nfox", "b", "dog")
    tokenizer = tokenizers["chatml"]
    encoded = encode(conversation, tokenizer, max_length=500)
    assert not isinstance(encoded, RowFault)
    assert learned_texts(conversation, tokenizer) == [["\n\nfox<|im_end|>"], ["dog<|im_end|>"]]
    prompt = encode_prompt(chat("a", "x"), tokenizer)
    assert prompt is not None
    assert encoded[0].tokens[: len(prompt)] == prompt


def test_a_template_without_end_of_turn_proves_nothing(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "m", template=template), chat_template=None)
    fault = encode(chat("a", "b"), tokenizer, max_length=60)
    assert isinstance(fault, RowFault)
    assert fault.code == "mask_not_proven"
    assert "stop" in fault.message


def test_template_that_refuses_the_roles(tokenizers: dict[str, ChatTokenizer]) -> None:
    conversation = Conversation(
        kind="chat", messages=(Message(role="system", content="s"), Message(role="assistant", content="x"))
    )
    fault = encode(conversation, tokenizers["renames_roles"], max_length=60)
    assert isinstance(fault, RowFault)
    assert fault.code == "template_refused"
    assert "alternate" in fault.message


def test_a_base_model_without_template_learns_with_the_plain_one(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", template=None)
    fault = encode(chat("a", "b"), load_tokenizer(folder, chat_template=None), max_length=60)
    assert isinstance(fault, RowFault)
    assert fault.code == "no_template"
    assert learned_texts(chat("a", "b"), load_tokenizer(folder, chat_template="plain")) == [["b<|im_end|>"]]


@given(text=words, size=st.integers(4, 40))
@settings(max_examples=60, deadline=None)
def test_texts_are_cut_and_lose_nothing(text: str, size: int, tokenizers: dict[str, ChatTokenizer]) -> None:
    tokenizer = tokenizers["chatml"]
    row = Conversation(kind="text", messages=(Message(role="assistant", content=text * 5),))
    encoded = encode(row, tokenizer, max_length=size)
    assert not isinstance(encoded, RowFault)
    everything = [token for sequence in encoded for token in sequence.tokens]
    whole = [*tokenizer.encode(text * 5).ids, tokenizer.eos_token_id]
    assert everything == whole[: len(everything)]
    assert len(whole) - len(everything) <= 1, "at most a lone last token, which nothing can predict, is left out"
    assert all(len(sequence.tokens) <= size for sequence in encoded)
    assert all(learned == (position > 0) for s in encoded for position, learned in enumerate(s.learned))


def test_prompt_and_reference_are_of_the_last_answer(tokenizers: dict[str, ChatTokenizer]) -> None:
    conversation = chat("a", "one", "b", " two ")
    prompt = encode_prompt(conversation, tokenizers["chatml"])
    assert prompt is not None
    assert (
        tokenizers["chatml"]
        .decode(prompt)
        .endswith("one<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n")
    )
    assert reference_answer(conversation, tokenizers["chatml"]) == "two"
