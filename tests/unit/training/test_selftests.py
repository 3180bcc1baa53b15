"""The doctor's self-tests pass on a sound stack, and each of them sees its own thing broken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import write_model

from finetune_exe.domain.checkup import SelfTest
from finetune_exe.models.layout import Layout, Row
from finetune_exe.models.methods import METHODS
from finetune_exe.training import selftests, setup
from finetune_exe.training.selftests import SELF_TESTS, Measurement, learning, make_self_test, masks, precision, storing
from finetune_exe.training.selftests import bench as bench_module
from finetune_exe.training.selftests.bench import Bench, set_up_bench
from finetune_exe.training.selftests.measure import Measured, NotMeasuredError, distance
from finetune_exe.training.step import Learned

ROWS = {row.name: row for row in SELF_TESTS}
Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return set_up_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture
def scratch(bench: Bench, tmp_path: Path) -> Bench:
    """The same bench, with scratch space of the test's own."""
    return dataclasses.replace(bench, folder=tmp_path)


def a_mean_of_means(monkeypatch: pytest.MonkeyPatch) -> None:
    def learn(made: Any, rows: Any, *, max_norm: float | None) -> Learned:
        made.optimizer.zero_grad()
        losses = [made.losses(batch).nll_N.mean() / len(rows) for batch in rows]
        for loss in losses:
            loss.backward()
        return Learned(sum(loss.item() for loss in losses), 1.0)

    monkeypatch.setattr(learning, "learn", learn)


def padding_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = bench_module.collate

    def collate(sequences: Any, **options: Any) -> Any:
        rows = real(sequences, **options)
        shifts = [rows.ids_BT.shape[1] - len(tokens) for tokens, _ in sequences]
        return dataclasses.replace(rows, ids_BT=rolled(rows.ids_BT, shifts), learned_BT=rolled(rows.learned_BT, shifts))

    monkeypatch.setattr(bench_module, "collate", collate)


def rolled(rows_BT: torch.Tensor, shifts: list[int]) -> torch.Tensor:
    return torch.stack([row.roll(shift) for row, shift in zip(rows_BT, shifts, strict=True)])


def packed_rows_that_see_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real = learning.pack

    def pack(*args: Any, **options: Any) -> Any:
        rows = real(*args, **options)
        assert bool(rows.num_shared) == options["beginning_once"]
        return dataclasses.replace(rows, layout=Layout((Row(rows.layout.starts[-1]),)))

    monkeypatch.setattr(learning, "pack", pack)


def attention_of_another_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention",
        lambda *args, **options: real(*args, **{**options, "scale": 1.01 * (options.get("scale") or 0.25)}),
    )  # fmt: skip


def recomputing_that_loses_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import modeling_utils

    def checkpoint(layer: Any, hidden: torch.Tensor, *rest: Any, use_reentrant: bool, **options: Any) -> Any:
        return layer(hidden.detach(), *rest, **options)

    monkeypatch.setattr(modeling_utils, "checkpoint", checkpoint)


def decay_inside_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        setup, "make_optimizer",
        lambda settings, groups, *_: torch.optim.Adam(
            [p for group in groups for p in group["params"]], lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        ),
    )  # fmt: skip


def a_seed_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "manual_seed", lambda seed: None)


def weights_saved_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    real = type(METHODS["full"]).save
    monkeypatch.setattr(
        type(METHODS["full"]), "save", lambda self, model, folder: real(self, model.to(torch.bfloat16), folder)
    )


def states_that_are_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    real = storing.restore_state

    def restore(made: Any, folder: Path) -> None:
        real(made, folder)
        made.optimizer.state.clear()

    monkeypatch.setattr(storing, "restore_state", restore)


def adapters_that_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "merged", lambda model: model.unload())


def four_bit_layers_that_learn_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_exe.models import low_rank_4_bit

    class Wrong(low_rank_4_bit.NormalFloat):
        def whole(self, packed: torch.Tensor) -> torch.Tensor:
            return 1.5 * super().whole(packed)

    monkeypatch.setattr(low_rank_4_bit, "NormalFloat", Wrong)


def products_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.Tensor.__matmul__

    def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype is torch.float32:
            return real(left.bfloat16(), right.bfloat16()).float()
        return real(left, right)

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)


def bfloat16_weights_of_another_model(monkeypatch: pytest.MonkeyPatch) -> None:
    real = precision.load_model

    def load(folder: Path, *, dtype: Any, device: str) -> Any:
        model = real(folder, dtype=dtype, device=device)
        if dtype == "bfloat16":
            with torch.no_grad():
                model.get_input_embeddings().weight.mul_(1.5)
        return model

    monkeypatch.setattr(precision, "load_model", load)


def weights_kept_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        type(METHODS["full"]), "attach", lambda self, model, method, **_: model.bfloat16().requires_grad_(True)
    )


def a_mask_that_misses_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    real = masks.encode

    def encode(*args: Any, **options: Any) -> Any:
        (row,) = real(*args, **options)
        last = row.ranges[-1]
        return (dataclasses.replace(row, ranges=(*row.ranges[:-1], last._replace(end=last.end - 1))),)

    monkeypatch.setattr(masks, "encode", encode)


def a_prompt_that_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    real = masks.encode_prompt
    monkeypatch.setattr(masks, "encode_prompt", lambda *args: real(*args)[:-1])


BREAKS: dict[str, Break] = {
    "accumulation": a_mean_of_means,
    "padding": padding_that_is_seen,
    "packing": packed_rows_that_see_each_other,
    "attention": attention_of_another_scale,
    "recomputing": recomputing_that_loses_the_way_back,
    "optimizer": decay_inside_the_gradient,
    "same seed": a_seed_nobody_sets,
    "saved = loaded": weights_saved_in_bfloat16,
    "resumed": states_that_are_left_behind,
    "merged = adapter": adapters_that_are_dropped,
    "4-bit gradients": four_bit_layers_that_learn_wrong,
    "float32 products": products_in_bfloat16,
    "bfloat16 losses": bfloat16_weights_of_another_model,
    "small updates": weights_kept_in_bfloat16,
    "masks": a_mask_that_misses_the_end,
    "prompts": a_prompt_that_ends_early,
}


def test_every_self_test_has_a_way_to_break_it() -> None:
    assert list(BREAKS) == list(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_a_sound_stack_passes(name: str, scratch: Bench) -> None:
    made = make_self_test(ROWS[name], scratch)
    assert made.verdict == "passed", made
    assert made.figure is not None
    assert made.figure <= made.tolerance


@pytest.mark.parametrize("name", ROWS)
def test_a_broken_stack_is_caught(name: str, scratch: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    BREAKS[name](monkeypatch)
    made = make_self_test(ROWS[name], scratch)
    assert made.verdict == "FAILED", made
    assert made.figure is not None, f"caught by a crash, not by its figure: {made.detail}"
    assert made.figure > 3 * made.tolerance


@pytest.mark.parametrize(("memory_bytes", "tolerance"), [(8 << 30, 1e-4), (100, selftests.IN_BFLOAT16)])
def test_a_model_at_hand_is_tested_in_the_format_that_fits(
    memory_bytes: int, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_model(tmp_path / "mine")
    packing, *others = selftests.run_model_tests(base, name="mine", memory_bytes=memory_bytes)
    assert (packing.name, packing.verdict, packing.tolerance) == ("packing: mine", "passed", tolerance)
    assert [(test.name, test.verdict) for test in others] == [("prompts: mine", "passed")]
    for kind in ("eager", "sdpa", "ours, row by row", "their beginning once"):
        assert kind in packing.detail
    packed_rows_that_see_each_other(monkeypatch)
    assert selftests.run_model_tests(base, name="mine", memory_bytes=memory_bytes)[0].verdict == "FAILED"


def test_a_model_without_a_template_is_tested_with_the_plain_one(tmp_path: Path) -> None:
    base = write_model(tmp_path / "plain")
    (base / "chat_template.jinja").unlink()
    made = selftests.run_model_tests(base, name="plain", memory_bytes=8 << 30)
    assert [(test.name, test.verdict) for test in made] == [("packing: plain", "passed")]


def judged(measure: Callable[[Bench], Measured], bench: Bench) -> SelfTest:
    return make_self_test(Measurement("x", "y", 0.1, measure), bench)


def test_a_figure_that_is_no_number_fails(bench: Bench) -> None:
    made = judged(lambda _: Measured(math.nan, "losses"), bench)
    assert (made.verdict, made.figure, made.detail) == ("FAILED", None, "losses: nan")


def test_a_stack_that_crashes_fails_with_its_words(bench: Bench) -> None:
    def crash(_: Bench) -> Measured:
        raise RuntimeError("undefined symbol: cgemm")

    made = judged(crash, bench)
    assert (made.verdict, made.detail) == ("FAILED", "RuntimeError: undefined symbol: cgemm")


def test_what_cannot_be_measured_is_neither_passed_nor_failed(bench: Bench) -> None:
    def absent(_: Bench) -> Measured:
        raise NotMeasuredError("bitsandbytes is not installed")

    assert judged(absent, bench).verdict == "not measured"


def test_all_of_a_table_are_made_and_told(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    monkeypatch.setattr(selftests, "set_up_bench", lambda folder: bench)
    told: list[tuple[str, int, int]] = []
    row = Measurement("x", "y", 0.1, lambda _: Measured(0.0, "none"))
    made = selftests.run_self_tests(table=[row, row], told=lambda *what: told.append(what))
    assert [test.verdict for test in made] == ["passed", "passed"]
    assert told == [("self-test: x", 0, 2), ("self-test: x", 1, 2), ("self-tests", 2, 2)]


def test_distances_are_relative_and_nothing_is_infinitely_far_from_something() -> None:
    one, other = [torch.tensor([3.0, 4.0])], [torch.tensor([3.0, 4.5])]
    assert distance(one, one) == 0.0
    assert distance(other, one) == pytest.approx(0.1)
    assert distance(one, [torch.zeros(2)]) == math.inf
