"""Scores and time of regression suites and perplexity beside lm-evaluation-harness, same items, same model.

Run with lm-eval installed (`pip install "finetune-exe[eval]"`):

    python benchmarks/evaluating.py --suites FOLDER --model embedded --items 60

Each side is timed in processor seconds of this process, in turns, so that other programs on the machine disturb both
alike. Written is what `evaluating.md` shows.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_exe.domain.evaluation import WindowPolicy
from finetune_exe.evaluation.perplexity import measure_documents
from finetune_exe.evaluation.suites import Suite, read_suites, score_suite
from finetune_exe.models.load import load_model, settle_libraries
from finetune_exe.models.locate import model_folder
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

BATCH = 16


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Give a result and the processor seconds it took."""
    before = time.process_time()
    result = work()
    return result, time.process_time() - before


def harness_scores(harness: Any, suite: Suite) -> list[float]:
    """Score a suite by the harness's own requests."""
    requests = [
        SimpleNamespace(args=(context, continuation))
        for item in suite.items
        for context, continuation in zip(item.contexts, item.continuations, strict=True)
    ]
    answers = iter(harness.loglikelihood(requests, disable_tqdm=True))
    scores = []
    for item in suite.items:
        found = [next(answers) for _ in item.contexts]
        if suite.kind == "multiple_choice":
            totals = [float(log) for log, _ in found]
            scores.append(float(totals.index(max(totals)) == item.gold))
        else:
            scores.append(float(found[0][1]))
    return scores


def compare_suite(model: Any, tokenizer: ChatTokenizer, harness: Any, suite: Suite) -> dict[str, Any]:
    """Score a suite both ways."""
    ours, own = timed(lambda: score_suite(model, suite, tokenizer, max_length=1024))
    theirs, other = timed(lambda: harness_scores(harness, suite))
    return {
        "suite": suite.name, "items": len(suite.items),
        "ours": sum(ours) / len(ours), "harness": sum(theirs) / len(theirs),
        "same_items": sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours),
        "seconds": own, "harness_seconds": other, "times": other / own,
    }  # fmt: skip


def compare_texts(model: Any, tokenizer: ChatTokenizer, harness: Any) -> dict[str, Any]:
    """Measure documents both ways, in windows of 512 tokens."""
    texts = [" ".join(GENERIC_TEXTS), *GENERIC_TEXTS] * 2
    policy = WindowPolicy(context=512, stride=512, begins_with_bos=True)
    ours, own = timed(lambda: measure_documents(model, texts, tokenizer, policy))
    theirs, other = timed(
        lambda: harness.loglikelihood_rolling([SimpleNamespace(args=(t,)) for t in texts], disable_tqdm=True)
    )
    apart = max(abs(-a.nll - float(b)) / abs(float(b)) for a, b in zip(ours, theirs, strict=True))
    return {"suite": "texts", "items": len(texts), "largest_relative_difference": apart, "seconds": own,
            "harness_seconds": other, "times": other / own}  # fmt: skip


def main() -> None:
    """Run and print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument(
        "--only", nargs="*", default=["arc_challenge", "hellaswag_sample", "winogrande", "lambada_openai"]
    )
    options = parser.parse_args()
    settle_libraries()
    import torch
    from lm_eval.models.huggingface import HFLM

    folder = model_folder(options.model, revision=None, progress=lambda _: None)
    tokenizer = load_tokenizer(folder, chat_template=None)
    model = load_model(folder, dtype="float32", device="cpu").eval()
    harness = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=BATCH, max_length=1024)
    short = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=BATCH, max_length=512)
    suites, _ = read_suites(options.suites, max_items=options.items)
    warm = replace(suites[0], items=suites[0].items[:2])
    score_suite(model, warm, tokenizer, max_length=1024)  # weights are read from disk when first used
    for side in (harness, short):
        harness_scores(side, warm)
    for suite in suites:
        if suite.name in options.only:
            print(json.dumps(compare_suite(model, tokenizer, harness, suite)), flush=True)
    print(json.dumps(compare_texts(model, tokenizer, short)), flush=True)
    print(json.dumps({"machine": platform.processor() or platform.machine(), "threads": torch.get_num_threads(),
                      "batch_size_of_the_harness": BATCH}))  # fmt: skip


if __name__ == "__main__":
    main()
