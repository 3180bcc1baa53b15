"""A model's tokenizer with its chat template, read from its folder without PyTorch or transformers."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_exe.errors import FineTuneError
from finetune_exe.text.beginnings import Beginnings
from finetune_exe.text.boundaries import SpecialTexts
from finetune_exe.text.conversation import Message
from finetune_exe.text.placed import Placed, Tokens
from finetune_exe.text.render import PLAIN_TEMPLATE, ChatTemplate, TemplateRefusedError, compile_template
from finetune_exe.text.skeleton import Skeletons

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD_NAMES = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|endoftext|>", "<unk>")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTokenizer:
    """Everything about text that training and serving must share."""

    folder: Path
    tokenizer: Tokenizer = field(repr=False)
    given_template: str | None
    """The template asked for: a file, "plain", or None for the model's own."""
    template: ChatTemplate | None
    """None where the model has none: it can learn plain text only."""
    bos_token: str | None
    """Token put before plain text; chat templates write their own."""
    eos_token: str
    eos_token_id: int
    pad_token_id: int
    """Never a stop token, so that padding can never hide one."""
    pad_reason: str | None
    """Why it is not the one the tokenizer names; None where it is."""
    special_ids: frozenset[int]
    special_tokens: frozenset[str]
    stop_tokens: tuple[str, ...]
    """Tokens at which generation ends: the template's end of turn, and the end of text."""
    stop_token_ids: tuple[int, ...]
    template_digest: str
    tokenizer_digest: str
    specials: SpecialTexts = field(repr=False, compare=False)
    """Finds special tokens in texts."""
    beginnings: Beginnings = field(repr=False, compare=False)
    """Knows what many texts begin with."""
    skeletons: Skeletons | None = field(repr=False, compare=False)
    """Finds answers in what the template writes."""
    bos_token_id: int | None
    """Id of the tokenizer's bos token, whoever writes it."""

    @property
    def vocabulary_size(self) -> int:
        """Ids that can occur, added tokens included."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def unknown_token_id(self) -> int | None:
        """Id that stands for what the vocabulary has no piece for; None where there is none."""
        name = getattr(self.tokenizer.model, "unk_token", None)
        return self.tokenizer.token_to_id(name) if name else None

    def encode(self, text: str) -> Tokens:
        """Tokenise a text as it is: no token is added."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        return Tokens(encoding.ids, encoding.offsets)

    def encode_batch(self, texts: Sequence[str]) -> list[Placed]:
        """Tokenise many texts as they are, what they begin with alike only once."""
        return self.beginnings.encode_batch(texts)

    def doubles_bos(self, ids: Sequence[int]) -> bool:
        """Say whether a sequence begins with two bos tokens."""
        return len(ids) > 1 and ids[0] == ids[1] == self.bos_token_id

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids back into text, special tokens included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def decode_answer(self, ids: Sequence[int]) -> str:
        """Turn generated ids into an answer: up to the first stop token, special tokens left out."""
        stops = set(self.stop_token_ids)
        end = next((index for index, token in enumerate(ids) if token in stops), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True)).strip()


def load_tokenizer(folder: Path, *, chat_template: str | None) -> ChatTokenizer:
    """Read a tokenizer from a model's folder.

    Args:
        folder: Holds tokenizer.json, tokenizer_config.json and, perhaps, chat_template.jinja.
        chat_template: A Jinja file that replaces the template, "plain" for the built-in one, None for the model's own.

    Raises:
        FineTuneError: M02 without a tokenizer, D06 for an unusable template.
    """
    from tokenizers import Tokenizer

    file = folder / "tokenizer.json"
    try:
        content = file.read_bytes()
        tokenizer = Tokenizer.from_buffer(content)
    except (OSError, ValueError) as fault:
        raise no_tokenizer(folder, str(fault)) from fault
    tokenizer.no_truncation()
    tokenizer.no_padding()
    settings = _read_json(folder / "tokenizer_config.json")
    eos = _token_text(settings.get("eos_token"))
    if eos is None or tokenizer.token_to_id(eos) is None:
        raise no_tokenizer(folder, "tokenizer_config.json names no eos_token that the tokenizer knows")
    bos = _token_text(settings.get("bos_token"))
    added = tokenizer.get_added_tokens_decoder()
    special = {number: token.content for number, token in added.items() if token.special}
    specials = SpecialTexts(tokenizer, special)
    names = {name: text for name in ("bos_token", "eos_token", "pad_token", "unk_token")
             if (text := _token_text(settings.get(name))) is not None}  # fmt: skip
    template = _find_template(folder, settings, chat_template, names)
    stops = _stop_tokens(tokenizer, template, eos, special)
    pad = _choose_pad(tokenizer, names, special, stops)
    return ChatTokenizer(
        folder=folder,
        tokenizer=tokenizer,
        given_template=chat_template,
        template=template,
        bos_token=bos if _adds_bos(tokenizer, bos) else None,
        eos_token=eos,
        eos_token_id=_id(tokenizer, eos),
        pad_token_id=pad,
        pad_reason=_pad_reason(names.get("pad_token"), tokenizer.id_to_token(pad), stops),
        special_ids=frozenset(special),
        special_tokens=frozenset(special.values()),
        stop_tokens=stops,
        stop_token_ids=tuple(_id(tokenizer, stop) for stop in stops),
        template_digest=template.digest if template else "none",
        tokenizer_digest=hashlib.sha256(content).hexdigest()[:32],
        specials=specials,
        beginnings=Beginnings(tokenizer, specials),
        skeletons=Skeletons(template) if template else None,
        bos_token_id=tokenizer.token_to_id(bos) if bos is not None else None,
    )


def no_tokenizer(folder: Path, why: str) -> FineTuneError:
    """Say that a model folder has no usable tokenizer."""
    found = sorted(path.name for path in folder.iterdir())[:8] if folder.is_dir() else []
    return FineTuneError(
        "M02",
        what="the model folder has no usable tokenizer.json",
        where=f"{folder} (it holds: {', '.join(found) or 'nothing'})",
        why=why,
        fix="copy tokenizer.json and tokenizer_config.json of the model into the folder; for an old slow tokenizer: "
        "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
    )


def _find_template(
    folder: Path, settings: dict[str, Any], given: str | None, names: dict[str, str]
) -> ChatTemplate | None:
    if given == "plain":
        return compile_template(PLAIN_TEMPLATE, special_tokens={"bos_token": "", **names}, where="built-in template")
    if given is not None:
        path = Path(given)
        if not path.is_file():
            near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")], n=1)
            raise FineTuneError(
                "D06",
                what="the chat template file does not exist",
                where=given + (f" (there is {near[0]})" if near else ""),
                why="data.chat_template names it",
                fix='give a Jinja file, "plain", or null for the model\'s own template',
            )
        return compile_template(path.read_text(encoding="utf-8"), special_tokens=names, where=given)
    file = folder / "chat_template.jinja"
    if file.is_file():
        return compile_template(file.read_text(encoding="utf-8"), special_tokens=names, where=str(file))
    inside = settings.get("chat_template")
    if isinstance(inside, list):
        inside = next((entry.get("template") for entry in inside if entry.get("name") == "default"), None)
    if isinstance(inside, str):
        return compile_template(inside, special_tokens=names, where=str(folder / "tokenizer_config.json"))
    return None


def _stop_tokens(
    tokenizer: Tokenizer, template: ChatTemplate | None, eos: str, special: dict[int, str]
) -> tuple[str, ...]:
    """Find what ends an answer: the first special token behind the answer of a rendered example, then the eos token."""
    if template is None:
        return (eos,)
    answer = "7351"
    turns = (Message(role="user", content="1"), Message(role="assistant", content=answer))
    try:
        text = template.render(turns, answer_next=False, columns={})
    except TemplateRefusedError:
        return (eos,)
    behind = tokenizer.encode(text[text.rfind(answer) + len(answer) :], add_special_tokens=False).ids
    first = next((special[token] for token in behind if token in special), eos)
    return (first,) if first == eos else (first, eos)


def _choose_pad(tokenizer: Tokenizer, names: dict[str, str], special: dict[int, str], stops: tuple[str, ...]) -> int:
    """Choose a padding token that is no stop token, whatever the tokenizer calls its own."""
    wished = [names.get("pad_token"), *PAD_NAMES, names.get("unk_token"), *special.values()]
    for text in wished:
        if text is not None and text not in stops and tokenizer.token_to_id(text) is not None:
            return _id(tokenizer, text)
    taken = {_id(tokenizer, stop) for stop in stops}
    return next(number for number in range(tokenizer.get_vocab_size()) if number not in taken)


def _pad_reason(named: str | None, chosen: str | None, stops: Sequence[str]) -> str | None:
    if named == chosen:
        return None
    if named is None:
        why = "the tokenizer names no padding token"
    elif named in stops:
        why = f"the tokenizer's own, {named}, ends answers, and padding must not hide an end"
    else:
        why = f"the tokenizer does not know {named}, which it names for it"
    return f"{chosen} pads shorter rows: {why}"


def _id(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    assert number is not None, token
    return number


def _adds_bos(tokenizer: Tokenizer, bos: str | None) -> bool:
    """Say whether the tokenizer itself begins plain text with its bos token."""
    return bos is not None and tokenizer.encode("a").tokens[:1] == [bos]


def _token_text(token: Any) -> str | None:
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise no_tokenizer(path.parent, f"{path.name}: {fault}") from fault
    return content if isinstance(content, dict) else {}
