"""Find conversations that are the same but for white space and the way their characters are encoded."""

from __future__ import annotations

import hashlib
import json
import unicodedata

from finetune_exe.text.conversation import Conversation


def content_key(conversation: Conversation) -> str:
    """Name what a conversation says: equal for rows that differ only in white space or Unicode composition.

    Roles, which answers are learned, tool calls and tools count; other columns do not.
    """
    digest = hashlib.blake2b(digest_size=16)
    for message in conversation.messages:
        text = " ".join(unicodedata.normalize("NFC", message.content).split())
        extra = json.dumps(message.extra, sort_keys=True, default=str) if message.extra else ""
        for part in (message.role, "1" if message.learn else "0", text, extra):
            digest.update(part.encode(errors="surrogatepass") + b"\0")
    tools = conversation.extra.get("tools")
    digest.update(json.dumps([conversation.kind, tools], sort_keys=True, default=str).encode())
    return digest.hexdigest()
