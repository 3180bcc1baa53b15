"""Carry over the rows, the chat template and what is learned from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from finetune_exe.domain.yaml_tree import Json
from finetune_exe.errors import FineTuneError
from finetune_exe.review.carried import Left, Setting
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.meaning import given_value
from finetune_exe.review.read_json import read_json
from finetune_exe.text.render import PLAIN_TEMPLATE


def carry_data(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    """Carry over which rows are learned and validated on; names that are no files stay behind."""
    for path, keys in (
        ("data.paths", ("datasets[].path", "dataset", "train_file", "dataset_name")),
        ("data.validation_paths", ("test_datasets[].path", "eval_dataset", "val_dataset", "validation_file")),
    ):
        for key in keys:
            if key not in configuration.settings or configuration.form == "python":
                continue
            items = [item for item in configuration.every(key) if not isinstance(item.content, Mapping)]
            if not items:
                continue
            names = [str(name) for item in items for name in _several(item.plain())]
            known = _dataset_files(configuration)
            files = [known.get(name, name).partition("#")[0] for name in names]
            if all(_is_file(name) for name in files):
                yield Setting(path, list(files), key.partition("[")[0], items[0].key_place.line)
            elif files:
                reason = f"{', '.join(files[:3])}: no files here; name the rows with --set {path}=..."
                left.append(Left(key.partition("[")[0], items[0].key_place.line, reason))
            break
    share = given_value(configuration, "val_set_size", "val_size", "split_dataset_ratio")
    if share is not None and isinstance(share.scalar, float) and 0 < share.scalar < 0.5:
        yield Setting("data.validation_fraction", share.scalar, share.key, share.line)


def _several(content: Json) -> list[Json]:
    if isinstance(content, str):
        return [part.strip() for part in content.split(",") if part.strip()]
    return content if isinstance(content, list) else []


def _is_file(name: str) -> bool:
    return name.endswith((".jsonl", ".json", ".csv", ".parquet", ".arrow", ".txt")) or Path(name).exists()


def _dataset_files(configuration: Configuration) -> dict[str, str]:
    """Look up LLaMA-Factory's names of datasets in the list beside its configuration."""
    if configuration.peer.name != "llamafactory":
        return {}
    folder = Path(configuration.path).parent / str(configuration.value("dataset_dir") or ".")
    path = folder / "dataset_info.json"
    try:
        root, _ = read_json(path.read_text("utf-8-sig"), where=str(path))
    except (OSError, UnicodeDecodeError, FineTuneError):
        return {}
    entries = root.plain()
    found: dict[str, str] = {}
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            found[name] = str(entry["file_name"])
    return found


def carry_template(configuration: Configuration, left: list[Left]) -> Iterator[Setting]:
    """Carry over a chat template that is given as a file; names of templates stay behind."""
    jinja = configuration.settings.get("chat_template_jinja")
    if jinja is not None and isinstance(jinja.scalar, str):
        if jinja.scalar == PLAIN_TEMPLATE:
            yield Setting("data.chat_template", "plain", "chat_template_jinja", jinja.key_place.line)
        elif len(jinja.scalar) < 300 and jinja.scalar.endswith((".jinja", ".jinja2", ".txt", ".j2")):
            yield Setting("data.chat_template", jinja.scalar, "chat_template_jinja", jinja.key_place.line)
        else:
            reason = "write the template to a file and --set data.chat_template=FILE"
            left.append(Left("chat_template_jinja", jinja.key_place.line, reason))
        return
    for key in ("template", "chat_template"):
        item = configuration.settings.get(key)
        named = item is not None and isinstance(item.scalar, str) and item.scalar != "tokenizer_default"
        if item is not None and named:
            reason = f"{item.scalar} is a template of that program; the tokenizer's own is taken here"
            left.append(Left(key, item.key_place.line, reason))


def carry_objective(configuration: Configuration) -> Iterator[Setting]:
    """Carry over that pairs are learned from."""
    key = next((key for key in ("stage", "rl", "rlhf_type") if configuration.value(key) == "dpo"), None)
    if configuration.peer.name == "trl" and "beta" in configuration.settings:
        key = "beta"
    if configuration.script is not None:
        key = "args" if configuration.called & {"DPOConfig", "DPOTrainer"} else None
    if key is None:
        return
    item = configuration.settings.get(key)
    line = item.key_place.line if item is not None else 1
    yield Setting("objective.kind", "dpo", key, line)
    yield Setting("data.format", "preference", key, line)
    betas = ("pref_beta", "rl_beta", "beta", "args.beta")
    beta = next((name for name in betas if isinstance(configuration.value(name), float)), None)
    if beta is not None:
        yield Setting("objective.beta", configuration.value(beta), beta, configuration.settings[beta].key_place.line)
