"""Ask a server of the OpenAI-compatible interface, believing nothing it says beyond that interface.

What comes back is data: it is read by a strict schema, cut to a size, and never interpreted. Only http and https are
spoken, redirects are not followed, and the key goes to the address given and nowhere else.
"""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from finetune_exe.errors import FineTuneError

MOST_BYTES = 4 << 20
"""Bytes of one reply."""
MOST_CHARACTERS = 100_000
"""Characters kept of one answer."""
TRIES = 3
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_PAUSES = (0.2, 1.0)
"""Seconds before the second and the third try."""
LONGEST_PAUSE = 60.0
"""Seconds waited at most where a busy server says how long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A served model."""

    url: str
    """Address that ends in /v1."""
    model: str
    key: str | None = field(default=None, repr=False)
    seconds: float = 60.0
    """Patience with one reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer of a served model."""

    text: str
    stopped: bool
    """Whether it ended by itself, rather than being cut off."""


def keeps_secrets(url: str) -> bool:
    """Say whether a key may be sent to an address: over https, or to this machine; one with a key in it may not."""
    try:
        address = urlsplit(url)
        safe = address.scheme == "https" or (address.scheme == "http" and address.hostname in _THIS_MACHINE)
        return safe and bool(address.hostname) and address.port != 0 and address.username is None
    except ValueError:  # no address at all
        return False


class _OddReplyError(Exception):
    """The server answered something else than the interface prescribes."""


def ask(
    endpoint: Endpoint,
    messages: Sequence[dict[str, str]],
    *,
    max_tokens: int,
    sleep: Callable[[float], None] = time.sleep,
) -> Reply:
    """Ask for one answer, greedily.

    Args:
        endpoint: The server.
        messages: The turns: role and content.
        max_tokens: Longest answer.
        sleep: Waits between tries.

    Raises:
        FineTuneError: E06 where the server gives nothing usable three times, or refuses for good.
    """
    body = json.dumps({
        "model": endpoint.model, "messages": list(messages), "max_tokens": max_tokens, "temperature": 0,
        "stream": False,
    }).encode()  # fmt: skip
    seen, pause = "", 0.0
    for attempt in range(TRIES):
        if attempt:
            sleep(max(_PAUSES[attempt - 1], pause))
        try:
            status, content, pause = _post(endpoint, body)
        except (OSError, http.client.HTTPException) as fault:
            seen = f"{type(fault).__name__}: {fault}"
            continue
        except ValueError:
            why = "the address names no host and port, or OPENAI_API_KEY holds a sign that no header may"
            raise _useless(endpoint, why) from None
        if status in (400, 401, 403, 404, 405, 413, 422):
            raise _useless(endpoint, f"status {status}: {_printable(content)}")
        if status != 200:
            seen = f"status {status}: {_printable(content)}"
            continue
        try:
            return _read(content)
        except _OddReplyError as odd:
            seen = f"{odd}: {_printable(content)}"
    raise _useless(endpoint, seen)


class _Response(NamedTuple):
    status: int
    content: bytes
    pause: float
    """Seconds to wait, by the server's own word, before it is asked again."""


def _post(endpoint: Endpoint, body: bytes) -> _Response:
    address = urlsplit(endpoint.url.rstrip("/"))
    if address.scheme not in ("http", "https") or not address.hostname or address.username or address.password:
        raise _useless(endpoint, "the address is no plain http or https address")
    until = time.monotonic() + endpoint.seconds
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = kind(address.hostname, address.port, timeout=endpoint.seconds)
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if endpoint.key:
        headers["Authorization"] = f"Bearer {endpoint.key}"
    try:
        connection.request("POST", f"{address.path}/chat/completions", body=body, headers=headers)
        response = connection.getresponse()
        content = b""
        while part := response.read1(1 << 16):
            content += part
            if len(content) > MOST_BYTES:
                raise http.client.HTTPException(f"the reply is larger than {MOST_BYTES} bytes")
            if time.monotonic() > until:
                raise http.client.HTTPException(f"the reply has not ended after {endpoint.seconds:g} seconds")
        if response.length:
            raise http.client.HTTPException(f"the reply was cut off, {response.length} bytes before its end")
        said = response.headers.get("Retry-After", "")
        return _Response(response.status, content, min(LONGEST_PAUSE, float(said)) if said.isdecimal() else 0.0)
    finally:
        connection.close()


def _read(content: bytes) -> Reply:
    try:
        reply: Any = json.loads(content)
    except (ValueError, RecursionError):
        raise _OddReplyError("the reply is no JSON") from None
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise _OddReplyError("the reply has not one choice")
    message, reason = choices[0].get("message"), choices[0].get("finish_reason")
    if not isinstance(message, dict) or message.get("role", "assistant") != "assistant":
        raise _OddReplyError("the choice has no turn of an assistant")
    text = message.get("content")
    if not isinstance(text, str):
        raise _OddReplyError("the turn has no text")
    if reason not in ("stop", "length", "tool_calls", "content_filter", None):
        raise _OddReplyError("the reason of the end is none of the interface's")
    whole = text[:MOST_CHARACTERS].encode("utf-8", errors="replace").decode()
    return Reply(text=whole.strip(), stopped=reason == "stop")


def _printable(content: bytes) -> str:
    text = content[:200].decode("utf-8", errors="replace")
    return "".join(character if character.isprintable() else " " for character in text) or "nothing"


def _useless(endpoint: Endpoint, why: str) -> FineTuneError:
    shown = re.sub(r"//[^/]*@", "//", endpoint.url.partition("?")[0])
    return FineTuneError(
        "E06",
        what=f"the endpoint gives no usable answer for model {endpoint.model!r}",
        where=_printable(shown.encode()),
        why=why,
        fix="check the address (it ends in /v1), the model's name and OPENAI_API_KEY; answers that arrived are kept",
    )
