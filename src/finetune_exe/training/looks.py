"""Looks at a model while it trains: a few rows answered, and the loss of text that no task is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from finetune_exe.domain.events import Emit, GeneralTextMeasured, Noticed, Sample, Sampled
from finetune_exe.domain.plan import Plan
from finetune_exe.models.forward import mean_loss
from finetune_exe.models.generate import generate
from finetune_exe.models.positions import position_limit
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.models.reading import reading
from finetune_exe.prepared.store import SplitData
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import ChatTokenizer
from finetune_exe.training.memory import is_out_of_memory, release_memory
from finetune_exe.training.setup import Setup

SHARE_OF_TIME = 0.02
"""Most of the run's time that answers may take; the first are always given, for later ones are held against them."""
QUICK_SECONDS = 0.5
"""Answers that take less are not worth leaving out."""
ANSWER_TOKENS = 24
LONGEST_PROMPT = 512
MOST_ROWS = 2000
"""Rows that questions are chosen from."""
GENERIC_TOKENS = 32
"""Tokens taken of each general text."""
_SHOWN_CHARACTERS = 400
_BEGINNING = 16
"""Tokens of a plain text that are given; the model goes on behind them."""


class Question(NamedTuple):
    """What a model is asked, and what the row says."""

    prompt: tuple[int, ...]
    reference: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Looks:
    """Looks at one run's model."""

    setup: Setup
    plan: Plan
    tokenizer: ChatTokenizer
    questions: tuple[Question, ...]
    general: SplitData | None
    """General text; None where the model does not know its tokens."""
    emit: Emit
    seconds: list[float] = field(default_factory=list)
    """What the answers took each time."""

    def look(self, step: int, *, clock: Callable[[], float]) -> None:
        """Measure general text and, where there is time, answer the questions; all processes must call it.

        Args:
            step: Steps made.
            clock: Gives the seconds since the run began.
        """
        if self.general is not None:
            losses = self.setup.losses
            plain = losses.losses if isinstance(losses, PreferenceLoss) else losses
            loss = mean_loss(plain, self.general, pad_token_id=self.tokenizer.pad_token_id)
            self.emit(GeneralTextMeasured(seconds=clock(), step=step, loss=loss))
        begun = clock()
        if self.questions and self.setup.ranks.is_first and self.is_worth_it(begun):
            self._answer(step, clock)
            self.seconds.append(clock() - begun)

    def is_worth_it(self, elapsed: float) -> bool:
        """Say whether answers are worth their time after so many seconds of the run."""
        if not self.seconds or self.seconds[-1] < QUICK_SECONDS:
            return True
        return sum(self.seconds) + self.seconds[-1] <= SHARE_OF_TIME * elapsed

    def _answer(self, step: int, clock: Callable[[], float]) -> None:
        """Answer the questions greedily, which takes no random number from the training."""
        prompts = [question.prompt for question in self.questions]
        try:
            with reading(self.setup.model):
                answers = generate(self.setup.model, prompts, self.tokenizer, max_new_tokens=ANSWER_TOKENS,
                                   dtype=self.plan.precision.base_dtype)  # fmt: skip
        except (MemoryError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
            self.questions = ()
        if not self.questions:  # the fault is left, which kept what was computed
            release_memory(self.setup.device)
            self.emit(Noticed(seconds=clock(), message="memory is too small to answer rows during this run"))
            return
        samples = tuple(
            Sample(
                prompt=self._text(question.prompt), answer=answer.text[:_SHOWN_CHARACTERS],
                reference=self.tokenizer.decode_answer(question.reference)[:_SHOWN_CHARACTERS], stopped=answer.stopped,
            )
            for question, answer in zip(self.questions, answers, strict=True)
        )  # fmt: skip
        self.emit(Sampled(seconds=clock(), step=step, samples=samples))

    def _text(self, ids: Sequence[int]) -> str:
        """Write the end of a prompt without special tokens."""
        return str(self.tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True))[-_SHOWN_CHARACTERS:].strip()


def prepare_looks(setup: Setup, plan: Plan, tokenizer: ChatTokenizer, validation: SplitData, *, emit: Emit) -> Looks:
    """Choose what to look at; weights that are cut up among processes cannot answer rows."""
    known = setup.model.get_input_embeddings().weight.shape[0]
    limit = position_limit(setup.model)
    longest = LONGEST_PROMPT if limit is None else min(LONGEST_PROMPT, limit - ANSWER_TOKENS)
    wanted = 0 if setup.ranks.is_sharded else plan.checkpoints.samples_per_evaluation
    return Looks(
        setup=setup, plan=plan, tokenizer=tokenizer,
        questions=choose_questions(validation, count=wanted, longest=longest),
        general=general_text(tokenizer, num_known=known), emit=emit,
    )  # fmt: skip


def choose_questions(split: SplitData, *, count: int, longest: int = LONGEST_PROMPT) -> tuple[Question, ...]:
    """Take rows with different prompts, spread evenly from the shortest to the longest that is not too long."""
    if not count:
        return ()
    found: dict[tuple[int, ...], Question] = {}
    for index in range(min(MOST_ROWS, len(split))):
        tokens, learned = split.sequence(index)
        if not learned.any():
            continue
        start = int(learned.argmax())
        ends = np.flatnonzero(~learned[start:])
        end = start + int(ends[0]) if len(ends) else len(tokens)
        start = min(_BEGINNING, end - 1) if start <= 1 else start
        if 0 < start <= longest:
            prompt = tuple(tokens[:start].tolist())
            found.setdefault(prompt, Question(prompt, tuple(tokens[start:end].tolist())))
    ordered = sorted(found.values(), key=lambda question: (len(question.prompt), question.prompt))
    places = [(2 * number + 1) * len(ordered) // (2 * count) for number in range(count)]
    return tuple(ordered[place] for place in dict.fromkeys(places) if place < len(ordered))


def general_text(tokenizer: ChatTokenizer, *, num_known: int) -> SplitData | None:
    """Encode the beginnings of general texts whose tokens the model knows, all but the first token learned."""
    texts = [tokenizer.encode(text).ids[:GENERIC_TOKENS] for text in GENERIC_TEXTS]
    texts = [ids for ids in texts if len(ids) > 1 and max(ids) < num_known]
    if not texts:
        return None
    learned = [np.arange(len(ids)) > 0 for ids in texts]
    return SplitData(
        tokens=np.array([token for ids in texts for token in ids], dtype=np.int32), learned=np.concatenate(learned),
        offsets=np.cumsum([0, *map(len, texts)]).astype(np.int64), rows=np.arange(len(texts), dtype=np.int32),
        rows_path=Path(),
    )  # fmt: skip
