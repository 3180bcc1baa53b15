"""Find what a pattern cannot match without, so that most lines are passed over without trying the pattern."""

from __future__ import annotations

from collections.abc import Iterator

_SHORTEST = 3
_PLAIN = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ '\"`/<>%,=!@#&~:;-")


def anchors(pattern: str) -> tuple[str, ...]:
    """List lower-case texts, one of which every match of `pattern` contains; empty where there is no such list.

    It errs on the side of an empty list: only plain characters, groups and alternatives are understood.
    """
    found: list[str] = []
    for alternative in _split(pattern):
        best = _best(alternative)
        if not best:
            return ()
        found += best
    return tuple(dict.fromkeys(found))


def _best(alternative: str) -> tuple[str, ...]:
    """Take the longest plain run of one alternative, or the anchors of one of its groups."""
    runs, groups = [], []
    for part, optional in _parts(alternative):
        if optional:
            continue
        if part.startswith("("):
            groups.append(part)
        elif not part.startswith(("[", "\\")):
            runs.append(part.lower())
    longest = max(runs, key=len, default="")
    if len(longest) >= _SHORTEST:
        return (longest,)
    inner = [anchors(_inside(group)) for group in groups]
    return max((found for found in inner if found), key=lambda found: min(map(len, found)), default=())


def _inside(group: str) -> str:
    """Take the brackets and a `?:` off a group; what looks around is no part of the match."""
    body = group[1:-1]
    if body.startswith("?:"):
        return body[2:]
    return "" if body.startswith("?") else body


def _split(pattern: str) -> Iterator[str]:
    """Split at the bars that stand outside of brackets."""
    depth, start, i = 0, 0, 0
    while i < len(pattern):
        character = pattern[i]
        if character == "\\":
            i += 1
        elif character == "[":
            i = _end_of_class(pattern, i)
        elif character == "|" and depth == 0:
            yield pattern[start:i]
            start = i + 1
        else:
            depth += (character == "(") - (character == ")")
        i += 1
    yield pattern[start:]


def _parts(alternative: str) -> Iterator[tuple[str, bool]]:
    """Yield plain runs, groups and everything else, each with whether it may be missing."""
    run, i = "", 0
    while i < len(alternative):
        character = alternative[i]
        if character == "(":
            end = _end_of_group(alternative, i)
        elif character == "[":
            end = _end_of_class(alternative, i)
        elif character == "\\":
            end = i + 1
        else:
            end = i
        piece, after = alternative[i : end + 1], alternative[end + 1 : end + 3]
        optional = after[:1] in ("?", "*") or after == "{0"
        repeated = after[:1] in ("?", "*", "+", "{")
        if piece in _PLAIN and not repeated:
            run += piece
        else:
            yield run, False
            run = ""
            yield (piece, optional) if piece.startswith(("(", "[", "\\")) or piece in _PLAIN else ("\\", True)
        i = end + 1
        if repeated:
            i = alternative.index("}", i) + 1 if alternative[i] == "{" else i + 1
            i += alternative[i : i + 1] == "?"
    yield run, False


def _end_of_group(text: str, start: int) -> int:
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == "[":
            i = _end_of_class(text, i)
        else:
            depth += (text[i] == "(") - (text[i] == ")")
            if depth == 0:
                return i
        i += 1
    return len(text) - 1


def _end_of_class(text: str, start: int) -> int:
    i = start + 2 if text[start + 1 : start + 2] in ("]", "^") else start + 1
    while i < len(text) and text[i] != "]":
        i += 2 if text[i] == "\\" else 1
    return i
