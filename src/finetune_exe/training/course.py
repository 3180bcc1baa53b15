"""A run under way: what its steps share, where it begins or goes on, and what is done between the steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from finetune_exe.domain.checkpoint import MANIFEST, CheckpointManifest, DataCursor
from finetune_exe.domain.events import (
    BatchShrunk,
    CheckpointSaved,
    Emit,
    Evaluated,
    LossSpiked,
    Noticed,
    RunResumed,
    RunStarted,
    StepFinished,
    StepSkipped,
)
from finetune_exe.domain.plan import LowRank, Plan, Qlora
from finetune_exe.domain.run import EvaluationPoint
from finetune_exe.errors import FineTuneError
from finetune_exe.models.fingerprint import fingerprint
from finetune_exe.models.forward import mean_loss
from finetune_exe.models.places import expert_weights
from finetune_exe.prepared.reading import read_by_calls
from finetune_exe.prepared.store import PreparedFolder, SplitData
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training.batches import Step, count_steps, plan_epoch
from finetune_exe.training.checkpoints import Checkpoints, fault_of
from finetune_exe.training.guards import Attempt, Guards, is_spike, refuse_many_skips, usual_loss
from finetune_exe.training.looks import Looks, prepare_looks
from finetune_exe.training.memory import memory_faults, start_measuring
from finetune_exe.training.pairs import judge_pairs
from finetune_exe.training.rehearsal import check_positions, check_vocabulary, require_room, run_rehearsal
from finetune_exe.training.resume import Resumption, verified_best, version_changes
from finetune_exe.training.setup import Setup, set_up, versions
from finetune_exe.training.state import FOLDER, restore_state
from finetune_exe.training.step import count_tokens
from finetune_exe.training.tally import Tally

SHARE_OF_TIME = 0.02
"""Most of the time that checkpoints may take where they are not the best so far or the last."""
MOST_RETURNS = 3
"""Times that a run goes back before a spike; more would only begin again and again."""
QUICK_SECONDS = 1.0
"""A checkpoint written in less is not worth leaving out."""


@dataclass(slots=True, kw_only=True)
class Course:
    """A run under way."""

    plan: Plan
    setup: Setup
    train_split: SplitData
    validation: SplitData
    pad: int
    inputs: dict[str, str]
    num_steps: int
    steps_per_epoch: int
    every: int
    """Steps between evaluations."""
    checkpoints: Checkpoints
    tally: Tally
    guards: Guards
    looks: Looks
    emit: Emit
    clock: Callable[[], float]
    started: float
    """The clock at the beginning of the run, as if it had never been interrupted."""
    saved: tuple[int, float]
    """Step and time of the last checkpoint."""

    def seconds(self) -> float:
        """Give the time since the beginning of the run."""
        return self.clock() - self.started

    def remark(self, message: str) -> None:
        """Say something that the summary of the run says too."""
        self.tally.remarks.append(message)
        self.emit(Noticed(seconds=self.seconds(), message=message))

    def epoch(self, step: int) -> float:
        """Give the epochs done after a step."""
        return step / self.steps_per_epoch

    def remaining(self, resumption: Resumption | None) -> Iterator[tuple[int, Step]]:
        """Number the steps to make; first the one already made whose evaluation is still due, where there is one."""
        pending = resumption is not None and not resumption.checkpoint.manifest.evaluated
        yield from itertools.islice(self._all_steps(), self.tally.steps - pending, None)

    def _all_steps(self) -> Iterator[tuple[int, Step]]:
        """Number the steps of as many epochs as it takes."""
        lengths = self.train_split.lengths
        epochs = (
            plan_epoch(lengths, self.plan.batch_of_step, seed=self.plan.seed, epoch=epoch)
            for epoch in itertools.count()
        )
        yield from enumerate(itertools.islice(itertools.chain.from_iterable(epochs), self.num_steps), start=1)

    def count(self, step: StepFinished, micro_batches: Step, attempt: Attempt) -> None:
        """Count a step that was made, and say where its loss is out of the ordinary."""
        usual = usual_loss(self.tally.recent_losses, initial=self.tally.initial_loss)
        self.tally.add(step)
        self.tally.empty_passes += attempt.num_empty
        self.emit(step)
        judge_pairs(self.setup, "train", step.step, self.emit, seconds=self.seconds())
        if usual is not None and is_spike(step.loss, usual):
            back_to = self._go_back() if self.plan.checkpoints.go_back_on_spike else None
            self.emit(LossSpiked(seconds=self.seconds(), step=step.step, loss=step.loss, usual=usual,
                                 rows=self.guards.name(micro_batches), back_to=back_to))  # fmt: skip

    def _go_back(self) -> int | None:
        """Put weights, optimizer and random numbers back to the last checkpoint, and go on with the rows to come.

        It stays as it is where there is none that can be trusted, or too many returns did not help.
        """
        if not self.checkpoints.steps or self.tally.returns >= MOST_RETURNS:
            return None
        step = self.checkpoints.steps[-1]
        path = self.checkpoints.path(step)
        if self.setup.ranks.any(fault_of(path) is not None):
            return None
        restore_state(self.setup, path / FOLDER)
        self.tally.go_back(CheckpointManifest.read(path / MANIFEST).progress)
        return step

    def skip(self, step: int, micro_batches: Step, attempt: Attempt) -> None:
        """Leave a step out: the weights stay as they were.

        Raises:
            FineTuneError: T01 where it is one of many in a row whose numbers are not finite.
        """
        if attempt.learned is None:
            reason, rows = "no token of it is to be learned", self.guards.name(micro_batches)
            self.tally.empty_passes += attempt.num_empty
        else:
            loss, norm = attempt.learned
            reason, rows = f"the loss is {loss} and the gradient norm {norm}", self.guards.suspects(micro_batches)
        self.setup.optimizer.zero_grad(set_to_none=True)
        self.tally.skip(step, num_steps=self.num_steps, epoch=self.epoch(step), harmful=attempt.learned is not None)
        self.emit(StepSkipped(seconds=self.seconds(), step=step, num_steps=self.num_steps, reason=reason, rows=rows))
        refuse_many_skips(self.tally.skipped_in_a_row, reason=reason, step=step, rows=rows)

    def validation_loss(self) -> float:
        """Measure the mean loss of the validation rows.

        Raises:
            FineTuneError: T14 where memory is too small for it.
        """
        setup = self.setup
        with memory_faults(f"the evaluation after step {self.tally.steps}"):
            return mean_loss(setup.losses, self.validation, pad_token_id=self.pad, arrangement=setup.arrangement)

    def evaluate(self, step: int) -> None:
        """Measure the validation loss and what else is looked at.

        Raises:
            FineTuneError: T01 where it is not finite, T14 where memory is too small for it.
        """
        loss = self.validation_loss()
        if not math.isfinite(loss):
            raise FineTuneError(
                "T01",
                what=f"the validation loss is {loss} at step {step}",
                where=f"the {len(self.validation):,} sequences kept for validation",
                why="the best checkpoint cannot be told by such a number; those that are there are intact",
                fix="lower optimizer.learning_rate; or --set precision.base_dtype=float32",
            )
        judge_pairs(self.setup, "validation", step, self.emit, seconds=self.seconds())
        point = EvaluationPoint(step=step, epoch=self.epoch(step), validation_loss=loss)
        best = self.tally.judge(point)
        self.looks.look(step, clock=self.seconds)
        self.emit(Evaluated(seconds=self.seconds(), step=step, epoch=point.epoch,
                            validation_loss=loss, best=best))  # fmt: skip

    def save_due(self, step: int, *, evaluated: bool, last: bool) -> bool:
        """Say whether a checkpoint is to be written after a step.

        After an evaluation it is, unless it is neither the best nor the last and checkpoints have taken too much time.
        Between evaluations it is when the plan says so and the time for it is there. Of several processes the first
        decides, which alone writes: all must call it, for clocks differ.

        Args:
            step: The step that was made.
            evaluated: Whether it was evaluated.
            last: Whether the run ends with it, now or for good.
        """
        if step in self.checkpoints.steps:
            return False
        ranks = self.setup.ranks
        return ranks.any(ranks.is_first and self._is_due(step, evaluated=evaluated, last=last))

    def _is_due(self, step: int, *, evaluated: bool, last: bool) -> bool:
        spent = self.checkpoints.save_seconds
        costly = bool(spent) and spent[-1] > QUICK_SECONDS and sum(spent) > SHARE_OF_TIME * self.seconds()
        if evaluated:
            return last or not costly or step == self.tally.best_step
        settings, (saved_step, saved_time) = self.plan.checkpoints, self.saved
        steps, minutes = settings.save_every_steps, settings.save_every_minutes
        by_steps = steps is not None and step - saved_step >= steps
        return by_steps or (minutes is not None and not costly and self.clock() - saved_time >= 60 * minutes)

    def save(self, step: int, *, evaluated: bool) -> None:
        """Write a checkpoint, unless the one of this step is there already."""
        import torch

        if step in self.checkpoints.steps:
            return
        manifest = CheckpointManifest(
            inputs=self.inputs, step=step, evaluated=evaluated, parent=None, files=(),
            cursor=DataCursor(epoch=step // self.steps_per_epoch, step_of_epoch=step % self.steps_per_epoch,
                              micro_batch_size=self.guards.micro_batch_size),
            settings={path: value for path, value, _ in self.plan.settings()},
            versions=versions(self.plan), num_threads=torch.get_num_threads(),
            num_processes=self.setup.ranks.count,
            progress=self.tally.progress(total_seconds=self.seconds(), device=self.setup.device),
        )  # fmt: skip
        path = self.checkpoints.save(self.setup, manifest, best_step=self.tally.best_step)
        self.saved = step, self.clock()
        shown = path.relative_to(self.checkpoints.folder.parent)
        self.emit(CheckpointSaved(seconds=self.seconds(), step=step, path=str(shown)))


def begin(
    plan: Plan,
    data: PreparedFolder,
    *,
    base: Path,
    run: Path,
    emit: Emit,
    resumption: Resumption | None,
    rehearse: bool,
    clock: Callable[[], float],
) -> Course:
    """Load the model and bring the run to the step it starts from: the first, or the one it was interrupted after.

    Raises:
        FineTuneError: What keeps the plan from being trained here.
    """
    started = clock()
    with memory_faults("the model, before the first step"):
        setup = set_up(plan, base)
    splits = {name: read_by_calls(data.split(name)) for name in ("train", "validation")}
    check_vocabulary(setup, splits)
    check_positions(setup, splits)
    train_split, pad = splits["train"], data.manifest.pad_token_id
    steps_per_epoch = math.ceil(len(train_split) / plan.batch_of_step.effective)

    def shrunk(size: int, said: str) -> None:
        passes = -(-plan.batch.effective // size)
        course.tally.remarks.append(
            f"memory ran out after step {course.tally.steps}: {size} rows at a time from there on"
        )
        emit(BatchShrunk(seconds=course.seconds(), step=course.tally.steps, micro_batch_size=size,
                         gradient_accumulation_steps=passes, reason=said))  # fmt: skip

    course = Course(
        plan=plan, setup=setup, train_split=train_split, validation=splits["validation"], pad=pad,
        inputs={"plan": plan.digest(), "dataset": data.manifest.digest(), "base": fingerprint(base)},
        num_steps=count_steps(len(train_split), plan.batch_of_step, plan.schedule), steps_per_epoch=steps_per_epoch,
        every=max(1, round(steps_per_epoch / plan.checkpoints.evaluations_per_epoch)),
        checkpoints=Checkpoints(run, keep_last=plan.checkpoints.keep_last,
                                found=resumption.found if resumption else None),
        tally=Tally(patience=plan.checkpoints.early_stopping_patience),
        guards=Guards(setup=setup, split=train_split, pad=pad, micro_batch_size=plan.batch.micro_batch_size,
                      planned_size=plan.batch.micro_batch_size, shrunk=shrunk),
        looks=prepare_looks(setup, plan, load_tokenizer(base, chat_template=plan.data.chat_template),
                            splits["validation"], emit=emit),
        emit=emit, clock=clock, started=started, saved=(0, started),
    )  # fmt: skip
    if resumption is not None:
        _take_up(course, resumption, run)
    if rehearse:
        epoch = plan_epoch(train_split.lengths, plan.batch_of_step, seed=plan.seed, epoch=0)
        cost = run_rehearsal(setup, course.guards, epoch, course.validation, pad=pad, folder=course.checkpoints.folder,
                             max_norm=plan.optimizer.max_grad_norm)  # fmt: skip
        if setup.ranks.is_first:
            require_room(cost, run=run, keep_last=plan.checkpoints.keep_last, there=len(course.checkpoints.steps))
    start_measuring(setup.device)
    if resumption is None:
        _announce(course)
    return course


def _announce(course: Course) -> None:
    """Say that the run begins, and from what loss."""
    setup = course.setup
    course.emit(RunStarted(
        seconds=course.seconds(), num_steps=course.num_steps, num_sequences=len(course.train_split),
        num_trainable_parameters=setup.num_trainable_parameters, device=setup.device,
    ))  # fmt: skip
    _announce_experts(course)
    _announce_offset(course)
    _announce_sharing(course)
    loss = course.tally.initial_loss = course.validation_loss()
    judge_pairs(setup, "validation", 0, course.emit, seconds=course.seconds())
    course.looks.look(0, clock=course.seconds)
    course.emit(Evaluated(seconds=course.seconds(), step=0, epoch=0.0, validation_loss=loss, best=False))


def _announce_experts(course: Course) -> None:
    """Say that experts are not trained where a model has them."""
    total, adapted = expert_weights(course.setup.model)
    if not total or adapted or not isinstance(course.plan.method, LowRank):
        return
    base = course.setup.num_parameters - course.setup.num_trainable_parameters
    course.remark(
        f"the experts, {total / base:.0%} of the weights, stay as they are: method.target_modules names none of "
        "their layers"
    )


def _announce_offset(course: Course) -> None:
    """Say what an adapter is tied to that offsets the rounding of weights."""
    method = course.plan.method
    if not isinstance(method, Qlora) or not method.offset_rounding:
        return
    course.remark(
        "the adapter begins by offsetting what rounding to 4 bit took: serve the model merged "
        "(fine-tune export RUN --to merged), for over 16-bit weights this adapter is wrong"
    )


def _announce_sharing(course: Course) -> None:
    """Say how much of the first step is not computed for each row, because rows of a pass begin alike."""
    if course.setup.arrangement != "beginning once":
        return
    _, first = next(course.remaining(None))
    counts = count_tokens([course.guards.load(part) for part in course.guards.passes(first)])
    if counts.shared:
        course.emit(Noticed(
            seconds=course.seconds(),
            message="rows of a pass that begin alike have their beginning computed once: "
            f"{counts.shared:,} of the {counts.processed:,} tokens of the first step are saved",
        ))  # fmt: skip


def _take_up(course: Course, resumption: Resumption, run: Path) -> None:
    """Bring a course to the state of the checkpoint it goes on from."""
    import torch

    path, manifest = resumption.checkpoint
    progress = manifest.progress
    tally = course.tally = Tally.of(progress, patience=course.tally.patience)
    course.started -= progress.total_seconds
    course.saved = manifest.step, course.clock()
    if manifest.settings.get("batch.micro_batch_size") == course.guards.planned_size:
        course.guards.micro_batch_size = manifest.cursor.micro_batch_size
    tally.resumed += 1
    tally.lost_seconds += resumption.lost_seconds
    course.emit(RunResumed(
        seconds=course.seconds(), step=manifest.step, num_steps=course.num_steps, device=course.setup.device,
        checkpoint=str(path.relative_to(run)), lost_seconds=resumption.lost_seconds,
    ))  # fmt: skip

    other = version_changes(manifest, versions(course.plan), torch.get_num_threads())
    for message in (*resumption.remarks, *(f"{change}: the last digits may differ" for change in other)):
        course.remark(message)
    tally.best_step, best = verified_best(resumption, course.remark)
    tally.best_loss = math.inf if best is None else best
    restore_state(course.setup, path / FOLDER)
