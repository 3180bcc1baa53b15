"""What each model did on each item, as files for `fine-tune compare`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_exe.atomic import write_file
from finetune_exe.evaluation.measure import Measured
from finetune_exe.evaluation.questions import Questions, last_question
from finetune_exe.evaluation.suites import Suite
from finetune_exe.evaluation.tasks.answered import TaskScores
from finetune_exe.prepared.store import StoredRow


def write_items(
    run: Path,
    rows: Sequence[StoredRow],
    questions: Questions,
    suites: Sequence[Suite],
    before: Measured,
    after: Measured,
    scores: tuple[TaskScores, TaskScores] | None,
) -> None:
    """Write what each model did on each item, for `fine-tune compare`."""
    for number, (name, side) in enumerate((("base", before), ("tuned", after))):
        lines: list[dict[str, Any]] = []
        if scores is not None:
            main, values = next(iter(scores[number].items.items()))
            lines += [
                {"item": f"{main}/{row}", "suite": main, "score": score, "cluster": rows[row].group,
                 "length": len(said), "prompt": last_question(conversation), "answer": said, "reference": reference}
                for row, score, said, conversation, reference in zip(
                    questions.rows, values, questions.said(side.answers), questions.conversations,
                    questions.references, strict=True
                )
            ]  # fmt: skip
        for suite in suites:
            lines += [
                {"item": f"{suite.name}/{item.name}", "suite": suite.name, "score": score,
                 "cluster": f"{suite.name}/{item.cluster}", "prompt": item.contexts[0],
                 "reference": item.continuations[item.gold] if item.gold < len(item.continuations) else ""}
                for item, score in zip(suite.items, side.suites[suite.name], strict=True)
            ]  # fmt: skip
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        if lines:
            write_file(run / "evaluation" / f"{name}.jsonl", content.encode())
