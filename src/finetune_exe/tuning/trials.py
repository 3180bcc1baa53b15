"""The trials of a study, in a journal that survives the process: which values come next, and what each came to."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from finetune_exe.domain.tuning import Role, SearchedSetting, Trial
from finetune_exe.errors import missing_component

if TYPE_CHECKING:
    import optuna

RUNGS = 10
"""Losses are compared at tenths of a run, so that runs of different length and batch can be held side by side."""
JOURNAL = "journal.jsonl"
_STUDY = "tune"
_RANDOM_TRIALS = 6
"""Trials before suggestions follow a model, the two of the plan among them."""
_TRIALS_BEFORE_PRUNING = 4
_UNPRUNED_RUNGS = 3
_ATTEMPTS = 20
_FEWEST_FOR_IMPORTANCE = 8
_CUT_SHORT = "the process ended before the trial did"
_DIED_TWICE = "the process died in it twice, as it does when memory runs out"
_REPEATED = "the same values were tried before"

Report = Callable[[int, float], bool]
"""Told a tenth of the run that is done and the lowest validation loss so far; True means: go no further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A trial to run."""

    number: int
    role: Role
    values: dict[str, float]
    second_seed: bool
    """Run with the seed after the plan's own."""
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trial came to."""

    state: Literal["finished", "pruned", "failed"]
    loss: float | None = None
    progress: float = 0.0
    seconds: float = 0.0
    reason: str | None = None


def require_search_packages() -> None:
    """Make sure that what searching needs is installed.

    Raises:
        FineTuneError: X01 with the command that brings it.
    """
    if find_spec("optuna") is None:
        raise missing_component("optuna", extra="tune", needed_for="searching settings")


class TrialStore:
    """Suggest values and keep results, in Optuna's journal: lines of JSON.

    What is suggested depends on the seed and the results so far alone, so that a study that was cut short and
    resumed suggests what it would have suggested.

    Source: Bergstra et al. 2011 (tree-structured Parzen estimator); Golovin et al. 2017 (median pruning).
    """

    def __init__(self, folder: Path, settings: Sequence[SearchedSetting], *, seed: int) -> None:
        require_search_packages()
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        journal = folder / JOURNAL
        _drop_torn_line(journal)
        self._settings = tuple(settings)
        self._seed = seed
        self._live: dict[int, optuna.Trial] = {}
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
            study_name=_STUDY,
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_TRIALS_BEFORE_PRUNING, n_warmup_steps=_UNPRUNED_RUNGS),
        )
        self._settle_the_cut_short()

    @property
    def trials(self) -> tuple[Trial, ...]:
        """List the trials that have ended, without suggestions that were given back or cut off in the making."""
        ended = (trial for trial in self._study.get_trials(deepcopy=False) if trial.state.is_finished())
        whole = (trial for trial in ended if len(trial.params) == len(self._settings))
        return tuple(_described(trial, self._settings) for trial in whole if _reason(trial) != _REPEATED)

    def ask(
        self, role: Role, *, values: Mapping[str, float] | None = None, max_seconds: float | None = None
    ) -> Job | None:
        """Begin a trial.

        Args:
            role: What it is for.
            values: The searched settings; None suggests some that were not tried before.
            max_seconds: Time it may take.

        Returns:
            What to run; None where nothing new is found to try.
        """
        if values is not None:
            self._study.enqueue_trial(self._encoded(values), user_attrs={"role": role}, skip_if_exists=False)
            return self._begun(self._ask(0), role, max_seconds)
        tried = [trial.values for trial in self.trials if trial.state != "failed"]
        tried += [_decoded(live.params, self._settings) for live in self._live.values()]
        for attempt in range(_ATTEMPTS):
            trial = self._ask(attempt)
            if _decoded(trial.params, self._settings) not in tried:
                trial.set_user_attr("role", role)
                return self._begun(trial, role, max_seconds)
            trial.set_user_attr("reason", _REPEATED)
            self._end(trial.number, "FAIL")
        left = next((point for point in self._points() if point not in tried), None)
        return None if left is None else self.ask(role, values=left, max_seconds=max_seconds)

    def judge(self, number: int, rung: int, loss: float) -> bool:
        """Note a loss and say whether the trial shall stop, its loss being above the median of the others."""
        trial = self._live[number]
        if rung in self._study.get_trials(deepcopy=False)[number].intermediate_values:
            return False
        trial.report(loss, rung)
        return trial.user_attrs.get("role") == "search" and rung < RUNGS and trial.should_prune()

    def tell(self, job: Job, outcome: Outcome) -> Trial:
        """End a trial with what it came to."""
        trial = self._live.pop(job.number)
        trial.set_user_attr("progress", outcome.progress)
        trial.set_user_attr("seconds", round(outcome.seconds, 3))
        state = {"finished": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}[outcome.state]
        trial.set_user_attr("reason", outcome.reason)
        self._end(trial.number, state, loss=outcome.loss)
        return _described(self._study.get_trials(deepcopy=False)[job.number], self._settings)

    def importance(self) -> dict[str, float]:
        """Measure how much each setting has to do with a trial being in the better half, adding up to one.

        The better half and not the usual best tenth: of so few trials a tenth is one or two. Empty for one setting
        alone, or too few finished trials.

        Source: Watanabe et al. 2023, PED-ANOVA, arXiv:2304.10255.
        """
        import optuna

        finished = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(finished) < _FEWEST_FOR_IMPORTANCE or len(self._settings) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.5, evaluate_on_local=False)
        return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))

    def _points(self) -> Iterator[dict[str, float]]:
        """List the whole space where every setting has steps, and nothing otherwise."""
        if all(setting.choices for setting in self._settings):
            for point in itertools.product(*(setting.choices for setting in self._settings)):
                yield dict(zip((setting.path for setting in self._settings), point, strict=True))

    def _ask(self, attempt: int) -> optuna.Trial:
        import optuna

        known = sum(trial.state != "failed" for trial in self.trials) + len(self._live)
        self._study.sampler = optuna.samplers.TPESampler(
            seed=(self._seed * 1_000 + known) * _ATTEMPTS + attempt,
            n_startup_trials=_RANDOM_TRIALS,
            multivariate=True,
            constant_liar=True,
        )
        return self._study.ask({setting.path: _distribution(setting) for setting in self._settings})

    def _begun(self, trial: optuna.Trial, role: Role, max_seconds: float | None) -> Job:
        self._live[trial.number] = trial
        return Job(
            number=trial.number,
            role=role,
            values=_decoded(trial.params, self._settings),
            second_seed=role in ("repeat", "confirm"),
            max_seconds=max_seconds,
        )

    def _end(self, number: int, state: str, *, loss: float | None = None) -> None:
        import optuna

        self._study.tell(number, loss, state=optuna.trial.TrialState[state])

    def _encoded(self, values: Mapping[str, float]) -> dict[str, float]:
        """Give Optuna's parameters: the place among the choices, or the value itself."""
        return {
            setting.path: setting.choices.index(values[setting.path]) if setting.choices else values[setting.path]
            for setting in self._settings
        }

    def _settle_the_cut_short(self) -> None:
        """Give values whose trial died with the process a second chance, and no third."""
        import optuna

        state = optuna.trial.TrialState
        for _ in self._study.get_trials(deepcopy=False, states=(state.WAITING,)):
            self._end(self._study.ask().number, "FAIL")
        trials = self._study.get_trials(deepcopy=False)
        for trial in [trial for trial in trials if trial.state == state.RUNNING]:
            died = any(other.state == state.FAIL and not other.user_attrs.get("reason") and other.params == trial.params
                       for other in trials)  # fmt: skip
            self._end(trial.number, "PRUNED" if died else "FAIL")


def _distribution(setting: SearchedSetting) -> optuna.distributions.BaseDistribution:
    import optuna

    if setting.choices:
        return optuna.distributions.IntDistribution(0, len(setting.choices) - 1)
    return optuna.distributions.FloatDistribution(setting.low, setting.high, log=setting.scale == "log")


def _decoded(params: Mapping[str, float], settings: Sequence[SearchedSetting]) -> dict[str, float]:
    """Give the values of Optuna's parameters; a suggestion gets three digits and stays within the bounds."""
    values = {}
    for setting in settings:
        raw = params[setting.path]
        if setting.choices:
            values[setting.path] = setting.choices[int(raw)]
        elif raw == setting.planned:
            values[setting.path] = raw
        else:
            values[setting.path] = min(setting.high, max(setting.low, float(f"{raw:.3g}")))
    return values


def _described(trial: optuna.trial.FrozenTrial, settings: Sequence[SearchedSetting]) -> Trial:
    state = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
    return Trial.model_validate(
        {
            "number": trial.number,
            "role": trial.user_attrs.get("role", "search"),
            "values": _decoded(trial.params, settings),
            "state": state,
            "loss": trial.value if state == "finished" else None,
            "progress": trial.user_attrs.get("progress", 0.0),
            "seconds": trial.user_attrs.get("seconds", 0.0),
            "reason": _reason(trial),
        }
    )


def _reason(trial: optuna.trial.FrozenTrial) -> str | None:
    """Say why a trial did not finish; only one that ended with its process said nothing itself."""
    if trial.state.name == "COMPLETE":
        return None
    return trial.user_attrs.get("reason") or (_CUT_SHORT if trial.state.name == "FAIL" else _DIED_TWICE)


def _drop_torn_line(journal: Path) -> None:
    """Cut off the half line that a killed process may leave, so that what follows is not glued to it."""
    if journal.is_file():
        content = journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            journal.write_bytes(whole)
