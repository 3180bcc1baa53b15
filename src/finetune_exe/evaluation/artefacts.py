"""Points of the readiness list that the files of a run answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from finetune_exe.domain.checkpoint import MANIFEST, CheckpointManifest
from finetune_exe.domain.evaluation import CARD_POINT
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.values import Check
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.cache import NOTHING_KNOWN, ResultCache, digest_of
from finetune_exe.knowledge.licenses import known_license
from finetune_exe.models.card import read_card_head
from finetune_exe.models.fingerprint import is_base
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.tokenizer import ChatTokenizer

ALLOWED_SUFFIXES = {".safetensors", ".json", ".jinja", ".txt", ".model", ".md"}
CARD_KEYS = ("base_model", "base_model_relation", "datasets", "license")
_PICKLES = {bytes([protocol]) for protocol in range(2, 6)}
_FORBIDS_SALE = re.compile(r"\bnc\b|non[- ]?commercial|\bresearch\b", re.IGNORECASE)
_RELATIONS = {"adapter", "merge", "quantized", "finetune"}
"""What the Hugging Face hub knows a model can be to its base."""
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")
_SHAPE_KEYS = (
    "max_position_embeddings", "original_max_position_embeddings", "rope_theta", "rope_scaling", "rope_parameters",
    "sliding_window",
)  # fmt: skip


def licences(plan: Plan) -> Check:
    """Ask what the licence of the base model allows; that of the data, only the user knows."""
    name = "licences of base model and data allow the use"
    given = plan.model.license
    facts = known_license(given)
    if facts is None and given is not None and _FORBIDS_SALE.search(given):
        return Check(
            name=name, passed=False, detail=f"{given}: no commercial use, by its name",
            fix="choose a base model whose licence fits the use",
        )  # fmt: skip
    if facts is None:
        return Check(name=name, passed=None, detail=f"licence of the base model: {given or 'not known'}")
    if not facts.commercial:
        return Check(
            name=name,
            passed=False,
            detail=f"{given}: {facts.says}",
            fix="choose a base model whose licence fits the use",
        )
    return Check(
        name=name, passed=None, detail=f"base model: {given}, {facts.says}; the data's licence is not known here"
    )


def model_card(folders: Sequence[Path]) -> Check:
    """Ask whether the folders in which the model lies say what it was made from; one without a card says nothing."""
    name = CARD_POINT
    heads = [head for folder in folders if (head := read_card_head(folder)) is not None]
    if not heads:
        return Check(name=name, passed=None, detail="the model has no card yet", fix="fine-tune export RUN writes one")
    missing = list(dict.fromkeys(key for head in heads for key in _missing(head)))
    return Check(
        name=name,
        passed=not missing,
        detail=f"it lacks {', '.join(missing)}" if missing else f"it names {', '.join(CARD_KEYS)}",
        fix="add the keys to the head of README.md" if missing else None,
    )


def _missing(values: Mapping[str, str]) -> list[str]:
    missing = [key for key in CARD_KEYS if not values.get(key)]
    relation = values.get("base_model_relation", "")
    if relation and relation not in _RELATIONS:
        missing.append(f"a known base_model_relation instead of {relation}")
    return missing


def provenance(plan: Plan, training: TrainingRun, data: PreparedFolder, *, other_base: bool | None) -> Check:
    """Ask whether the run names the plan, the data, the base, the software and the machine it came from.

    Args:
        plan: Of the run.
        training: The run's summary.
        data: Its rows.
        other_base: Whether the base model there is now is another than the run's; None where no record tells.
    """
    name = "what it was made from is on record"
    if other_base:
        return Check(
            name=name, passed=False, detail="the base model is not the one that was trained on: all of this was "
            "measured with weights, tokens or settings that the run has never seen",
            fix="put the base model back as it was (model.revision pins one of the hub), or train again from this one",
        )  # fmt: skip
    named = training.inputs
    missing = [what for what in ("plan", "dataset") if what not in named]
    odd = "dataset" in named and not data.manifest.is_named(named["dataset"])
    unhashed = [source.path for source in data.manifest.sources if not source.sha256]
    good = not missing and not odd and bool(training.versions) and not unhashed
    return Check(
        name=name,
        passed=good,
        detail="the dataset is not the one the run was trained on" if odd
        else f"the run does not name its {' and '.join(missing)}" if missing
        else f"{len(unhashed)} sources have no digest" if unhashed
        else "the versions of the software are not on record" if not training.versions
        else f"digests of plan, dataset{'' if other_base is None else ', base model'} and files of rows "
        f"({len(data.manifest.sources)}), seed {plan.seed}, "
        f"{len(training.versions)} versions, machine",
        fix=None if good else "train again from the plan, and keep the run folder whole",
    )  # fmt: skip


def is_other_base(base: Path, training: TrainingRun, checkpoint: Path) -> bool | None:
    """Ask whether a base model is another than the one a run was trained on; None where no record tells.

    Runs that do not name their base themselves are told by the checkpoint.
    """
    recorded = training.inputs.get("base")
    if recorded is None:
        with suppress(FineTuneError):
            recorded = CheckpointManifest.read(checkpoint / MANIFEST).inputs.get("base")
    return None if recorded is None else not is_base(base, recorded)


def only_safe_files(checkpoint: Path) -> Check:
    """Ask whether anything in the result could run code."""
    odd = sorted(path.name for path in checkpoint.rglob("*") if path.is_file() and not _is_safe(path))
    odd += [
        f"{name} names code to load (auto_map)" for name in ("config.json", "tokenizer_config.json")
        if "auto_map" in _read(checkpoint / name)
    ]  # fmt: skip
    return Check(
        name="nothing in the result can run code",
        passed=not odd,
        detail=f"not safetensors or text: {', '.join(odd)}" if odd else "safetensors and JSON only",
        fix="remove the files named" if odd else None,
    )


def _is_safe(path: Path) -> bool:
    """Say whether a file is text or safetensors by its ending, and no pickle or archive by its first bytes."""
    if path.suffix not in ALLOWED_SUFFIXES:
        return False
    with path.open("rb") as file:
        first = file.read(2)
    return path.suffix == ".safetensors" or not (first == b"PK" or (first[:1] == b"\x80" and first[1:] in _PICKLES))


def context_unchanged(base: Path, checkpoint: Path) -> Check:
    """Ask whether context length and position encoding are those of the base."""
    name = "context length and positions as in the base model"
    if not (checkpoint / "config.json").is_file():
        return Check(name=name, passed=True, detail="an adapter: the base model's configuration is used")
    before, after = _read(base / "config.json"), _read(checkpoint / "config.json")
    changed = [key for key in _SHAPE_KEYS if before.get(key) != after.get(key)]
    return Check(
        name=name,
        passed=not changed,
        detail=f"changed: {', '.join(changed)}"
        if changed
        else f"{after.get('max_position_embeddings')} positions, as before",
        fix="copy these settings from the base model's config.json, or evaluate at the new length" if changed else None,
    )


def weights_whole(
    checkpoint: Path, base: Path, tokenizer: ChatTokenizer, *, known: ResultCache = NOTHING_KNOWN
) -> Check:
    """Ask whether saved weights are finite and do something, and whether every token has its row.

    The row of a token that ends answers must not be zero: an untrained one is never chosen.

    Args:
        checkpoint: What was learned.
        base: The base model, which has the rows of tokens where nothing was learned of them.
        tokenizer: Says how many tokens there are, and which end answers.
        known: What was found in these weights before.
    """
    stops, num_tokens = tokenizer.stop_token_ids, tokenizer.vocabulary_size
    found = known.values("weights", digest_of(stops, num_tokens), lambda: _look_at_weights(checkpoint, base, tokenizer))
    short, empty = ", ".join(found["short"]), ", ".join(found["empty"])
    faults = [
        *([] if found["moved"] else ["none that changes the base model"]),
        *([f"fewer rows than the tokenizer has tokens: {short}"] if short else []),
        *([f"rows of tokens that end answers are zero or not finite: {empty}"] if empty else []),
    ]
    passed = found["tensors"] > 0 and not found["bad"] and not faults
    return Check(
        name="saved weights are whole, finite and not idle",
        passed=passed,
        detail="; ".join([f"{found['tensors']} tensors, {found['bad']} with numbers that are not finite", *faults]),
        fix=None if passed else "train again; the checkpoint is unusable",
    )


def _look_at_weights(checkpoint: Path, base: Path, tokenizer: ChatTokenizer) -> dict[str, Any]:
    """Count tensors and those with numbers that are none, and find rows that are missing or were never trained."""
    import torch
    from safetensors import safe_open

    num_tensors, bad, moved, short, empty = 0, 0, False, [], []
    own = sorted(checkpoint.glob("*.safetensors"))
    for file in (*own, *(path for path in sorted(base.glob("*.safetensors")) if not _has_embeddings(own))):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                if file in own:
                    tensor = tensors.get_tensor(name)
                    num_tensors += 1
                    bad += not bool(torch.isfinite(tensor).all())
                    moved |= bool((tensor != 0).any()) and ("lora_B" in name or "lora_A" not in name)
                if name.endswith(("lm_head.weight", *_EMBEDDINGS)):
                    rows = tensors.get_slice(name)
                    if rows.get_shape()[0] < tokenizer.vocabulary_size:
                        short.append(name)
                        continue
                    for token in tokenizer.stop_token_ids:
                        row = rows[token : token + 1].float()
                        if not bool(torch.isfinite(row).all()) or not bool((row != 0).any()):
                            empty.append(f"{name}[{token}]")
    return {"tensors": num_tensors, "bad": bad, "moved": moved, "short": short, "empty": empty}


def stops_when_served(checkpoint: Path, base: Path, tokenizer: ChatTokenizer) -> Check:
    """Ask whether servers will be told which token ends an answer."""
    name = "servers are told where answers end"
    path = next(
        (f / "generation_config.json" for f in (checkpoint, base) if (f / "generation_config.json").is_file()), None
    )
    if path is None:
        return Check(
            name=name, passed=None, detail="there is no generation_config.json",
            fix=f"serve with the stop token {tokenizer.stop_tokens[0]}",
        )  # fmt: skip
    given = _read(path).get("eos_token_id")
    named = set(given if isinstance(given, list) else [given])
    passed = tokenizer.stop_token_ids[0] in named
    return Check(
        name=name,
        passed=passed,
        detail=f"{path.name} {'names' if passed else 'does not name'} {tokenizer.stop_tokens[0]} "
        f"({tokenizer.stop_token_ids[0]})",
        fix=None if passed else f"set its eos_token_id to {list(tokenizer.stop_token_ids)}",
    )


def _has_embeddings(files: list[Path]) -> bool:
    from safetensors import safe_open

    for file in files:
        with safe_open(file, framework="np") as tensors:
            if any(name.endswith(_EMBEDDINGS) for name in tensors.keys()):  # noqa: SIM118
                return True
    return False


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
