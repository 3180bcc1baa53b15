"""Rows that other evaluation tools write for each item, with their fields named as ours.

A row is told by the keys it has. What was asked of an item several times, or in several ways, is one cluster.

Source: the code of lm-evaluation-harness 0.4.13 (evaluator.py), OLMES (run_eval.py, compute_save_metrics; its
OUTPUT_FORMATS.md), inspect_ai 0.3.285 (EvalSample, Score, value_to_float),
promptfoo 0.121.20 (EvaluateResult, toResultsFile, buildRunEvalOptions), deepeval 4.3.1 (TestRun, LLMApiTestCase,
ConversationalApiTestCase, MetricData), crfm-helm 0.5.16 (DisplayPrediction), lighteval 0.13.0 (Detail, Doc) and ragas
0.4.3 (EvaluationResult).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

_GRADES = {"c": 1.0, "p": 0.5, "i": 0.0, "n": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""Inspect's: correct, partly so, incorrect, no answer, and words that it takes for numbers."""

_ERROR = 2
"""promptfoo's reason of a failure that says nothing of the answer: there was none."""


class Tool(NamedTuple):
    """One kind of row."""

    keys: frozenset[str]
    """That every such row has."""
    named: Callable[[dict[str, Any]], dict[str, Any]]
    """Names its fields as ours."""


def tool_of(row: object) -> Tool | None:
    """Find the tool that wrote a row; None where it is one of ours, or nobody's."""
    if not isinstance(row, dict):
        return None
    return next((tool for tool in TOOLS if tool.keys <= row.keys()), None)


def text_of(value: object) -> str | None:
    """Give a text; of a list of texts or messages, and of the parts of a message, the last one."""
    for _ in ("message", "part"):
        value = value[-1] if isinstance(value, list) and value else value
        value = value.get("content", value.get("text")) if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _held(row: object, *keys: str) -> Any:
    """Go down the objects of a row; None where one is not there."""
    for key in keys:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


def _harness(row: dict[str, Any]) -> dict[str, Any]:
    """Part the filters of lm-evaluation-harness as suites; fields of the document can be sliced by.

    The answer that a document holds is the right one, not the model's.
    """
    filter_, answers = row.get("filter"), row["filtered_resps"]
    named: dict[str, Any] = {"item": row["doc_id"]}
    if filter_ not in (None, "none"):
        named = {"item": f"{filter_}/{row['doc_id']}", "suite": filter_, "cluster": row["doc_id"]}
    if isinstance(answers, list) and len(answers) == 1:
        named["answer"] = answers[0]
    document = {name: value for name, value in _object(row.get("doc")).items() if name != "answer"}
    return {**document, **row, "reference": row.get("target"), **named}


def _olmes(row: dict[str, Any]) -> dict[str, Any]:
    """Take OLMES's metrics by name; the number of the choice that was made says nothing of how good it is."""
    chosen = ("predicted_index", "correct_choice", "no_answer")
    scores = {name: value for name, value in _object(row["metrics"]).items() if not name.startswith(chosen)}
    label = row.get("label")
    return {**row, **scores, "metrics": list(scores), "item": row["doc_id"],
            "reference": None if label is None else str(label)}  # fmt: skip


def _inspect(row: dict[str, Any]) -> dict[str, Any]:
    """Take Inspect's scorers as metrics, each grade as a number; an epoch is another answer to the same sample."""
    scores: dict[str, Any] = {}
    for scorer, score in _object(row.get("scores")).items():
        value = _held(score, "value")
        several = value if isinstance(value, dict) else {"": value}
        for part, grade in several.items():
            scores[f"{scorer}/{part}" if part else scorer] = _graded(grade)
    return {
        **_object(row.get("metadata")), **scores, "metrics": list(scores), "item": f"{row['id']}/{row['epoch']}",
        "cluster": row["id"], "prompt": text_of(row["input"]), "reference": text_of(row["target"]),
        "answer": text_of([choice.get("message") for choice in _objects(_held(row, "output", "choices"))]),
    }  # fmt: skip


def _graded(grade: object) -> object:
    """Give the number that Inspect's metrics take a grade for; what is none stays as it is."""
    if not isinstance(grade, str):
        return grade
    try:
        return _GRADES[grade.lower()] if grade.lower() in _GRADES else float(grade)
    except ValueError:
        return grade


def _promptfoo(row: dict[str, Any]) -> dict[str, Any]:
    """Take the test's variables for what promptfoo asked, since its prompts may be what is compared.

    A test that is repeated is another test of the same variables.
    """
    asked = _object(row.get("vars", _held(row, "testCase", "vars")))
    provider, label = row.get("provider"), _held(row, "prompt", "label")
    prompt = next(iter(asked.values())) if len(asked) == 1 else json.dumps(asked, ensure_ascii=False, sort_keys=True)
    return {
        **asked, **_object(row.get("namedScores")),
        "score": None if row.get("failureReason") == _ERROR else row.get("score", row.get("success")),
        "item": f"{row['testIdx']}/{row['promptIdx']}", "cluster": prompt if asked else row["testIdx"],
        "prompt": prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False),
        "answer": text_of(_held(row, "response", "output")), "success": row.get("success"),
        "testIdx": row["testIdx"], "promptIdx": row["promptIdx"], "prompt_label": label,
        "provider": _held(provider, "label") or _held(provider, "id") or provider,
    }  # fmt: skip


def _deepeval(row: dict[str, Any]) -> dict[str, Any]:
    """Take DeepEval's metrics by name, of a test case or of a conversation; fields of the user can be sliced by."""
    scores = {str(metric.get("name")): metric.get("score") for metric in _objects(row["metricsData"])}
    said = [turn.get("content") for turn in _objects(row.get("turns")) if turn.get("role") == "assistant"]
    return {
        **_object(row.get("metadata")), **scores, "metrics": list(scores), "item": row["name"],
        "prompt": row.get("input", row.get("scenario")), "answer": row.get("actualOutput", text_of(said)),
        "reference": row.get("expectedOutput", row.get("expectedOutcome")), "success": row.get("success"),
        "order": row.get("order"),
    }  # fmt: skip


def _lighteval(row: dict[str, Any]) -> dict[str, Any]:
    """Take lighteval's metrics by name; fields of the document can be sliced by."""
    document, scores = _object(row["doc"]), _object(row["metric"])
    choices, gold = document.get("choices"), document.get("gold_index")
    gold = gold[0] if isinstance(gold, list) and gold else gold
    right = choices[gold:][:1] if isinstance(choices, list) and isinstance(gold, int) and gold >= 0 else []
    return {
        **document, **scores, "metrics": list(scores), "item": document.get("id"), "prompt": document.get("query"),
        "reference": text_of(right), "answer": text_of(_held(row, "model_response", "text")),
    }  # fmt: skip


def _ragas(row: dict[str, Any]) -> dict[str, Any]:
    """Take the question of RAGAS for the item; which of its metrics is compared, the user says."""
    rest = {name: value for name, value in row.items() if name != "response"}
    return {**rest, "item": row["user_input"], "prompt": row["user_input"], "answer": row["response"]}


def _helm(row: dict[str, Any]) -> dict[str, Any]:
    """Take HELM's statistics by name."""
    return {**_object(row["stats"]), **helm_answer(row), "answer": row["predicted_text"]}


def helm_answer(row: dict[str, Any]) -> dict[str, Any]:
    """Name an answer of HELM: another choice of examples, or another wording, asks the same instance again."""
    wording = _object(row.get("perturbation"))
    same = {"name", "robustness", "fairness", "computed_on"}
    told = [str(wording["name"])] if "name" in wording else []
    told += [f"{key}={value}" for key, value in sorted(wording.items()) if key not in same]
    parts = [row["instance_id"], *([" ".join(told)] if told else []), row.get("train_trial_index", 0)]
    return {"item": "/".join(map(str, parts)), "cluster": row["instance_id"], "suite": " ".join(told) or "original"}


TOOLS = (
    Tool(frozenset({"doc_id", "metrics", "filtered_resps"}), _harness),
    Tool(frozenset({"doc_id", "native_id", "metrics", "model_output"}), _olmes),
    Tool(frozenset({"id", "epoch", "input", "target", "scores"}), _inspect),
    Tool(frozenset({"id", "epoch", "input", "target", "output"}), _inspect),
    Tool(frozenset({"testIdx", "promptIdx"}), _promptfoo),
    Tool(frozenset({"name", "metricsData"}), _deepeval),
    Tool(frozenset({"instance_id", "predicted_text", "stats"}), _helm),
    Tool(frozenset({"doc", "metric", "model_response"}), _lighteval),
    Tool(frozenset({"user_input", "response"}), _ragas),
)
