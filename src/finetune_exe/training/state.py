"""Everything a step depends on, as safetensors and JSON: trained weights, optimizer states and random numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from finetune_exe.training.setup import Setup

if TYPE_CHECKING:
    import torch

FOLDER = "state"
"""Name of the folder in a checkpoint; what lies beside it is the model as other programs load it."""
_TRAINED, _OPTIMIZER, _RANDOM, _REST = "trained.safetensors", "optimizer.safetensors", "random.safetensors", "rest.json"


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
    save_file(_torch_random(setup.device), folder / _RANDOM)
    (folder / _REST).write_text(json.dumps(rest), encoding="ascii")


def restore_state(setup: Setup, folder: Path) -> None:
    """Put model, optimizer and random numbers back to what they were, to the last bit."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(folder / _TRAINED, framework="pt") as saved, torch.no_grad():
        for name, parameter in _trained(setup):
            parameter.copy_(saved.get_tensor(name))
            parameter.grad = None
    rest = json.loads((folder / _REST).read_text(encoding="ascii"))
    _restore_optimizer(setup.optimizer, folder / _OPTIMIZER, rest["optimizer"])
    if setup.scaler.is_enabled():
        setup.scaler.load_state_dict(rest["scaler"])
    version, numbers, gauss = rest["python_random"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, *others = rest["numpy_random"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *others))
    stored = load_file(folder / _RANDOM)
    torch.set_rng_state(stored["cpu"])
    for number in range(torch.cuda.device_count() if setup.device == "cuda" else 0):
        if f"cuda.{number}" in stored:
            torch.cuda.set_rng_state(stored[f"cuda.{number}"], number)


def _trained(setup: Setup) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Yield the parameters that learn, each under one name."""
    model = setup.accelerator.unwrap_model(setup.model)
    yield from ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    """List the parameters in the order in which the optimizer holds them."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Take apart what the optimizer keeps: its tensors by number and name, and the numbers beside them.

    Tensors that share their memory, as the tables of 8-bit optimizers do, are written once for each use.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    devices: dict[str, str] = {}
    seen: set[int] = set()
    numbers: dict[str, dict[str, Any]] = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                name, memory = f"{index}.{key}", value.untyped_storage().data_ptr()
                tensors[name] = (value.detach().clone() if memory in seen else value.detach()).contiguous()
                devices[name] = value.device.type
                seen.add(memory)
            else:
                numbers.setdefault(str(index), {})[key] = value
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    return tensors, {"numbers": numbers, "devices": devices, "groups": groups}


def _restore_optimizer(optimizer: torch.optim.Optimizer, file: Path, scalars: dict[str, Any]) -> None:
    """Put the optimizer's tensors back where they were, without the casts of `load_state_dict`."""
    from safetensors import safe_open

    parameters = _parameters(optimizer)
    optimizer.state.clear()
    with safe_open(file, framework="pt") as saved:
        for name, device in scalars["devices"].items():
            index, key = name.split(".", 1)
            parameter = parameters[int(index)]
            place = "cpu" if device == "cpu" else parameter.device
            optimizer.state[parameter][key] = saved.get_tensor(name).to(place)
    for index, numbers in scalars["numbers"].items():
        optimizer.state[parameters[int(index)]].update(numbers)
    for group, saved in zip(optimizer.param_groups, scalars["groups"], strict=True):
        group.update(
            {key: tuple(value) if isinstance(group.get(key), tuple) else value for key, value in saved.items()}
        )


def _torch_random(device: str) -> dict[str, torch.Tensor]:
    import torch

    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states |= {f"cuda.{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _python_random() -> list[Any]:
    version, numbers, gauss = random.getstate()
    return [version, list(numbers), gauss]


def _numpy_random() -> list[Any]:
    name, keys, *others = np.random.get_state(legacy=True)
    return [name, [int(key) for key in keys], *others]
