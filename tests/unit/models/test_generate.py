"""Generated answers against one greedy step after another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.tiny import write_model

from finetune_exe.models.generate import generate
from finetune_exe.models.load import load_model
from finetune_exe.models.merge import merged
from finetune_exe.text.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("m") / "tiny", seed=3)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_answers_are_greedy_and_do_not_depend_on_the_batch(folder: Path, batch_size: int) -> None:
    tokenizer = load_tokenizer(folder, chat_template=None)
    model = load_model(folder, dtype="float32", device="cpu").eval()
    prompts = [tuple(tokenizer.encode("the quick brown fox"[:length]).ids) for length in (3, 19, 9, 14, 5)]
    told: list[int] = []
    answers = generate(model, prompts, tokenizer, max_new_tokens=12, batch_size=batch_size, progress=told.append)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        for _ in range(12):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] in tokenizer.stop_token_ids:
                break
        new = ids[len(prompt) :]
        assert answer.stopped == (new[-1] in tokenizer.stop_token_ids)
        assert answer.text == tokenizer.decode_answer(new)
        assert answer.num_tokens == len(new) - answer.stopped
    assert told[-1] == len(prompts)


def test_nothing_to_answer_is_no_fault(folder: Path) -> None:
    tokenizer = load_tokenizer(folder, chat_template=None)
    assert generate(load_model(folder, dtype="float32", device="cpu"), [], tokenizer, max_new_tokens=3) == []


def test_merged_adapters_compute_the_same_without_them(folder: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(1)
    tuned = get_peft_model(
        load_model(folder, dtype="float32", device="cpu"), LoraConfig(r=4, target_modules="all-linear")
    ).eval()
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    ids = torch.arange(1, 12).unsqueeze(0)
    plain = load_model(folder, dtype="float32", device="cpu").eval()
    with torch.no_grad():
        before, base = tuned(input_ids=ids).logits, plain(input_ids=ids).logits
        folded = merged(tuned)
        after = folded(input_ids=ids).logits
    assert not isinstance(folded, PeftModel)
    assert not torch.allclose(before, base, atol=1e-3)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_model_without_adapters_is_its_own_merger(folder: Path) -> None:
    model = load_model(folder, dtype="float32", device="cpu")
    assert merged(model) is model
