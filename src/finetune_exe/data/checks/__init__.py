"""What can be wrong with data, check by check. To add one: one entry in a file beside this, one line here."""

from __future__ import annotations

from finetune_exe.data.checks import (
    boilerplate,
    characters,
    emptiness,
    gibberish,
    html_residue,
    json_in_string,
    mojibake,
    pii,
    placeholders,
    preference,
    prompt_echo,
    refusals,
    repetition,
    roles,
    secret,
    special_tokens,
    tools,
)
from finetune_exe.data.checks.check import RowCheck

ROW_CHECKS: tuple[RowCheck, ...] = (
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
)
