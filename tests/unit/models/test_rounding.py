"""Adapters that begin by offsetting what rounding to 4 bit took: against closed forms, and the whole weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora.bnb import Linear4bit
from safetensors.torch import load_file, save_file
from tests.tiny import write_gpt2, write_model

from finetune_exe.domain.plan import Precision, Qlora
from finetune_exe.models import rounding
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.load import load_base, load_model
from finetune_exe.models.merge import merge_checkpoint
from finetune_exe.models.methods import training_method
from finetune_exe.models.rounding import offset_rounding
from finetune_exe.text.generic_texts import GENERIC_TEXTS
from finetune_exe.text.tokenizer import load_tokenizer

METHODS = {
    "plain": Qlora(lora_rank=4, offset_rounding=True),
    "rslora": Qlora(lora_rank=4, use_rslora=True, offset_rounding=True),
    "dora": Qlora(lora_rank=4, use_dora=True, offset_rounding=True),
    "wide": Qlora(lora_rank=64, lora_alpha=16, double_quantization=False, offset_rounding=True),
    "some": Qlora(lora_rank=4, target_modules=("q_proj", "down_proj"), offset_rounding=True),
}
ROWS = collate(
    [(np.arange(begin, begin + 40), np.arange(40) > 3) for begin in (10, 90, 200)], pad_token_id=0, device="cpu"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "tiny")


def attached(base: Path, method: Qlora, dtype: Any = "float32") -> Any:
    torch.manual_seed(0)
    model = load_base(base, method, dtype=dtype, device="cpu")
    return training_method(method).attach(model, method, base=base, base_name="x").eval()


def layers(model: Any) -> dict[str, Any]:
    return {name: one for name, one in model.get_base_model().named_modules() if isinstance(one, Linear4bit)}


def input_sizes(base: Path, method: Qlora) -> dict[str, torch.Tensor]:
    """Root mean squares of the inputs, from what one layer after the other was given for each token."""
    model, found = attached(base, method), {}
    for name, layer in layers(model).items():
        given: list[torch.Tensor] = []
        hook = layer.register_forward_pre_hook(lambda _, inputs, given=given: given.extend(inputs[0][0]))
        with torch.no_grad():
            for text in GENERIC_TEXTS:
                model(input_ids=torch.tensor([load_tokenizer(base, chat_template=None).encode(text).ids]))
        hook.remove()
        found[name] = torch.stack(given).double().square().mean(0).sqrt()
    return found


@pytest.mark.parametrize("name", METHODS)
def test_each_layer_is_as_near_to_its_whole_weights_as_its_rank_allows(name: str, base: Path) -> None:
    """The weighted error left is the tail of the singular values of the rounding error (Eckart and Young, 1936)."""
    method = METHODS[name]
    model, whole = attached(base, method), load_model(base, dtype="float32", device="cpu")
    sizes = input_sizes(base, method)
    assert offset_rounding(model, base, dtype="float32") == len(layers(model)) == len(sizes) > 0
    for path, layer in layers(model).items():
        rounded = dequantize_4bit(layer.base_layer.weight.data, layer.base_layer.weight.quant_state).double()
        error = (whole.get_submodule(path).weight.double() - rounded) * sizes[path]
        product = layer.get_delta_weight("default").double() * sizes[path]
        tail = torch.linalg.svdvals(error)[method.lora_rank :].norm()
        left = (error - product).norm()
        assert left <= 1.02 * tail + 1e-5 * error.norm()
        assert left >= 0.99 * tail - 1e-5 * error.norm()
        if name == "dora":
            lengths = (rounded + layer.get_delta_weight("default").double()).norm(dim=1)
            torch.testing.assert_close(layer.lora_magnitude_vector["default"].weight.double(), lengths)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ROWS.ids_BT).logits.float()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_model_begins_nearer_to_that_of_whole_weights(dtype: Any, base: Path) -> None:
    """Losses of each token and logits, for more ranks nearer, and with all of them the same."""
    clean = load_model(base, dtype="float32", device="cpu")
    precision = Precision(base_dtype=dtype)
    with torch.no_grad():
        wanted = LossFunction(clean, Precision(), device="cpu")(ROWS).nll_N
    distances = []
    for rank in (0, 8, 16, 64):
        model = attached(base, Qlora(lora_rank=max(1, rank)), dtype)
        if rank:
            offset_rounding(model, base, dtype=dtype)
        with torch.no_grad():
            distances.append(float((LossFunction(model, precision, device="cpu")(ROWS).nll_N - wanted).norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < (1e-3 if dtype == "float32" else 0.3) * distances[0]


def test_it_is_the_same_each_time_and_draws_nothing_from_what_follows(base: Path) -> None:
    found = []
    for seed in (1, 2):
        model = attached(base, METHODS["plain"])
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        offset_rounding(model, base, dtype="float32")
        assert torch.equal(torch.get_rng_state(), before)
        found.append(torch.cat([p.flatten() for p in model.parameters() if p.requires_grad]))
    assert torch.equal(*found)


@pytest.mark.parametrize("kept", ["as the model has them", "under other names", "in an unknown format"])
@pytest.mark.parametrize("write", [write_model, partial(write_gpt2, positions=16)], ids=["llama", "gpt2"])
def test_whole_weights_are_read_layer_by_layer_or_from_the_whole_model(
    kept: str, write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a model that transformers loads, rounded as training has them."""
    folder = write(tmp_path / "base")
    wanted = load_model(folder, dtype="bfloat16", device="cpu")
    method = METHODS["plain"]
    names = layers(attached(folder, method))
    loaded = []
    monkeypatch.setattr(
        rounding, "load_model", lambda *args, **more: (loaded.append(args), load_model(*args, **more))[1]
    )
    if kept == "under other names":
        tensors = load_file(folder / "model.safetensors")
        prefix = "transformer." if write is not write_model else "model."
        save_file({name.removeprefix(prefix): tensor for name, tensor in tensors.items()},
                  folder / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    elif kept == "in an unknown format":
        monkeypatch.setattr(rounding, "_PLAIN", ())
    whole_of = rounding._whole_weights(folder, names, dtype="bfloat16")
    for name, layer in names.items():
        own = wanted.get_submodule(name).weight
        expected = own if write is write_model else own.T
        assert layer.base_layer.weight.quant_state.shape == expected.shape
        assert torch.equal(whole_of(name), expected)
        assert whole_of(name).dtype == torch.bfloat16
    assert bool(loaded) is (kept != "as the model has them")


def test_weights_count_by_their_inputs(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that are always small may be wrong: other inputs, other factors; none at all count alike."""
    changed = attached(base, METHODS["plain"])
    offset_rounding(changed, base, dtype="float32")
    monkeypatch.setattr(rounding, "GENERIC_TEXTS", ())
    alike = attached(base, METHODS["plain"])
    offset_rounding(alike, base, dtype="float32")
    for (path, one), other in zip(layers(changed).items(), layers(alike).values(), strict=True):
        assert not torch.allclose(one.get_delta_weight("default"), other.get_delta_weight("default")), path
        assert other.get_delta_weight("default").isfinite().all()


@pytest.mark.parametrize("name", ["plain", "dora", "wide"])
def test_merged_weights_answer_as_the_adapter_over_4_bit_and_whole_ones_do_not(
    name: str, base: Path, tmp_path: Path
) -> None:
    """Folded into the weights that the 4-bit ones stand for; over the base as it is the offset would count double."""
    from peft import PeftModel

    method = METHODS[name]
    model = attached(base, method)
    offset_rounding(model, base, dtype="float32")
    training_method(method).save(model, tmp_path)
    merged = logits(merge_checkpoint(tmp_path, base, method, dtype="float32", device="cpu"))
    assert (merged - logits(model)).norm() < 1e-4 * merged.norm()
    clean = logits(load_model(base, dtype="float32", device="cpu"))
    over_whole = logits(PeftModel.from_pretrained(load_model(base, dtype="float32", device="cpu"), tmp_path).eval())
    assert (merged - clean).norm() < (0.01 if name == "wide" else 1.0) * (over_whole - clean).norm()


def test_matrices_that_are_kept_the_other_way_round_are_offset(tmp_path: Path) -> None:
    """GPT-2's, whose positions are fewer than the tokens of the general text."""
    folder = write_gpt2(tmp_path / "gpt2", positions=16)
    method = Qlora(lora_rank=8)
    model, whole = attached(folder, method), load_model(folder, dtype="float32", device="cpu")
    assert offset_rounding(model, folder, dtype="float32") == len(layers(model)) == 2 * 4
    for path, layer in layers(model).items():
        packed = layer.base_layer.weight
        error = whole.get_submodule(path).weight.T - dequantize_4bit(packed.data, packed.quant_state)
        assert (error - layer.get_delta_weight("default")).norm() < 0.9 * error.norm()


def test_experts_kept_in_16_bit_begin_at_zero(tmp_path: Path) -> None:
    """They were not rounded; the linear layers beside them were."""
    from transformers import MixtralConfig, MixtralForCausalLM

    folder = write_model(tmp_path / "experts")
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=400, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(folder)
    model = attached(folder, METHODS["plain"])
    assert offset_rounding(model, folder, dtype="float32") == 4
    seconds = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    assert {name for name, p in seconds.items() if p.any()} == {name for name in seconds if "self_attn" in name}
    assert len(seconds) > 4
