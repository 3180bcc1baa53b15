"""Each method trains what it should, and what is loaded again is what was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from tests.tiny import VOCABULARY, write_model

from finetune_exe.domain.plan import Full, Ia3, Lora, Method, Precision, Prefix, Prompt, Qlora
from finetune_exe.errors import FineTuneError
from finetune_exe.models.forward import LossFunction, Rows, collate
from finetune_exe.models.generate import generate
from finetune_exe.models.load import load_base, load_model, torch_dtype
from finetune_exe.models.merge import merge_checkpoint
from finetune_exe.models.methods import METHODS, training_method
from finetune_exe.models.methods.tokens import token_numbers
from finetune_exe.text.first_words import FIRST_WORDS
from finetune_exe.text.tokenizer import load_tokenizer

VARIANTS: dict[str, Method] = {
    "lora": Lora(lora_rank=4),
    "rslora": Lora(lora_rank=4, use_rslora=True),
    "dora": Lora(lora_rank=4, use_dora=True),
    "qlora": Qlora(lora_rank=4),
    "qdora": Qlora(lora_rank=4, use_dora=True, double_quantization=False),
    "tokens": Lora(lora_rank=4, trained_tokens=("<|head|>", "<|/head|>")),
    "qtokens": Qlora(lora_rank=4, trained_tokens=("<|head|>",)),
    "embedding": Lora(lora_rank=4, target_modules=("embed_tokens", "q_proj")),
    "head": Lora(lora_rank=4, target_modules=("lm_head", "q_proj")),
    "prefix": Prefix(num_virtual_tokens=5),
    "prompt": Prompt(num_virtual_tokens=5),
    "ia3": Ia3(),
    "full": Full(),
}
ADAPTERS = [name for name in VARIANTS if name != "full"]
DTYPES = ("float32", "bfloat16")
LEARNED = ("lora_", "prompt_encoder", "ia3_l", "trainable_tokens_delta")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base") / "tiny", seed=3)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def attached(base: Path, method: Method, *, dtype: Any = "float32") -> Any:
    model = load_base(base, method, dtype=dtype, device="cpu")
    return training_method(method).attach(model, method, base=base, base_name="somewhere")


def some_rows(lengths: tuple[int, ...] = (12, 7, 9)) -> Rows:
    generator = torch.Generator().manual_seed(1)
    ids = [torch.randint(6, VOCABULARY, (length,), generator=generator).numpy() for length in lengths]
    return collate([(row, (row > 150)) for row in ids], pad_token_id=0, device="cpu")


def learned(
    base: Path, name: str, *, dtype: Any = "float32", steps: int = 4, rate: float = 2e-2
) -> tuple[Any, LossFunction]:
    """A model that has taken a few steps, ready to evaluate."""
    model = attached(base, VARIANTS[name], dtype=dtype)
    losses = LossFunction(model, Precision(base_dtype=dtype), device="cpu")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        losses(some_rows()).nll_N.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval(), losses


def linear_4bit(model: Any) -> list[Linear4bit]:
    return [module for module in model.modules() if isinstance(module, Linear4bit)]


def test_every_kind_of_method_has_its_entry() -> None:
    assert {type(method).model_fields["kind"].default for method in VARIANTS.values()} == set(METHODS)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_what_is_loaded_is_what_was_trained(name: str, dtype: Any, base: Path, tmp_path: Path) -> None:
    model, losses = learned(base, name, dtype=dtype)
    method = VARIANTS[name]
    training_method(method).save(model, tmp_path)
    again = training_method(method).load(tmp_path, base, method, dtype=dtype, device="cpu")
    with torch.no_grad():
        trained = losses(some_rows()).nll_N
        loaded = LossFunction(again, Precision(base_dtype=dtype), device="cpu")(some_rows()).nll_N
    assert torch.equal(trained, loaded)
    assert {path.name for path in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ADAPTERS)
def test_losses_are_those_of_plain_peft(name: str, dtype: Any, base: Path) -> None:
    """PEFT's own forward pass, attention mask and labels, against logits at learned positions alone."""
    model, losses = learned(base, name, dtype=dtype)
    rows = some_rows()
    real = torch.arange(16) < torch.tensor([[12], [7], [9]])
    labels = torch.where(rows.learned_BT & real, rows.ids_BT, -100)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        plain = model(input_ids=rows.ids_BT, attention_mask=real.long(), labels=labels, use_cache=False).loss
        ours = losses(rows).nll_N.mean()
    assert float(ours) == pytest.approx(float(plain), rel=1e-5 if dtype == "float32" else 5e-3)


@pytest.mark.parametrize("name", ADAPTERS)
def test_answers_do_not_depend_on_the_batch(name: str, base: Path) -> None:
    """Prompts of other lengths in the same batch, padded, against each prompt alone through PEFT, without a cache."""
    model, _ = learned(base, name)
    tokenizer = load_tokenizer(base, chat_template=None)
    prompts = [tuple(tokenizer.encode("the quick brown fox"[:length]).ids) for length in (3, 19, 9)]
    answers = generate(model, prompts, tokenizer, max_new_tokens=6, batch_size=3)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt)
        while len(ids) < len(prompt) + 6 and (ids == list(prompt) or ids[-1] not in tokenizer.stop_token_ids):
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert answer.text == tokenizer.decode_answer(ids[len(prompt) :])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VARIANTS)
def test_only_what_is_learned_trains_and_in_float32(name: str, dtype: Any, base: Path) -> None:
    model = attached(base, VARIANTS[name], dtype=dtype)
    trainable = {path: p for path, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trainable.values()} == {torch.float32}
    if name != "full":
        assert all(any(name in path for name in LEARNED) for path in trainable)


def test_scale_and_magnitudes_are_those_of_the_papers(base: Path) -> None:
    """Source: rsLoRA, arXiv 2312.03732: alpha / sqrt(r). DoRA, arXiv 2402.09353: magnitudes begin as column norms."""
    scales = {name: layer(attached(base, VARIANTS[name])).scaling["default"] for name in ("lora", "rslora")}
    assert scales == {"lora": 32 / 4, "rslora": 32 / 2}
    dora = layer(attached(base, VARIANTS["dora"]))
    lengths = dora.base_layer.weight.norm(dim=1)
    torch.testing.assert_close(dora.lora_magnitude_vector["default"].weight, lengths)


def layer(model: PeftModel) -> Any:
    return model.get_base_model().model.layers[0].mlp.up_proj


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_frozen_weights_really_are_in_4_bit(dtype: Any, double: bool, base: Path) -> None:
    model = load_base(base, Qlora(double_quantization=double), dtype=dtype, device="cpu")
    clean = load_model(base, dtype="float32", device="cpu")
    packed = linear_4bit(model)
    assert len(packed) == 2 * 7
    for module in packed:
        assert isinstance(module.weight, Params4bit)
        assert module.weight.nbytes == module.in_features * module.out_features / 2
        assert module.weight.quant_state.quant_type == "nf4"
        assert module.weight.quant_state.nested is double
        assert module.compute_dtype == torch_dtype(dtype)
    whole = {name for name, parameter in model.named_parameters() if not isinstance(parameter, Params4bit)}
    assert whole == {name for name, _ in clean.named_parameters() if "norm" in name or "embed_tokens" in name}
    assert isinstance(model.get_output_embeddings(), torch.nn.Linear)
    assert not isinstance(model.get_output_embeddings(), Linear4bit)


def gradients(model: Any, losses: LossFunction) -> torch.Tensor:
    model.zero_grad()
    losses(some_rows()).nll_N.mean().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["qlora", "qdora"])
def test_an_evaluation_in_the_middle_leaves_the_gradients_as_they_were(name: str, dtype: Any, base: Path) -> None:
    """Bitsandbytes 0.50.2 repacks weights in evaluation on processors that compute in bfloat16, for good."""
    model, losses = learned(base, name, dtype=dtype)
    model.train()
    before = gradients(model, losses)
    model.eval()
    with torch.no_grad():
        evaluated = losses(some_rows()).nll_N
        model(input_ids=some_rows().ids_BT)
    model.train()
    assert torch.equal(gradients(model, losses), before)
    assert torch.equal(losses(some_rows()).nll_N, evaluated)


def test_gradients_through_4_bit_are_those_of_the_dequantised_model(base: Path) -> None:
    from bitsandbytes.functional import dequantize_4bit

    model, losses = learned(base, "qlora", dtype="float32")
    twin = attached(base, Lora(lora_rank=4))
    state = {path: p for path, p in model.named_parameters() if "lora_" in path}
    twin.load_state_dict(state, strict=False)
    theirs = {path: module for path, module in model.named_modules() if isinstance(module, Linear4bit)}
    for path, module in twin.named_modules():
        if path in theirs:
            weight = theirs[path].weight
            module.weight.data.copy_(dequantize_4bit(weight.data, weight.quant_state))
    ours, expected = gradients(model, losses), gradients(twin, LossFunction(twin, Precision(), device="cpu"))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-6)


@given(length=st.integers(1, 60))
@settings(max_examples=10, deadline=None)
def test_a_prefix_begins_as_the_model_reading_its_first_words(length: int, base: Path) -> None:
    """A row behind the learned positions has the losses it has behind those words."""
    method = Prefix(num_virtual_tokens=length)
    model = attached(base, method)
    words = torch.tensor(load_tokenizer(base, chat_template=None).encode(FIRST_WORDS * length).ids[:length])
    row = torch.arange(20, 32)
    rows = collate([(row.numpy(), (row > 0).numpy())], pad_token_id=0, device="cpu")
    clean = load_model(base, dtype="float32", device="cpu")
    with torch.no_grad():
        ours = LossFunction(model, Precision(), device="cpu")(rows).nll_N
        logits = clean(input_ids=torch.cat([words, row])[None]).logits[0, length:-1]
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, row[1:], reduction="none"))
    assert model.get_nb_trainable_parameters()[0] == length * 2 * 2 * 2 * 8


@pytest.mark.parametrize("name", VARIANTS)
def test_a_few_steps_lower_the_loss(name: str, base: Path) -> None:
    _, before = learned(base, name, steps=0)
    _, after = learned(base, name, steps=6)
    with torch.no_grad():
        assert float(after(some_rows()).nll_N.mean()) < float(before(some_rows()).nll_N.mean()) - 0.05


MERGING = [name for name in ADAPTERS if name not in ("prefix", "prompt")]


@pytest.mark.parametrize("name", [*MERGING, "full"])
def test_a_merged_model_answers_as_the_adapter_on_its_base(name: str, base: Path, tmp_path: Path) -> None:
    """Written, and read back by transformers alone."""
    from transformers import AutoModelForCausalLM

    model, losses = learned(base, name)
    method = VARIANTS[name]
    training_method(method).save(model, tmp_path / "saved")
    whole = merge_checkpoint(tmp_path / "saved", base, method, dtype="float32", device="cpu")
    whole.save_pretrained(tmp_path / "whole")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    assert not [path for path, _ in again.named_parameters() if any(part in path for part in LEARNED)]
    with torch.no_grad():
        trained = losses(some_rows()).nll_N
        merged = LossFunction(again, Precision(), device="cpu")(some_rows()).nll_N
        clean = LossFunction(load_model(base, dtype="float32", device="cpu"), Precision(), device="cpu")(some_rows())
    torch.testing.assert_close(merged, trained, rtol=1e-4, atol=1e-4)
    assert (clean.nll_N - trained).abs().max() > 0.01


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_what_stands_before_the_rows_cannot_be_merged(name: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-T02\].*folded"):
        merge_checkpoint(tmp_path, base, VARIANTS[name], dtype="float32", device="cpu")


def embedding(model: Any) -> torch.Tensor:
    """The embedding as the model uses it."""
    return model.get_input_embeddings()(torch.arange(VOCABULARY)).detach()


@pytest.mark.parametrize("tied", [True, False])
def test_trained_tokens_move_and_no_others(tied: bool, tmp_path: Path) -> None:
    base = write_model(tmp_path / "model", seed=3, tied=tied)
    method = Lora(lora_rank=4, target_modules=("q_proj",), trained_tokens=("<|head|>", "<|/head|>"))
    numbers = token_numbers(base, method.trained_tokens)
    model = attached(base, method)
    losses = LossFunction(model, Precision(), device="cpu")
    before = embedding(model.get_base_model())
    rows = collate([(torch.tensor([9, *numbers, 8]).numpy(), torch.tensor([False, True, True, True]).numpy())],
                   pad_token_id=0, device="cpu")  # fmt: skip
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2)
    for _ in range(3):
        losses(rows).nll_N.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = (embedding(model.get_base_model()) != before).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == numbers
    training_method(method).save(model, tmp_path / "saved")
    whole = merge_checkpoint(tmp_path / "saved", base, method, dtype="float32", device="cpu")
    clean = load_model(base, dtype="float32", device="cpu")
    for new, old in ((whole.get_input_embeddings(), clean.get_input_embeddings()),
                     (whole.get_output_embeddings(), clean.get_output_embeddings())):  # fmt: skip
        assert (new.weight != old.weight).any(dim=1).nonzero()[:, 0].tolist() == numbers


def test_a_token_beyond_the_embedding_gets_a_row(tmp_path: Path) -> None:
    """As after an added token in tokenizer.json, with weights that know nothing of it."""
    base = write_model(tmp_path / "model", seed=3)
    described = json.loads((base / "tokenizer.json").read_text())
    new = {**described["added_tokens"][-1], "id": VOCABULARY + 2, "content": "<|tool|>"}
    described["added_tokens"].append(new)
    described["model"]["vocab"]["<|tool|>"] = number = VOCABULARY + 2
    (base / "tokenizer.json").write_text(json.dumps(described))
    method = Lora(lora_rank=4, trained_tokens=("<|tool|>",))
    model = attached(base, method)
    rows = collate([(torch.tensor([9, number, 8]).numpy(), torch.tensor([False, True, True]).numpy())],
                   pad_token_id=0, device="cpu")  # fmt: skip
    losses = LossFunction(model, Precision(), device="cpu")
    losses(rows).nll_N.mean().backward()
    torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-2).step()
    training_method(method).save(model.eval(), tmp_path / "saved")
    again = training_method(method).load(tmp_path / "saved", base, method, dtype="float32", device="cpu")
    with torch.no_grad():
        found = LossFunction(again, Precision(), device="cpu")(rows).nll_N
        assert torch.equal(losses(rows).nll_N, found)


def test_an_unknown_trained_token_is_refused(base: Path) -> None:
    with pytest.raises(FineTuneError, match=r"error\[FT-T02\].*no token '<\|nope\|>'"):
        attached(base, Lora(trained_tokens=("<|nope|>",)))


def test_ia3_says_where_it_cannot_tell_the_layers(base: Path) -> None:
    model = load_model(base, dtype="float32", device="cpu")
    model.config.model_type = "unheard-of"
    with pytest.raises(FineTuneError, match=r"error\[FT-T02\].*unheard-of"):
        training_method(Ia3()).attach(model, Ia3(), base=base, base_name="x")


def test_a_prompt_begins_as_the_embeddings_of_its_first_words(base: Path) -> None:
    """A row behind the learned positions has the losses it has behind those words."""
    model = attached(base, VARIANTS["prompt"])
    words = torch.tensor(load_tokenizer(base, chat_template=None).encode(FIRST_WORDS).ids[:5])
    row = torch.arange(20, 32)
    rows = collate([(row.numpy(), (row > 0).numpy())], pad_token_id=0, device="cpu")
    clean = load_model(base, dtype="float32", device="cpu")
    with torch.no_grad():
        ours = LossFunction(model, Precision(), device="cpu")(rows).nll_N
        logits = clean(input_ids=torch.cat([words, row])[None]).logits[0, 5:-1]
    torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, row[1:], reduction="none"))
