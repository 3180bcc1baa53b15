"""The held-out rows that are answered by generating."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_exe.domain.plan import Plan
from finetune_exe.evaluation.metrics import METRICS
from finetune_exe.evaluation.tasks.answered import Answered
from finetune_exe.models.generate import Answer
from finetune_exe.prepared.store import StoredRow
from finetune_exe.text.conversation import Conversation
from finetune_exe.text.encode import encode_prompt, reference_answer
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.thinking import opening_before, without_thinking
from finetune_exe.text.tokenizer import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The rows that are answered by generating."""

    rows: list[int]
    prompts: list[tuple[int, ...]]
    references: list[str]
    conversations: list[Conversation]
    opened: list[bool]
    """Whether the prompt ends with the opening of what the answer thinks."""

    def said(self, answers: Sequence[Answer]) -> list[str]:
        """Give what answers say behind what they think."""
        return [without_thinking(f"<think>{answer.text}" if opened else answer.text)
                for answer, opened in zip(answers, self.opened, strict=True)]  # fmt: skip

    def answered(self, answers: Sequence[Answer]) -> list[Answered]:
        """Put answers beside what was asked and wanted."""
        return [
            Answered(prompt=last_question(row), answer=said, reference=reference, columns=row.extra)
            for row, said, reference in zip(self.conversations, self.said(answers), self.references, strict=True)
        ]


def choose_questions(rows: Sequence[StoredRow], plan: Plan, tokenizer: ChatTokenizer) -> Questions:
    """Choose the rows to answer, spread evenly over the split."""
    wanted = plan.evaluation.max_generations if any(m in METRICS for m in plan.evaluation.metrics) else 0
    found = []
    for row in spread_evenly(len(rows), wanted):
        conversation = from_json(rows[row].conversation)
        prompt, reference = encode_prompt(conversation, tokenizer), reference_answer(conversation, tokenizer)
        if prompt is not None and reference is not None:
            found.append((row, prompt, reference, conversation))
    return Questions(
        rows=[row for row, _, _, _ in found], prompts=[prompt for _, prompt, _, _ in found],
        references=[reference for _, _, reference, _ in found],
        conversations=[conversation for _, _, _, conversation in found],
        opened=[opening_before(tokenizer.decode(prompt)) is not None for _, prompt, _, _ in found],
    )  # fmt: skip


def known_labels(plan: Plan, references: Sequence[str]) -> list[str]:
    """List the labels of a classification: those of the data, and those of the rows that are asked."""
    of_data = plan.profile.labels if plan.profile is not None else ()
    return sorted({*references, *(label.strip() for label in of_data)})


def last_question(conversation: Conversation) -> str:
    """Give what the user said last."""
    turns = [message for message in conversation.messages if message.role == "user"]
    return turns[-1].content if turns else ""


def spread_evenly(count: int, wanted: int) -> list[int]:
    """Choose so many places, spread evenly over all."""
    if wanted >= count:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]
