"""Hold a run against a served model, and let a judge that is served choose between base and tuned answers."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from finetune_exe.domain.comparison import JudgeQuality, PairedResult
from finetune_exe.errors import FineTuneError, typed
from finetune_exe.evaluation.cache import ResultCache, digest_of
from finetune_exe.evaluation.compare import Question, compare_results
from finetune_exe.evaluation.endpoint import Endpoint, ask, keeps_secrets
from finetune_exe.evaluation.judge import Ask, Pair, judge_pair, known_pairs, measure_judge
from finetune_exe.evaluation.pairing import Results
from finetune_exe.evaluation.result_files import Keys, read_results
from finetune_exe.evaluation.served import answered_items, ask_served, greet, write_results
from finetune_exe.models.locate import cache_folder
from finetune_exe.prepared.store import load_dataset
from finetune_exe.workflow.preparing import Progress
from finetune_exe.workflow.run_folder import RunFolder, open_run

KNOWN_QUESTIONS = 6
"""Questions from which pairs with a known winner are made."""
JUDGED = 100
"""Pairs judged at most."""


def endpoint_of(url: str, model: str) -> Endpoint:
    """Name a server; its key comes from the environment, so that it stands in no command and no file.

    A server elsewhere that does not speak https is shown no key: everybody on the way could read it.
    """
    return Endpoint(url=url, model=model, key=os.environ.get("OPENAI_API_KEY") if keeps_secrets(url) else None)


def reach(endpoint: Endpoint) -> None:
    """Make sure that a server answers, before hours are spent on what is to be compared with its answers.

    Raises:
        FineTuneError: E06 where it gives nothing usable.
    """
    greet(endpoint, cache_folder() / "results")


def compare_served(path: Path, endpoint: Endpoint, *, progress: Progress) -> PairedResult:
    """Ask a served model what an evaluated run was asked, and compare: A is the served model, B the tuned one.

    Raises:
        FineTuneError: E01 where the run was not evaluated, E06 where the server gives nothing usable.
    """
    run = RunFolder(path)
    plan, _ = open_run(path)
    tuned = _items(path, "tuned")
    served = ask_served(
        plan, load_dataset(run.dataset), endpoint, like=tuned, cache=cache_folder() / "results",
        progress=lambda done, total: progress(f"{endpoint.model}: answers", done, total),
    )  # fmt: skip
    write_results(path / "evaluation" / "served.jsonl", served)
    mine = {item: result for item, result in tuned.items() if item in served}
    return compare_results(endpoint.model, f"{path.name}: tuned model", served, mine, Question())


def judge_run(path: Path, endpoint: Endpoint, *, progress: Progress) -> tuple[JudgeQuality, PairedResult | None]:
    """Let a served model judge base against tuned answers, after it was measured on pairs whose winner is known.

    Returns:
        How far the judge can be trusted, and the comparison of its preferences; None where it cannot be trusted.

    Raises:
        FineTuneError: E01 where the run was not evaluated, E06 where the server gives nothing usable.
    """
    base, tuned = _items(path, "base"), _items(path, "tuned")
    shared = answered_items({name: item for name, item in tuned.items() if name in base}, most=JUDGED)
    questions = [(item.texts.get("prompt", ""), item.texts.get("reference", "")) for item in shared]
    results = ResultCache(folder=cache_folder() / "results", model=digest_of(endpoint.url, endpoint.model, "judge"))

    def asked(messages: list[dict[str, str]]) -> str:
        return ask(endpoint, messages, max_tokens=8).text

    quality = measure_judge(asked, known_pairs(list(dict.fromkeys(questions))[:KNOWN_QUESTIONS]))
    if not quality.trusted:
        return quality, None
    before, after = {}, {}
    for number, item in enumerate(shared):
        pair = Pair(item.texts.get("prompt", ""), base[item.item].texts["answer"], item.texts["answer"])
        score = results.values("verdict", digest_of(pair, "unreadable is none"), partial(_preference, asked, pair))
        if score is not None:
            before[item.item] = replace(base[item.item], score=0.5)
            after[item.item] = replace(item, score=score)
        progress(f"{endpoint.model}: verdicts", number + 1, len(shared))
    return quality, _preferences(path.name, endpoint, before, after, unreadable=len(shared) - len(after))


def _preference(asked: Ask, pair: Pair) -> float | None:
    return judge_pair(asked, pair).score


def _preferences(name: str, endpoint: Endpoint, before: Results, after: Results, *, unreadable: int) -> PairedResult:
    """Compare what the judge said; where it said nothing, nothing is compared."""
    if not after:
        raise FineTuneError(
            "E06",
            what="the judge gives no verdict that can be read",
            where=f"model {endpoint.model!r}, {unreadable} pairs of answers",
            why="it must reply with one letter in both orders, and did so of none",
            fix="take a judge that follows instructions on texts as long as these",
        )
    result = compare_results(
        f"{name}: base model", f"{name}: tuned model, as {endpoint.model} judges", before, after, Question()
    )
    if not unreadable:
        return result
    note = f"{unreadable} of {unreadable + len(after)} verdicts could not be read and are left out"
    return result.model_copy(update={"notes": (note, *result.notes)})


def _items(path: Path, name: str) -> Results:
    file = path / "evaluation" / f"{name}.jsonl"
    if not file.is_file():
        raise FineTuneError(
            "E01",
            what="the run has no answered items yet",
            where=str(file),
            why="what another model is held against are its answers to the test rows",
            fix=typed("fine-tune", "eval", path),
        )
    return read_results(file, Keys())
