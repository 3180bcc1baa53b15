"""Losses against the models' own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM

from finetune_exe.domain.plan import Precision
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import LossFunction, collate, require_finite

SIZES = {
    "vocab_size": 120, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "head_dim": 8, "initializer_range": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()


@pytest.fixture(scope="module")
def gemma() -> Gemma2ForCausalLM:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=2.0, attn_implementation="eager")).eval()


sequence = st.lists(st.tuples(st.integers(3, 119), st.booleans()), min_size=2, max_size=20)
batches = st.lists(sequence, min_size=1, max_size=5).filter(
    lambda rows: any(flag for row in rows for _, flag in row[1:])
)


def arrays(row: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([token for token, _ in row]), np.array([flag for _, flag in row])


def own_losses(model: torch.nn.Module, row: list[tuple[int, bool]]) -> list[float]:
    """What the model itself says, one row alone, by the definition of cross-entropy."""
    ids = torch.tensor([[token for token, _ in row]])
    with torch.no_grad():
        log_p = torch.log_softmax(model(input_ids=ids).logits[0].double(), dim=-1)
    return [-float(log_p[i - 1, token]) for i, (token, flag) in enumerate(row) if flag and i]


@given(rows=batches)
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_losses_are_the_models_own_however_rows_are_batched(
    name: str, rows: list[list[tuple[int, bool]]], request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    losses = LossFunction(model, Precision(), device="cpu")
    batch = collate([arrays(row) for row in rows], pad_token_id=0, device="cpu")
    with torch.no_grad():
        found = losses(batch)
    expected = [loss for row in rows for loss in own_losses(model, row)]
    assert found.nll_N.tolist() == pytest.approx(expected, rel=2e-4, abs=2e-4)
    assert found.row_N.tolist() == [
        i for i, row in enumerate(rows) for position, (_, flag) in enumerate(row) if flag and position
    ]
    assert batch.num_learned == len(expected)


def test_a_model_that_caps_its_logits_keeps_its_own_head(llama: LlamaForCausalLM, gemma: Gemma2ForCausalLM) -> None:
    assert LossFunction(llama, Precision(), device="cpu")._plain_head
    assert not LossFunction(gemma, Precision(), device="cpu")._plain_head


def test_gradients_are_those_of_the_models_own_loss(llama: LlamaForCausalLM) -> None:
    row = [(5, False), (9, True), (17, False), (4, True)]
    batch = collate([arrays(row), arrays([(8, False), (7, True)])], pad_token_id=0, device="cpu")
    LossFunction(llama, Precision(), device="cpu")(batch).nll_N.sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in llama.named_parameters()}
    llama.zero_grad()
    padding = batch.ids_BT.shape[1] - 4
    labels = torch.tensor([[-100, 9, -100, 4, *[-100] * padding], [-100, 7, -100, -100, *[-100] * padding]])
    mask = torch.tensor([[1, 1, 1, 1, *[0] * padding], [1, 1, 0, 0, *[0] * padding]])
    (llama(input_ids=batch.ids_BT, attention_mask=mask, labels=labels).loss * 3).backward()
    for name, parameter in llama.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)
    llama.zero_grad()


@pytest.mark.parametrize(("dtype", "fits"), [("float16", False), ("bfloat16", True), ("float32", True)])
def test_a_model_whose_numbers_overflow_the_format_is_refused_before_any_step(
    llama: LlamaForCausalLM, dtype: Any, fits: bool
) -> None:
    large = deepcopy(llama)
    with torch.no_grad():
        large.lm_head.weight.mul_(1e6)
    precision = Precision(base_dtype=dtype)
    if fits:
        require_finite(large, precision, device="cpu")
        return
    with pytest.raises(FineTuneError, match="not finite in float16") as caught:
        require_finite(large, precision, device="cpu")
    assert caught.value.code == "T01"
