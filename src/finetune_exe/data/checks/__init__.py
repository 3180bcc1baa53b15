"""What can be wrong with data, check by check. To add one: one entry in a file beside this, one line here."""

from __future__ import annotations

from finetune_exe.data.checks import (
    boilerplate,
    characters,
    conflicts,
    drafts,
    emptiness,
    error_texts,
    escapes,
    forms,
    generator_marks,
    gibberish,
    html_residue,
    json_in_string,
    label_in_text,
    labels,
    languages,
    lengths,
    mojibake,
    pii,
    placeholders,
    preference,
    prompt_echo,
    prompt_in_text,
    refusals,
    repeats,
    repetition,
    roles,
    same_answers,
    secret,
    source_residue,
    special_tokens,
    sums,
    tool_schema,
    tools,
    truncation,
    word_order,
)
from finetune_exe.data.checks.check import Check, DataCheck, RowCheck
from finetune_exe.data.layout import LAYOUTS, Layout

CHECKS: tuple[Check, ...] = (
    *roles.CHECKS,
    *tools.CHECKS,
    *tool_schema.CHECKS,
    *emptiness.CHECKS,
    *preference.CHECKS,
    *prompt_echo.CHECKS,
    *characters.CHECKS,
    *mojibake.CHECKS,
    *special_tokens.CHECKS,
    *html_residue.CHECKS,
    *source_residue.CHECKS,
    *json_in_string.CHECKS,
    *escapes.CHECKS,
    *placeholders.CHECKS,
    *drafts.CHECKS,
    *repetition.CHECKS,
    *gibberish.CHECKS,
    *word_order.CHECKS,
    *refusals.CHECKS,
    *generator_marks.CHECKS,
    *error_texts.CHECKS,
    *boilerplate.CHECKS,
    *pii.CHECKS,
    *secret.CHECKS,
    *truncation.CHECKS,
    *forms.CHECKS,
    *sums.CHECKS,
    *languages.CHECKS,
    *lengths.CHECKS,
    *repeats.CHECKS,
    *conflicts.CHECKS,
    *same_answers.CHECKS,
    *labels.CHECKS,
    *label_in_text.CHECKS,
    *prompt_in_text.CHECKS,
)
ROW_CHECKS: tuple[RowCheck, ...] = tuple(check for check in CHECKS if isinstance(check, RowCheck))
ROW_CHECKS_OF: dict[Layout, tuple[RowCheck, ...]] = {
    layout: tuple(check for check in ROW_CHECKS if layout in check.layouts) for layout in LAYOUTS
}
"""The checks that a row of one layout may fail."""
DATA_CHECKS: tuple[DataCheck, ...] = tuple(check for check in CHECKS if isinstance(check, DataCheck))
