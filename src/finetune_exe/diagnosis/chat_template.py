"""A saved model's chat template held against its tokenizer: whether its marks are tokens, and answers end at a stop."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from finetune_exe.diagnosis.match import Hit
from finetune_exe.diagnosis.read import quote
from finetune_exe.errors import FineTuneError
from finetune_exe.text.conversation import Message
from finetune_exe.text.render import TemplateRefusedError
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

_MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>")
"""Marks that models have a token of their own for. `[INST]` and the like are plain text in some sound templates."""
_ANSWER = "7351"
_NAMED = 3


def look_at_template(folder: Path) -> Iterator[Hit]:
    """Look at the template in a folder that a model was saved to."""
    if not (folder / "tokenizer.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        return
    try:
        tokenizer = load_tokenizer(folder, chat_template=None)
        behind = _behind_answer(tokenizer)
    except (FineTuneError, TemplateRefusedError):
        return
    if tokenizer.template is None or behind is None:
        return
    marks = dict.fromkeys(_MARK.findall(tokenizer.template.source))
    unknown = [mark for mark in marks if tokenizer.tokenizer.token_to_id(mark) is None]
    stops = _stops(folder, tokenizer)
    ends = any(token in stops for token in tokenizer.encode(behind).ids)
    where = f"{folder.name}: the chat template"
    source = tokenizer.template.source
    first = source.count("\n", 0, source.find(unknown[0])) + 1 if unknown else 1
    line = first if (folder / "chat_template.jinja").is_file() else None
    shown = quote(json.dumps(behind))
    if unknown and not ends:
        few = ", ".join(unknown[:_NAMED])
        text = f"{where} writes {few}, which are no tokens of this tokenizer, and ends an answer with {shown}"
        names = ", ".join(str(tokenizer.tokenizer.id_to_token(stop)) for stop in sorted(stops))
        yield Hit(label="no_learning_wrong_template", strength=0.88, line=line,
                  text=f"{text}, at which generation does not stop (it stops at {names})")  # fmt: skip
    elif not ends:
        text = f"{where} ends an answer with {shown}, which holds no token at which generation stops"
        yield Hit(label="eos_not_learned", strength=0.7, text=text, line=line)


def _behind_answer(tokenizer: ChatTokenizer) -> str | None:
    """Render one question with its answer; give what follows the answer."""
    if tokenizer.template is None:
        return None
    turns = (Message(role="user", content="1"), Message(role="assistant", content=_ANSWER))
    text = tokenizer.template.render(turns, answer_next=False, columns={})
    return text[text.rfind(_ANSWER) + len(_ANSWER) :] if _ANSWER in text else None


def _stops(folder: Path, tokenizer: ChatTokenizer) -> set[int]:
    """Collect the tokens at which generation stops: as the generation settings say, and the tokenizer's own end."""
    stops = {tokenizer.eos_token_id}
    for name in ("generation_config.json", "config.json"):
        try:
            content = json.loads((folder / name).read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        ids = content.get("eos_token_id") if isinstance(content, dict) else None
        stops |= {each for each in (ids if isinstance(ids, list) else [ids]) if isinstance(each, int)}
    return stops
