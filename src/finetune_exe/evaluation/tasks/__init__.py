"""Metrics by kind of task: one small file each, one line here."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.domain.task import TaskType
from finetune_exe.evaluation.tasks.answered import TaskMetrics
from finetune_exe.evaluation.tasks.answers import Answers
from finetune_exe.evaluation.tasks.chat import Chat
from finetune_exe.evaluation.tasks.classification import Classification
from finetune_exe.evaluation.tasks.code import Code
from finetune_exe.evaluation.tasks.extraction import Extraction
from finetune_exe.evaluation.tasks.prose import Prose
from finetune_exe.evaluation.tasks.reasoning import Reasoning
from finetune_exe.evaluation.tasks.structured import Structured, find_json, read_calls
from finetune_exe.evaluation.tasks.summaries import Summaries
from finetune_exe.evaluation.tasks.translations import Translations

TASK_METRICS: dict[TaskType, TaskMetrics] = {
    "classification": Classification(),
    "extraction": Extraction(),
    "qa": Answers(),
    "summarization": Summaries(),
    "translation": Translations(),
    "code": Code(),
    "reasoning": Reasoning(),
    "chat": Chat(),
    "generation": Prose(),
    "rewriting": Prose(),
}
"""`completion` is judged by bits per byte alone."""


def metrics_for(task: TaskType, references: list[str], labels: Sequence[str] = ()) -> TaskMetrics | None:
    """Choose the metrics of a task; answers that are JSON or calls of tools are judged as such.

    Args:
        task: The kind of task.
        references: Of the items to score.
        labels: Labels there are, of which the references may show a part.
    """
    structured = [find_json(text) for text in references]
    whole = sum(
        content is not None and (task not in ("extraction", "code") or bool(read_calls(content)))
        and text.lstrip().startswith(("{", "[", "```json", "<tool_call>"))
        for content, text in zip(structured, references, strict=True)
    )  # fmt: skip
    if references and whole >= 0.9 * len(references):
        return Structured()
    if task == "classification":
        return Classification(labels)
    return TASK_METRICS.get(task)
