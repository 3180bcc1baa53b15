"""Alpaca: instruction, optional input, output; Dolly's context and response are the same under other names."""

from __future__ import annotations

from finetune_exe.text.formats.columns import ColumnFormat, Layout

ALPACA = ColumnFormat(
    name="alpaca",
    needs="instruction, output (and, if there is one, input)",
    layouts=(
        Layout(
            prompts=("instruction",),
            inputs=("input", "context"),
            answers=("output", "response", "completion", "answer"),
        ),
    ),
    foreign=frozenset({"messages", "conversations", "chosen", "rejected"}),
    writes_history=True,
    writes_empty_input=True,
)
