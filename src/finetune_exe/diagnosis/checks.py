"""What a configuration makes likely by itself: values out of range, and settings that exclude each other.

These are suspicions: each counts little where nothing else speaks for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from finetune_exe.diagnosis.match import Hit
from finetune_exe.domain.values import Scalar
from finetune_exe.knowledge.template_families import families_named

_HIGHEST = {"lora": 2e-3, "full": 3e-4}
_LOWEST = {"lora": 2e-5, "full": 5e-7}
"""Learning rates beyond which hardly any published run lies. Source: the rules of knowledge/rules.toml, and the sweeps
they rest on: optimum of LoRA 1e-4 to 5e-4, of full training a tenth, each within a factor of ten."""
_HALF = ("fp16", "fp16.enabled", "torch_dtype", "dtype")
_DTYPE = "precision.base_dtype"
_RATE = "optimizer.learning_rate"


def suspicions(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> Iterator[Hit]:
    """Name what a configuration makes likely.

    Args:
        values: The tool's own keys, nested ones with dots.
        settings: The same as settings of our plan, by dotted path.
    """
    for check in _CHECKS:
        for label, strength, text, path in check(values, settings):
            yield Hit(label=label, strength=strength, text=text, setting=path)


_Found = Iterator[tuple[str, float, str, str]]
"""Label, strength, what is said, and the setting of our plan, or the key, that it is about."""
_Check = Callable[[Mapping[str, Scalar], Mapping[str, Scalar]], _Found]


def _learning_rate(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    rate = settings.get(_RATE)
    if isinstance(rate, str):
        try:
            float(rate)
        except ValueError:
            return
        yield "lr_type_string", 0.55, f"the learning rate {rate!r} is text, not a number", _RATE
        return
    if not isinstance(rate, int | float) or isinstance(rate, bool):
        return
    kind = "lora" if _adapted(values, settings) else "full"
    if rate > _HIGHEST[kind]:
        yield "lr_divergence", 0.5, f"learning rate {rate:g} is above what {kind} training is known to bear", _RATE
    elif 0 < rate < _LOWEST[kind]:
        yield "underfitting", 0.5, f"learning rate {rate:g} is below what moves a model by {kind} training", _RATE


def _length_of_training(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    warmup, epochs = settings.get("schedule.warmup.fraction"), settings.get("schedule.epochs")
    if isinstance(warmup, float) and warmup >= 0.3:
        text = f"the learning rate rises for {100 * warmup:.0f} % of all steps"
        yield "underfitting", 0.4, text, "schedule.warmup.fraction"
    if isinstance(epochs, int | float) and epochs >= 10:
        yield "overfitting", 0.45, f"{epochs:g} passes over the same rows", "schedule.epochs"


def _template(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    model, template = settings.get("model.reference"), values.get("template") or values.get("chat_template")
    if not isinstance(model, str) or not isinstance(template, str):
        return
    families, meant = families_named(model), families_named(template)
    if families and meant and not families & meant:
        yield "no_learning_wrong_template", 0.72, f"template {template} with the model {model}", "template"
    base = not re.search(r"instruct|chat|\bit\b|-it-|sft|dpo|hermes|vicuna|assistant|r1", model, re.IGNORECASE)
    if families and meant and base:
        text = f"the chat template {template} with {model}, which is no chat model"
        yield "no_learning_wrong_template", 0.4, text, "template"


def _tokens(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    pad = values.get("special_tokens.pad_token") or values.get("pad_token")
    end = values.get("special_tokens.eos_token") or values.get("eos_token")
    if pad and (pad == end or pad in ("</s>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "tokenizer.eos_token")):
        yield "eos_not_learned", 0.55, f"the pad token {pad} is a token that ends answers", "pad_token"
    length = settings.get("data.max_length")
    if isinstance(length, int) and length <= 256:
        yield "truncation", 0.35, f"sequences are cut at {length} tokens", "data.max_length"


def _memory(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    train = settings.get("batch.micro_batch_size")
    evaluation = values.get("per_device_eval_batch_size") or values.get("eval_batch_size")
    if isinstance(train, int) and isinstance(evaluation, int) and evaluation > 2 * train:
        text = f"evaluation takes {evaluation} rows at a time, training {train}"
        yield "oom", 0.3, text, "per_device_eval_batch_size"


def _formats(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    model = str(settings.get("model.reference") or "").lower()
    half = settings.get(_DTYPE) == "float16" or any(values.get(key) in (True, "float16") for key in _HALF)
    if half and any(family in model for family in ("gemma", "qwen", "phi", "t5", "llama-3", "mistral")):
        yield "nan_loss", 0.45, f"float16 with {settings.get('model.reference')}, which was made in bfloat16", _DTYPE
    elif half:
        yield "nan_loss", 0.25, "float16 holds no number above 65504, and none below 6e-8", _DTYPE
    quantized = values.get("load_in_4bit") is True or values.get("load_in_8bit") is True
    if quantized and not _adapted(values, settings):
        yield "no_adapter_on_quantized", 0.6, "a quantised model without an adapter", "load_in_4bit"
    if quantized and values.get("zero_optimization.stage") == 3:
        yield "dist_config", 0.45, "4- or 8-bit weights with ZeRO-3", "zero_optimization.stage"


def _packing(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> _Found:
    packed = values.get("packing") is True or values.get("sample_packing") is True
    attention = str(values.get("attn_implementation") or values.get("flash_attn") or values.get("flash_attention"))
    if packed and not any(word in attention.lower() for word in ("flash", "fa2", "true", "flex", "xformers")):
        yield "packing_contamination", 0.42, "packing without an attention that keeps rows apart", "packing"


_CHECKS: tuple[_Check, ...] = (_learning_rate, _length_of_training, _template, _tokens, _memory, _formats, _packing)


def _adapted(values: Mapping[str, Scalar], settings: Mapping[str, Scalar]) -> bool:
    kind = str(settings.get("method.kind") or "").lower()
    return "lora" in kind or "method.lora_rank" in settings or values.get("use_peft") is True or "peft_config" in values
