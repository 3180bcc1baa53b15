"""GGUF files of every architecture that is written, against transformers' own reading of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.tiny import VOCABULARY, write_tokenizer
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GgufConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from finetune_exe.errors import FineTuneError
from finetune_exe.models.gguf_vocabulary import read_vocabulary
from finetune_exe.models.gguf_writing import (
    GgufType,
    Speech,
    check_tokenizer,
    interleave,
    read_back,
    require_architecture,
    separate,
    write_gguf,
)

SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
}  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama, own head, biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**SIZES, sliding_window=None, head_dim=16),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=128),
}
SPEECH = Speech(name="x", license="mit", chat_template="{{ 1 }}", bos_id=5, adds_bos=False, eos_id=2, end_of_turn_id=2, pad_id=0)  # fmt: skip
IDS = torch.arange(10, 60).unsqueeze(0)


def made(config: PreTrainedConfig, folder: Path) -> Any:
    torch.manual_seed(3)
    write_tokenizer(folder)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "bias" in name or "norm" in name:
                weight.add_(0.3 * torch.randn_like(weight))
    return model


def write(model: Any, folder: Path, kind: Any = "f32") -> Path:
    path = folder / "model.gguf"
    write_gguf(model, read_vocabulary(folder, num_rows=VOCABULARY), SPEECH, path, kind=kind)
    return path


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits[0]


@pytest.mark.parametrize("name", list(CONFIGS))
def test_transformers_reads_the_same_model(name: str, tmp_path: Path) -> None:
    model = made(CONFIGS[name], tmp_path)
    path = write(model, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    if name == "llama, own head, biases":  # transformers drops the biases of a Llama's file
        theirs.config = model.config
    else:
        assert torch.allclose(logits(theirs), logits(model), atol=1e-4)
    assert torch.equal(logits(read_back(path, model)), logits(model))


@pytest.mark.parametrize("name", [*CONFIGS, "llama 3", "qwen3, narrow heads"])
def test_llama_cpp_computes_the_same(name: str, tmp_path: Path) -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's binding is not installed: pip install xllamacpp")
    config = {
        **CONFIGS,
        "llama 3": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
        "qwen3, narrow heads": Qwen3Config(**SIZES, head_dim=16),
    }[name]
    model = made(config, tmp_path)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = str(write(model, tmp_path)), 256, 1, False
    options.cpuparams.n_threads = 1
    server = xllamacpp.Server(options)
    answer = server.handle_completions(
        {
            "prompt": IDS[0].tolist(),
            "n_predict": 1,
            "n_probs": VOCABULARY,
            "temperature": -1.0,
            "logit_bias": [[60, 100.0]],
        }
    )
    found = {row["id"]: row["logprob"] for row in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
    expected = torch.log_softmax(logits(model)[-1], -1)
    assert len(found) > VOCABULARY - 20
    original = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in CHARACTER_TEXTS:
        assert tokenized(server.listening_address, text) == original.encode(text, add_special_tokens=False).ids
    assert np.allclose([expected[number] for number in found], list(found.values()), atol=2e-2)


@pytest.mark.parametrize("kind", get_args(GgufType))
def test_fewer_bits_are_farther_from_the_weights(kind: Any, tmp_path: Path) -> None:
    model = made(CONFIGS["llama"], tmp_path)
    back = read_back(write(model, tmp_path, kind), model)
    error = max(
        float((weight - back.state_dict()[name]).abs().max() / weight.abs().max())
        for name, weight in model.state_dict().items()
    )
    bits = {"f32": 24, "f16": 11, "bf16": 8, "q8_0": 7, "q5_1": 4, "q5_0": 4, "q4_1": 3, "q4_0": 3}[kind]
    assert error <= 2.0**-bits


@given(heads=st.integers(1, 4), half=st.integers(1, 5), columns=st.integers(1, 3))
def test_rows_come_back_where_they_were(heads: int, half: int, columns: int) -> None:
    values = np.arange(heads * 2 * half * columns, dtype=np.float32).reshape(-1, columns)
    placed = interleave(values, heads)
    assert np.array_equal(separate(placed, heads), values)
    for head in range(heads):
        for pair in range(half):
            first = head * 2 * half
            assert np.array_equal(placed[first + 2 * pair], values[first + pair])
            assert np.array_equal(placed[first + 2 * pair + 1], values[first + half + pair])


@pytest.mark.parametrize(
    ("change", "said"),
    [({"model_type": "gpt_neox"}, "gpt_neox"), ({"hidden_act": "gelu"}, "gelu"), ({"sliding_window": 64}, "64 tokens"),
     ({"rope_parameters": {"rope_type": "yarn"}}, "yarn")],
)  # fmt: skip
def test_what_would_be_computed_otherwise_is_refused(change: dict[str, Any], said: str) -> None:
    whole = {"model_type": "llama", "max_position_embeddings": 128}
    assert require_architecture(whole).name == "llama"
    with pytest.raises(FineTuneError) as caught:
        require_architecture({**whole, **change})
    assert caught.value.code == "O07"
    assert said in caught.value.what


def test_a_number_beyond_float16_is_refused(tmp_path: Path) -> None:
    model = made(CONFIGS["llama"], tmp_path)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] = 70_000.0
    with pytest.raises(FineTuneError) as caught:
        write(model, tmp_path, "f16")
    assert caught.value.code == "O07"
    write(model, tmp_path, "bf16")


def with_pre_tokenizer(folder: Path, *steps: Any) -> Path:
    write_tokenizer(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(list(steps)) if len(steps) > 1 else steps[0]
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_ways_to_cut_text_have_the_names_that_llama_cpp_gives_them(tmp_path: Path) -> None:
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    plain, bare = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    )
    known = {
        "gpt-2": (plain,),
        "smollm": (pre_tokenizers.Digits(individual_digits=True), plain),
        **{name: (pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[name]), "isolated"), bare) for name in ("llama-bpe", "qwen2", "tekken")},
    }  # fmt: skip
    for name, steps in known.items():
        assert read_vocabulary(with_pre_tokenizer(tmp_path / name, *steps), num_rows=VOCABULARY).cutting == name
    unknown = {
        "a prefix space": (pre_tokenizers.ByteLevel(add_prefix_space=True),),
        "digits together": (pre_tokenizers.Digits(individual_digits=False), plain),
        "another pattern": (pre_tokenizers.Split(Regex("a+"), "isolated"), bare),
        "white space": (pre_tokenizers.Whitespace(),),
        "split otherwise": (pre_tokenizers.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS["qwen2"]), "removed"), bare),
    }
    for name, steps in unknown.items():
        with pytest.raises(FineTuneError) as caught:
            read_vocabulary(with_pre_tokenizer(tmp_path / name, *steps), num_rows=VOCABULARY)
        assert caught.value.code == "O07"


def test_tokens_that_do_not_fit_are_refused_and_rows_without_token_are_named(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    with pytest.raises(FineTuneError):
        read_vocabulary(tmp_path, num_rows=100)
    found = read_vocabulary(tmp_path, num_rows=VOCABULARY + 2)
    assert found.tokens[-1] == f"[PAD{VOCABULARY + 1}]"
    assert (found.kinds[-1], found.kinds[0], found.kinds[50]) == (5, 3, 1)


def test_a_tokenizer_that_strips_beside_special_tokens_is_found(tmp_path: Path) -> None:
    """llama.cpp does not strip; a file that would be read otherwise is not kept."""
    model = made(CONFIGS["llama"], tmp_path)
    path = write(model, tmp_path)
    original = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert check_tokenizer(path, original, ["a <|im_end|> b"]) == 1
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    for token in content["added_tokens"]:
        token["rstrip"] = True
    stripping = Tokenizer.from_str(json.dumps(content))
    with pytest.raises(FineTuneError) as caught:
        check_tokenizer(path, stripping, ["a <|im_end|> b"])
    assert caught.value.code == "M04"


def write_character_tokenizer(folder: Path, normalizer: Any, pre_tokenizer: Any = None) -> Tokenizer:
    """Train a BPE on characters, with bytes for what it has not seen, as Llama 2 and Mistral 7B have."""
    from tokenizers import decoders, models, trainers

    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = (
        normalizer,
        pre_tokenizer,
        decoders.ByteFallback(),
    )
    words = [
        "the",
        "quick",
        "brown",
        "fox",
        "jumps",
        "over",
        "the",
        "lazy",
        "dog",
        "said",
        "user",
        "to",
        "assistant",
        "end",
    ]
    texts = [f"{a} {b}" for a in words for b in words]
    trainer = trainers.BpeTrainer(vocab_size=396, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in bytes_]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def tokenized(address: str, text: str) -> list[int]:
    """Ask llama.cpp's server on this machine for token ids."""
    from http.client import HTTPConnection

    connection = HTTPConnection(address.removeprefix("http://"), timeout=10)
    asked = json.dumps({"content": text, "add_special": False, "parse_special": True})
    connection.request("POST", "/tokenize", asked, {"Content-Type": "application/json"})
    found: list[int] = json.loads(connection.getresponse().read())["tokens"]
    connection.close()
    return found


CHARACTER_TEXTS = (
    "the quick fox",
    "  two  spaces",
    "zebra 12 caf\u00e9 \u4f60\n\n",
    "a</s>the dog</s> said",
    "",
    "over",
)


@pytest.mark.parametrize("first", [True, False])
def test_tokenizers_on_characters_give_the_same_ids_in_llama_cpp(tmp_path: Path, first: bool) -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="llama.cpp's binding is not installed: pip install xllamacpp")
    from tokenizers import normalizers

    steps = [normalizers.Prepend("\u2581")] if first else []
    original = write_character_tokenizer(tmp_path, normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")]))
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]).eval()
    vocabulary = read_vocabulary(tmp_path, num_rows=VOCABULARY)
    assert (vocabulary.model, vocabulary.begins_with_space, vocabulary.unknown) == ("llama", first, 0)
    path = tmp_path / "model.gguf"
    write_gguf(model, vocabulary, SPEECH, path, kind="f32")
    assert check_tokenizer(path, original, CHARACTER_TEXTS) == len(CHARACTER_TEXTS)
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = str(path), 256, 1, False
    server = xllamacpp.Server(options)
    for text in CHARACTER_TEXTS:
        found = tokenized(server.listening_address, text)
        assert found == original.encode(text, add_special_tokens=False).ids, text


def test_spaces_that_llama_cpp_treats_otherwise_are_refused(tmp_path: Path) -> None:
    from tokenizers import normalizers

    for name, normalizer, cutter in (
        ("first only", None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
        ("lower case", normalizers.Lowercase(), None),
        ("words", None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True)),
    ):
        write_character_tokenizer(tmp_path / name, normalizer, cutter)
        with pytest.raises(FineTuneError) as caught:
            read_vocabulary(tmp_path / name, num_rows=VOCABULARY)
        assert caught.value.code == "O07"
