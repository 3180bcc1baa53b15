"""The tokenizer of a model folder as a GGUF file holds it: tokens, kinds, merges, and the way text is cut."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.gguf import text_cuttings

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of token, as llama.cpp numbers them."""
_SPACE = "\u2581"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A BPE, ready to be written."""

    model: Literal["gpt2", "llama"]
    """By llama.cpp's name: on bytes, or on characters with bytes for the rest."""
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    scores: tuple[float, ...]
    """Of BPE on characters: the higher, the sooner two pieces become this token."""
    cutting: str
    """How text is cut into words, by llama.cpp's name."""
    begins_with_space: bool
    """Whether a space is put before the text and behind every special token."""
    unknown: int | None
    """Token of what there is no piece for."""


def read_vocabulary(folder: Path, *, num_rows: int) -> Vocabulary:
    """Read `tokenizer.json` of a model folder.

    Args:
        folder: The model's folder.
        num_rows: Rows of the embeddings; rows without a token get a name that no text contains.

    Raises:
        FineTuneError: O07 for a tokenizer that llama.cpp would read otherwise.
    """
    content = json.loads((folder / "tokenizer.json").read_bytes())
    model, added = content["model"], content.get("added_tokens") or []
    if model.get("type") != "BPE":
        raise _refused(folder, f"its tokenizer is of the kind {model.get('type')}; BPE is written")
    on_characters = bool(model.get("byte_fallback"))
    begins_with_space = _begins_with_space(content) if on_characters else False
    cutting = "default" if on_characters else _cutting(content)
    if cutting is None or begins_with_space is None:
        raise _refused(folder, "its tokenizer cuts text into words in a way that llama.cpp has no name for")
    names: dict[int, str] = {number: token for token, number in model["vocab"].items()}
    kinds = {number: BYTE if on_characters and _BYTE.fullmatch(token) else NORMAL for number, token in names.items()}
    for token in added:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _refused(folder, f"its token {token['content']} takes the white space beside it, or only whole words")
        names[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    unknown = model["vocab"].get(model.get("unk_token"))
    if unknown is not None and on_characters:
        kinds[unknown] = UNKNOWN
    count = max(num_rows, max(names) + 1)
    if count > num_rows:
        raise _refused(folder, f"its tokenizer has {count} tokens and its embeddings {num_rows} rows")
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    tokens = tuple(names.get(number, f"[PAD{number}]") for number in range(count))
    every_kind = tuple(kinds.get(number, UNUSED) for number in range(count))
    return Vocabulary(
        model="llama" if on_characters else "gpt2", tokens=tokens, kinds=every_kind, merges=merges,
        scores=_scores(folder, tokens, every_kind, merges) if on_characters else (), cutting=cutting,
        begins_with_space=begins_with_space, unknown=unknown,
    )  # fmt: skip


def _scores(folder: Path, tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str]) -> tuple[float, ...]:
    """Score every token by the first merge that makes it: llama.cpp joins by the token's score, not by the pair."""
    rank: dict[str, int] = {}
    for number, merge in enumerate(merges):
        rank.setdefault(merge.replace(" ", ""), number)
    unmade = [token for token, kind in zip(tokens, kinds, strict=True)
              if kind == NORMAL and len(token) > 1 and token not in rank]  # fmt: skip
    if unmade:
        raise _refused(folder, f"no merge makes the token {unmade[0]!r}, but llama.cpp would")
    return tuple(-float(rank.get(token, 0)) for token in tokens)


def _begins_with_space(content: dict[str, Any]) -> bool | None:
    """Say whether a tokenizer on characters puts a space first; None where llama.cpp would treat spaces otherwise."""
    normalizer, cutter = content.get("normalizer"), content.get("pre_tokenizer")
    if cutter is None and normalizer is not None:
        steps = normalizer.get("normalizers", [normalizer])
        replaces = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
        if steps == [{"type": "Prepend", "prepend": _SPACE}, replaces]:
            return True
        return False if steps == [replaces] else None
    if (
        normalizer is None
        and cutter is not None
        and cutter.get("type") == "Metaspace"
        and not cutter.get("split", True)
    ):
        return {"always": True, "never": False}.get(cutter.get("prepend_scheme", ""))
    return None


def _cutting(content: dict[str, Any]) -> str | None:
    """Name the way a tokenizer on bytes cuts text; None for one that is not known."""
    pre_tokenizer = content.get("pre_tokenizer")
    if pre_tokenizer is None or (content.get("normalizer") or {}).get("type") not in (None, "NFC"):
        return None
    steps = pre_tokenizer["pretokenizers"] if pre_tokenizer["type"] == "Sequence" else [pre_tokenizer]
    kinds = tuple(step["type"] for step in steps)
    last = steps[-1]
    if last.get("add_prefix_space") or last.get("use_regex", True) is ("Split" in kinds):
        return None
    if kinds[0] == "Digits" and not steps[0].get("individual_digits"):
        return None
    pattern = ""
    if kinds[0] == "Split":
        if steps[0].get("behavior") != "Isolated" or steps[0].get("invert"):
            return None
        pattern = hashlib.sha256(steps[0]["pattern"].get("Regex", "").encode()).hexdigest()[:32]
    return next((row.name for row in text_cuttings() if row.steps == kinds and row.pattern == pattern), None)


def _refused(folder: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "O07",
        what="the tokenizer cannot be written as GGUF",
        where=str(folder / "tokenizer.json"),
        why=why,
        fix="export with --to merged, and convert with llama.cpp's own script; compare token ids before serving it",
    )
