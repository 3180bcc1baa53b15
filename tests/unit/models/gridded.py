"""Models whose weights lie on values of 4 bits, by llama.cpp's own package."""

from __future__ import annotations

from pathlib import Path

import torch
from gguf import GGMLQuantizationType, quants
from safetensors.torch import load_file, save_file

from finetune_exe.domain.plan import Grid


def rounded(tensor: torch.Tensor, grid: Grid) -> torch.Tensor:
    """What llama.cpp's own package makes of a tensor, block by block of its rows."""
    kind = GGMLQuantizationType[grid.upper()]
    return torch.from_numpy(quants.dequantize(quants.quantize(tensor.float().contiguous().numpy(), kind), kind).copy())


def on_grid(base: Path, grid: Grid, *, turned: str = "experts", spared: str = "embed") -> Path:
    """Write the model again with matrices on a grid, experts along their columns as transformers turns those of MXFP4."""
    folder = base.with_name(f"{base.name}-{grid}")
    if not folder.exists():
        folder.mkdir()
        for path in base.iterdir():
            if path.suffix != ".safetensors":
                (folder / path.name).write_bytes(path.read_bytes())
        tensors = load_file(base / "model.safetensors")
        for name, value in tensors.items():
            if value.ndim > 1 and spared not in name:
                other = turned in name and value.shape[-2] % 32 == 0
                tensors[name] = rounded(value.mT, grid).mT.contiguous() if other else rounded(value, grid)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
