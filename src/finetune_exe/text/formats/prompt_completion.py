"""Prompt and completion under any of their usual names, and texts with a label."""

from __future__ import annotations

from finetune_exe.text.formats.columns import ColumnFormat, Layout

TEXT_NAMES = ("text", "sentence", "utterance", "input")
LABEL_NAMES = ("label", "category", "intent", "class", "sentiment")

PROMPT_COMPLETION = ColumnFormat(
    name="prompt_completion",
    needs="prompt, completion (or question, answer; or text, label)",
    layouts=(
        Layout(
            prompts=("prompt", "question", "query", "user_input", "input"),
            inputs=("context",),
            answers=("completion", "response", "answer", "output", "model_output"),
        ),
        Layout(prompts=TEXT_NAMES, answers=LABEL_NAMES, labels=True),
    ),
    foreign=frozenset({"instruction", "messages", "conversations", "chosen", "rejected"}),
    writes_history=False,
    writes_empty_input=False,
)
