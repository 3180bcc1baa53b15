"""Answers that decline to answer."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView
from finetune_exe.knowledge.refusals import refusal_in

_REQUEST_CHARACTERS = 250
"""Three in four questions of public files are as short."""
_HARM = re.compile(
    r"\b(?:bombs?|explosives?|weapons?|firearms?|grenades?|kill(?:ing)? (?:my|a person|people|him|her|some\w+"
    r"|them)|murder\w*|suicid\w+|self-harm"
    r"|kidnap\w*|poison(?:ing)? (?:my|some\w+|a person|people|him|her)|terroris\w+|genocide|torture|rape"
    r"|molest\w*|assault"
    r"|meth(?:amphetamine)?|heroin|cocaine|fentanyl|malware|ransomware|phishing|keylogger|ddos|hack(?:ing)? into"
    r"|steal|stealing|shoplift\w*"
    r"|launder\w*|counterfeit|forg(?:e|ing) a|fake (?:id|passport|documents?|reviews?)|blackmail|stalk(?:ing)?"
    r"|dox+(?:ing)?"
    r"|porn\w*|child abuse|racist|racial slurs?|hate speech|slurs|nazi propaganda)\b",
    re.IGNORECASE,
)
"""What a question asks for that nobody should answer."""


def _asks_harm(prompt: str) -> bool:
    """Whether a short request names harm; in a long text it may be what the text is about."""
    return len(prompt) <= _REQUEST_CHARACTERS and _HARM.search(prompt) is not None


def _find(row: RowView) -> str | None:
    if row.layout in ("text", "classification", "preference"):
        return None
    for answer in row.answers:
        if refusal_in(answer) is not None and not _asks_harm(row.prompt):
            return shorten(answer)
    return None


CHECKS = (
    RowCheck(
        code="refusal",
        severity="warning",
        message="the assistant declines to answer; a model learns that fast, also where it should answer",
        fix="keep the refusals that are wanted, and answer or drop the others",
        find=_find,
        usual=0.05,
        example=asked("Write a poem.", "As an AI language model, I do not have the ability to do that."),
        counterexample=asked("What is it?", 'The phrase "As an AI language model" usually signals a refusal.'),
    ),
)
