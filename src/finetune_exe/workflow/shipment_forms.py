"""The forms in which a model leaves: each is written, read back and held against the model that was evaluated."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_exe.atomic import write_file
from finetune_exe.domain.plan import Full, Plan, Qlora
from finetune_exe.domain.run import TrainingRun
from finetune_exe.domain.shipment import MERGED_PARITY, Parity, ShipmentForm
from finetune_exe.errors import FineTuneError
from finetune_exe.evaluation.forgetting import Predictions, predict
from finetune_exe.evaluation.parity import most_divergence, parity, probe_sequences
from finetune_exe.export.modelfile import TurnTexts, modelfile, turn_texts
from finetune_exe.knowledge.licenses import LicenseFacts, known_license
from finetune_exe.prepared.store import PreparedFolder
from finetune_exe.text.conversation import Message
from finetune_exe.text.formats.stored import from_json
from finetune_exe.text.render import TemplateRefusedError
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer
from finetune_exe.workflow.preparing import Note

LEAST_CONTEXT = 2_048
"""Tokens a server makes room for, where the model takes so many; short rows say nothing about conversations."""
_OVER_4_BIT = (
    "The adapter offsets the rounding of the 4-bit weights it was trained beside, so over the base in 16 bit, or in "
    "another 4-bit form, it answers worse than it was measured to: load the base with BitsAndBytesConfig("
    'load_in_4bit=True, bnb_4bit_quant_type="nf4"), or export the model with --to merged.'
)
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                    "vocab.json", "merges.txt", "tokenizer.model")  # fmt: skip
_CONSTRUCTED = (
    (Message(role="user", content="How are you?"),),
    (Message(role="system", content="Be brief."), Message(role="user", content="And\nnow?")),
    (Message(role="user", content="{{ a }} caf\u00e9"), Message(role="assistant", content="Well."),
     Message(role="user", content="Good.")),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Cargo:
    """The model on its way out, with all that is known of it."""

    name: str
    plan: Plan
    training: TrainingRun
    data: PreparedFolder
    base: Path
    checkpoint: Path
    tokenizer: ChatTokenizer
    number_format: str
    note: Note

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which an answer ends."""
        return self.tokenizer.stop_tokens

    @property
    def thinks(self) -> bool:
        """Whether it learned to think before it answers, from most of the rows."""
        return self.plan.profile is not None and self.plan.profile.mostly_thinks

    @property
    def license(self) -> LicenseFacts | None:
        """What the base model's licence asks for, where that is known."""
        return known_license(self.plan.model.license)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What was written, and how far it is the model that was evaluated."""

    parities: tuple[Parity, ...] = ()
    num_texts: int = 0
    notes: tuple[str, ...] = ()


def _pack_merged(cargo: Cargo, work: Path) -> Packed:
    """Write the whole model as transformers loads it, and load it again."""
    import torch

    from finetune_exe.models.load import load_model, torch_dtype

    model, merged, sequences, predictions = _merge(cargo)
    model.to(torch_dtype(cargo.number_format))  # type: ignore[arg-type]
    _tell_stops(model, cargo.tokenizer)
    model.save_pretrained(work)
    _write_tokenizer(cargo, work)
    cargo.note("reading it back")
    again = load_model(work, dtype=cargo.number_format, device="cpu").eval()  # type: ignore[arg-type]
    for (name, ours), (_, theirs) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        if not torch.equal(ours.cpu(), theirs):
            raise _not_written(work, f"{name} was read back otherwise")
    del model
    rounded = parity(f"{cargo.number_format} against float32", again.float(), sequences, predictions,
                     most=most_divergence(cargo.number_format))  # fmt: skip
    return Packed(parities=(*merged, rounded), num_texts=_same_tokens(cargo, work))


def _pack_gguf(cargo: Cargo, work: Path) -> Packed:
    """Write one GGUF file and, where its template can be said in Ollama's language, a Modelfile; read both back."""
    from finetune_exe.models.gguf_vocabulary import read_vocabulary
    from finetune_exe.models.gguf_writing import Speech, check_tokenizer, read_back, require_architecture, write_gguf

    config = json.loads((cargo.base / "config.json").read_bytes())
    require_architecture(config)
    read_vocabulary(cargo.base, num_rows=config["vocab_size"])
    model, merged, sequences, predictions = _merge(cargo)
    tokenizer = cargo.tokenizer
    bos = None if tokenizer.bos_token_id is None else tokenizer.decode([tokenizer.bos_token_id])
    prompts = _prompts(cargo)
    begins = tokenizer.bos_token is not None and (not prompts or any(text.startswith(bos or "") for _, text in prompts))
    file = work / f"{cargo.name}-{cargo.number_format}.gguf"
    speech = Speech(
        name=cargo.name, license=None if cargo.license is None else cargo.license.hub,
        chat_template=None if tokenizer.template is None else tokenizer.template.source,
        bos_id=tokenizer.bos_token_id, adds_bos=begins, eos_id=tokenizer.eos_token_id,
        end_of_turn_id=tokenizer.stop_token_ids[0], pad_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vocabulary = read_vocabulary(cargo.base, num_rows=model.config.vocab_size)
    cargo.note(f"writing {file.name}")
    write_gguf(model, vocabulary, speech, file, kind=cargo.number_format)  # type: ignore[arg-type]
    cargo.note("reading it back")
    quantised = parity(f"{cargo.number_format} against float32", read_back(file, model), sequences, predictions,
                       most=most_divergence(cargo.number_format))  # fmt: skip
    texts = [text for _, text in prompts] or [cargo.tokenizer.decode(tokens) for tokens in sequences]
    num_texts = check_tokenizer(file, tokenizer.tokenizer, texts)
    notes = _write_modelfile(cargo, work, file.name, prompts, bos if begins else None)
    return Packed(parities=(*merged, quantised), num_texts=num_texts, notes=notes)


def _pack_adapter(cargo: Cargo, work: Path) -> Packed:
    """Copy what was learned beside tokenizer and template, as PEFT loads it."""
    if isinstance(cargo.plan.method, Full):
        raise FineTuneError(
            "O07",
            what="there is no adapter to export",
            where="method.kind: full",
            why="full fine-tuning changes the weights of the model itself",
            fix="fine-tune export RUN --to merged",
        )
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(cargo.checkpoint / name, work / name)
    _write_tokenizer(cargo, work)
    method = cargo.plan.method
    notes = (_OVER_4_BIT,) if isinstance(method, Qlora) and method.offset_rounding else ()
    return Packed(num_texts=_same_tokens(cargo, work), notes=notes)


def _merge(cargo: Cargo) -> tuple[Any, tuple[Parity, ...], list[tuple[int, ...]], Predictions]:
    """Fold the adapter in, in float32, and hold the result against the adapter beside its base."""
    from finetune_exe.models.load import settle_libraries
    from finetune_exe.models.merge import merge_checkpoint
    from finetune_exe.models.methods import training_method

    settle_libraries()
    method = cargo.plan.method
    sequences = probe_sequences(cargo.data.split("test"), cargo.tokenizer, max_length=cargo.plan.data.max_length)
    beside: Predictions | None = None
    cargo.note("merging in float32")
    model = merge_checkpoint(cargo.checkpoint, cargo.base, method, dtype="float32", device="cpu")
    if not isinstance(method, Full):
        adapter = training_method(method).load(cargo.checkpoint, cargo.base, method, dtype="float32", device="cpu")
        beside = predict(adapter, sequences)
        del adapter
    merged = () if beside is None else (
        parity(MERGED_PARITY, model, sequences, beside, most=most_divergence("float32")),
    )  # fmt: skip
    return model, merged, sequences, predict(model, sequences)


def _tell_stops(model: Any, tokenizer: ChatTokenizer) -> None:
    """Let the generation settings be those of the evaluation."""
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id = list(tokenizer.stop_token_ids), tokenizer.pad_token_id
    settings.do_sample, settings.temperature, settings.top_p, settings.top_k = False, None, None, None


def _write_tokenizer(cargo: Cargo, work: Path) -> None:
    """Put the tokenizer of the training there, with the template that was trained."""
    for name in _TOKENIZER_FILES:
        if (cargo.base / name).is_file():
            shutil.copyfile(cargo.base / name, work / name)
    settings = json.loads((work / "tokenizer_config.json").read_bytes())
    settings.pop("chat_template", None)
    write_file(work / "tokenizer_config.json", (json.dumps(settings, indent=2, ensure_ascii=False) + "\n").encode())
    if cargo.tokenizer.template is not None:
        write_file(work / "chat_template.jinja", cargo.tokenizer.template.source.encode())


def _prompts(cargo: Cargo) -> list[tuple[tuple[Message, ...], str]]:
    """Give conversations up to their last answer, with what the template makes of them."""
    template = cargo.tokenizer.template
    if template is None:
        return []
    found = []
    rows = [from_json(row.conversation) for row in cargo.data.split("test").read_rows()]
    turns = [row.messages[:-1] for row in rows if row.kind == "chat" and not row.extra.get("tools")]
    for messages in (*turns, *_CONSTRUCTED):
        if messages and messages[-1].role == "user":
            try:
                asked = template.render(messages, answer_next=True, columns={}, thinking=cargo.thinks)
                found.append((messages, asked))
            except TemplateRefusedError:
                continue
    return found


def _write_modelfile(
    cargo: Cargo, work: Path, weights: str, prompts: Sequence[tuple[tuple[Message, ...], str]], bos: str | None
) -> tuple[str, ...]:
    """Write a Modelfile that renders every prompt as in training; say why where there is none."""
    template = cargo.tokenizer.template
    texts: TurnTexts | None = None if template is None else turn_texts(template, bos=bos or "", thinking=cargo.thinks)
    none = "There is no Modelfile, for {}; llama.cpp with --jinja takes the template out of the file."
    if texts is None:
        return (none.format("the chat template cannot be said as texts around turns"),)
    odd = sum((bos or "") + texts.write(messages) != text for messages, text in prompts)
    if odd:
        return (none.format(f"Ollama would render {odd} of {len(prompts)} prompts otherwise than in training"),)
    plan = cargo.plan
    longest = max(LEAST_CONTEXT, plan.data.max_length + plan.evaluation.max_new_tokens)
    content = modelfile(
        weights, texts, stops=cargo.stops,
        context=min(plan.model.context_length or longest, longest), most_tokens=plan.evaluation.max_new_tokens,
        license=None if cargo.license is None else cargo.license.name,
    )  # fmt: skip
    if content is None:
        return (none.format("its syntax cannot hold the template"),)
    write_file(work / "Modelfile", content.encode())
    return ()


def _same_tokens(cargo: Cargo, work: Path) -> int:
    """Tokenise what was trained with the written tokenizer and template.

    Raises:
        FineTuneError: M04 where other token ids come out.
    """
    written = load_tokenizer(work, chat_template=None)
    prompts = _prompts(cargo)
    for messages, text in prompts:
        again = None if written.template is None else written.template.render(
            messages, answer_next=True, columns={}, thinking=cargo.thinks
        )  # fmt: skip
        if again != text or written.encode(text).ids != cargo.tokenizer.encode(text).ids:
            raise _not_written(work, f"the prompt {messages[-1].content[:40]!r} has other tokens")
    return len(prompts)


def _not_written(work: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "M04",
        what="what was written is not the model that was trained",
        where=str(work),
        why=why,
        fix="try again; if it comes out the same, report it with the versions that fine-tune doctor shows",
    )


PACKERS: dict[ShipmentForm, Callable[[Cargo, Path], Packed]] = {
    "merged": _pack_merged,
    "gguf": _pack_gguf,
    "adapter": _pack_adapter,
}
"""Every form, with what writes it into an empty folder."""
