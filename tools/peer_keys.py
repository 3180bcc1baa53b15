"""Write the table of keys that an installed training program takes: run it with that program's own Python.

    peer/bin/python tools/peer_keys.py llamafactory > src/finetune_exe/knowledge/peers/llamafactory.toml

A key's type is one of int, float, bool, str, list, dict, any, several of them with "|", or a list of the texts allowed.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import enum
import importlib
import importlib.metadata
import inspect
import json
import re
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

Keys = dict[str, "str | list[str]"]
WORDS = {int: "int", float: "float", bool: "bool", str: "str", list: "list", tuple: "list", dict: "dict", set: "list"}
NAMES = re.compile(r"\b(int|float|bool|str|list|List|dict|Dict|tuple|Tuple)\b")


def kind(hint: object) -> str | list[str]:
    """Say in the table's words what a type annotation takes."""
    if isinstance(hint, str):
        outer = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"(?:typing\.)?(Optional|Union|Annotated)\[(.*)\]", r"\2", hint))
        return "|".join(dict.fromkeys(word.lower().replace("tuple", "list") for word in NAMES.findall(outer))) or "any"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return [str(value) for value in arguments] if all(isinstance(value, str) for value in arguments) else "any"
    if origin is typing.Annotated:
        return kind(arguments[0])
    if origin in (typing.Union, types.UnionType):
        parts = [kind(argument) for argument in arguments if argument is not type(None)]
        if len(parts) == 1:
            return parts[0]
        words = {word for part in parts for word in ("str" if isinstance(part, list) else part).split("|")}
        return "any" if "any" in words else "|".join(sorted(words))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        values = [str(member.value) for member in hint]
        return values if all(isinstance(member.value, str) for member in hint) else "any"
    return WORDS.get(origin or hint, "any")  # type: ignore[arg-type, call-overload]


def of_dataclass(holder: type) -> Keys:
    """List the fields of a dataclass; its choices where the field's metadata names them."""
    try:
        hints: dict[str, object] = typing.get_type_hints(holder)
    except (NameError, TypeError):
        hints = {}
    found: Keys = {}
    for field in dataclasses.fields(holder):
        choices = field.metadata.get("choices")
        words = kind(hints.get(field.name, field.type))
        found[field.name] = [str(item) for item in choices] if choices and words == "str" else words
    return found


def of_pydantic(model: type, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str | list[str]]]:
    """List the fields of a pydantic model and of those in it; [] behind a name stands for the items of a list."""
    from pydantic import BaseModel

    for name, field in model.model_fields.items():  # type: ignore[attr-defined]
        inner = list(_models(field.annotation, BaseModel))
        for written in {name, field.alias or name}:
            yield prefix + written, kind(field.annotation)
            for many, child in inner:
                if depth < 4:
                    yield from of_pydantic(child, f"{prefix}{written}{'[]' if many else ''}.", depth + 1)


def _models(hint: object, base: type, many: bool = False) -> Iterator[tuple[bool, type]]:
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if issubclass(hint, base):
            yield many, hint
        return
    for argument in typing.get_args(hint):
        yield from _models(argument, base, many or typing.get_origin(hint) in (list, typing.List))  # noqa: UP006


def axolotl() -> tuple[Keys, dict[str, str]]:
    """Read Axolotl's model of its YAML, and what its plug-ins add to it."""
    import axolotl.integrations as plugins
    from axolotl.utils.schemas.config import AxolotlInputConfig
    from pydantic import BaseModel

    keys: Keys = {}
    _merge(keys, of_pydantic(AxolotlInputConfig))
    deprecated = {
        name: str(field.deprecated) for name, field in AxolotlInputConfig.model_fields.items() if field.deprecated
    }
    for file in sorted(Path(plugins.__path__[0]).rglob("*.py")):
        for module, name in re.findall(r'return "(axolotl\.integrations\.[\w.]+)\.(\w+)"', file.read_text()):
            try:
                model = vars(importlib.import_module(module)).get(name)
            except ImportError as fault:
                print(f"left out: {module}: {fault}", file=sys.stderr)
                continue
            if isinstance(model, type) and issubclass(model, BaseModel):
                _merge(keys, of_pydantic(model))
    return keys, deprecated


def _merge(keys: Keys, found: Iterator[tuple[str, str | list[str]]]) -> None:
    """Add keys; one that several models have with other types may hold anything."""
    for name, words in found:
        keys[name] = words if keys.get(name, words) == words else "any"


def llamafactory() -> tuple[Keys, dict[str, str]]:
    """Read LLaMA-Factory's argument classes, of its training and of its other commands."""
    from llamafactory import hparams

    holders = [vars(hparams)[name] for name in dir(hparams) if name.endswith("Arguments")]
    keys: Keys = {}
    for holder in holders:
        keys |= of_dataclass(holder)
    return keys, {}


def llamafactory_v1() -> tuple[Keys, dict[str, str]]:
    """Read the argument classes of LLaMA-Factory's second layout, by syntax, in the folder given."""
    keys: Keys = {}
    for path in Path(sys.argv[2]).glob("*_args.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                fields = (part for part in node.body if isinstance(part, ast.AnnAssign))
                keys |= {ast.unparse(field.target): kind(ast.unparse(field.annotation)) for field in fields}
    return keys, {}


def swift() -> tuple[Keys, dict[str, str]]:
    """Read ms-swift's argument classes."""
    import swift.arguments as arguments

    keys: Keys = {}
    for name in dir(arguments):
        holder = vars(arguments)[name]
        if isinstance(holder, type) and dataclasses.is_dataclass(holder):
            keys |= of_dataclass(holder)
    return keys, {}


def trl() -> tuple[Keys, dict[str, str]]:
    """Read the configuration classes of TRL's trainers and scripts."""
    import trl as package

    keys: Keys = {}
    for name in dir(package):
        if name.endswith(("Config", "Arguments")):
            holder = getattr(package, name)
            if dataclasses.is_dataclass(holder):
                keys |= of_dataclass(holder)
    return keys, {}


def transformers() -> tuple[Keys, dict[str, str]]:
    """Read the arguments of transformers' Trainer."""
    from transformers import Seq2SeqTrainingArguments

    return of_dataclass(Seq2SeqTrainingArguments), {}


def torchtune() -> tuple[Keys, dict[str, str]]:
    """Read what torchtune's recipes look up in their configuration, and the parameters of its components, by syntax."""
    root = Path(sys.argv[2])
    found: set[str] = set()
    for path in (root / "recipes").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = _looked_up(node)
            if name:
                found.add(name)
    keys: Keys = {name: "any" for name in sorted(found) if not name.rpartition(".")[2].isdigit()}
    for path in (root / "torchtune").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            keys |= _component(node)
    return keys, {}


def _component(node: ast.stmt) -> Keys:
    """List what a function or class is called with, under its name and a pair of brackets."""
    public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    if not public:
        return {}
    made = next((part for part in node.body if getattr(part, "name", "") == "__init__"), None)
    function = made if isinstance(node, ast.ClassDef) else node
    if not isinstance(function, ast.FunctionDef):
        return {}
    given = function.args
    names = [
        item.arg for item in (*given.posonlyargs, *given.args, *given.kwonlyargs) if item.arg not in ("self", "cls")
    ]
    return {f"{node.name}()": [*names, *(["**"] if given.kwarg else [])]}


def _looked_up(node: ast.AST) -> str | None:
    """Give the dotted name that is looked up in `cfg`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop"):
        inner = _looked_up(node.func.value) if not _is_root(node.func.value) else ""
        if inner is not None and node.args and isinstance(node.args[0], ast.Constant):
            return ".".join(filter(None, (inner, str(node.args[0].value))))
        return None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        inner = "" if _is_root(node.value) else _looked_up(node.value)
        return None if inner is None else ".".join(filter(None, (inner, str(node.slice.value))))
    if isinstance(node, ast.Attribute) and node.attr not in ("get", "pop"):
        inner = "" if _is_root(node.value) else _looked_up(node.value)
        return None if inner is None else ".".join(filter(None, (inner, node.attr)))
    return None


def _is_root(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "cfg"


def mlx() -> tuple[Keys, dict[str, str]]:
    """Read the defaults of MLX-LM's configuration, by syntax, in the folder given."""
    tree = ast.parse((Path(sys.argv[2]) / "lora.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CONFIG_DEFAULTS":
            return dict(_of_defaults(ast.literal_eval(node.value))), {}
    raise SystemExit("no CONFIG_DEFAULTS")


def _of_defaults(defaults: dict[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in defaults.items():
        yield name, "float|int" if type(value) in (int, float) else WORDS.get(type(value), "any")


def litgpt() -> tuple[Keys, dict[str, str]]:
    """Read what LitGPT's commands for fine-tuning take, by syntax, in the folder given."""
    root, keys = Path(sys.argv[2]), {}
    for name in ("lora", "full", "adapter", "adapter_v2"):
        for node in ast.parse((root / "finetune" / f"{name}.py").read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == "setup":
                given = (*node.args.args, *node.args.kwonlyargs)
                keys |= {item.arg: kind(ast.unparse(item.annotation)) for item in given if item.annotation}
    groups = {"TrainArgs": "train", "EvalArgs": "eval", "LogArgs": "log"}
    for node in ast.parse((root / "args.py").read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name in groups:
            fields = (part for part in node.body if isinstance(part, ast.AnnAssign))
            keys |= {f"{groups[node.name]}.{ast.unparse(field.target)}": kind(ast.unparse(field.annotation))
                     for field in fields}  # fmt: skip
    return keys | dict.fromkeys(("train", "eval", "log", "data", "optimizer"), "any"), {}


def script() -> tuple[Keys, dict[str, str]]:
    """Read what the calls of a training script take: of TRL and PEFT, and by syntax of Unsloth in the folder given."""
    import trl as package
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig

    keys: Keys = {f"args.{name}": words for name, words in trl()[0].items()}
    keys |= {f"args.{name}": words for name, words in transformers()[0].items()}
    keys |= {f"lora.{name}": words for name, words in of_dataclass(LoraConfig).items()}
    quantization = inspect.signature(BitsAndBytesConfig.__init__).parameters
    keys |= {f"quantization.{name}": "any" for name in quantization if name not in ("self", "kwargs")}
    for name in ("SFTTrainer", "DPOTrainer", "GRPOTrainer", "KTOTrainer", "RewardTrainer", "RLOOTrainer"):
        given = inspect.signature(getattr(package, name).__init__).parameters
        keys |= {f"trainer.{parameter}": "any" for parameter in given if parameter != "self"}
    for file, function, group in (("loader", "from_pretrained", "model"), ("llama", "get_peft_model", "lora")):
        tree = ast.parse((Path(sys.argv[2]) / "models" / f"{file}.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == function:
                keys |= {f"{group}.{item.arg}": "any" for item in node.args.args if f"{group}.{item.arg}" not in keys}
    return keys, {}


READERS = {
    "axolotl": ("axolotl", axolotl), "llamafactory": ("llamafactory", llamafactory), "ms-swift": ("ms_swift", swift),
    "llamafactory-v1": ("llamafactory", llamafactory_v1),
    "trl": ("trl", trl), "transformers": ("transformers", transformers), "torchtune": ("torchtune", torchtune),
    "script": ("trl", script), "mlx": ("mlx-lm", mlx), "litgpt": ("litgpt", litgpt),
}  # fmt: skip


def main() -> None:
    """Write the table of the program named."""
    distribution, read = READERS[sys.argv[1]]
    with contextlib.redirect_stdout(sys.stderr):
        keys, deprecated = read()
    version = sys.argv[3] if len(sys.argv) > 3 else importlib.metadata.version(distribution)
    print(f"# The keys that {distribution} {version} takes, written by tools/peer_keys.py from the package itself.")
    print(f'version = "{version}"\n\n[keys]')
    for name, words in sorted(keys.items()):
        print(f"{json.dumps(name)} = {json.dumps(words)}")
    if deprecated:
        print("\n[deprecated]")
    for name, text in sorted(deprecated.items()):
        print(f"{json.dumps(name)} = {json.dumps(text)}")


if __name__ == "__main__":
    main()
