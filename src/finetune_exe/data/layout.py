"""How a conversation was laid out in its file."""

from __future__ import annotations

from typing import Literal, get_args

from finetune_exe.text.conversation import Conversation

LABEL_COLUMNS = frozenset({
    "label", "labels", "category", "categories", "intent", "intents", "class", "sentiment", "topic", "target", "tag",
    "label_text", "label_name", "polarity", "emotion", "stars", "rating",
})  # fmt: skip
"""Names of answer columns that hold a label."""
LABEL_CHARACTERS = 60
"""Longest answer that may be a label; the longest of banking77 has 48."""
MAX_LABELS, MIN_ROWS_PER_LABEL = 300, 5
"""Most different answers that may be labels, and how often each is given on average. CLINC150, a wide set, has 151
(Larson et al., 2019)."""
Layout = Literal["text", "columns", "turns", "preference", "classification"]
"""One text; question and answer in columns; a list of turns; a chosen and a rejected answer; a text and its label."""
LAYOUTS: frozenset[Layout] = frozenset(get_args(Layout))


def layout_of(conversation: Conversation) -> Layout:
    """Say how a conversation was laid out in its file."""
    if conversation.kind == "text":
        return "text"
    origin = conversation.origin
    if origin.get("format") == "preference":
        return "preference"
    columns = origin.get("columns")
    if columns is None:
        return "turns"
    return "classification" if columns.get("answer", "").casefold() in LABEL_COLUMNS else "columns"


def empty_answer_code(conversation: Conversation) -> str:
    """Name the fault of a row with an empty answer, as its layout words it."""
    match layout_of(conversation):
        case "text":
            return "empty_text"
        case "turns":
            return "empty_assistant"
        case "classification":
            return "empty_label"
        case "columns" | "preference":
            return "whitespace_output" if conversation.messages[-1].content else "empty_output"
