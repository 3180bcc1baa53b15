"""Which linear layers a list of module names means, whatever the model's author called them."""

from __future__ import annotations

import re

from finetune_exe.estimate.parameters import ALL_LINEAR, Target

_QKV: frozenset[Target] = frozenset({"query", "key", "value"})
_MLP: frozenset[Target] = frozenset({"gate", "up", "down"})
_NAMES: tuple[tuple[str, frozenset[Target]], ...] = (
    (r"linear", ALL_LINEAR),
    (r"c_attn|query_key_value|wqkv|qkv(_proj)?|w_?pack|in_proj|self_attn|attn|attention", _QKV),
    (r"kv_[ab]_proj(_with_mqa)?", frozenset({"key", "value"})),
    (r"q(_[ab])?(_proj)?|query|wq", frozenset({"query"})),
    (r"k(_proj)?|key|wk", frozenset({"key"})),
    (r"v(_proj)?|value|wv", frozenset({"value"})),
    (r"o(_proj)?|out_proj|dense|wo|proj", frozenset({"output"})),
    (r"c_proj", frozenset({"output", "down"})),
    (r"mlp|ffn?|experts", _MLP),
    (r"w1|w2|w3|gate_up_proj|fc_in|c_fc|fc1", frozenset({"gate", "up"})),
    (r"gate(_proj)?", frozenset({"gate"})),
    (r"up(_proj)?|dense_h_to_4h", frozenset({"up"})),
    (r"down(_proj)?|dense_4h_to_h|fc_out|fc2", frozenset({"down"})),
    (r"head|lm_head|embed_out|output", frozenset({"head"})),
)


def read_targets(text: str) -> frozenset[Target] | None:
    """Read which layers have adapters from a free list of names; None where it names none that is known."""
    stated = re.sub(r"\(.*?\)|;.*", " ", text.lower())
    found: set[Target] = set()
    for word in re.findall(r"[a-z0-9_]+", stated):
        found |= next((targets for pattern, targets in _NAMES if re.fullmatch(pattern, word)), set[Target]())
    return frozenset(found) or None
