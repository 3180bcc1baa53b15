"""What must hold before a tuned model is used: each point passed, failed, or not measured, with its number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from finetune_exe.domain.dataset import SplitName
from finetune_exe.domain.evaluation import Comparison, Generation
from finetune_exe.domain.values import Check
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.encode import encode_prompt
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.tokenizer import ChatTokenizer

MINIMUM_STOP_RATE = 0.99
SIGNIFICANCE = 0.05
NOT_MEASURED = (
    ("general abilities kept", "no regression suite was run"),
    ("drift from the base model on general text", "no divergence was measured"),
    ("merged weights equal the adapter", "nothing was merged"),
    ("quantised weights keep the quality", "nothing was quantised"),
    ("refusals unchanged", "no refusal suite was run"),
    ("nothing memorised", "no extraction was tried"),
    ("latency on the serving machine", "it was not served"),
    ("licences of base model and data allow the use", "the data's licence is not known here"),
)
ALLOWED_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model"}


def assess(
    *,
    comparisons: Sequence[Comparison],
    generation: Generation | None,
    data: PreparedFolder,
    tokenizer: ChatTokenizer,
    base: Path,
    checkpoint: Path,
) -> tuple[Check, ...]:
    """Go through the readiness list.

    Args:
        comparisons: Tuned against base on the held-out rows, the main one first.
        generation: How answers were produced; None where none were.
        data: The prepared dataset.
        tokenizer: The one that rendered the training rows.
        base: Folder of the base model.
        checkpoint: Folder of what was learned.
    """
    judged = [comparison for comparison in comparisons if comparison.metric not in _also_of_prompts(data)]
    return (
        _gain(judged),
        _no_loss(judged),
        _stops(generation),
        _same_prompts(data, tokenizer, base),
        _held_apart(data),
        _only_safe_files(checkpoint),
        _weights_finite(checkpoint),
        *(Check(name=name, passed=None, detail=why) for name, why in NOT_MEASURED),
    )


def _also_of_prompts(data: PreparedFolder) -> tuple[str, ...]:
    """Name the metrics that speak of prompts too, which nobody asked the model to learn, where there are prompts."""
    train = data.manifest.splits["train"]
    plain_text = train.num_learned_tokens >= train.num_tokens - 2 * train.num_sequences
    return () if plain_text else ("bits_per_byte",)


def _gain(comparisons: Sequence[Comparison]) -> Check:
    better = [c.metric for c in comparisons if c.verdict == "improved"]
    unsure = [c.metric for c in comparisons if c.verdict == "inconclusive"]
    return Check(
        name="better than the base model on held-out rows",
        passed=bool(better) if comparisons else None,
        detail=f"improved beyond chance: {', '.join(better) or 'nothing'}"
        + (f"; cannot say: {', '.join(unsure)}" if unsure else ""),
        fix=None if better else "more data or more steps; the smallest detectable difference says how many test rows",
    )


def _no_loss(comparisons: Sequence[Comparison]) -> Check:
    worse = [c.metric for c in comparisons if c.verdict == "regressed"]
    return Check(
        name="nothing measured got worse",
        passed=not worse if comparisons else None,
        detail=f"regressed: {', '.join(worse)}" if worse else "no metric regressed",
        fix="lower the learning rate, or train fewer epochs" if worse else None,
    )


def _stops(generation: Generation | None) -> Check:
    """Fail only where chance cannot explain the answers that ran on."""
    name = f"answers end by themselves (at least {MINIMUM_STOP_RATE:.0%})"
    if generation is None or not generation.num_rows:
        return Check(name=name, passed=None, detail="no answer was generated")
    ended = round(generation.candidate_stop_rate * generation.num_rows)
    p = at_most(ended, generation.num_rows, rate=MINIMUM_STOP_RATE)
    seen = f"{ended} of {generation.num_rows} ended within {generation.max_new_tokens} tokens"
    if ended / generation.num_rows >= MINIMUM_STOP_RATE:
        return Check(name=name, passed=True, detail=seen)
    if p >= SIGNIFICANCE:
        return Check(
            name=name,
            passed=None,
            detail=f"{seen}; too few to tell: so many or fewer come with probability {p:.2f} at that rate",
            fix="generate more answers: --set evaluation.max_generations=500",
        )
    return Check(
        name=name,
        passed=False,
        detail=f"{seen}; p = {p:.2g}",
        fix="raise evaluation.max_new_tokens if answers are that long; otherwise train longer",
    )


def at_most(successes: int, trials: int, *, rate: float) -> float:
    """Give the probability of so many successes or fewer: the exact one-sided binomial test."""
    return sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(successes + 1))


def _same_prompts(data: PreparedFolder, tokenizer: ChatTokenizer, base: Path, *, limit: int = 50) -> Check:
    """Render prompts by transformers, as servers do, and compare token ids."""
    from transformers import AutoTokenizer

    name = "served prompts are the trained prompts, token for token"
    rows = [from_json(row.conversation) for row in data.split("test").read_rows()[:limit]]
    chats = [row for row in rows if row.kind == "chat"]
    if not chats or tokenizer.template is None:
        return Check(name=name, passed=None, detail="the rows are plain text")
    theirs = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    theirs.chat_template = tokenizer.template.source
    equal = 0
    for chat in chats:
        last = max(index for index, message in enumerate(chat.messages) if message.role == "assistant")
        turns = [{"role": m.role, "content": m.content, **m.extra} for m in chat.messages[:last]]
        ids = theirs.apply_chat_template(
            turns, tools=chat.extra.get("tools"), add_generation_prompt=True, enable_thinking=False, return_dict=False
        )
        equal += tuple(ids) == encode_prompt(chat, tokenizer)
    return Check(
        name=name,
        passed=equal == len(chats),
        detail=f"{equal} of {len(chats)} prompts equal those of transformers",
        fix=None if equal == len(chats) else "serve with the chat template of the run's folder",
    )


def _held_apart(data: PreparedFolder) -> Check:
    def texts(split: SplitName) -> set[tuple[tuple[str, str], ...]]:
        rows = [from_json(row.conversation) for row in data.split(split).read_rows()]
        return {tuple((m.role, " ".join(m.content.split())) for m in row.messages) for row in rows}

    shared = len(texts("train") & texts("test"))
    return Check(
        name="no test row was trained on",
        passed=not shared,
        detail=f"{shared} test rows stand in the training rows too",
        fix="set data.deduplicate to true" if shared else None,
    )


def _only_safe_files(checkpoint: Path) -> Check:
    odd = sorted(path.name for path in checkpoint.iterdir() if path.suffix not in ALLOWED_SUFFIXES)
    return Check(
        name="nothing in the result can run code",
        passed=not odd,
        detail=f"not safetensors or text: {', '.join(odd)}" if odd else "safetensors and JSON only",
        fix="remove the files named" if odd else None,
    )


def _weights_finite(checkpoint: Path) -> Check:
    import torch
    from safetensors import safe_open

    num_tensors, bad, moved = 0, 0, False
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                tensor = tensors.get_tensor(name)
                num_tensors += 1
                bad += not bool(torch.isfinite(tensor).all())
                moved |= bool((tensor != 0).any()) and ("lora_B" in name or "lora_A" not in name)
    passed = num_tensors > 0 and not bad and moved
    return Check(
        name="saved weights are whole, finite and not idle",
        passed=passed,
        detail=f"{num_tensors} tensors, {bad} with numbers that are not finite"
        + ("" if moved else ", and none that changes the base model"),
        fix=None if passed else "train again; the checkpoint is unusable",
    )
