"""Marks of the file or the program that a text was taken from: subtitles, chat logs, mails, wikis, word processors."""

from __future__ import annotations

import re

from finetune_exe.data.checks.check import RowCheck, shorten
from finetune_exe.data.checks.example import asked
from finetune_exe.data.checks.programs import is_program
from finetune_exe.data.checks.row import RowView

_SUBTITLE = re.compile(r"\d\d:\d\d[,.]\d{3} --> \d\d:\d\d")
_STAMPED = re.compile(
    r"^\[?\d{1,4}[./-]\d{1,2}[./-]\d{1,4},? \d{1,2}:\d{2}(?::\d{2})?(?:[ \u202f]?[AaPp][Mm])?\]?(?: -)? [^:\n]{1,40}: ",
    re.MULTILINE,
)
_STAMP_SIGNS = re.compile(r"\d[/.-]\d{1,2}[/.-]\d{2,4},?\d{1,2}:\d\d")
_MAIL = re.compile(
    r"^[-_]{2,} ?(?:Original|Forwarded) [Mm]essage ?[-_]{2,}$"
    r"|^From: [^\n]+\n(?:Sent|Date|To): [^\n]+\n(?:To|Cc|Subject|Date): "
    r"|^(?:Sent from my (?:iPhone|iPad|Android|BlackBerry|Samsung|mobile)|Get Outlook for (?:iOS|Android))\b",
    re.MULTILINE,
)
_WIKI = re.compile(
    r"[\w.,;:!?)\"] ?\[(?:edit|citation needed|clarification needed|when\?|by whom\?|dead link)\]"
    r"|\[\[(?:File|Image|Category|User|Datei|Fichier|Archivo):|\{\{(?:Infobox|[Cc]ite (?:web|book|news|journal)"
    r"|Reflist|Main"
    r"|See also|Short description|[Cc]itation needed|Use dmy dates|Authority control)\b|(?<!')'''[^'\n]{2,60}'''(?!')"
    r"|^\{\|[^\n]*class=|\{(?:code|noformat)(?::[\w|=]+)?\}|^h[1-6]\. [A-Z]"
    r"|^==+ [^=\n]{2,60} ==+$",
    re.MULTILINE,
)
_CHAT = re.compile(
    r"<(?:@[UW][0-9A-Z]{6,}|#C[0-9A-Z]{6,}|@[!&]?\d{15,20}|#\d{15,20}|a?:\w{2,32}:\d{15,20})(?:\|[^>\n]*)?>"
)
"""Mentions of people, rooms and pictures, as chat programs keep them."""
_FORUM = re.compile(
    r"^(?:EDIT|Edit|UPDATE) ?\d?: [^\n]*\b(?:gold|silver|awards?|upvot\w+|front page|inbox|karma|formatting|typos?)\b"
    r"|^(?:Share\n)?Improve this (?:answer|question)\n"
    r"|(?:\n(?:[Rr]eply|[Ss]hare|[Rr]eport|[Ss]ave|[Ff]ollow|Upvote|Downvote|Like|Comments?|Award"
    r"|Give Award|[Pp]ermalink|embed|parent)){3,}\s*\Z"
    r"|^(?:answered|asked|edited) [A-Z][a-z]{2} \d{1,2}(?:,? '?\d{2,4})? at \d",
    re.MULTILINE,
)
"""What stands around answers of forums."""
_BUTTONS = tuple(f"\n{word}" for word in (
    "Reply", "reply", "Share", "share", "Report", "report", "Save", "save", "Follow", "follow", "Upvote", "Downvote",
    "Like", "Comment", "Comments", "Award", "Give Award", "Permalink", "permalink", "embed", "parent",
))  # fmt: skip
"""What the last line is where the buttons of a forum were copied too."""
_PAGE = re.compile(r"^[ \t\f]*Page \d{1,4} of \d{1,4}(?:\s*-)?[ \t\f]*$", re.MULTILINE)
_PAGE_SIGNS = re.compile(r"\nP\d{2,8}-?(?:\f?\n|$)")
_RICH = re.compile(
    r"\{\\rtf1\b|\\par\b.*\\par\b|data:image/[a-z+]+;base64,[A-Za-z0-9+/]{40}|%PDF-1\.\d|\\x00"
    r"|\\(?:cite[tp]?|ref|label|eqref|footnote)\{[\w:., -]+\}",
    re.DOTALL,
)
_ABOUT = re.compile(
    r"\b(?:subtitles?|srt|vtt|captions?|transcri\w+|e-?mails?|mails?|\w*wiki\w*|rtf|chat|logs?|slack|discord"
    r"|whatsapp|markup|format|pdf|latex|tex|bibtex|page numbers?|base ?64|data ur[il]"
    r"|svg|html|letters?|messages?|threads?|python"
    r"|ruby|strings?|code)\b",
    re.IGNORECASE,
)


def _find(row: RowView) -> str | None:
    if row.layout == "classification":
        return None
    signs = row.signs
    patterns = _may_have(signs, row)
    if not patterns:
        return None
    for answer in row.answers:
        for pattern in patterns:
            found = pattern.search(answer)
            if found is None or (pattern is _STAMPED and _STAMPED.search(answer, found.end()) is None):
                continue
            if row.layout == "text" or (_ABOUT.search(row.prompt) is None and not is_program(answer)):
                return shorten(answer, found.start())
    return None


def _may_have(signs: str, row: RowView) -> list[re.Pattern[str]]:
    """Choose what to look for by the signs, digits and capitals of a row."""
    patterns = []
    if "-->" in signs:
        patterns.append(_SUBTITLE)
    if ":" in signs:
        if "/" in signs and _STAMP_SIGNS.search(signs) is not None:
            patterns.append(_STAMPED)
        if "F:" in signs:
            patterns.append(_MAIL)
    if "---OM-" in signs or "---FM-" in signs or "\nSP" in signs or "\nGOOS" in signs:
        patterns.append(_MAIL)
    if (
        "[]" in signs
        or "[?]" in signs
        or "[[" in signs
        or "{{" in signs
        or "{|" in signs
        or "{}" in signs
        or "'''" in signs
        or "\n==" in signs
    ):
        patterns.append(_WIKI)
    if any(map(signs.__contains__, ("S\nI", "EDIT", "\nE:", "UPDATE"))) or row.text.rstrip().endswith(_BUTTONS):
        patterns.append(_FORUM)
    if "<@" in signs or "<#" in signs or "<:" in signs:
        patterns.append(_CHAT)
    if "\f" in signs or ("\nP" in signs and _PAGE_SIGNS.search(signs) is not None):
        patterns.append(_PAGE)
    if "{\\" in signs or "\\{" in signs or ";64," in signs or "%PDF" in signs:
        patterns.append(_RICH)
    return patterns


CHECKS = (
    RowCheck(
        code="source_residue",
        severity="warning",
        message="the text keeps marks of the file or the program it was taken from",
        fix="take them out: times of subtitles, stamps of chats, heads of mails, links of wikis, numbers of pages",
        find=_find,
        usual=0.3,
        example=asked("What did he say?", "1\n00:00:01,200 --> 00:00:03,400\nThe sea is rough.\n"),
        counterexample=asked("Show the form of subtitles.", "1\n00:00:01,200 --> 00:00:03,400\nThe sea is rough.\n"),
    ),
)
