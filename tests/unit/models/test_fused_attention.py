"""What is asked of a GPU's kernels for attention; what they compute is held against the definition in test_packing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from finetune_exe.models import fused_attention
from finetune_exe.models.fused_attention import attend_by_kernels
from finetune_exe.models.layout import Layout, Row

Asked = list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None, bool]]


def asked_of_kernels(monkeypatch: pytest.MonkeyPatch, *, flash: bool, window: int, lengths: tuple[int, ...]) -> Asked:
    """Attend as on a GPU and note the shapes of queries, keys and masks of each kernel, and whether keys are grouped."""
    asked, real = Asked(), torch.nn.functional.scaled_dot_product_attention

    def noted(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **rest: Any) -> torch.Tensor:
        mask = rest["attn_mask"]
        asked.append(
            (tuple(query.shape), tuple(key.shape), None if mask is None else tuple(mask.shape), rest["enable_gqa"])
        )
        return real(query, key, value, **rest)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    monkeypatch.setattr(fused_attention, "can_use_flash_attention", lambda params: flash and params.attn_mask is None)
    layout = Layout(tuple(map(Row, lengths)))
    query, key = (torch.randn(1, heads, sum(lengths), 8) for heads in (4, 2))
    attend_by_kernels(query, key, key, layout=layout, window=window, scale=1.0)
    return asked


def test_a_kernel_for_grouped_keys_gets_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,) = asked_of_kernels(monkeypatch, flash=True, window=900, lengths=(900,))
    assert asked == ((1, 4, 900, 8), (1, 2, 900, 8), None, True)


def test_no_kernel_on_a_gpu_holds_all_scores_for_grouped_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, before Ampere and under a mask PyTorch would fall back to products with all scores in memory."""
    asked = asked_of_kernels(monkeypatch, flash=False, window=5000, lengths=(900, 40))
    assert [(key, mask, grouped) for _, key, mask, grouped in asked] == [
        ((1, 4, 900, 8), None, False), ((1, 4, 40, 8), None, False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("lengths", "flash", "kernels"),
    [((900, 40, 7), True, "rows"), ((900, 40, 7), False, "row" * 3), ((900,), True, "row"), ((3000, 2000), True, "rowrow"),
     ((2100, 1900), True, "rows")],
)  # fmt: skip
def test_one_kernel_takes_all_rows_where_most_are_short(
    lengths: tuple[int, ...], flash: bool, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would else wait for the processor, which begins several kernels for each row, layer and direction."""
    called = list[str]()

    def together(query: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        called.append("rows")
        return query

    monkeypatch.setattr(fused_attention, "varlen_attn", together)
    asked = asked_of_kernels(monkeypatch, flash=flash, window=5000, lengths=lengths)
    assert "".join([*called, *["row"] * len(asked)]) == kernels


def test_a_window_costs_a_gpu_no_more_than_blocks_of_about_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asked_of_kernels(monkeypatch, flash=True, window=300, lengths=(4000, 200))
    assert asked[-1] == ((1, 4, 200, 8), (1, 2, 200, 8), None, True)
    assert len(asked) == 15
    assert all(not grouped and mask is not None and mask <= (300, 600) for *_, mask, grouped in asked[:-1])
