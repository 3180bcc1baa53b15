"""What is learned, and what is served, must be what transformers itself makes of the same conversation."""

from __future__ import annotations

from typing import Any

from finetune_exe.text.encode import encode, encode_prompt
from finetune_exe.training.selftests.bench import Bench
from finetune_exe.training.selftests.measure import Measured


def masks(bench: Bench) -> Measured:
    """Count the tokens on which our masks and transformers' own generation blocks differ."""
    theirs, total, wrong = _tokenizer(bench), 0, 0
    for conversation in bench.conversations:
        turns = [{"role": turn.role, "content": turn.content} for turn in conversation.messages]
        found = theirs.apply_chat_template(turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
        ours = encode(conversation, bench.tokenizer, max_length=1024)
        if not isinstance(ours, tuple) or len(ours) != 1 or list(ours[0].tokens) != list(found["input_ids"]):
            wrong += len(found["input_ids"])
        else:
            pairs = zip(ours[0].learned, found["assistant_masks"], strict=True)
            wrong += sum(mine != bool(other) for mine, other in pairs)
        total += len(found["input_ids"])
    return Measured(float(wrong), f"tokens of {total:,} on which two derivations and transformers do not all agree")


def prompts(bench: Bench) -> Measured:
    """Count the prompts whose tokens are not those that transformers gives a model to answer."""
    theirs, wrong = _tokenizer(bench), 0
    for conversation in bench.conversations:
        turns = [{"role": turn.role, "content": turn.content} for turn in conversation.messages[:-1]]
        found = theirs.apply_chat_template(turns, tokenize=True, return_dict=True, add_generation_prompt=True)
        wrong += encode_prompt(conversation, bench.tokenizer) != tuple(found["input_ids"])
    return Measured(float(wrong), f"prompts of {len(bench.conversations)} with other tokens than transformers'")


def _tokenizer(bench: Bench) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(bench.base, local_files_only=True, trust_remote_code=False)
