"""Everything a step depends on, as safetensors and JSON: trained weights, optimizer states and random numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_exe.training.setup import Setup
from finetune_exe.training.sharding import cut_like

if TYPE_CHECKING:
    import torch

FOLDER = "state"
"""Name of the folder in a checkpoint; what lies beside it is the model as other programs load it."""
_TRAINED, _OPTIMIZER, _RANDOM, _REST = "trained.safetensors", "optimizer.safetensors", "random.safetensors", "rest.json"
_BETWEEN = "/"


def save_state(setup: Setup, folder: Path) -> None:
    """Write the state of a run between two steps.

    Args:
        setup: Model and optimizer.
        folder: An empty folder.
    """
    from safetensors.torch import save_file

    tensors, scalars = _optimizer_state(setup.optimizer)
    rest = {
        "optimizer": scalars,
        "scaler": setup.scaler.state_dict(),
        "python_random": _python_random(),
        "numpy_random": _numpy_random(),
    }
    save_file({name: parameter.detach().contiguous() for name, parameter in _trained(setup)}, folder / _TRAINED)
    save_file(tensors, folder / _OPTIMIZER)
    save_file(random_state(setup.device), folder / _RANDOM)
    (folder / _REST).write_text(json.dumps(rest), encoding="ascii")


def restore_state(setup: Setup, folder: Path) -> None:
    """Put model, optimizer and random numbers back to what they were, to the last bit."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(folder / _TRAINED, framework="pt") as saved, torch.no_grad():
        for name, parameter in _trained(setup):
            parameter.copy_(cut_like(saved.get_tensor(name), parameter))
            parameter.grad = None
    rest = json.loads((folder / _REST).read_text(encoding="ascii"))
    _restore_optimizer(setup.optimizer, folder / _OPTIMIZER, rest["optimizer"])
    if setup.scaler.is_enabled():
        setup.scaler.load_state_dict(rest["scaler"])
    version, numbers, gauss = rest["python_random"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *others = rest["numpy_random"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *others))
    restore_random_state(load_file(folder / _RANDOM))


def random_state(device: str) -> dict[str, torch.Tensor]:
    """Copy the state of PyTorch's random numbers, those of this process's GPU too."""
    import torch

    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if device == "cuda" else states


def restore_random_state(states: Mapping[str, torch.Tensor]) -> None:
    """Let PyTorch's random numbers go on where they were; those of a GPU are passed over where there is none now."""
    import torch

    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _trained(setup: Setup) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters that learn, each under one name."""
    yield from ((name, parameter) for name, parameter in setup.model.named_parameters() if parameter.requires_grad)


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Take apart what the optimizer keeps: its tensors by their path, and the numbers beside them.

    Tensors that share their memory, as the tables of 8-bit optimizers do, are written once for each use.
    """
    import torch

    found = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, Any] = {}
    seen: set[int] = set()
    for path, value in _leaves("", found["state"]):
        if isinstance(value, torch.Tensor):
            memory = value.untyped_storage().data_ptr()
            tensors[path] = (value.detach().clone() if memory in seen else value.detach()).contiguous()
            seen.add(memory)
        else:
            numbers[path] = value
    return tensors, {"numbers": numbers, "groups": found["param_groups"]}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk nested dictionaries, whose keys become a path."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from _leaves(f"{path}{_BETWEEN}{key}" if path else str(key), inner)


def _restore_optimizer(optimizer: torch.optim.Optimizer, file: Path, scalars: dict[str, Any]) -> None:
    """Put the optimizer's tensors and numbers back; what it did not keep then, it does not keep now."""
    import torch
    from safetensors import safe_open

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    states: dict[Any, Any] = {}
    with safe_open(file, framework="pt") as saved:
        tensors = ((name, saved.get_tensor(name)) for name in saved.keys())  # noqa: SIM118 - it is no mapping
        for path, value in (*scalars["numbers"].items(), *tensors):
            first, *between, last = path.split(_BETWEEN)
            place = states.setdefault(int(first), {})
            for key in between:
                place = place.setdefault(key, {})
            place[last] = cut_like(value, parameters[int(first)]) if isinstance(value, torch.Tensor) else value
    groups: list[dict[str, Any]] = scalars["groups"]
    for group, kept in zip(optimizer.param_groups, groups, strict=True):
        kept.update({key: tuple(kept[key]) for key, value in group.items() if isinstance(value, tuple)})
    optimizer.load_state_dict({"state": states, "param_groups": groups})


def _python_random() -> list[Any]:
    version, numbers, gauss = random.getstate()
    return [version, list(numbers), gauss]


def _numpy_random() -> list[Any]:
    name, keys, *others = np.random.get_state(legacy=True)
    return [name, [int(key) for key in keys], *others]
