"""Traps of chat templates, masks and tokens: what is learned is then not what will be served."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from finetune_exe.domain.review import ConfigurationFinding
from finetune_exe.domain.yaml_tree import Item
from finetune_exe.knowledge.template_families import families_named
from finetune_exe.review.configuration import Configuration
from finetune_exe.review.findings import finding
from finetune_exe.review.meaning import meant

_MARKERS = {
    "<|im_start|>": ("qwen", "chatml", "phi-4", "phi4", "yi"), "<|start_header_id|>": ("llama-3", "llama3", "llama_3"),
    "<start_of_turn>": ("gemma", "gemma2", "gemma-3", "gemma3"), "[INST]": ("mistral", "llama-2", "llama2", "mixtral"),
    "### Response:": ("alpaca",), "<|assistant|>": ("phi-3", "phi3", "zephyr", "phi-3.5", "glm"),
}  # fmt: skip
_NO_CHAT = re.compile(
    r"instruct|chat|\bit\b|-it\b|sft|dpo|hermes|vicuna|assistant|[-_]r1|thinking|tulu|zephyr|coder", re.I
)
_Found = Iterator[ConfigurationFinding]


def check_traps(configuration: Configuration) -> _Found:
    """Look at templates, at the marks of answers and at the token that ends them."""
    for trap in _TRAPS:
        yield from trap(configuration)


def _template(configuration: Configuration) -> _Found:
    named = meant(configuration, "model.reference")
    item = configuration.settings.get("template") or configuration.settings.get("chat_template")
    if item is None or named is None or not isinstance(named.scalar, str) or not isinstance(item.scalar, str):
        return
    model, template = named.scalar.lower(), item.scalar.lower()
    key = "template" if "template" in configuration.settings else "chat_template"
    if len(template) > 60:
        return
    families, meant_for = families_named(model), families_named(template)
    if families and meant_for and not families & meant_for:
        yield finding(
            "template", "warning", key=key, place=item.place,
            what=f"the template {item.scalar} with the model {named.scalar}",
            why="its turns are marked by tokens that this model does not know, and it will not stop",
            fix=_own_template(configuration, key), source="hiyouga/LLaMA-Factory#6736, InternLM/xtuner#658",
        )  # fmt: skip
    elif (
        template in ("default", "vanilla", "alpaca")
        and _NO_CHAT.search(model)
        and configuration.peer.name == "llamafactory"
    ):
        yield finding(
            "template", "warning", key=key, place=item.place,
            what=f"the template {item.scalar} with the chat model {named.scalar}",
            why="it was trained on turns marked in another way, and will be served so",
            fix=_own_template(configuration, key), source="hiyouga/LLaMA-Factory#6736",
        )  # fmt: skip


def _own_template(configuration: Configuration, key: str) -> str:
    if configuration.peer.name == "axolotl":
        return "write chat_template: tokenizer_default"
    return f"remove {key}, or name the model's own"


def _responses(configuration: Configuration) -> _Found:
    """Hold the marks that a script looks for in its rows against the template that writes them."""
    item = configuration.settings.get("responses.response_part")
    text = item.scalar if item is not None else None
    if item is None or not isinstance(text, str) or configuration.script is None:
        return
    named = configuration.settings.get("template.chat_template")
    about = str(
        named.scalar if named else configuration.value("model.model_name") or configuration.value("model.()") or ""
    ).lower()
    right = [marker for marker, names in _MARKERS.items() if any(name in about for name in names)]
    found = [marker for marker in _MARKERS if marker in text]
    if right and found and not set(right) & set(found):
        yield finding(
            "mask", "error", key="response_part", place=item.place,
            what=f"answers are looked for behind {found[0]} in rows of {about}",
            why="the mark is never found, so that no token is learned",
            fix=f"take the marks of that template, which begin with {right[0]}", source="unslothai/unsloth#1128, #2364",
        )  # fmt: skip


def _tokens(configuration: Configuration) -> _Found:
    pad, end = (configuration.settings.get(f"special_tokens.{name}_token") for name in ("pad", "eos"))
    if pad is not None and pad.scalar is not None and end is not None and pad.scalar == end.scalar:
        what = f"rows are padded with {pad.scalar}, the token that ends answers"
        yield _pad(pad, "special_tokens.pad_token", what)
    if configuration.script is None:
        return
    pads = (item for name, item in configuration.script.assigned.items() if name.endswith(".pad_token"))
    assigned = next((item for item in pads if str(item.content).endswith(".eos_token")), None)
    plain = "DataCollatorForLanguageModeling" in configuration.called
    if assigned is not None and plain:
        yield _pad(assigned, "pad_token", "rows are padded with the token that ends answers")


def _pad(item: Item, key: str, what: str) -> ConfigurationFinding:
    return finding(
        "end_token", "warning", key=key, place=item.place, what=what,
        why="where padding is masked by its token, the end is never learned and the model does not stop",
        fix="take a token that nothing else uses, as <|finetune_right_pad_id|> of Llama 3.1 or <|endoftext|> of Qwen",
        source="mlabonne/llm-course#33, unslothai/unsloth#416",
    )  # fmt: skip


_TRAPS: tuple[Callable[[Configuration], _Found], ...] = (_template, _responses, _tokens)
