"""Packed rows against the same rows one at a time."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from finetune_exe.domain.plan import Precision
from finetune_exe.errors import FineTuneError
from finetune_exe.estimate.rows import LEAST_SHARED
from finetune_exe.models import attention, fused_attention, packing
from finetune_exe.models.attention import row_attention
from finetune_exe.models.forward import LossFunction, Rows, collate, pack
from finetune_exe.models.fused_attention import attend_by_kernels
from finetune_exe.models.layout import Layout, Row
from finetune_exe.models.packing import ROW_ATTENTION, require_packing, use_row_attention

SIZES = {
    "vocab_size": 120, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "head_dim": 8, "initializer_range": 0.5,
}  # fmt: skip
LAYERS = ["sliding_attention", "full_attention"]


def smollm() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True))


def qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**SIZES))


def mistral() -> PreTrainedModel:
    return MistralForCausalLM(MistralConfig(**SIZES, sliding_window=5))


def gemma3() -> PreTrainedModel:
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=5, layer_types=LAYERS))


def gemma2() -> PreTrainedModel:
    config = Gemma2Config(**SIZES, sliding_window=5, final_logit_softcapping=2.0, attn_logit_softcapping=3.0)
    return Gemma2ForCausalLM(config)


MODELS = {make.__name__: make for make in (smollm, qwen2, mistral, gemma3, gemma2)}
BACKENDS = ("eager", "sdpa", ROW_ATTENTION)
UNSUPPORTED = {("gemma2", "sdpa"), ("gemma2", ROW_ATTENTION)}
"""Scores that are capped: neither PyTorch's fused kernels nor ours do that."""


def made(name: str, backend: str) -> PreTrainedModel:
    if (name, backend) in UNSUPPORTED:
        pytest.skip("this backend does not cap scores, and refuses to try")
    torch.manual_seed(0)
    model = MODELS[name]().train()
    if backend == ROW_ATTENTION:
        assert use_row_attention(model)
    else:
        model.set_attn_implementation(backend)
    return model


def random_rows(lengths: tuple[int, ...], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [(rng.integers(3, 120, length), rng.random(length) < 0.6) for length in lengths]


def losses_and_gradients(model: PreTrainedModel, batches: list[Rows]) -> tuple[list[float], torch.Tensor]:
    losses = LossFunction(model, Precision(), device="cpu")
    model.zero_grad()
    found: list[float] = []
    for rows in batches:
        nll_N = losses(rows).nll_N
        nll_N.sum().backward()
        found += nll_N.tolist()
    return found, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_have_the_losses_and_gradients_of_rows_alone(name: str, backend: str) -> None:
    model = made(name, backend)
    require_packing(model)
    rows = random_rows((9, 17, 2, 12))
    alone = [collate([row], pad_token_id=0, device="cpu") for row in rows]
    expected, expected_gradient = losses_and_gradients(model, alone)
    found, gradient = losses_and_gradients(model, [pack(rows, pad_token_id=0, device="cpu")])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


@pytest.mark.filterwarnings("ignore:_compile flag:DeprecationWarning", "ignore:flex_attention called without")
@pytest.mark.parametrize("name", MODELS)
def test_packed_rows_have_the_losses_of_rows_alone_under_flex_attention(name: str) -> None:
    """PyTorch has no gradient of it on a processor."""
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        losses = LossFunction(made(name, "flex_attention"), Precision(), device="cpu")
        rows = random_rows((9, 17, 2, 12))
        expected = [
            loss for row in rows for loss in losses(collate([row], pad_token_id=0, device="cpu")).nll_N.tolist()
        ]
        found = losses(pack(rows, pad_token_id=0, device="cpu")).nll_N.tolist()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MODELS)
def test_what_stands_in_one_packed_row_never_reaches_another(name: str, backend: str) -> None:
    model = made(name, backend)
    losses = LossFunction(model, Precision(), device="cpu")
    rows = random_rows((9, 17, 5))
    changed = [random_rows((9,), seed=1)[0], rows[1], random_rows((5,), seed=2)[0]]
    one, other = (losses(pack(each, pad_token_id=0, device="cpu")) for each in (rows, changed))
    middle = [found.nll_N[found.row_N == 1].tolist() for found in (one, other)]
    assert middle[0] == middle[1]
    assert len(middle[0]) == rows[1][1][1:].sum()


@pytest.mark.parametrize("lengths", [(9,), (8, 8), (3, 1, 4, 1, 5)])
def test_learned_tokens_keep_their_rows(lengths: tuple[int, ...]) -> None:
    rows = random_rows(lengths, seed=3)
    losses = LossFunction(made("smollm", "sdpa"), Precision(), device="cpu")
    packed, padded = (losses(put(rows, pad_token_id=0, device="cpu")) for put in (pack, collate))
    assert packed.row_N.tolist() == padded.row_N.tolist()
    assert packed.nll_N.tolist() == pytest.approx(padded.nll_N.tolist(), rel=1e-4)


def absolute() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_positions=128, n_embd=16, n_layer=2, n_head=2))


def state_space() -> PreTrainedModel:
    return MambaForCausalLM(MambaConfig(vocab_size=120, hidden_size=16, state_size=4, num_hidden_layers=2))


def biased() -> PreTrainedModel:
    return BloomForCausalLM(BloomConfig(vocab_size=120, hidden_size=16, n_layer=2, n_head=2))


@pytest.mark.parametrize("make", [state_space, biased])
def test_a_model_that_lets_packed_rows_see_each_other_is_refused(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    use_row_attention(model)
    with pytest.raises(FineTuneError, match=r"batch\.packing=false") as raised:
        require_packing(model)
    assert raised.value.code == "T02"


def test_a_model_with_learned_positions_may_be_packed() -> None:
    torch.manual_seed(0)
    require_packing(absolute())


@pytest.mark.parametrize("beginning_once", [False, True])
def test_rows_that_drop_out_while_they_train_are_kept_apart_too(beginning_once: bool) -> None:
    """GPT-2 drops out a tenth of its attention. Under the same random numbers other rows change nothing of a row."""
    torch.manual_seed(0)
    model = absolute()
    assert use_row_attention(model)
    assert require_packing(model) == "beginning once"
    losses = LossFunction(model.train(), Precision(), device="cpu")
    rows = sorted(beginning_alike(*ALIKE[:3]), key=lambda row: row[0].tolist())
    changed = [*rows[:2], (rows[2][0].copy(), rows[2][1])]
    changed[2][0][13:] = 99 if beginning_once else 98
    found = []
    for each in (rows, changed):
        torch.manual_seed(1)
        found.append(losses(pack(each, pad_token_id=0, device="cpu", beginning_once=beginning_once)))
    first, second = ([of.nll_N[of.row_N == row].tolist() for row in range(3)] for of in found)
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    torch.manual_seed(2)
    again = losses(pack(rows, pad_token_id=0, device="cpu", beginning_once=beginning_once))
    assert again.nll_N.tolist() != found[0].nll_N.tolist(), "something is dropped"


@pytest.mark.parametrize("cap", [3.0, 50.0])
def test_capped_scores_keep_the_models_own_attention(cap: float) -> None:
    """Also where the cap is so high, as Gemma 2's is, that it changes nothing of the short row that is tried."""
    torch.manual_seed(0)
    model = gemma2()
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = cap
    usual = model.config._attn_implementation
    assert not use_row_attention(model)
    assert model.config._attn_implementation == usual


def beginning_alike(*rows: Row) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows that begin as the row before them for so many tokens; these and the one behind them are learned in neither."""
    made = random_rows(tuple(row.length for row in rows))
    for number, (row, following) in enumerate(itertools.pairwise([*rows, Row(1)])):
        tokens, learned = made[number]
        tokens[: row.shared], tokens[row.shared] = made[number - 1][0][: row.shared], 100 + number
        learned[: max(row.shared, following.shared) + 1] = False
    return made


ALIKE = (Row(19), Row(27, shared=11), Row(12, shared=11), Row(31), Row(40, shared=21), Row(38, shared=30))
"""Two families, and in the second of them one that shares more with a row that itself shares."""


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"gemma2"}))
def test_a_beginning_computed_once_gives_the_losses_and_gradients_of_rows_alone(name: str) -> None:
    """The window of two of the models is shorter than the beginnings."""
    model = made(name, ROW_ATTENTION)
    assert require_packing(model) == "beginning once"
    rows = beginning_alike(*ALIKE)
    packed = pack([rows[place] for place in (4, 0, 3, 5, 1, 2)], pad_token_id=0, device="cpu", beginning_once=True)
    assert packed.num_shared == 73
    assert packed.num_tokens == 167
    assert packed.ids_BT.shape[1] == 96
    found, gradient = losses_and_gradients(model, [packed])
    alone = [collate([row], pad_token_id=0, device="cpu") for row in rows]
    expected, expected_gradient = losses_and_gradients(model, alone)
    assert sorted(found) == pytest.approx(sorted(expected), rel=1e-4, abs=1e-5)
    assert (gradient - expected_gradient).norm() <= 1e-4 * expected_gradient.norm()


def test_losses_belong_to_their_rows_where_the_beginning_is_computed_once() -> None:
    rows = sorted(beginning_alike(*ALIKE), key=lambda row: row[0].tolist())
    losses = LossFunction(made("smollm", ROW_ATTENTION), Precision(), device="cpu")
    packed = losses(pack(rows, pad_token_id=0, device="cpu", beginning_once=True))
    padded = losses(collate(rows, pad_token_id=0, device="cpu"))
    assert packed.row_N.tolist() == padded.row_N.tolist()
    assert packed.nll_N.tolist() == pytest.approx(padded.nll_N.tolist(), rel=1e-4)


def fewest_tokens(rows: list[tuple[np.ndarray, np.ndarray]]) -> int:
    """What is left if each row in turn leaves out the most it may of what any row before it begins with."""
    left, known = 0, []
    for tokens, learned in sorted(rows, key=lambda row: row[0].tolist()):
        firsts = [0]
        for earlier in known:
            for size in range(1, len(tokens)):
                if not learned[1 : size + 1].any() and earlier[:size].tolist() == tokens[:size].tolist():
                    firsts.append(size)
        most = max(firsts)
        left += len(tokens) - (most if most >= LEAST_SHARED else 0)
        known.append(tokens)
    return left


@given(
    ends=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=5),
    common=st.integers(0, 6),
    unlearned=st.integers(0, 14),
)
@settings(max_examples=200, deadline=None)
def test_rows_can_be_read_back_from_where_they_lie(ends: list[list[int]], common: int, unlearned: int) -> None:
    rows = [(np.array([7] * common + end), np.arange(common + len(end)) >= unlearned + len(end) % 3) for end in ends]
    packed = pack(rows, pad_token_id=9, device="cpu", beginning_once=True)
    layout = packed.layout
    assert layout is not None
    ids, learned = packed.ids_BT[0].tolist(), packed.learned_BT[0].tolist()
    assert len(ids) % 8 == 0
    assert len(ids) - layout.padding == packed.num_tokens - packed.num_shared == fewest_tokens(rows)
    read = []
    for row, spans in zip(layout.rows, layout.spans, strict=False):
        places = [place for span in spans for place in range(*span)]
        assert [layout.positions[place] for place in places] == list(range(row.length))
        own = places[row.shared :]
        assert len(own) == row.length - row.shared > 0
        assert not learned[own[0]]
        read.append(([ids[place] for place in places], [False] * row.shared + [learned[place] for place in own]))
    assert sorted(read) == sorted((tokens.tolist(), [False, *flags.tolist()[1:]]) for tokens, flags in rows)


def test_a_model_that_cannot_be_told_of_a_beginning_elsewhere_is_packed_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = made("smollm", ROW_ATTENTION)
    real = packing.packing_inputs

    def untold(layout: Layout, model: PreTrainedModel) -> dict[str, Any]:
        return real(Layout(tuple(Row(row.length - row.shared) for row in layout.rows)), model)

    with monkeypatch.context() as patch:
        patch.setattr(packing, "packing_inputs", untold)
        assert require_packing(model) == "end to end"
    assert require_packing(model) == "beginning once"
    assert require_packing(made("smollm", "sdpa")) == "end to end"


def dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, window: int) -> torch.Tensor:
    """Attention by its definition, with a mask over all positions, in float64."""
    seen = torch.zeros(layout.starts[-1], layout.starts[-1], dtype=torch.bool)
    places: list[int] = []
    for row, start in zip(layout.rows, layout.starts, strict=False):
        places = [*places[: row.shared], *range(start, start + row.length - row.shared)]
        for position in range(row.shared, row.length):
            seen[places[position], places[max(0, position - window + 1) : position + 1]] = True
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return (torch.softmax(scores.masked_fill(~seen, -torch.inf), dim=-1) @ value).transpose(1, 2)


def kernel_for_rows(
    query_NHD: torch.Tensor, key_MKD: torch.Tensor, value_MKD: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor,
    most_queries: int, most_keys: int, *, scale: float, window_size: tuple[int, int], **_: bool,
) -> torch.Tensor:  # fmt: skip
    """Compute what PyTorch documents of `varlen_attn`, for GPUs alone: a row's last query stands at its last key."""
    read, (before, behind) = [], window_size
    key_MHD, value_MHD = (x.repeat_interleave(query_NHD.shape[1] // x.shape[1], dim=1) for x in (key_MKD, value_MKD))
    for own, whole in zip(itertools.pairwise(queries.tolist()), itertools.pairwise(keys.tolist()), strict=True):
        query, key, value = query_NHD[slice(*own)], key_MHD[slice(*whole)], value_MHD[slice(*whole)]
        assert len(query) <= most_queries
        assert len(key) <= most_keys
        ahead = torch.arange(len(key)) - torch.arange(len(key) - len(query), len(key)).unsqueeze(1)
        hidden = (ahead > behind) | (ahead < -before if before >= 0 else torch.zeros_like(ahead, dtype=torch.bool))
        scores = torch.einsum("nhd,mhd->hnm", query, key).mul(scale).masked_fill(hidden, -torch.inf)
        read.append(torch.einsum("hnm,mhd->nhd", torch.softmax(scores, dim=-1), value))
    return torch.cat(read)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    rows = [Row(draw(st.integers(1, 40)))]
    for own in draw(st.lists(st.integers(1, 40), max_size=4)):
        shared = draw(st.integers(0, rows[-1].length))
        rows.append(Row(shared + own, shared))
    return Layout(tuple(rows))


@given(
    layout=layouts(),
    window=st.sampled_from([1, 3, 17, 1000]),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2), (3, 3)]),
    block=st.sampled_from([1, 7, 16, 256]),
)
@settings(max_examples=60, deadline=None)
def test_row_attention_is_attention_by_its_definition(
    layout: Layout, window: int, heads: tuple[int, int], block: int
) -> None:
    torch.manual_seed(layout.starts[-1])
    inputs = [
        torch.randn(1, count, layout.starts[-1], 4, dtype=torch.float64, requires_grad=True)
        for count in (*heads, heads[1])
    ]
    expected = dense(*inputs, layout, window)
    upstream = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, upstream)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_QUERIES", block)
        patch.setattr(fused_attention, "LEAST_QUERIES", block)
        by_kernels = attend_by_kernels(*inputs, layout=layout, window=window, scale=0.5)
        patch.setattr(fused_attention, "varlen_attn", kernel_for_rows)
        patch.setattr(fused_attention, "can_use_flash_attention", lambda params: params.attn_mask is None)
        together = attend_by_kernels(*inputs, layout=layout, window=window, scale=0.5)
        found, _ = row_attention(torch.nn.Module(), *inputs, None, sliding_window=window, row_layout=layout)
        gradients = torch.autograd.grad(found, inputs, upstream)
    module = torch.nn.Module()
    module.num_key_value_groups = heads[0] // heads[1]  # type: ignore[assignment]
    as_with_dropout, _ = row_attention(module, *inputs, None, dropout=1e-30, sliding_window=window, row_layout=layout)
    others = ((of, torch.autograd.grad(of, inputs, upstream)) for of in (by_kernels, together, as_with_dropout))
    for output, slopes in ((found, gradients), *others):
        torch.testing.assert_close(output, expected)
        for slope, want in zip(slopes, wanted, strict=True):
            torch.testing.assert_close(slope, want)
