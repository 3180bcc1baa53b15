"""Answers of a served model to the questions a run was evaluated on, item by item, for `fine-tune compare`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from finetune_exe.domain.plan import Plan
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.cache import ResultCache, digest_of
from finetune_exe.evaluation.endpoint import Endpoint, Reply, ask
from finetune_exe.evaluation.questions import known_labels, spread_evenly
from finetune_exe.evaluation.result_files import ItemResult
from finetune_exe.evaluation.tasks import metrics_for
from finetune_exe.evaluation.tasks.answered import Answered
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.thinking import without_thinking

ITEMS = 200
"""Questions asked at most, spread evenly over the test rows."""


def greet(endpoint: Endpoint, cache: Path | None) -> None:
    """Ask a server for a word, so that what cannot answer shows at once; one that answered before is not asked again.

    Raises:
        FineTuneError: E06 where the server gives nothing usable.
    """
    results = ResultCache(folder=cache, model=digest_of(endpoint.url, endpoint.model))
    _kept(results, endpoint, [{"role": "user", "content": "Are you there? Answer with one word."}], max_tokens=8)


def ask_served(
    plan: Plan,
    data: PreparedFolder,
    endpoint: Endpoint,
    *,
    like: dict[str, ItemResult],
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[str, ItemResult]:
    """Ask a served model what the tuned model was asked, and score its answers by the metrics of the task.

    Every answer is kept when it arrives, so the same call goes on behind those that did.

    Args:
        plan: The run's plan.
        data: Its prepared dataset.
        endpoint: The server.
        like: Results of the tuned model: the items to ask, as `evaluation/tuned.jsonl` holds them.
        cache: Folder of what was asked before; None keeps nothing.
        progress: Told how many questions are answered, and of how many.

    Raises:
        FineTuneError: E06 where the server gives nothing usable, E01 where there is no item to ask.
    """
    rows = data.split("test").read_rows()
    items = answered_items(like, most=ITEMS)
    results = ResultCache(folder=cache, model=digest_of(endpoint.url, endpoint.model))
    conversations = [from_json(rows[int(item.item.rpartition("/")[2])].conversation) for item in items]
    answered: list[Answered] = []
    for number, (item, row) in enumerate(zip(items, conversations, strict=True)):
        last = max(index for index, message in enumerate(row.messages) if message.role == "assistant")
        turns = [{"role": message.role, "content": message.content} for message in row.messages[:last]]
        reply = _kept(results, endpoint, turns, plan.evaluation.max_new_tokens)
        answered.append(
            Answered(
                prompt=item.texts.get("prompt", ""),
                answer=without_thinking(reply.text),
                reference=item.texts.get("reference", ""),
                columns=row.extra,
            )
        )
        progress(number + 1, len(items))
    references = [item.texts.get("reference", "") for item in answered_items(like, most=len(like))]
    metrics = metrics_for(plan.task.type, references, known_labels(plan, references))
    assert metrics is not None
    scores = next(iter(metrics.score(answered).items.values()))
    return {
        item.item: replace(
            item, score=score, length=float(len(entry.answer)), texts={**item.texts, "answer": entry.answer}
        )
        for item, score, entry in zip(items, scores, answered, strict=True)
    }


def answered_items(results: dict[str, ItemResult], *, most: int) -> list[ItemResult]:
    """Choose items that a model answered, spread evenly over them.

    Args:
        results: Of an evaluated run, by item.
        most: Items chosen at most.

    Raises:
        FineTuneError: E01 where there is none.
    """
    answered = [result for result in results.values() if "answer" in result.texts]
    if not answered:
        raise FineTuneError(
            "E01",
            what="the run has no answered item to show to a served model",
            where="evaluation/tuned.jsonl",
            why="its task is judged by likelihood alone, which a server does not tell",
            fix="evaluate the run with metrics that need answers, then ask again",
        )
    return [answered[place] for place in spread_evenly(len(answered), most)]


def _kept(cache: ResultCache, endpoint: Endpoint, turns: Sequence[dict[str, str]], max_tokens: int) -> Reply:
    held = cache.values(
        "reply", digest_of(turns, max_tokens), lambda: _plain(ask(endpoint, turns, max_tokens=max_tokens))
    )
    return Reply(text=held["text"], stopped=held["stopped"])


def _plain(reply: Reply) -> dict[str, object]:
    return {"text": reply.text, "stopped": reply.stopped}


def write_results(path: Path, results: dict[str, ItemResult]) -> None:
    """Write results as `fine-tune compare` reads them."""
    from finetune_exe.atomic import write_file

    lines = (
        {"item": result.item, "suite": result.suite, "score": result.score, "cluster": result.cluster,
         "length": result.length, **result.texts}
        for result in results.values()
    )  # fmt: skip
    write_file(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
