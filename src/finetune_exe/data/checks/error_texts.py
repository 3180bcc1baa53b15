"""Messages of servers and programs that stand where an answer should be."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.row import RowView

_ERROR = re.compile(
    r"\s*(?:Traceback \(most recent call last\):"
    r"|(?:HTTP(?:/\d(?:\.\d)?)? |Error:? |HTTP [Ee]rror:? )?[45]\d\d:? (?:-\s*)?(?:Bad (?:Gateway|Request)|Unauthorized"
    r"|Forbidden|(?:Page )?Not Found|Method Not|Request|Too Many Requests|Internal Server|Service|Gateway|Client Error"
    r"|Server Error)"
    r"|Error:? [45]\d\d\b"
    r"|Error (?:communicating|code|fetching|generating|processing|loading|retrieving|occurred|calling|in message)"
    r"|(?:[a-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Timeout|Refused): ?\S|\[?ERROR\]?: ?\S|\[ERROR\]|Error: \S"
    r"|An (?:unexpected |unknown |internal |unhandled )?error (?:has )?occurred"
    r"|(?:The |Your )?(?:[Rr]equest|[Cc]onnection) (?:timed out|failed|refused|reset|aborted|was aborted|could not be)"
    r"|HTTPS?ConnectionPool\("
    r"|Rate limit (?:reached|exceeded)|(?:That|The) model (?:is currently|`)|Too many requests|Max retries exceeded"
    r"|Just a moment\.\.\.|(?:Please )?[Ee]nable (?:JavaScript|cookies)|Checking (?:your browser|if the site)"
    r"|Verify(?:ing)? (?:that )?you are (?:a )?human|Attention Required!|Access [Dd]enied|Page not found"
    r"|404 (?:-|error)|Service (?:Temporarily )?Unavailable|(?:502 )?Bad Gateway|Internal Server Error|Network error"
    r"|The (?:server|upstream) (?:is (?:currently|temporarily)|had an|encountered|returned)|\{\"error\": ?[{\"]"
    r"|(?i:<(?:!doctype html[^>]*>\s*<)?html\b.{0,200}?<title>\s*"
    r"(?:[45]\d\d\b|error|bad gateway|access denied|just a moment))"
    r"|<\?xml[^>]*>\s*<Error>|This (?:page|site|content) (?:can.t be reached|isn.t available|is not available)"
    r"|You (?:have exceeded|exceeded) your (?:current )?(?:quota|rate)|The response was filtered"
    r"|Content (?:filter|blocked))",
    re.DOTALL,
)
"""How such messages begin."""
_STARTS = frozenset({
    "Tra", "HTT", "Err", "ERR", "[ER", "An ", "The", "You", "Req", "req", "Con", "con", "Rat", "Tha", "Too", "Max",
    "Jus", "Ple", "Ena", "ena", "Che", "Ver", "Att",
    "Acc", "Pag", "Ser", "Bad", "Int", "Net", "<!D", "<!d", "<ht", "<HT", '{"e', "<?x", "Thi",
    "400", "401", "403", "404", "405", "408", "413", "429", "500", "501", "502", "503", "504", "520", "522", "524",
})  # fmt: skip
_NAMED = re.compile("[a-z](?:Error|Exception|Timeout|Refused):")
"""One of them is what such a message begins with, or the other stands near its beginning."""
_MAX_CHARACTERS = 1500
"""A longer text that begins so is a story about an error, or a program with its output."""
_ABOUT = re.compile(
    r"\b(?:errors?|exceptions?|traceback|http|status|logs?|debug\w*|codes?|servers?|messages?|python|java\w*|programs?"
    r"|api|output|crash\w*|fail\w*|bug|bugs|javascript|website|page)\b",
    re.IGNORECASE,
)


def _is_named(beginning: str) -> bool:
    return ":" in beginning and _NAMED.search(beginning) is not None


def _find(row: RowView) -> str | None:
    if row.layout == "classification":
        return None
    for answer in row.answers:
        if len(answer) > _MAX_CHARACTERS or (answer[:3] not in _STARTS and not _is_named(answer[:60])):
            continue
        if (said := _ERROR.match(answer)) is not None:
            return None if _ABOUT.search(row.prompt) is not None else shorten(answer, said.start())
    return None


CHECKS = (
    RowCheck(
        code="error_text",
        severity="warning",
        message="the answer is the message of a server or a program that failed",
        fix="ask again for the answer, or drop the row",
        find=_find,
        example=asked("Describe a harbour at night.", "503 Service Unavailable\nNo server is available."),
        counterexample=asked("What does a busy web server say?", "503 Service Unavailable, with a page of its own."),
    ),
)
