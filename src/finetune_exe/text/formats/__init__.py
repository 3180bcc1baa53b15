"""The formats a row can have. To add one: one file beside this, one entry here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune_exe.text.formats.alpaca import ALPACA
from finetune_exe.text.formats.chatml import CHATML
from finetune_exe.text.formats.completion import COMPLETION
from finetune_exe.text.formats.format import Format
from finetune_exe.text.formats.layouts import LAYOUTS
from finetune_exe.text.formats.preference import KTO, PREFERENCE
from finetune_exe.text.formats.prompt_completion import PROMPT_COMPLETION
from finetune_exe.text.formats.sharegpt import SHAREGPT

if TYPE_CHECKING:
    from finetune_exe.domain.task import FormatName

FORMATS: tuple[Format, ...] = (ALPACA, CHATML, SHAREGPT, PROMPT_COMPLETION, COMPLETION, PREFERENCE, KTO, *LAYOUTS)


def format_named(name: FormatName) -> Format:
    """Give the format of that name."""
    return next(entry for entry in FORMATS if entry.name == name)
