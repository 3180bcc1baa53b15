"""What can be wrong with data, check by check. To add one: one entry in a file beside this, one line here."""

from __future__ import annotations

from finetune_exe.data.checks import (
    boilerplate,
    characters,
    conflicts,
    emptiness,
    gibberish,
    html_residue,
    json_in_string,
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
    secret,
    special_tokens,
    tools,
    truncation,
)
from finetune_exe.data.checks.check import Check, DataCheck, RowCheck

CHECKS: tuple[Check, ...] = (
    *roles.CHECKS,
    *tools.CHECKS,
    *emptiness.CHECKS,
    *preference.CHECKS,
    *prompt_echo.CHECKS,
    *characters.CHECKS,
    *mojibake.CHECKS,
    *special_tokens.CHECKS,
    *html_residue.CHECKS,
    *json_in_string.CHECKS,
    *placeholders.CHECKS,
    *repetition.CHECKS,
    *gibberish.CHECKS,
    *refusals.CHECKS,
    *boilerplate.CHECKS,
    *pii.CHECKS,
    *secret.CHECKS,
    *truncation.CHECKS,
    *languages.CHECKS,
    *lengths.CHECKS,
    *repeats.CHECKS,
    *conflicts.CHECKS,
    *labels.CHECKS,
    *prompt_in_text.CHECKS,
)
ROW_CHECKS: tuple[RowCheck, ...] = tuple(check for check in CHECKS if isinstance(check, RowCheck))
DATA_CHECKS: tuple[DataCheck, ...] = tuple(check for check in CHECKS if isinstance(check, DataCheck))
