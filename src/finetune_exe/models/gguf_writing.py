"""Write a model as one GGUF file, as llama.cpp and Ollama read it, and read it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from finetune_exe.errors import FineTuneError
from finetune_exe.knowledge.gguf import GgufArchitecture, gguf_architecture, gguf_model_types
from finetune_exe.models.gguf_vocabulary import CONTROL, USER_DEFINED, Vocabulary

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from numpy.typing import NDArray

    Numbers = NDArray[np.float32]

GgufType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]
LARGEST_F16 = 65_504.0
ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """How a model is talked to, as written into the file."""

    name: str
    license: str | None
    chat_template: str | None
    bos_id: int | None
    adds_bos: bool
    """Whether a server puts the first token before what it is given."""
    eos_id: int
    end_of_turn_id: int
    pad_id: int


class Placed(NamedTuple):
    """A tensor under its name in the file, laid out as llama.cpp computes."""

    name: str
    values: Numbers


def write_gguf(model: Any, vocabulary: Vocabulary, speech: Speech, path: Path, *, kind: GgufType) -> None:
    """Write a model that transformers computes, one tensor at a time.

    Norms and biases stay in float32; a matrix whose rows are no whole number of blocks is kept in float16.

    Args:
        model: A whole causal language model, on the CPU.
        vocabulary: Its tokenizer.
        speech: How it is talked to.
        path: The file.
        kind: Format of the matrices.

    Raises:
        FineTuneError: O07 for an architecture, or a number, that cannot be written.
    """
    import gguf

    known = require_architecture(model.config.to_dict())
    writer = gguf.GGUFWriter(path, known.name)
    _describe(writer, model.config, kind)
    _speak(writer, vocabulary, speech)
    formats: dict[str, gguf.GGMLQuantizationType] = {}
    for name, values in placed_tensors(model, known):
        formats[name] = chosen = _format(name, values, kind)
        writer.add_tensor_info(
            name, gguf.quant_shape_to_byte_shape(values.shape, chosen), np.dtype(np.uint8),
            values.size // gguf.GGML_QUANT_SIZES[chosen][0] * gguf.GGML_QUANT_SIZES[chosen][1], raw_dtype=chosen,
        )  # fmt: skip
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, values in placed_tensors(model, known):
            largest = float(np.abs(values).max())
            if formats[name] is gguf.GGMLQuantizationType.F16 and not largest <= LARGEST_F16:
                raise _refused(f"{name} holds {largest:.0f}", "float16 ends at 65,504", "--to gguf --type bf16")
            writer.write_tensor_data(gguf.quants.quantize(values, formats[name]).view(np.uint8))
    finally:
        writer.close()


def require_architecture(config: Mapping[str, Any]) -> GgufArchitecture:
    """Look up what llama.cpp makes of a configuration.

    Raises:
        FineTuneError: O07 where it would compute something else, or nothing.
    """
    kind = str(config.get("model_type"))
    known = gguf_architecture(kind)
    if known is None:
        raise _refused(f"a model of type {kind}", f"written are: {', '.join(gguf_model_types())}", "--to merged")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") not in ("default", "linear", "llama3"):
        raise _refused(f"positions of type {rope['rope_type']}", "they are not written", "--to merged")
    if config.get("hidden_act", "silu") != "silu":
        raise _refused(f"the activation {config['hidden_act']}", "llama.cpp computes silu here", "--to merged")
    window, longest = config.get("sliding_window"), config.get("max_position_embeddings") or 0
    if window and config.get("use_sliding_window", True) and window < longest:
        raise _refused(f"attention over {window} tokens only", "llama.cpp would look at all of them", "--to merged")
    return known


def placed_tensors(model: Any, known: GgufArchitecture) -> Iterator[Placed]:
    """Give each tensor under its name in the file; tied heads are left out, for readers take the embeddings."""
    import gguf

    config = model.config
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == known.name)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    factors = _rope_factors(config)
    if factors is not None:
        yield Placed(ROPE_FACTORS, factors)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise _refused(f"the tensor {name}", f"a {known.name} of llama.cpp has no place for it", "--to merged")
        values: Numbers = np.ascontiguousarray(tensor.detach().float().cpu().numpy())
        heads = _heads(target, config)
        yield Placed(target, values if heads is None or not known.interleaved else interleave(values, heads))


def interleave(values: Numbers, num_heads: int) -> Numbers:
    """Put the two halves of every head's rows beside each other, as rotations of neighbours need it."""
    per_head = values.reshape(num_heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(per_head.swapaxes(1, 2).reshape(values.shape))


def separate(values: Numbers, num_heads: int) -> Numbers:
    """Undo `interleave`."""
    per_head = values.reshape(num_heads, -1, 2, *values.shape[1:])
    return np.ascontiguousarray(per_head.swapaxes(1, 2).reshape(values.shape))


def read_tensors(path: Path, model: Any, known: GgufArchitecture) -> dict[str, Numbers]:
    """Read the file's tensors back under transformers' names, dequantised.

    Raises:
        FineTuneError: M04 where one is missing.
    """
    import gguf

    held = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    kind = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == known.name)
    names = gguf.get_tensor_name_map(kind, model.config.num_hidden_layers)
    found: dict[str, Numbers] = {}
    for name in model.state_dict():
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            target = "token_embd.weight"
        if target not in held:
            raise _not_the_same(path, f"the file has no {target}")
        tensor = held[target]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        heads = _heads(target, model.config)
        found[name] = values if heads is None or not known.interleaved else separate(values, heads)
    return found


def read_back(path: Path, like: Any) -> Any:
    """Make the model that the file holds, computed in float32 by transformers.

    Args:
        path: A file written by `write_gguf`.
        like: The model it was written from.

    Raises:
        FineTuneError: M04 where the file holds another model.
    """
    import copy

    import torch

    tensors = read_tensors(path, like, require_architecture(like.config.to_dict()))
    model = copy.deepcopy(like).float()
    missing = model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()}, strict=False)
    if missing.unexpected_keys or missing.missing_keys:
        raise _not_the_same(path, f"tensors differ: {[*missing.missing_keys, *missing.unexpected_keys][:3]}")
    return model.eval()


def check_tokenizer(path: Path, original: Any, texts: Sequence[str]) -> int:
    """Build the tokenizer anew from the file alone and hold token ids against the original's.

    Args:
        path: The file.
        original: The tokenizer of the training, of the `tokenizers` library.
        texts: What is tokenised by both.

    Returns:
        How many texts were compared.

    Raises:
        FineTuneError: M04 where one text gives other ids.
    """
    import gguf
    from tokenizers import AddedToken, Tokenizer, models

    fields = gguf.GGUFReader(path).fields
    tokens, merges = fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.merges"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    built = Tokenizer(models.BPE(
        vocab={token: number for number, token in enumerate(tokens)},
        merges=[tuple(merge.split(" ", 1)) for merge in merges],
        ignore_merges=bool(getattr(original.model, "ignore_merges", False)),
        byte_fallback=original.model.byte_fallback, unk_token=original.model.unk_token,
        fuse_unk=original.model.fuse_unk,
    ))  # fmt: skip
    built.normalizer, built.pre_tokenizer = original.normalizer, original.pre_tokenizer
    named = list(zip(tokens, kinds, strict=True))
    built.add_special_tokens([AddedToken(token, normalized=False) for token, kind in named if kind == CONTROL])
    built.add_tokens([AddedToken(token, normalized=False) for token, kind in named if kind == USER_DEFINED])
    for text in texts:
        ours, theirs = (t.encode(text, add_special_tokens=False).ids for t in (built, original))
        if ours != theirs:
            raise _not_the_same(path, f"its tokenizer gives {ours[:8]} for {text[:40]!r} instead of {theirs[:8]}")
    return len(texts)


def _describe(writer: GGUFWriter, config: Any, kind: GgufType) -> None:
    """Write the shape of the model."""
    import gguf

    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads or heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters or {}
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))
    prefix = "ALL_" if kind == "f32" else "MOSTLY_"
    writer.add_file_type(gguf.LlamaFileType[prefix + kind.upper()])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _speak(writer: GGUFWriter, vocabulary: Vocabulary, speech: Speech) -> None:
    """Write the tokenizer and how the model is talked to."""
    writer.add_name(speech.name)
    if speech.license is not None:
        writer.add_license(speech.license)
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.cutting)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.kinds))
    writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.model == "llama":
        writer.add_token_scores(list(vocabulary.scores))
        writer.add_add_space_prefix(vocabulary.begins_with_space)
        if vocabulary.unknown is not None:
            writer.add_unk_token_id(vocabulary.unknown)
    if speech.bos_id is not None:
        writer.add_bos_token_id(speech.bos_id)
    writer.add_eos_token_id(speech.eos_id)
    writer.add_eot_token_id(speech.end_of_turn_id)
    writer.add_pad_token_id(speech.pad_id)
    writer.add_add_bos_token(speech.adds_bos)
    writer.add_add_eos_token(False)
    if speech.chat_template is not None:
        writer.add_chat_template(speech.chat_template)


def _format(name: str, values: Numbers, kind: GgufType) -> Any:
    """Choose the format of one tensor."""
    import gguf

    if values.ndim < 2 or name == ROPE_FACTORS:
        return gguf.GGMLQuantizationType.F32
    wanted = gguf.GGMLQuantizationType[kind.upper()]
    whole = values.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0
    return wanted if whole else gguf.GGMLQuantizationType.F16


def _heads(name: str, config: Any) -> int | None:
    """Say how many heads the rows of a tensor are of; None for tensors that are not rotated."""
    part = name.split(".")[-2]
    if part == "attn_q":
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads or config.num_attention_heads) if part == "attn_k" else None


def _rope_factors(config: Any) -> Numbers | None:
    """Give what the frequencies are divided by, where a model stretches them one by one."""
    rope = config.rope_parameters or {}
    if rope.get("rope_type") != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    stretched = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0].double().numpy()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    plain = float(rope["rope_theta"]) ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    factors: Numbers = (plain / stretched).astype(np.float32)
    return factors


def _refused(what: str, why: str, instead: str) -> FineTuneError:
    return FineTuneError(
        "O07",
        what=f"the model cannot be written as GGUF: {what}",
        where="the model's configuration and weights",
        why=why,
        fix=f"fine-tune export RUN {instead}",
    )


def _not_the_same(path: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "M04",
        what="the GGUF file does not hold the model it was written from",
        where=str(path),
        why=why,
        fix='pip install "gguf>=0.17" again, and report it; export with --to merged meanwhile',
    )
