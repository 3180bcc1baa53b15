"""The tokenizer of a model folder as a GGUF file holds it: tokens, kinds, merges, and the way text is cut."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.gguf import text_cuttings

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of token, as llama.cpp numbers them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A byte-level BPE, ready to be written."""

    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    merges: tuple[str, ...]
    cutting: str
    """How text is cut into words, by llama.cpp's name."""


def read_vocabulary(folder: Path, *, num_rows: int) -> Vocabulary:
    """Read `tokenizer.json` of a model folder.

    Args:
        folder: The model's folder.
        num_rows: Rows of the embeddings; rows without a token get a name that no text contains.

    Raises:
        FineTuneError: O07 for a tokenizer that llama.cpp has no name for.
    """
    content = json.loads((folder / "tokenizer.json").read_bytes())
    model, added = content["model"], content.get("added_tokens") or []
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "BPE on characters with bytes for the rest" if model.get("byte_fallback") else model.get("type")
        raise _refused(folder, f"its tokenizer is of the kind {kind}; byte-level BPE is written")
    if (content.get("normalizer") or {}).get("type") not in (None, "NFC"):
        raise _refused(folder, f"its tokenizer changes text before cutting it ({content['normalizer'].get('type')})")
    cutting = _cutting(content.get("pre_tokenizer"))
    if cutting is None:
        raise _refused(folder, "its tokenizer cuts text into words in a way that llama.cpp has no name for")
    names: dict[int, str] = {number: token for token, number in model["vocab"].items()}
    kinds = dict.fromkeys(names, NORMAL)
    for token in added:
        names[token["id"]] = token["content"]
        kinds[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    count = max(num_rows, max(names) + 1)
    if count > num_rows:
        raise _refused(folder, f"its tokenizer has {count} tokens and its embeddings {num_rows} rows")
    merges = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
    return Vocabulary(
        tokens=tuple(names.get(number, f"[PAD{number}]") for number in range(count)),
        kinds=tuple(kinds.get(number, UNUSED) for number in range(count)),
        merges=tuple(merges),
        cutting=cutting,
    )


def _cutting(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Name a pre-tokenizer; None for one that is not known."""
    if pre_tokenizer is None:
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
