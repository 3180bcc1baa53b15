"""Rows of results as other tools write them, the same answers in each, and a way to write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


RIGHT = [True, False, True, True, False, True]


def tool_files() -> dict[str, Any]:
    """Write the same six graded answers as other tools document their files."""
    inspect = {
        "version": 2, "status": "success", "eval": {"task": "sums", "model": "m"},
        "plan": {"steps": [{"solver": "generate"}]}, "results": {"scores": [{"name": "match", "metrics": {}}]},
        "samples": [
            {"id": i, "epoch": 1, "input": [{"role": "user", "content": [{"type": "text", "text": f"{i}+1"}]}], "target": str(i + 1),
             "output": {"choices": [{"message": {"role": "assistant", "content": str(i + right)}}]},
             "scores": {"match": {"value": "C" if right else "I", "answer": "x"}}, "metadata": {"score": 0.3, "kind": i % 2}}
            for i, right in enumerate(RIGHT)
        ],
        "reductions": [{"scorer": "match", "samples": [{"value": 1, "sample_id": 0}]}],
    }  # fmt: skip
    promptfoo = {
        "evalId": "eval-1", "config": {"tests": [{"vars": {}}]}, "shareableUrl": None,
        "results": {
            "version": 3, "prompts": [{"raw": "{{sum}}", "label": "p"}], "stats": {"successes": 4},
            "results": [
                {"promptIdx": 0, "testIdx": i, "provider": {"id": "m"}, "prompt": {"raw": f"Say {i}+1", "label": "p"},
                 "vars": {"sum": f"{i}+1"}, "response": {"output": str(i + right)}, "success": right,
                 "score": float(right), "namedScores": {}, "gradingResult": {"pass": right, "score": float(right)}}
                for i, right in enumerate(RIGHT)
            ],
        },
    }  # fmt: skip
    deepeval = {
        "testCases": [
            {"name": f"test_case_{i}", "input": f"{i}+1", "actualOutput": str(i + right), "expectedOutput": str(i + 1),
             "success": right, "metricsData": [
                 {"name": "Correctness [GEval]", "threshold": 0.5, "success": right, "score": float(right)},
                 {"name": "Bias", "threshold": 0.5, "success": True, "score": 0.0},
             ]}
            for i, right in enumerate(RIGHT)
        ],
        "conversationalTestCases": [], "metricsScores": [{"metric": "Bias", "scores": [0.0]}],
    }  # fmt: skip
    helm = [
        {"instance_id": f"id{i}", "predicted_text": str(i + right), "train_trial_index": 0,
         "stats": {"num_output_tokens": 3.0, "exact_match": float(right)}}
        for i, right in enumerate(RIGHT)
    ]  # fmt: skip
    return {"inspect": inspect, "promptfoo": promptfoo, "deepeval": deepeval, "helm": helm}
