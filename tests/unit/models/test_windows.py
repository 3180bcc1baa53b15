"""A learned prefix before rows of models whose attention reaches back no further than a window."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from tests.unit.models.test_architectures import MODELS, attached, base_of, rows_of, same
from transformers import AutoModelForCausalLM

from finetune_exe.domain.plan import Precision, Prefix
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.generate import generate
from finetune_exe.models.load import choose_attention
from finetune_exe.models.methods import training_method
from finetune_exe.text.tokenizer import load_tokenizer

METHOD = Prefix(num_virtual_tokens=5)
LENGTHS = (9, 30, 7)
WINDOWED: dict[str, dict[str, Any]] = {
    "mistral": {}, "phi3": {}, "gemma2": {}, "gemma3_text": {}, "cohere2": {}, "gpt_oss": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 0},
}  # fmt: skip
WIDE = 4096


def learned(name: str, window: int | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Any]:
    settings = {**MODELS[name], **WINDOWED[name], "sliding_window": window}
    monkeypatch.setitem(MODELS, name, settings if window else {**settings, "use_sliding_window": False})
    base = base_of(folder / f"{window}", name)
    return base, attached(base, METHOD)


def losses(model: Any, *, together: bool = False) -> torch.Tensor:
    rows = rows_of(LENGTHS)
    batches = [rows] if together else [[row] for row in rows]
    compute = LossFunction(model, Precision(), device="cpu")
    with torch.no_grad():
        return torch.cat([compute(collate(batch, pad_token_id=0, device="cpu")).nll_N for batch in batches])


@pytest.mark.parametrize("name", WINDOWED)
def test_where_all_lies_within_the_window_it_is_as_if_there_were_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = learned(name, max(LENGTHS) + 5, tmp_path, monkeypatch)
    none = None if name in {"mistral", "phi3", "qwen2"} else WIDE  # the others have no switch
    _, unwindowed = learned(name, none, tmp_path, monkeypatch)
    assert same(losses(model), losses(unwindowed))


@pytest.mark.parametrize("window", [12, 40])
@pytest.mark.parametrize("name", WINDOWED)
def test_losses_and_answers_are_those_of_attention_written_out(
    name: str, window: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of like and unlike length, longer than the window and shorter, alone and together."""
    base, model = learned(name, window, tmp_path, monkeypatch)
    training_method(METHOD).save(model, tmp_path / "tuned")
    plain = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager"), tmp_path / "tuned"
    ).eval()

    def logits(tokens: list[int]) -> torch.Tensor:
        ids = torch.tensor([tokens])
        with torch.no_grad():
            found: torch.Tensor = plain(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        return found

    rows = [tokens.tolist() for tokens, _ in rows_of(LENGTHS)]
    expected = [torch.nn.functional.cross_entropy(logits(row)[:-1], torch.tensor(row[1:]), reduction="none")
                for row in rows]  # fmt: skip
    assert same(losses(model), torch.cat(expected))
    assert same(losses(model, together=True), torch.cat(expected))
    tokenizer = load_tokenizer(base, chat_template=None)
    answers = []
    for row in rows:
        tokens = list(row)
        for _ in range(6):
            tokens.append(int(logits(tokens)[-1].argmax()))
        answers.append(tokenizer.decode_answer(tokens[len(row) :]))
    served = choose_attention(model)
    prompts = [tuple(row) for row in rows]
    assert [answer.text for answer in generate(served, prompts, tokenizer, max_new_tokens=6)] == answers
