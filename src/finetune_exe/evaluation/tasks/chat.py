"""Chat: refusals, length, and instructions whose fulfilment a program can see."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_exe.evaluation.refusals import refuses
from finetune_exe.evaluation.tasks.answered import Answered, TaskScores, mean
from finetune_exe.evaluation.tasks.constraints import CONSTRAINTS, fulfilled
from finetune_exe.evaluation.tasks.prose import Prose


class Chat:
    """Scores likeness and, where rows name them, instructions."""

    name = "chat"

    def score(self, items: Sequence[Answered]) -> TaskScores:
        """Score chrF, and the share of the verifiable instructions of a row that were followed."""
        prose = Prose().score(items)
        figures = {"refused": mean([float(refuses(item.answer)) for item in items]), **prose.figures}
        asked = [named(item) for item in items]
        if not any(asked):
            return TaskScores(items=prose.items, figures=figures)
        kept = [mean([float(fulfilled(name, item.answer, values)) for name, values in names]) if names else 1.0
                for item, names in zip(items, asked, strict=True)]  # fmt: skip
        figures["instructions_known"] = float(sum(map(len, asked)))
        return TaskScores(items={"instructions_followed": kept, **prose.items}, figures=figures)


def named(item: Answered) -> list[tuple[str, dict[str, object]]]:
    """Give the instructions of a row that can be verified here, in IFEval's columns."""
    names, values = item.columns.get("instruction_id_list"), item.columns.get("kwargs")
    if not isinstance(names, list):
        return []
    given = values if isinstance(values, list) and len(values) == len(names) else [{}] * len(names)
    return [(name, value if isinstance(value, dict) else {})
            for name, value in zip(names, given, strict=True) if name in CONSTRAINTS]  # fmt: skip
