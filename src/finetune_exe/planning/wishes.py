"""What a description wishes for beside its task: a base model, hardware, a method, limits, said in passing."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from finetune_exe.domain.method_kinds import METHOD_NAMES
from finetune_exe.domain.task import TaskSpec
from finetune_exe.knowledge.gpus import known_gpu
from finetune_exe.knowledge.models import known_model, models_called
from finetune_exe.planning.limits import read_limits
from finetune_exe.planning.model import is_family
from finetune_exe.planning.scripts import WIDE, spaced

Value = str | float | int | bool

_WORD = re.compile(rf"[A-Za-z0-9](?:[\w.+/-]*[A-Za-z0-9+])?|{WIDE}+|[^\w\s]")
_LONGEST_NAME = 7
"""Words that a name is written in, at most: "RTX PRO 6000 Blackwell 96 GB"."""
_LONGEST_SENTENCE = 4000
"""Characters of a description that are looked at; whoever pastes more says what counts at the beginning."""
_NUMBERS = {"two": 2, "three": 3, "four": 4, "six": 6, "eight": 8, "sixteen": 16}
_PASSED_OVER = {
    "a", "an", "the", "my", "our", "your", "this", "one", "single", "just", "only", "local", "base", "model", "small",
    "pretrained", "open", "latest", "nvidia", "geforce", "apple", "macbook", "mac", "pro", "air", "studio", "free",
    "google", "colab", "kaggle", "x",
    "ein", "eine", "einer", "einem", "einen", "der", "die", "dem", "den", "das", "meiner", "meinem", "unserer",
    "modell", "un", "une", "le", "la", "mon", "ma", "notre", "una", "el", "mi", "nuestra", "modelo", "modèle",
    "um", "uma", "o", "minha", "nossa", "il", "mia", "nostra", "modello",
}  # fmt: skip
"""Words between a name and the one that says what the name is there for."""
_TRAIN = r"fine[- ]?tun\w*|tun\w*|(?:pre-?)?train\w*|adapt\w*|teach\w*"
_DONE_TO = re.compile(
    rf"{_TRAIN}|q-?lora|use|using|take|taking|make|making|turn|turning|let|feinabgestimmt\w*|nutze\w*|verwende\w*"
    r"|entra[iî]n\w*|utilis\w+|affine[rz]|entren\w*|us[ae]r?|ajust[ae]r?|trein\w+|addestr\w+"
)
"""Words before a name that make it something to work with whatever follows."""
_HAD = re.compile(
    r"with|on|get|got|want|have|has|into|via|through|own|across|mit|auf|avec|sur|con|en|sobre|mediante|com|em|numa|su"
)
"""Words that do so where the name stands for itself; others, "about", "from", "like", make it a matter."""
_WIDE_BEFORE = re.compile(r"(?:用|使用|利用|在|基于|微调|训练|拿)(?:我们的|我的)?[一两二]?[张块个台枚]?$")
_WIDE_AFTER = re.compile(
    r"(?:上|来|进行微调|微调|训练|で|を使|を用い|を(?:学習|微調整|ファイン|訓練|チューニング))(?!た)"
)
"""The same in Chinese and Japanese: words right before a name, and right behind it."""
_SIZE_ALONE = re.compile(
    r"(?<![A-Za-z0-9.])\d+(?:\.\d+)? ?B(?:illion)?(?:[- ]param\w+)?[- ]?(?:model\w*|modèles?|模型|モデル)"
    r"|\b(?:modelo|modèle|modello) (?:de|di) \d+(?:[.,]\d+)? ?B\b"
)
"""A size that names no model, as in "a 70B model"."""
_ABOUT = ("sur", "sobre", "über", "su")
"""Words of other languages that say "about" of a model, and some of them "on" of a machine."""
_MEANT_FOR = re.compile(rf"q?lora|adapters?|{_TRAIN}|finetunes?")
"""What comes before "of" and "for" where the name that follows is to be worked with."""
_WORK_OF = re.compile(
    r"outputs?|answers?|responses?|generations?|replies|data|logs?|docs?|documentation|papers?|articles?|reviews?|"
    r"drivers?|users?|prompts?|tokenizers?|owners?|questions?"
)
"""What comes after a name that is not meant itself."""
_MADE = re.compile(
    r"generated|written|made|produced|created|distilled|synthesi[sz]ed|label+ed|compared?|reviews?|compatible"
)
_GOES_ON = {
    "model", "models", "base", "for", "to", "on", "with", "in", "using", "so", "that", "and", "into", "via", "by", "as",
    "at", "which", "lora", "qlora", "dora", "adapter", "adapters", "full", "fully", "locally", "here", "but", "without",
    "within", "under", "overnight", "this", "gpu", "gpus", "card", "cards", "machine", "machines", "server", "servers",
    "node", "box", "cluster", "instance", "workstation", "laptop", "desktop", "each", "or", "only", "available", "vram",
    "because", "until", "then", "tonight", "over", "during",
    "mit", "auf", "für", "um", "zum", "zur", "und", "trainieren", "feinabstimmen", "anpassen", "nutzen", "verwenden",
    "avec", "sur", "pour", "et", "afin", "con", "para", "y", "en", "sobre",
    "com", "em", "e", "numa", "su", "per",
}  # fmt: skip
"""Words after a name that leave it what it is; in "Llama 3 outputs" or "T4 form" it belongs to something else."""


class Wish(NamedTuple):
    """Something wished for in words."""

    field: str
    """Which one of a TaskSpec it is."""
    value: Value
    words: str
    """As they stand in the description."""
    remark: str = ""
    """What has to be said of it."""


FIELDS = {
    "model.reference": "model",
    "method.kind": "method",
    "objective.kind": "objective",
    "data.format": "objective",
}
"""Settings of a plan that say what a field of a TaskSpec does."""


def hear(spec: TaskSpec, *, given: Collection[str] = ()) -> TaskSpec:
    """Fill in what a description wishes for and nothing else says; `heard` names it.

    Only what is said to be worked with or kept to is a wish: "on an RTX 4090", "fine-tune Llama 3 8B"; not "reviews of
    the RTX 4090", "answers generated with Llama 3 70B". Of two different wishes of one kind neither is taken.

    Args:
        spec: What is asked for.
        given: Fields that something else says.
    """
    found: dict[str, list[Wish]] = {}
    for wish in read_wishes(spec.description[:_LONGEST_SENTENCE]):
        if wish.field not in given and getattr(spec, wish.field) in (None, False):
            found.setdefault(wish.field, []).append(wish)
    found = {field: _sharpest(wishes) for field, wishes in found.items()}
    taken = [wishes[0] for wishes in found.values() if len({wish.value for wish in wishes}) == 1]
    heard = [f"'{wish.words}' as {_option(wish)}{f' ({wish.remark})' if wish.remark else ''}" for wish in taken]
    heard += [f"nothing of {' and '.join(repr(w.words) for w in wishes)}, which exclude each other: say {_flag(field)}"
              for field, wishes in found.items() if len({wish.value for wish in wishes}) > 1]  # fmt: skip
    size = None if spec.model or "model" in found or "model" in given else _SIZE_ALONE.search(spec.description)
    heard += [f"nothing of '{size[0]}', as a size alone names no model: say --model"] if size else []
    return spec.model_copy(update={**{wish.field: wish.value for wish in taken}, "heard": tuple(heard)})


def _sharpest(wishes: list[Wish]) -> list[Wish]:
    """Leave out what another of the wishes says more exactly: a family, or the memory of a GPU."""
    exact = [wish for wish in wishes if wish.field != "model" or not is_family(str(wish.value))]
    exact = [wish for wish in exact if wish.field != "gpu" or not str(wish.value).isdigit()]
    return exact or wishes


def _option(wish: Wish) -> str:
    if wish.field == "objective":
        return f"--set objective.kind={wish.value}"
    name = _flag(wish.field)
    if wish.value is True:
        return name
    value = f"{wish.value:g}" if isinstance(wish.value, float) else wish.value
    return "--cpu" if value == "cpu" else f"{name} {value!r}" if " " in str(value) else f"{name} {value}"


def _flag(field: str) -> str:
    return f"--{field.removeprefix('num_').replace('_', '-')}"


def read_wishes(description: str) -> Iterator[Wish]:
    """List what a description wishes for, in the fields of a TaskSpec; a field may come several times."""
    description = spaced(description)
    names_end: list[int] = []
    words = [_Word(match[0], match.start(), match.end()) for match in _WORD.finditer(description)]
    found: list[Wish] = []
    for span in _named(description, words, _model_called):
        if _is_wanted(words, span) and not _is_compared(words, span):
            found.append(Wish("model", span.value, description[words[span.first].start : words[span.last].end]))
            names_end.append(words[span.last].end)
            kind = re.match(rf"\s+{_KIND}\b", description[words[span.last].end :], re.IGNORECASE)
            if kind:
                found.append(Wish("method", _method(kind), kind[0].strip()))
    for span in _named(description, words, _gpu_called):
        if _is_wanted(words, span):
            first, count = _counted(words, span)
            said = description[words[first].start : words[span.last].end]
            found.append(Wish("gpu", f"{count}x{span.value}" if count > 1 else span.value, said))
            names_end.append(words[span.last].end)
    for field, value, pattern in _PHRASES:
        found += [Wish(field, value(match), match[0].strip(" ,;:.(")) for match in pattern.finditer(description)]
    if any(wish.field in ("model", "gpu") for wish in found) and not any(wish.field == "method" for wish in found):
        found += [Wish("method", _method(match), match["method"]) for match in _SET_OFF.finditer(description)]
    speaks = any(wish.field in ("model", "gpu", "method") for wish in found)
    yield from found
    yield from map(Wish._make, read_limits(description, speaks=speaks, names_end=names_end))


class _Word(NamedTuple):
    text: str
    start: int
    end: int

    @property
    def folded(self) -> str:
        return self.text.lower()


class _Named(NamedTuple):
    """Words [first, last] that are a name."""

    first: int
    last: int
    value: str


def _named(description: str, words: Sequence[_Word], called: Callable[[str], str | None]) -> Iterator[_Named]:
    """Find names, the longest at each place."""
    first = 0
    while first < len(words):
        for last in range(min(first + _LONGEST_NAME, len(words)) - 1, first - 1, -1):
            if not (words[first].text[0].isalnum() and (words[last].text[-1].isalnum() or words[last].text == ")")):
                continue
            text = description[words[first].start : words[last].end]
            wide = re.search(WIDE, text) is not None
            value = called(text) if not wide and (first == last or "/" not in text) else None
            if value is not None:
                yield _Named(first, last, value)
                first = last
                break
        first += 1


def _model_called(text: str) -> str | None:
    """Name the model that is called so, or a family or series of several; sizes and numbers alone are no names."""
    facts = known_model(text) if re.search(r"[a-z]{2}", text, re.IGNORECASE) else None
    if facts is not None:
        return text if "/" in text else facts.reference
    is_name = not text.islower() or any(map(str.isdigit, text)) or text in _PLAIN_FAMILIES
    return text if is_name and models_called(text) else None


_PLAIN_FAMILIES = {"llama", "mistral", "qwen", "gemma", "deepseek", "smollm"}
"""Families that are no words of English even in small letters."""


def _gpu_called(text: str) -> str | None:
    if text.lower() == "colab":
        return "T4 16GB"
    many = re.fullmatch(r"(\d{1,3})x(\D.+)", text, re.IGNORECASE)
    if many:
        return None if (one := _gpu_called(many[2])) is None else f"{many[1]}x{one}"
    one = re.sub(r"s$", "", text)
    facts = known_gpu(one) if re.search(r"[A-Za-z]\d|\d{4}", one) else None
    return None if facts is None else facts.name


def _is_wanted(words: Sequence[_Word], span: _Named) -> bool:
    """Say whether a name is something to work with, by the words before and after it."""
    wide = _is_wanted_in_wide(words, span)
    if wide is not None:
        return wide
    before = span.first - 1
    while before >= 0 and _is_passed_over(words[before]):
        before -= 1
    after = words[span.last + 1] if span.last + 1 < len(words) else None
    if after is not None and (_WORK_OF.fullmatch(after.folded) or after.text in "'/&"):
        return False
    alone = after is None or after.folded in _GOES_ON or not after.text[0].isalnum()
    if before < 0 or not words[before].text[0].isalnum():
        return alone and (before < 0 or words[before].text not in "'\"/&")
    word, earlier = words[before].folded, words[before - 1].folded if before else ""
    if _DONE_TO.fullmatch(word) or (word in ("for", "of") and _MEANT_FOR.fullmatch(earlier)):
        return not _MADE.fullmatch(earlier)
    return alone and _HAD.fullmatch(word) is not None and not _MADE.fullmatch(earlier)


def _is_wanted_in_wide(words: Sequence[_Word], span: _Named) -> bool | None:
    """Say so by the Chinese or Japanese words beside a name; None where there are none."""
    first = span.first - 1
    while first >= 0 and words[first].text.isdigit():
        first -= 1
    before = words[first].text if first >= 0 else ""
    after = words[span.last + 1].text if span.last + 1 < len(words) else ""
    if not (re.match(WIDE, before[-1:]) or re.match(WIDE, after)):
        return None
    return bool(_WIDE_BEFORE.search(before) and not after.startswith("的")) or bool(_WIDE_AFTER.match(after))


def _is_passed_over(word: _Word) -> bool:
    return word.folded in _PASSED_OVER or word.folded in _NUMBERS or bool(re.fullmatch(r"\d{1,3}x?|[*×(]", word.folded))


def _is_compared(words: Sequence[_Word], span: _Named) -> bool:
    """Say whether a model is only spoken about, or what the tuned one is held against: "as good as", "better than"."""
    near = {word.folded for word in words[max(0, span.first - 3) : span.first]}
    return bool(
        near & {"than", "like", "beat", "beats", "match", "matches", "outperform", "against", "versus", "vs", *_ABOUT}
    )


def _counted(words: Sequence[_Word], span: _Named) -> tuple[int, int]:
    """Give where the count before a GPU begins, and the count."""
    for at in range(span.first - 1, max(-1, span.first - 4), -1):
        number = re.fullmatch(r"(\d{1,3})x?", words[at].folded)
        if number or words[at].folded in _NUMBERS:
            return at, int(number[1]) if number else _NUMBERS[words[at].folded]
        if not _is_passed_over(words[at]):
            break
    return span.first, 1


def _count(match: re.Match[str]) -> int:
    unit = (match["unit"] or "").lower()
    return int(float(match["number"].replace(",", "")) * _UNITS.get(unit, 1.0))


_UNITS = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}


def _method(match: re.Match[str]) -> str:
    said = match["method"].lower().replace("q-", "q")
    return next((kind for kind in METHOD_NAMES if kind != "lora" and said.startswith(kind)), "lora")


_COUNT = r"(?P<number>\d[\d,]*(?:\.\d+)?) ?(?P<unit>k|m|thousand|million)?"
_THERE_ARE = (
    r"(?:^|(?<!\d)[,;:.(] ?|\b(?:have|has|got|with|on|from|using|collected|there are|and) )"
    r"(?:(?:about|around|roughly|only|some|my|our|these|the) |~ ?)*"
)
_ROWS = r"(?:rows|examples|samples|pairs|records|conversations|dialogu?e?s|demonstrations|instructions|annotations)"
_TEXTS = (
    r"(?:chats|tickets|e-?mails|messages|articles|documents|reviews|reports|questions|queries|posts|tweets|transcripts|"
    r"letters)"
)
"""Texts that are rows where there are at least a hundred of them, and not so many a day."""
_KIND = (
    r"(?P<method>q-?lora|lora|full(?:[- ]parameter)?(?= fine[- ]?tun)|full[- ]parameter(?= training)|"
    r"prefix[- ]tuning|prompt[- ]tuning|ia3)"
)
_FOLLOWS = rf"\b{_KIND}\b(?= ?(?:fine[- ]?tun\w*|adapters?|training)\b)"
_SET_OFF = re.compile(rf"(?:^|[,;:.(]) ?{_KIND} ?(?=[,;.)]|$)", re.IGNORECASE)
"""A method that stands by itself, as in "classify tickets, QLoRA, RTX 3060": a wish beside others, else a topic."""
_NOT_AFTER = "".join(rf"(?<!{word} )" for word in ("about", "between", "and", "or", "versus", "vs", "than"))
_PHRASES: tuple[tuple[str, Callable[[re.Match[str]], Value], re.Pattern[str]], ...] = tuple(
    (field, value, re.compile(pattern, re.IGNORECASE))
    for field, value, pattern in (
        ("gpu", lambda match: match["number"],
         r"\b(?P<number>\d{1,3}) ?gi?b(?: of)? (?:gpu|vram|video memory|graphics)(?: (?:card|memory))?\b"),
        ("gpu", lambda match: match["number"],
         r"\b(?:gpu|vram|graphics card)(?: with| of)? (?P<number>\d{1,3}) ?gi?b\b"),
        ("gpu", lambda _: "cpu",
         r"\bcpu[- ]only\b|\b(?:without|no|don't have)(?: an?| any)? gpus?\b|\bon (?:a |my |the )?(?:cpu|processor)\b"),
        ("method", _method, rf"\b(?:with|using|via|use|by|do|want|through|mit|avec|con|com) (?:an? )?{_KIND}\b"),
        ("method", _method, _NOT_AFTER + _FOLLOWS),
        ("method", _method, r"^\s*(?P<method>q-?lora) (?!(?:vs?|versus|or|and|is|for|of|in)\b)"),
        ("objective", lambda _: "dpo",
         r"\b(?:with|using|via|use|by|do|through|mit|avec|con|com|用) ?(?:dpo|direct preference optimi[sz]ation)\b"
         r"(?! ?(?:models?|outputs?|papers?|answers?|vs?\b|versus|or|and))"
         r"|\bdpo[- ](?:fine[- ]?tun\w*|training|tuning)\b"),
        ("num_rows", _count,
         rf"{_THERE_ARE}{_COUNT}(?: (?!test|valid|dev|eval)[\w/-]+){{0,3}}? {_ROWS}\b"),
        ("num_rows", _count,
         rf"{_THERE_ARE}(?=\d{{3}}|\d,\d|\d+(?:\.\d+)? ?(?:k|m|thousand|million)\b){_COUNT}"
         rf"(?: (?!test|valid|dev|eval|most|best|top)[\w/-]+){{0,2}}? {_TEXTS}\b"
         r"(?! ?(?:per\b|an? (?:day|week|month|hour)|daily|each|every))"),
        ("keep_abilities", lambda _: True,
         r"\bwithout (?:forgetting|losing|hurting|harming)\b"
         r"(?=[^.;]{0,50}(?:abilit|skill|general|knowledge|already|chat))"
         r"|\bkeep(?:ing)? (?:its |the )?(?:other |general |existing )+(?:abilit|skill|capabilit)\w+"),
        ("permissive_license", lambda _: True,
         r"\b(?:apache(?:[- ]2\.0)?|mit|permissive(?:ly)?)(?: or \w+)?[- ]licen[cs]ed?\b"),
    )
)  # fmt: skip
"""Wishes that are phrases: the field, what it takes of a match, and the phrase."""
