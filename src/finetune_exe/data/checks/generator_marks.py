"""Words of the chat program that an answer was copied from."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import is_program
from finetune_exe.data.checks.row import RowView

_PRODUCTS = (
    r"(?:ChatGPT|GPT-?\d[\w.-]*|Claude|Bard|Gemini|Bing Chat|Copilot|DeepSeek(?:[- ][\w.]+)?|Qwen[\w.-]*|Tongyi Qianwen"
    r"|Llama[ -]?\d[\w.]*|Vicuna|Mistral|Mixtral|Grok|Open ?Assistant|ERNIE Bot|Kimi|Doubao|Command R\+?)"
)
_MAKERS = (
    r"(?:Open ?AI|Anthropic|Google(?: DeepMind| AI)?|Meta(?: AI)?|Microsoft|DeepSeek|Alibaba(?: Cloud)?|Mistral AI"
    r"|Baidu|xAI|Moonshot AI|Zhipu AI|LMSYS|Cohere|ByteDance|Tencent)"
)
_CLAIM = re.compile(
    rf"\b(?:I am|I'm|I\u2019m|[Mm]y name is|[Cc]all me|^You are) (?:[a-z]+ ){{0,4}}{_PRODUCTS}(?![\w'\u2019])"
    r"|\b(?:[Aa]s an?|I am|I'm|I\u2019m|I was|I have been) (?=[^.!?\n]{0,80}\b(?:AI|[Ll]anguage [Mm]odel|[Aa]ssistant"
    r"|chatbot|trained|developed|created|built|made)\b)"
    rf"[^.!?\n]{{0,80}}?\b(?:by|at|from|of) {_MAKERS}\b"
    rf"|\bAs {_PRODUCTS}, I\b|\((?:[Gg]enerated|[Ww]ritten|[Cc]reated) (?:by|with|using) {_PRODUCTS}\)"
)
"""A speaker who says to be the product of somebody, or a remark that a text is of one."""
_NAMES = ("nthropic", "Google", "Meta", "Claude", "Alibaba", "Mistral", "Baidu", "DeepSeek", "Microsoft")
_CITED = re.compile(
    "\u3010\\d+(?::\\d+)?\u2020[^\u3011\n]{0,80}\u3011|:contentReference\\[oaicite:\\d+\\]|(?:\\b|cite)turn\\d+(?:search|view|news)\\d+|\\[citation:\\d+\\]"
    r"|[?&]utm_source=(?:chatgpt\.com|openai|perplexity)"
)
"""References that a chat program resolves when it shows an answer."""
_UP_TO = ("As of my", "Up to my")
_BUTTONS = (
    "Regenerate", "Stop generating", "Continue generating", "Is this conversation helpful", "Was this response better",
    "Free Research Preview", "ChatGPT can make mistakes", "Claude can make mistakes", "Claude is AI and can make",
    "Gemini can make mistakes", "Gemini may display", "Bard may display", "Copilot may make mistakes", "Grok can make",
    "AI-generated content may be incorrect", "Bad response", "Good response", "Read aloud",
)  # fmt: skip
"""How the last line of an answer begins that was copied with the window of a chat program around it."""
_CUT_OFF = re.compile(r"(?:As of|Up to) my (?:last |latest )?(?:knowledge|training)(?: data)?(?: update| cut-?off)?\b")
"""What a model says of the date after which it has read nothing."""
_SPEAKERS = ("ChatGPT said:", "Claude said:", "Gemini said:", "You said:", "ChatGPT\n", "Assistant said:")
"""The same of the first line."""
_THOUGHT = re.compile(r"(?:Thought|Reasoned) for (?:\d+|a few|a couple of) (?:seconds?|minutes?|s|m)\b[^\n]{0,20}\n")
"""What a chat program says above an answer of how long it took."""
_COPY = re.compile(r"\n(?:[a-z+#]{1,12}\n)?Copy(?: code| Edit|\nEdit)\n")
_GRADED = re.compile(
    r"\[\[(?:[Rr]ating: ?)?\d{1,2}(?:\.\d)?\]\]|\[\[[ABC]\]\](?=\s*\Z)"
    r"|\n\W{0,4}(?:Overall )?(?:[Ss]core|[Rr]ating|[Gg]rade)\W{0,4}: ?\d{1,3}(?:\.\d)? ?/ ?(?:5|10|100)\b"
)
"""The mark that a model gave an answer when it was asked to judge it."""
_ASKS_GRADE = re.compile(r"\b(?:scor|rat(?:e|ing)|grad|judg|evaluat|review|rank|assess|recommend)", re.IGNORECASE)


def _marked(row: RowView) -> str | None:
    """Find what is said in an answer that only the product of somebody says."""
    if row.layout == "classification":
        return None
    looks = _likely(row.signs, row)
    for answer in row.answers if looks else ():
        for pattern in looks:
            found = pattern.search(answer)
            if found is not None and not (pattern is _GRADED and _is_no_grade(answer, row)):
                return shorten(answer, found.start())
    return None


def _is_no_grade(answer: str, row: RowView) -> bool:
    return _ASKS_GRADE.search(row.prompt) is not None or is_program(answer)


def _framed(row: RowView) -> str | None:
    """Find what stands before or behind an answer in the window it was copied from."""
    for answer in row.answers:
        last = answer.rfind("\n", 0, -1) + 1
        if (last and answer.startswith(_BUTTONS, last)) or answer.startswith(_SPEAKERS) or _THOUGHT.match(answer):
            return shorten(answer, last)
        if answer.startswith(_UP_TO) and _CUT_OFF.match(answer) is not None:
            return shorten(answer)
    return None


def _likely(signs: str, row: RowView) -> list[re.Pattern[str]]:
    """Choose what to look for by the signs, digits and capitals of a row."""
    looks = []
    if _may_claim(signs, row.text):
        looks.append(_CLAIM)
    if "[:" in signs or "_=" in signs or "\u3010" in row.foreign or "turn0" in row.text:
        looks.append(_CITED)
    if "\nC" in signs:
        looks.append(_COPY)
    if "[[" in signs or "/1" in signs or "/5" in signs:
        looks.append(_GRADED)
    return looks


def _may_claim(signs: str, text: str) -> bool:
    """Whether a row has a sign of a name that `_CLAIM` looks for."""
    if "GPT" in signs or "OAI" in signs or "XAI" in signs:
        return True
    return ("AI" in signs or "IC" in signs or "IMC" in signs) and any(map(text.__contains__, _NAMES))


_MESSAGE = "the answer holds words of the chat program it was taken from, or says to be another product"
_FIX = "take them out; a model learns to say them, and whose product it is"

CHECKS = (
    RowCheck(
        code="generator_mark",
        severity="warning",
        message=_MESSAGE,
        fix=_FIX,
        find=_marked,
        usual=0.2,
        example=asked("Who are you?", "As an AI assistant made by OpenAI, I have no name of my own."),
        counterexample=asked("Who made it?", "ChatGPT is a language model of OpenAI, and Claude is one of Anthropic."),
    ),
    RowCheck(
        code="generator_mark",
        severity="warning",
        message=_MESSAGE,
        fix=_FIX,
        find=_framed,
        usual=0.2,
        example=asked("How deep is it?", "It is four metres deep.\nRegenerate response"),
        counterexample=asked("How deep is it?", "It is four metres deep.\nRegeneration takes a year."),
    ),
)
