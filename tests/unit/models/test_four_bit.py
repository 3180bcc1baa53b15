"""Weights that lie on values of 4 bits: held exactly, learned beside as whole ones are, in a quarter of the memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from peft.tuners.lora.layer import ParamWrapper
from safetensors.torch import load_file, save_file
from tests.unit.models.gridded import on_grid, rounded
from tests.unit.models.test_architectures import attached, base_of, rows_of
from transformers import AutoModelForCausalLM

from finetune_exe.domain.plan import Grid, Lora, Method, Precision, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.models.factors import Factored
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.four_bit import OnGrid, _parts, found_on_grid
from finetune_exe.models.generate import generate
from finetune_exe.models.load import load_base
from finetune_exe.models.merge import merge_checkpoint
from finetune_exe.models.methods import training_method
from finetune_exe.models.packed import Packed
from finetune_exe.models.rounding import offset_rounding
from finetune_exe.text.tokenizer import load_tokenizer
from finetune_exe.training.setup import recompute

GRIDS: tuple[Grid, ...] = get_args(Grid)
BYTES = {"q4_0": 18, "q4_1": 20, "mxfp4": 17}
"""Of a block of 32. Source: llama.cpp, ggml-common.h."""
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {}, "dora": {"use_dora": True}, "dropout": {"lora_dropout": 0.5}, "some": {"target_modules": ("q_proj", "down_proj")},
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def learned(base: Path, method: Method) -> Any:
    """What training makes of a model, with the same numbers learned whatever its weights are kept in."""
    model = attached(base, method)
    torch.manual_seed(2)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.05)
    return model


def packed(model: Any) -> dict[str, Any]:
    found = ((name, module) for name, module in model.named_modules() if isinstance(module, Packed))
    return {f"{name}.{tensor}": kept for name, module in found for tensor, kept in module.packed.items()}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grid", GRIDS)
def test_what_a_file_holds_is_held_exactly(grid: Grid, dtype: torch.dtype, turned: bool) -> None:
    torch.manual_seed(0)
    scales = 10 ** torch.randint(-6, 3, (5, 64, 1)).float()
    matrices = rounded(torch.randn(5, 64, 96) * scales, grid)
    matrices[0, 0] = 0
    matrices = matrices.mT.contiguous() if turned else matrices
    found = found_on_grid(grid, matrices, dtype=dtype)
    assert found is not None
    values, kept = found
    assert torch.equal(kept.whole(values), matrices.to(dtype))
    assert kept.whole(values).shape == kept.shape == matrices.shape
    beside = kept.scale.nbytes + (0 if kept.least is None else kept.least.nbytes)
    assert values.nbytes + beside == BYTES[grid] * matrices.numel() / 32


@pytest.mark.parametrize("grid", GRIDS)
def test_what_lies_elsewhere_is_not_taken_for_it(grid: Grid) -> None:
    torch.manual_seed(0)
    matrix = rounded(torch.randn(64, 64), grid)
    matrix[-1, -1] *= 1.001
    assert found_on_grid(grid, matrix, dtype=torch.float32) is None
    others = [other for other in GRIDS if other != grid]
    assert [found_on_grid(other, rounded(torch.randn(64, 64), grid), dtype=torch.float32) for other in others] == [
        None
    ] * 2


@pytest.mark.parametrize(("shape", "found"), [((32, 5), True), ((5, 32), True), ((5, 33), False), ((31, 5), False)])
def test_blocks_fill_rows_or_columns(shape: tuple[int, int], found: bool) -> None:
    assert (found_on_grid("q4_0", torch.ones(shape), dtype=torch.float32) is not None) == found


@pytest.mark.parametrize("checkpointing", [False, True], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("grid", GRIDS)
def test_it_learns_to_the_bit_as_lora_does(grid: Grid, settings: str, checkpointing: bool, folder: Path) -> None:
    """Losses and gradients beside weights in 4 bit are those beside the same weights whole."""
    base, given = on_grid(base_of(folder, "llama"), grid), {"lora_rank": 4, **SETTINGS[settings]}
    rows = collate(rows_of((20, 31)), pad_token_id=0, device="cpu")
    found = []
    for method in (Lora(**given), Qlora(quantization=grid, **given)):
        model = learned(base, method).train()
        if checkpointing:
            recompute(model, every=1)
        torch.manual_seed(1)
        losses = LossFunction(model, Precision(), device="cpu")(rows).nll_N
        losses.sum().backward()
        found.append((losses.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (whole, slopes), (four, others) = found
    assert torch.equal(whole, four)
    assert slopes.keys() == others.keys()
    assert all(torch.equal(slopes[name], others[name]) for name in slopes)


@pytest.mark.parametrize("name", ["gpt2", "qwen3_moe", "gpt_oss", "mixtral"])
@pytest.mark.parametrize("grid", ["q4_1", "mxfp4"])
def test_experts_and_layers_kept_the_other_way_round_are_held_too(grid: Grid, name: str, folder: Path) -> None:
    """GPT-2 multiplies by its matrices untransposed, and gpt-oss by its experts."""
    turned = {"gpt_oss": "experts", "gpt2": "weight"}.get(name, "nowhere")
    base = on_grid(base_of(folder, name), grid, turned=turned)
    method, plain = Qlora(lora_rank=4, quantization=grid), AutoModelForCausalLM.from_pretrained(base)
    model = load_base(base, method, dtype="float32", device="cpu")
    held = packed(model)
    assert held
    assert all(isinstance(kept, OnGrid) for kept in held.values() if not any(s % 32 for s in kept.shape))
    whole = {path: module for path, module in model.named_modules() if isinstance(module, Packed)}
    for path in held:
        module, _, tensor = path.rpartition(".")
        assert torch.equal(whole[module].whole(tensor), plain.get_parameter(path)) == isinstance(held[path], OnGrid)
    rows = collate(rows_of((20, 31)), pad_token_id=0, device="cpu")
    ours, theirs = learned(base, method), learned(base, Lora(lora_rank=4))
    assert any(isinstance(module, ParamWrapper) for module in ours.modules()) == (name != "gpt2")
    found = []
    for one in (ours.train(), theirs.train()):
        torch.manual_seed(1)  # some routers try experts at random
        found.append(LossFunction(one, Precision(), device="cpu")(rows).nll_N)
    assert all(isinstance(kept, OnGrid) for kept in held.values())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_layers_that_lie_elsewhere_are_in_normal_float(folder: Path) -> None:
    base = on_grid(base_of(folder, "qwen2"), "q4_0", spared="q_proj")
    model = load_base(base, Qlora(quantization="q4_0"), dtype="bfloat16", device="cpu")
    elsewhere = {path for path, kept in packed(model).items() if not isinstance(kept, OnGrid)}
    assert elsewhere == {f"model.layers.{n}.self_attn.q_proj.weight" for n in range(2)}
    both = [load_base(base, Qlora(quantization=values), dtype="bfloat16", device="cpu") for values in ("q4_0", "nf4")]
    layers = [one.get_submodule("model.layers.0.self_attn.q_proj") for one in both]
    x = torch.randn(3, 32, dtype=torch.bfloat16)
    torch.testing.assert_close(layers[0](x), layers[1](x))


def test_a_model_that_lies_elsewhere_is_refused(folder: Path) -> None:
    with pytest.raises(FineTuneError, match="no weights of this model lie on the values of q4_1") as raised:
        load_base(base_of(folder, "llama"), Qlora(quantization="q4_1"), dtype="float32", device="cpu")
    assert raised.value.code == "T02"
    assert raised.value.fix == "--set method.quantization=nf4"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_was_learned_is_read_back_and_merged_as_loras(dtype: Any, folder: Path, tmp_path: Path) -> None:
    base = on_grid(base_of(folder, "llama"), "q4_1")
    rows, tokenizer = collate(rows_of((20,)), pad_token_id=0, device="cpu"), load_tokenizer(base, chat_template=None)
    found = []
    for method in (Lora(lora_rank=4), Qlora(lora_rank=4, quantization="q4_1")):
        entry, saved = training_method(method), tmp_path / method.kind
        entry.save(learned(base, method), saved)
        model = entry.load(saved, base, method, dtype=dtype, device="cpu")
        answers = generate(model, [(5, 9, 11), (5, 8)], tokenizer, max_new_tokens=6, batch_size=2)
        merged = merge_checkpoint(saved, base, method, dtype=dtype, device="cpu")
        with torch.no_grad():
            losses = LossFunction(model, Precision(base_dtype=dtype), device="cpu")(rows).nll_N
        found.append((losses, [one.text for one in answers], dict(merged.named_parameters())))
    (first, texts, weights), (second, same_texts, same_weights) = found
    assert torch.equal(first, second)
    assert texts == same_texts
    assert all(torch.equal(weights[name], same_weights[name]) for name in weights)


def test_there_is_nothing_to_offset(folder: Path) -> None:
    """The adapters begin at zero and can learn, as if nothing had been asked."""
    base, method = on_grid(base_of(folder, "llama"), "q4_1"), Qlora(lora_rank=4, quantization="q4_1")
    model = training_method(method).attach(
        load_base(base, method, dtype="float32", device="cpu"), method, base=base, base_name="x"
    )
    before = {name: value.clone() for name, value in model.state_dict().items() if "lora_" in name}
    assert offset_rounding(model, base, dtype="float32") == 2 * 7
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items() if name in before)
    assert all(value.any() for name, value in before.items() if "lora_A" in name)


def test_layers_that_a_pass_joins_are_told_what_is_computed(folder: Path) -> None:
    """Norms and MLPs in fewer passes ask each layer for its factors."""
    base = on_grid(base_of(folder, "llama"), "mxfp4")
    model = attached(base, Qlora(lora_rank=4, quantization="mxfp4"))
    layer = model.get_base_model().model.layers[0].mlp.up_proj
    assert isinstance(layer, Factored)
    factors = layer.factors(torch.ones(1, 3, 32))
    assert factors is not None
    assert factors.weight_OI.dtype == torch.uint8
    assert factors.unpack is not None


def test_the_embedded_model_lies_where_plans_say() -> None:
    """All its layers, told by the file's own types, by some numbers of the weights, and by all of them."""
    from finetune_exe.models.locate import embedded_gguf, model_folder
    from finetune_exe.planning.grid import own_grid

    folder = model_folder("embedded")
    assert {own_grid(str(one)) for one in ("embedded", folder, embedded_gguf())} == {"q4_1"}
    model = load_base(folder, Qlora(quantization="q4_1"), dtype="bfloat16", device="cpu")
    held = packed(model)
    assert len(held) == 30 * 7
    assert all(isinstance(kept, OnGrid) for kept in held.values())
    whole = load_file(folder / "model.safetensors")
    name = "model.layers.17.mlp.down_proj.weight"
    assert torch.equal(model.get_submodule(name.rpartition(".")[0]).weight, whole[name].bfloat16())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_plan_sees_the_grid_of_a_folder(grid: Grid, dtype: str, tmp_path: Path) -> None:
    from finetune_exe.planning.grid import own_grid

    torch.manual_seed(0)
    matrix = rounded(torch.randn(40, 96), grid)
    kept = {"a.weight": matrix.mT.contiguous(), "b.weight": matrix, "norm.weight": torch.ones(96)}
    save_file({name: value.to(getattr(torch, dtype)) for name, value in kept.items()}, tmp_path / "m.safetensors")
    exact = dtype == "float32" or torch.equal(matrix.to(getattr(torch, dtype)).float(), matrix)
    assert own_grid(str(tmp_path)) == (grid if exact else None)
    assert exact or grid != "mxfp4"


@pytest.mark.parametrize("content", [b"", b"GGUF", np.random.default_rng(0).bytes(64)])
@pytest.mark.parametrize("name", ["m.gguf", "m.safetensors"])
def test_a_plan_leaves_it_to_loading_to_say_what_is_wrong_with_a_file(
    name: str, content: bytes, tmp_path: Path
) -> None:
    from finetune_exe.planning.grid import own_grid

    (tmp_path / name).write_bytes(content)
    assert own_grid(str(tmp_path / name if name.endswith("gguf") else tmp_path)) is None


def test_a_gpu_is_told_a_few_times_to_make_a_matrix_whole() -> None:
    """In the pieces that suit a processor it would wait for each of them. A device without numbers stands for it."""
    cpu, gpu = (list(_parts(torch.empty(14336, 128, 32, device=device))) for device in ("cpu", "meta"))
    assert (len(cpu), len(gpu)) == (448, 7)
    assert [part[0].start for part in gpu] == list(range(0, 14336, 2048))
