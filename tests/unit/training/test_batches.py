"""Which rows meet in which step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.domain.plan import Batch, Schedule
from finetune_exe.training.batches import count_steps, plan_epoch

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=300)


def step_rows(steps: list[list[list[int]]]) -> list[list[int]]:
    return [sorted(index for batch in step for index in batch) for step in steps]


@given(lengths=lengths, micro=st.sampled_from([1, 2, 4, 8]), grouped=st.booleans(), seed=st.integers(0, 5))
def test_every_sequence_is_used_once_and_steps_do_not_depend_on_the_split(
    lengths: list[int], micro: int, grouped: bool, seed: int
) -> None:
    def planned(micro_batch_size: int) -> list[list[list[int]]]:
        batch = Batch(micro_batch_size=micro_batch_size, gradient_accumulation_steps=8 // micro_batch_size,
                      group_by_length=grouped)  # fmt: skip
        return plan_epoch(lengths, batch, seed=seed, epoch=1)

    steps = planned(micro)
    assert sorted(index for step in step_rows(steps) for index in step) == list(range(len(lengths)))
    assert step_rows(steps) == step_rows(planned(8))
    assert all(len(batch) <= micro for step in steps for batch in step)


def test_order_follows_seed_and_epoch() -> None:
    batch, rows = Batch(micro_batch_size=2), list(range(1, 41))
    first = plan_epoch(rows, batch, seed=0, epoch=0)
    assert first == plan_epoch(rows, batch, seed=0, epoch=0)
    assert first != plan_epoch(rows, batch, seed=0, epoch=1)
    assert first != plan_epoch(rows, batch, seed=1, epoch=0)


def test_grouping_by_length_pads_less() -> None:
    rows = [(index * 7919) % 500 + 1 for index in range(400)]

    def padded(grouped: bool) -> int:
        steps = plan_epoch(rows, Batch(micro_batch_size=8, group_by_length=grouped), seed=0, epoch=0)
        return sum(max(rows[i] for i in batch) * len(batch) for step in steps for batch in step)

    assert padded(True) < 1.1 * sum(rows)
    assert padded(False) > 1.5 * sum(rows)


def test_steps_are_counted_from_epochs_and_capped() -> None:
    batch = Batch(micro_batch_size=4, gradient_accumulation_steps=2)
    assert count_steps(20, batch, Schedule(epochs=1.0, max_steps=None)) == 3
    assert count_steps(20, batch, Schedule(epochs=2.5, max_steps=None)) == 8
    assert count_steps(20, batch, Schedule(epochs=2.5, max_steps=5)) == 5
    assert count_steps(20, batch, Schedule(epochs=0.01, max_steps=None)) == 1


@given(lengths=lengths, micro=st.sampled_from([1, 2, 4, 8]), grouped=st.booleans(), seed=st.integers(0, 5))
def test_packed_passes_hold_about_as_many_tokens_each_of_the_same_steps(
    lengths: list[int], micro: int, grouped: bool, seed: int
) -> None:
    sizes = Batch(micro_batch_size=micro, gradient_accumulation_steps=8 // micro, group_by_length=grouped)
    packed = plan_epoch(lengths, sizes.model_copy(update={"packing": True}), seed=seed, epoch=0)
    assert step_rows(packed) == step_rows(plan_epoch(lengths, sizes, seed=seed, epoch=0))
    assert packed == plan_epoch(lengths, sizes.model_copy(update={"packing": True}), seed=seed, epoch=0)
    for step in packed:
        held = [sum(lengths[row] for row in rows) for rows in step]
        assert all(len(rows) <= micro for rows in step)
        if all(len(rows) < micro for rows in step):
            assert max(held) - min(held) <= max(lengths[row] for rows in step for row in rows)
