"""How long the rows of a plan are in tokens: as they were counted, or judged from their characters."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finetune_exe.domain.plan import Batch, DataChoice, Plan
from finetune_exe.domain.task import DataProfile, TokenCounts
from finetune_exe.domain.values import Interval
from finetune_exe.knowledge.rules import rule

GROUPED_STEPS = 32
"""Steps among which rows are sorted by length; more pads less and mixes less."""
PADDED_TO = 8
"""Batches are as long as a multiple of this: with few different shapes the heap finds room in what it has.

Source: SmolLM2-135M, 34 steps of 8 rows of 70 to 128 tokens on a processor: 2.4 GiB at the peak against 2.8 without, in
the same time."""
MOST_TESTED = 0.4
"""Share of the rows that a wanted detectable difference may claim."""
LEAST_SHARED = 4
"""Tokens that two rows must begin with alike for one of them to leave them out."""
WORTH_SHARING = {"cpu": 0.02, "gpu": 0.05}
"""Share of the tokens of a pass that rows must begin with alike for any to be left out.

Source: SmolLM2-135M on two Zen 4 cores, passes of eight rows and 1,300 tokens: the seams cost as much as 0.5 % of them.
On a GPU the keys of each row are copied in every layer, a thirtieth of a step's kernels (benchmarks/gpu.md)."""
MAX_ARRANGED = 20_000
"""Rows that are arranged to see how batches come out; more tell nothing new."""
SAMPLING_ERROR = 0.02
"""Share by which a counted length may be off at least: the rows trained on are others than those counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """Rows on each side of the split."""

    train: int
    validation: int
    test: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """How the rows of training come out in micro-batches."""

    longest_tokens: float
    """Tokens a row in the pass that holds most, padding included, over all rows of a full pass; a beginning that they
    share counts for each of them."""
    padded_share: float
    """Padding over real tokens, on average."""
    num_forms: int
    """Passes of an epoch whose tensors differ in form: padded, in the number of tokens; packed, in lengths of rows."""


def counted_tokens(plan: Plan) -> TokenCounts | None:
    """Give the counts of the plan's rows in tokens of the plan's own model, where they were made."""
    tokens = plan.profile.tokens if plan.profile else None
    return tokens if tokens is not None and tokens.model == plan.model.reference else None


def shared_tokens(plan: Plan) -> float:
    """Count the tokens that a sequence begins with as another of its pass, where the plan's passes compute them once.

    Returns:
        Their mean over all sequences of a pass but the first.
    """
    tokens, size = counted_tokens(plan), sequences_of_pass(plan)
    if tokens is None or plan.profile is None or not plan.batch.packing or size == 1:
        return 0.0
    rows, mean = plan.batch.micro_batch_size, row_tokens(plan).mid
    in_pairs = rows * tokens.pairs.shared * mean if is_paired(plan) and tokens.pairs is not None else 0.0
    saved = in_pairs + (rows - 1) * tokens.shared_beginning
    worth = is_worth_sharing(saved, size * mean, gpu=bool(plan.hardware.gpus))
    return saved / (size - 1) if worth else 0.0


def is_paired(plan: Plan) -> bool:
    """Say whether each row is two sequences, with its better and with its worse answer."""
    return plan.objective.kind == "dpo"


def sequences_of_pass(plan: Plan) -> int:
    """Count the sequences of a full pass."""
    return plan.batch.micro_batch_size * (2 if is_paired(plan) else 1)


def is_worth_sharing(shared: float, tokens: float, *, gpu: bool) -> bool:
    """Say whether so many of a pass's tokens are enough to leave them out."""
    return shared > WORTH_SHARING["gpu" if gpu else "cpu"] * tokens


def test_share(data: DataChoice, rows: int) -> float:
    """Give the share of the rows wanted for the test: as the plan says, or as its detectable difference asks.

    The test takes `MOST_TESTED` of the rows at most.
    """
    if data.test_paths:
        return 0.0
    if data.detectable_difference is None:
        return data.test_fraction
    wanted = math.ceil((rule("detectable_difference")["factor"] / data.detectable_difference) ** 2)
    return min(MOST_TESTED, wanted / max(1, rows))


def usable_rows(profile: DataProfile, *, deduplicate: bool = False) -> int:
    """Count the rows that hold an answer to learn, without those that repeat an earlier one if they are dropped."""
    empty = 0.0 if profile.format == "completion" else profile.empty_answer_share
    repeats = profile.duplicate_share if deduplicate else 0.0
    return round((profile.num_rows - profile.num_unusable) * max(0.0, 1 - empty - repeats))


def expected_rows(plan: Plan) -> int:
    """Count the rows of the plan: the usable ones, else those that are spoken of, else those that are recommended."""
    if plan.profile is not None:
        rows = usable_rows(plan.profile, deduplicate=plan.data.deduplicate)
    else:
        rows = plan.task.num_rows or plan.data_needs.recommended_samples
    return rows if plan.data.max_rows is None else min(rows, plan.data.max_rows)


def split_sizes(plan: Plan) -> SplitSizes:
    """Share out the rows as the plan says; those longer than it allows are no part of them."""
    rows, tokens = expected_rows(plan), counted_tokens(plan)
    if tokens is not None and plan.profile is not None and plan.profile.format != "completion":
        rows = round(rows * len(_kept(tokens, plan.data.max_length)) / len(tokens.lengths))
    validation = 0 if plan.data.validation_paths else round(rows * plan.data.validation_fraction)
    test = round(rows * test_share(plan.data, rows))
    return SplitSizes(train=max(0, rows - validation - test), validation=validation, test=test)


def row_tokens(plan: Plan) -> Interval:
    """Give the mean length of a row in tokens; without data, that of usual rows."""
    tokens, profile, longest = counted_tokens(plan), plan.profile, plan.data.max_length
    if profile is None:
        is_short = plan.task.type in ("classification", "extraction")
        usual = rule("usual_row_characters_of_labels" if is_short else "usual_row_characters")
        return Interval(
            low=tokens_of(usual["low"], longest=longest).low,
            mid=tokens_of(usual["mid"], longest=longest).mid,
            high=tokens_of(usual["high"], longest=longest).high,
        )
    if tokens is None:
        return judged_tokens(profile, profile.row_characters_mean, longest=longest)
    kept = _kept(tokens, plan.data.max_length) or (plan.data.max_length,)
    middle = statistics.fmean(kept)
    spread = 2 * statistics.pstdev(kept) / math.sqrt(min(tokens.num_rows, profile.num_rows)) + SAMPLING_ERROR * middle
    return Interval(low=max(1.0, middle - spread), mid=middle, high=middle + spread)


def padded_length(longest: int) -> int:
    """Give the length of a batch whose longest row has so many tokens."""
    return -(-longest // PADDED_TO) * PADDED_TO


class Placed(NamedTuple):
    """A row in an order of them."""

    row: int
    """Which one it is."""
    shared: int
    """Tokens that it begins with as the row before it in that order, where they may be computed once for both."""


def order_by_beginning(rows: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> list[Placed]:
    """Order rows so that those that begin alike follow each other.

    In the order of their tokens no earlier row has more in common with one than the row right before it. Nothing shared
    is learned, nor the token behind it, which it would predict; and each row keeps a token of its own.

    Args:
        rows: Tokens, and which of them are learned; the first of a row never is.
    """
    order = sorted(range(len(rows)), key=lambda row: tuple(rows[row][0]))
    return [Placed(row, _shared(rows[before], rows[row])) for before, row in itertools.pairwise([*order[:1], *order])]


def _shared(before: tuple[Sequence[int], Sequence[bool]], row: tuple[Sequence[int], Sequence[bool]]) -> int:
    """Count the tokens that a row begins with as another does, where it may leave them out."""
    if before is row:
        return 0
    tokens, learned = row
    first_learned = next((place for place, flag in enumerate(learned) if flag and place), len(tokens))
    most = min(len(before[0]), len(tokens) - 1, first_learned - 1)
    alike = next((place for place in range(most) if tokens[place] != before[0][place]), most)
    return alike if alike >= LEAST_SHARED else 0


def tokens_of(characters: float, *, longest: float) -> Interval:
    """Turn characters into tokens, none above `longest`."""
    a_token = rule("characters_per_token")
    return Interval(
        low=min(longest, characters / a_token["high"]),
        mid=min(longest, characters / a_token["mid"]),
        high=min(longest, characters / a_token["low"]),
    )


def judged_tokens(profile: DataProfile, characters: float, *, longest: float) -> Interval:
    """Judge the tokens of a row from its characters, and those that a chat template writes into it."""
    text, around = tokens_of(characters, longest=math.inf), template_tokens(profile)
    return Interval(
        low=min(longest, text.low + around.low),
        mid=min(longest, text.mid + around.mid),
        high=min(longest, text.high + around.high),
    )


def template_tokens(profile: DataProfile) -> Interval:
    """Guess the tokens that a chat template writes into a row beside its text: none into plain texts."""
    if profile.format == "completion":
        return Interval(low=0.0, mid=0.0, high=0.0)
    known, messages = rule("template_tokens"), max(2.0, profile.num_turns_mean)
    around = known["message"] * messages
    return Interval(low=known["least"] * messages, mid=around, high=around + known["system"])


def learned_share(profile: DataProfile | None, tokens: TokenCounts | None = None, *, paired: bool = False) -> Interval:
    """Give the share of a row's tokens that are learned: its answers', of a pair the last two, or all of a text."""
    if profile is None:
        return Interval(low=0.1, mid=0.5, high=1.0)
    if profile.format == "completion":
        return Interval(low=1.0, mid=1.0, high=1.0)
    if tokens is not None:
        known = tokens.pairs.learned if paired and tokens.pairs is not None else tokens.learned_share
        return Interval(low=0.9 * known, mid=known, high=min(1.0, 1.1 * known))
    turns = max(1.0, profile.num_turns_mean / 2)
    answer = profile.answer_characters_p50 * turns
    share = min(1.0, answer / max(1.0, profile.row_characters_mean, answer))
    return Interval(low=share / 2, mid=share, high=min(1.0, 2 * share + 0.1))


def arrange_passes(plan: Plan) -> Passes | None:
    """Lay out rows as long as those that were counted in the passes of an epoch, as training will.

    Returns:
        What comes of it; None where nothing was counted.
    """
    tokens, profile = counted_tokens(plan), plan.profile
    if tokens is None or profile is None:
        return None
    kept = _kept(tokens, plan.data.max_length)
    rows = min(MAX_ARRANGED, split_sizes(plan).train)
    if not kept or not rows:
        return None
    lengths = [kept[int((index + 0.5) / rows * len(kept))] for index in range(rows)]
    random.Random(0).shuffle(lengths)  # noqa: S311 - one typical order, no secret
    shared, members = shared_tokens(plan), 2 if is_paired(plan) else 1
    passes = _passes(lengths, plan.batch)
    padded = [_pass_positions(members * part, plan.batch, shared) for part in passes]
    size = members * min(plan.batch.micro_batch_size, rows)
    return Passes(
        longest_tokens=max(padded) / size,
        padded_share=sum(padded) / (members * sum(lengths)) - 1,
        num_forms=len({tuple(sorted(part)) for part in passes} if plan.batch.packing else set(padded)),
    )


def share_out(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Share the rows of a step out to passes of `size` rows at most that hold about as many tokens each.

    Args:
        lengths: Tokens of each row.
        size: Rows a pass.

    Returns:
        For each pass, which rows it takes.
    """
    passes: list[list[int]] = [[] for _ in range(math.ceil(len(lengths) / size))]
    with_room = [(0, number) for number in range(len(passes))]
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        tokens, emptiest = heapq.heappop(with_room)
        passes[emptiest].append(row)
        if len(passes[emptiest]) < size:
            heapq.heappush(with_room, (tokens + lengths[row], emptiest))
    return passes


def _pass_positions(rows: list[int], batch: Batch, shared: float) -> float:
    """Count the tokens of a pass with padding, each row's beginning included; of its rows the lengths are given."""
    if not batch.packing:
        return len(rows) * padded_length(max(rows))
    once = (len(rows) - 1) * shared
    return padded_length(math.ceil(sum(rows) - once)) + once


def _passes(lengths: list[int], batch: Batch) -> list[list[int]]:
    """Cut an order into micro-batches, rows of like length together where the plan groups them."""
    window = batch.effective * GROUPED_STEPS
    if batch.group_by_length:
        lengths = [
            length for start in range(0, len(lengths), window) for length in sorted(lengths[start : start + window])
        ]
    steps = [lengths[start : start + batch.effective] for start in range(0, len(lengths), batch.effective)]
    size = batch.micro_batch_size
    if batch.packing:
        return [[step[row] for row in rows] for step in steps for rows in share_out(step, size)]
    return [step[start : start + size] for step in steps for start in range(0, len(step), size)]


def _kept(tokens: TokenCounts, longest: int) -> tuple[int, ...]:
    return tuple(length for length in tokens.lengths if length <= longest)
