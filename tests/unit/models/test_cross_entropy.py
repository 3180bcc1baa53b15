"""Losses in slices against PyTorch's cross-entropy over all logits at once."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from finetune_exe.models import cross_entropy
from finetune_exe.models.cross_entropy import token_losses

TOKENS, HIDDEN, VOCABULARY = 23, 8, 50


def plain(hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(head(hidden).double(), targets, reduction="none")


def given(*, trained: bool, bias: bool) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=bias).requires_grad_(trained)
    hidden = (3 * torch.randn(TOKENS, HIDDEN)).requires_grad_()
    return hidden, head, torch.randint(VOCABULARY, (TOKENS,)), torch.randn(TOKENS)


@pytest.mark.parametrize("size", [1, 3 * VOCABULARY, 10**9])
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_losses_and_gradients_are_those_of_all_logits_at_once(
    size: int, trained: bool, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cross_entropy.SLICE_LOGITS, "cpu", size)
    monkeypatch.setattr(cross_entropy, "MOST_LOGITS", size)
    hidden, head, targets, upstream = given(trained=trained, bias=bias)
    other = copy.deepcopy(head)
    expected = plain(hidden, other, targets)
    (expected * upstream).sum().backward()
    wanted, hidden.grad = hidden.grad, None
    found = token_losses(hidden, head, targets)
    (found * upstream).sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(hidden.grad, wanted, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(head.parameters(), other.parameters(), strict=True):
        if trained:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)
        assert trained or ours.grad is None


def test_under_autocast_the_losses_are_those_of_logits_in_16_bit() -> None:
    hidden, head, targets, _ = given(trained=False, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_losses(hidden, head.bfloat16(), targets)
        expected = torch.nn.functional.cross_entropy(head(hidden).float(), targets, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_no_token_has_no_loss() -> None:
    hidden, head, targets, _ = given(trained=False, bias=False)
    assert token_losses(hidden[:0], head, targets[:0]).shape == (0,)


def test_a_frozen_head_holds_a_slice_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, _ = given(trained=False, bias=False)
    monkeypatch.setitem(cross_entropy.SLICE_LOGITS, "cpu", 2 * VOCABULARY)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        token_losses(hidden, head, targets)
    assert max(kept) == TOKENS * HIDDEN


def test_a_trained_head_keeps_the_gradient_of_its_logits_in_their_own_format() -> None:
    hidden, head, targets, _ = given(trained=True, bias=False)
    kept: list[torch.Tensor] = []
    with (
        torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        torch.autocast("cpu", dtype=torch.bfloat16),
    ):
        token_losses(hidden, head, targets)
    assert sorted((tuple(tensor.shape), tensor.dtype) for tensor in kept) == [
        ((TOKENS, HIDDEN), torch.bfloat16), ((TOKENS, VOCABULARY), torch.bfloat16),
        ((VOCABULARY, HIDDEN), torch.bfloat16),
    ]  # fmt: skip


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("pieces", [1, 7 * VOCABULARY])
def test_losses_and_gradients_hold_where_the_model_is_sure(
    trained: bool, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that is all but certain has a tiny loss and gradient, which rounding of its probability would lose."""
    monkeypatch.setitem(cross_entropy.PIECE_LOGITS, "cpu", pieces)
    torch.manual_seed(1)
    head = torch.nn.Linear(HIDDEN, VOCABULARY, bias=False).requires_grad_(trained)
    targets = torch.arange(5)
    head.weight.data[targets] = torch.eye(5, HIDDEN)
    hidden = 12 * torch.eye(5, HIDDEN)
    for dtype, near in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        ours, half = hidden.to(dtype).requires_grad_(), copy.deepcopy(head).to(dtype)
        theirs = ours.detach().double().requires_grad_()
        logits = theirs @ half.weight.double().T
        rounding = half(ours.detach()).double() - logits  # of the logits themselves
        wanted = torch.nn.functional.cross_entropy((logits + rounding).detach().requires_grad_(), targets)
        found = token_losses(ours, half, targets).double().mean()
        assert 0 < wanted < 1e-2 * math.log(VOCABULARY)
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-6)
        (mine,) = torch.autograd.grad(found, ours)
        (other,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits + rounding.detach(), targets), theirs)
        assert (mine - other).norm() <= near * other.norm()


def test_a_gpu_takes_slices_of_as_many_tokens_as_its_products_want(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device without numbers stands for it."""
    sizes, real = list[int](), torch.nn.functional.linear

    def linear(hidden: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        sizes.append(len(hidden))
        return real(hidden, *rest)

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    monkeypatch.setattr(cross_entropy, "computed_in", lambda x: x.dtype)
    head = torch.nn.Linear(HIDDEN, 131_072, bias=False, device="meta").requires_grad_(False)
    losses = token_losses(torch.empty(1200, HIDDEN, device="meta"), head, torch.empty(1200, device="meta").long())
    assert len(losses) == 1200
    assert sizes == [512, 512, 176]
