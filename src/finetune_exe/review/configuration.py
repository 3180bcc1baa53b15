"""A configuration of a training program: which program's it is, and its settings by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from finetune_exe.domain.review import Form
from finetune_exe.domain.unreadable import unreadable
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_of_programs import read_yaml
from finetune_exe.domain.yaml_tree import Item, Place, Twice, leaves
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.peers import Peer, peers
from finetune_exe.review.read_command import read_commands
from finetune_exe.review.read_json import read_json
from finetune_exe.review.read_notebook import read_notebook
from finetune_exe.review.read_python import Script, read_python

LARGEST_BYTES = 1 << 20
LARGEST_NOTEBOOK_BYTES = 1 << 24
"""With the pictures that its cells have drawn."""
_NOT_TRAINING = {
    "zero_optimization",
    "distributed_type",
    "compute_environment",
    "repos",
    "train_micro_batch_size_per_gpu",
}
"""Keys of files that lie beside configurations: of DeepSpeed, accelerate, pre-commit."""
_TOLD_BY_FORM = {"script", "llamafactory-data", "llamafactory-v1"}
"""Programs that `--for` does not name: their files always show it."""
_DATASET_KEYS = {"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a file says to a training program."""

    path: str
    form: Form
    peer: Peer
    root: Item
    twice: tuple[Twice, ...] = ()
    script: Script | None = field(default=None)
    """The whole script, where the form is python."""
    lines: tuple[Place, ...] = ()
    """Where each line of the script stands in the file, where that is a notebook."""

    @cached_property
    def leaves(self) -> tuple[tuple[str, Item], ...]:
        """All named values with their dotted names, of every call in a script."""
        if self.script is not None:
            return tuple(leaf for group, _, item in self.script.calls for leaf in leaves(item, group))
        found = leaves(self.root)
        if self.peer.name == "llamafactory-data":  # the outermost names are the user's own
            return tuple((re.sub(r"^[^.]+", "*", name), item) for name, item in found)
        return tuple(found)

    @cached_property
    def settings(self) -> Mapping[str, Item]:
        """The first value of each name; in a script, of the last call of a kind. Old names count as their new ones."""
        found = dict(leaves(self.root)) if self.script is not None else dict(reversed(self.leaves))
        for old, row in self.peer.renamed.items():
            new = f"{old.rpartition('.')[0]}.{row.to}".lstrip(".")
            if row.to is not None and row.value is None and not row.note and old in found and new not in found:
                found[new] = found[old]
        return found

    @property
    def called(self) -> frozenset[str]:
        """Names of the calls of a script that configure a training."""
        return frozenset(name for _, name, _ in self.script.calls) if self.script is not None else frozenset()

    def value(self, name: str) -> Scalar:
        """Give a single value that is known; None where there is none."""
        item = self.settings.get(name)
        return None if item is None else item.scalar

    def every(self, name: str) -> Iterator[Item]:
        """Give all values of a name that stands in a list."""
        yield from (item for found, item in self.leaves if found == name)


def read_configurations(path: Path, *, tool: str | None = None) -> tuple[Configuration, ...]:
    """Read what a file says to a training program; a shell script may say it several times.

    Args:
        path: The file.
        tool: The program it is for; None finds out.

    Raises:
        FineTuneError: C15 where it cannot be read, C16 where it is for no program that is known.
    """
    text = _text(path)
    where = str(path)
    suffix = path.suffix.lower()
    if suffix == ".py":
        return (_of_script(text, where, tool),)
    if suffix == ".ipynb":
        notebook = read_notebook(text, where=where)
        return (replace(_of_script(notebook.text, where, tool), lines=notebook.places),)
    if suffix in (".sh", ".bash", ".slurm", ".sbatch") or text.startswith("#!"):
        found = tuple(
            Configuration(
                path=where, form="arguments", peer=peers()[tool or command.tool], root=command.root, twice=command.twice
            )
            for command in read_commands(text)
        )
        if not found:
            raise _unknown(where, "no command of it starts a training program that is known")
        return found
    form: Form = "json" if suffix == ".json" or text.lstrip()[:1] == "{" else "yaml"
    root, twice = (read_json if form == "json" else read_yaml)(text, where=where)
    if not isinstance(root.content, Mapping):
        raise unreadable("it holds no settings, `name: value`", where=where, place=root.place)
    listed = form == "json" and root.content and all(_is_dataset(item) for item in root.content.values())
    name = tool or ("llamafactory-data" if listed else recognise(root.content))
    if name is None:
        raise _unknown(where, "its keys are those of no program that is known")
    return (Configuration(path=where, form=form, peer=peers()[name], root=root, twice=twice),)


def recognise(group: Mapping[str, Item]) -> str | None:
    """Name the program whose configuration has these keys; None where fewer than two point to any."""
    names = group.keys()
    if names & _NOT_TRAINING:
        return None
    scores = {
        name: len(peer.signature & names) * peer.weight + sum(key in peer.types for key in names) / (1 + len(names))
        for name, peer in peers().items()
        if peer.signature
    }
    components = sum(
        1 for item in group.values() if isinstance(item.content, Mapping) and "_component_" in item.content
    )
    scores["torchtune"] = scores["torchtune"] + 3 * components if components else 0.0
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] >= 2 else None


def _is_dataset(item: Item) -> bool:
    return isinstance(item.content, Mapping) and bool(_DATASET_KEYS & item.content.keys())


def _of_script(text: str, where: str, tool: str | None) -> Configuration:
    script = read_python(text, where=where)
    name = tool or ("unsloth" if "unsloth" in script.modules else "script")
    if not any(group in ("args", "lora", "trainer") for group, _, _ in script.calls) and not is_own(script):
        raise _unknown(where, "it configures no trainer of TRL, transformers, PEFT or Unsloth")
    return Configuration(path=where, form="python", peer=peers()[name], root=script.root, script=script)


def is_own(script: Script) -> bool:
    """Say whether `fine-tune config` wrote a script."""
    return {"MODEL", "EPOCHS", "EVALUATIONS_PER_EPOCH"} <= script.constants.keys()


def _text(path: Path) -> str:
    try:
        most = LARGEST_NOTEBOOK_BYTES if path.suffix.lower() == ".ipynb" else LARGEST_BYTES
        with path.open("rb") as file:  # of a pipe or a device no size is known before
            content = file.read(most + 1)
    except OSError as fault:
        raise unreadable(f"it cannot be read: {fault.strerror or fault}", where=str(path)) from fault
    if len(content) > most:
        raise unreadable(f"it is larger than {most >> 20} MiB; a configuration is not", where=str(path))
    if b"\0" in content:
        raise unreadable("it is no text: it holds zero bytes", where=str(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise unreadable(f"it is no text in UTF-8: byte {fault.start} cannot be read", where=str(path)) from fault
    if not text.strip():
        raise unreadable("the file is empty", where=str(path))
    return re.sub(r"\r\n?", "\n", text)


def _unknown(where: str, what: str) -> FineTuneError:
    return FineTuneError(
        "C16",
        what=what,
        where=where,
        why="keys mean different things in different programs, so a guess would judge the wrong one",
        fix=f"name the program: --for {'|'.join(name for name in peers() if name not in _TOLD_BY_FORM)}",
    )
