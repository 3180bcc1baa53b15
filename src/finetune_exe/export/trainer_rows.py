"""Prepared rows as other trainers want to read them: which files, which keys, and what each of them cannot carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from finetune_exe.domain.dataset import SplitName
from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.render import TemplateRefusedError
from finetune_exe.text.thinking import thinks
from finetune_exe.text.tokenizer import ChatTokenizer

Row = dict[str, Any]
Written = list[Row] | RowFault
Turns = tuple[Message, ...]

_FOREIGN_TURNS = ("a turn that calls a tool, or a tool's answer", "remove these rows, or train with `--to trl`")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerRows:
    """How one trainer reads rows."""

    validation_file: str = "validation.jsonl"
    """What it calls the rows held out while training."""
    write: Callable[[Conversation, ChatTokenizer], Written]
    """Turns a row into its rows, or says why it cannot hold it; the tokenizer is that of the base model."""
    write_pair: Callable[[Conversation, ChatTokenizer], Written] | None = None
    """The same for a pair of answers that is learned as one; None where the trainer is not given any."""

    @property
    def files(self) -> dict[SplitName, str]:
        """Name its files, by the side of the split."""
        return {"train": "train.jsonl", "validation": self.validation_file, "test": "test.jsonl"}


class _Pair(NamedTuple):
    """A pair of answers."""

    asked: Turns
    """What both stand behind."""
    better: Turns
    worse: Turns


class _Texts(NamedTuple):
    """A prompt and its answer, as the chat template writes them."""

    prompt: str
    answer: str


def write_messages(
    conversation: Conversation, *, unlearned: tuple[str, object] | None, tools: bool, alternate: bool = False
) -> Written:
    """Write a row as {"messages": [{"role", "content"}, ...]}.

    Args:
        conversation: The row.
        unlearned: Key and value that mark an answer not to be learned; None where the trainer has no such mark.
        tools: Whether calls of tools, their answers and the list of tools can be carried.
        alternate: Whether the trainer insists on users and assistants by turns, the user first.
    """
    unsuited = _no_answers(conversation)
    if unsuited is not None:
        return unsuited
    turns: list[Row] = []
    for message in conversation.messages:
        if not tools and (message.role == "tool" or message.extra.get("tool_calls")):
            return _refused(*_FOREIGN_TURNS)
        if message.role == "assistant" and not message.learn and unlearned is None:
            return _refused("an answer that is not to be learned", "remove these rows, or train with `--to trl`")
        turn: Row = {"role": message.role, "content": message.content, **(message.extra if tools else {})}
        if message.role == "assistant" and not message.learn and unlearned is not None:
            turn[unlearned[0]] = unlearned[1]
        turns.append(turn)
    if alternate and not _alternates(conversation.messages):
        return _refused("turns of user and assistant that do not alternate", "join turns of the same speaker")
    listed = {"tools": conversation.extra["tools"]} if tools and conversation.extra.get("tools") else {}
    return [{"messages": turns, **listed}]


def write_last_answers(conversation: Conversation) -> Written:
    """Write one row for each answer to be learned, with nothing behind it."""
    unsuited = _no_answers(conversation)
    if unsuited is not None:
        return unsuited
    turns = [{"role": turn.role, "content": turn.content, **turn.extra} for turn in conversation.messages]
    listed = {"tools": conversation.extra["tools"]} if conversation.extra.get("tools") else {}
    return [{"messages": turns[: number + 1], **listed} for number in _answers(conversation)]


def write_ranked(conversation: Conversation) -> Written:
    """Write a pair as the turns that both answers stand behind, users and assistants by turns, and the two answers."""
    pair = _pair(conversation, tools=False)
    if isinstance(pair, RowFault):
        return pair
    if not _alternates(pair.asked):
        return _refused("turns of user and assistant that do not alternate", "join turns of the same speaker")
    return [{"messages": _plain(pair.asked), "chosen": _plain(pair.better)[0], "rejected": _plain(pair.worse)[0]}]


def write_two_conversations(conversation: Conversation) -> Written:
    """Write a pair as the conversation with its better answer, and the one with its worse answer."""
    pair = _pair(conversation, tools=False)
    if isinstance(pair, RowFault):
        return pair
    asked = _plain(pair.asked)
    return [{"messages": asked + _plain(pair.better), "rejected_messages": asked + _plain(pair.worse)}]


def write_rendered_pair(conversation: Conversation, tokenizer: ChatTokenizer) -> Written:
    """Write a pair as texts: the prompt as the chat template writes it, and each answer to its end of turn."""
    pair = _pair(conversation, tools=True)
    if isinstance(pair, RowFault):
        return pair
    sides = [_rendered(conversation, pair.asked, answer, tokenizer) for answer in (pair.better, pair.worse)]
    texts = [side for side in sides if not isinstance(side, RowFault)]
    if len(texts) < len(sides):
        return next(side for side in sides if isinstance(side, RowFault))
    (prompt, better), (_, worse) = texts
    return [{"prompt": prompt, "chosen": better, "rejected": worse}]


def write_rendered(conversation: Conversation, tokenizer: ChatTokenizer) -> Written:
    """Write one row for each answer: the prompt as the chat template writes it, and the answer to its end of turn.

    A token that the tokenizer puts before every text is left to it, and so is the end-of-text token behind the answer:
    LitGPT adds it where it is missing, and takes it away where it is not.
    """
    unsuited = _no_answers(conversation)
    if unsuited is not None:
        return unsuited
    rows: list[Row] = []
    for number in _answers(conversation):
        turns = conversation.messages
        written = _rendered(conversation, turns[:number], turns[number : number + 1], tokenizer)
        if isinstance(written, RowFault):
            return written
        prompt, answer = written
        rows.append({"instruction": prompt, "output": answer.removesuffix(tokenizer.eos_token)})
    return rows


def _rendered(conversation: Conversation, asked: Turns, answer: Turns, tokenizer: ChatTokenizer) -> _Texts | RowFault:
    """Give prompt and answer as the chat template writes them, without a token that the tokenizer adds by itself."""
    template = tokenizer.template
    if template is None:
        return _refused("a row without a chat template", "--set data.chat_template=plain")
    try:
        prompt = template.render(asked, answer_next=True, columns=conversation.extra, thinking=thinks(answer))
        whole = template.render(
            (*asked, *answer), answer_next=False, columns=conversation.extra, thinking=thinks(answer)
        )
    except TemplateRefusedError as fault:
        return _refused(f"a row that the chat template refuses ({fault})", "correct the order of its turns")
    if not whole.startswith(prompt):
        return _refused("an answer that the template does not put behind its prompt", "train it with `--to trl`")
    return _Texts(prompt.removeprefix(_first_token(tokenizer)), whole[len(prompt) :].rstrip())


def _pair(conversation: Conversation, *, tools: bool) -> _Pair | RowFault:
    """Part a row into what was asked and its two answers, or say why it is no such pair."""
    start = conversation.num_prompt_turns
    asked, better, worse = conversation.messages[:start], conversation.messages[start:], conversation.rejected
    if not worse:
        return _refused("a row without a worse answer", "leave it out, or train with --set objective.kind=sft")
    if not asked or len(better) > 1 or len(worse) > 1:
        return _refused("a pair whose answers are more than one turn", "train it with `--to trl`")
    turns = (*asked, *better, *worse)
    if not tools and any(turn.role == "tool" or turn.extra.get("tool_calls") for turn in turns):
        return _refused(*_FOREIGN_TURNS)
    return _Pair(asked, better, worse)


def _plain(turns: Turns) -> list[Row]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _first_token(tokenizer: ChatTokenizer) -> str:
    """Give the token that the tokenizer puts before every text by itself, which would then stand there twice."""
    first = tokenizer.tokenizer.encode("a").tokens[:1]
    return first[0] if first and first[0] in tokenizer.special_tokens else ""


def _no_answers(conversation: Conversation) -> RowFault | None:
    """Say why a row is none of answers to learn from."""
    if conversation.kind == "text":
        return _refused("a text without turns", "train it with `--to trl` or `--to python`")
    if conversation.rejected:
        return _refused("a pair of a better and a worse answer", "train it with `fine-tune train`")
    return None


def _answers(conversation: Conversation) -> list[int]:
    return [n for n, turn in enumerate(conversation.messages) if turn.role == "assistant" and turn.learn]


def _alternates(messages: Turns) -> bool:
    roles = [message.role for message in messages]
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    return all(role == ("assistant" if number % 2 else "user") for number, role in enumerate(spoken))


def _refused(what: str, fix: str) -> RowFault:
    return RowFault(code="not_carried", message=f"the trainer cannot be given {what}", fix=fix)


TrainerName = Literal["axolotl", "llamafactory", "ms-swift", "torchtune", "litgpt", "mlx", "openai"]
TRAINER_ROWS: Mapping[TrainerName, TrainerRows] = {
    "axolotl": TrainerRows(
        write=lambda row, _: write_messages(row, unlearned=("training", False), tools=True),
        write_pair=write_rendered_pair,
    ),
    "llamafactory": TrainerRows(
        write=lambda row, _: write_messages(row, unlearned=None, tools=False, alternate=True),
        write_pair=lambda row, _: write_ranked(row),
    ),
    "ms-swift": TrainerRows(
        write=lambda row, _: write_messages(row, unlearned=("loss", False), tools=False),
        write_pair=lambda row, _: write_two_conversations(row),
    ),
    "torchtune": TrainerRows(write=lambda row, _: write_messages(row, unlearned=None, tools=False, alternate=True)),
    "litgpt": TrainerRows(validation_file="val.jsonl", write=write_rendered),
    "mlx": TrainerRows(validation_file="valid.jsonl", write=lambda row, _: write_last_answers(row)),
    "openai": TrainerRows(write=lambda row, _: write_messages(row, unlearned=("weight", 0), tools=True)),
}
"""Trainers by the name that `fine-tune config --to` gives them; the scripts read prepared rows as they are."""
