"""Layouts of well-known sources that are read as conversations: trees, seeds, questions, choices, spans, calls."""

from __future__ import annotations

import json
import string
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from finetune_exe.text.conversation import Conversation, Message, RowFault
from finetune_exe.text.formats.chatml import CHATML
from finetune_exe.text.formats.format import CHOICES, content_fault, missing_key
from finetune_exe.text.formats.read_only import ReadOnlyFormat, question_and_answer

ANNOTATIONS = (
    "intents", "slots", "spans", "entities", "labels", "annotations", "tags", "ner_tags", "pos_tags", "relations",
)  # fmt: skip
STEMS = ("question", "query", "goal", "stem", "prompt", "ctx", "sentence")
SETTINGS = ("context", "premise", "passage", "article", "support")
RIGHT = ("label", "answer", "answerKey", "answer_idx", "gold", "target")


def _is_tree(row: dict[str, Any]) -> bool:
    prompt = row.get("prompt")
    return isinstance(prompt, dict) and isinstance(prompt.get("text"), str) and isinstance(prompt.get("replies"), list)


def _read_tree(row: dict[str, Any]) -> Conversation | RowFault:
    """Follow the best-ranked replies of a tree, up to the last answer."""
    if not _is_tree(row):
        return missing_key(row, "'prompt' with its replies")
    messages: list[Message] = []
    left_aside = False
    node: Any = row["prompt"]
    while isinstance(node, dict) and isinstance(node.get("text"), str):
        messages.append(Message(role="assistant" if node.get("role") == "assistant" else "user", content=node["text"]))
        held = node.get("replies")
        replies = [reply for reply in held if isinstance(reply, dict)] if isinstance(held, list) else []
        left_aside = left_aside or len(replies) > 1
        ranked = [reply for reply in replies if isinstance(reply.get("rank"), int)]
        node = min(ranked, key=lambda reply: int(reply["rank"])) if ranked else next(iter(replies), None)
    while messages and messages[-1].role == "user" and len(messages) > 1:
        messages.pop()
        left_aside = True
    extra = {key: value for key, value in row.items() if key != "prompt"}
    notes = ("part_read",) if left_aside else ()
    return Conversation(kind="chat", messages=tuple(messages), extra=extra, notes=notes)


def _is_seed(row: dict[str, Any]) -> bool:
    instances = row.get("instances")
    return "instruction" in row and isinstance(instances, list) and all(isinstance(one, dict) for one in instances)


def _read_seed(row: dict[str, Any]) -> Conversation | RowFault:
    """Read an instruction with the first of its instances."""
    if not _is_seed(row) or not row["instances"]:
        return missing_key(row, "'instruction' and 'instances'")
    first = row["instances"][0]
    texts = [row["instruction"], first.get("input", ""), first.get("output")]
    for name, text in zip(("instruction", "input", "output"), texts, strict=True):
        if not isinstance(text, str):
            return content_fault(name, text)
    question = "\n\n".join(filter(None, texts[:2]))
    read = question_and_answer(question, texts[2], row=row, used=("instruction", "instances"))
    return replace(read, notes=("part_read",)) if len(row["instances"]) > 1 else read


def _is_squad(row: dict[str, Any]) -> bool:
    return isinstance(row.get("question"), str) and isinstance(row.get("answers"), dict | list) and not any(
        name in row for name in CHOICES
    )  # fmt: skip


def _read_squad(row: dict[str, Any]) -> Conversation | RowFault:
    """Read a question about a passage, with the first of its answers."""
    if not _is_squad(row):
        return missing_key(row, "'question' and 'answers'")
    answers = list(_answer_texts(row["answers"]))
    context = row.get("context", "")
    if not isinstance(context, str):
        return content_fault("context", context)
    question = "\n\n".join(filter(None, (context, row["question"])))
    return question_and_answer(
        question, answers[0] if answers else "", row=row, used=("context", "question", "answers")
    )


def _answer_texts(answers: Any) -> Iterator[str]:
    held = answers.get("text") if isinstance(answers, dict) else answers
    for answer in held if isinstance(held, list) else [held]:
        text = answer.get("text") if isinstance(answer, dict) else answer
        if isinstance(text, str):
            yield text


def _choices(row: dict[str, Any]) -> list[str] | None:
    """Give the texts to choose from: a list, a list with its letters, or numbered columns."""
    held = next((row[name] for name in CHOICES if name in row), None)
    if isinstance(held, dict):
        held = held.get("text")
    if held is None:
        held = [
            row[key]
            for stem in ("choice", "option", "ending", "sol", "alternative")
            for key in row
            if key.startswith(stem) and key[len(stem) :].strip("_").isdigit()
        ]
    if isinstance(held, list) and held and all(isinstance(one, dict) for one in held):
        held = [one.get("text") for one in held]
    good = isinstance(held, list) and 2 <= len(held) <= 26 and all(isinstance(one, str) for one in held)
    return held if good else None


def _is_choice(row: dict[str, Any]) -> bool:
    return _choices(row) is not None and any(name in row for name in RIGHT)


def _read_choice(row: dict[str, Any]) -> Conversation | RowFault:
    """Read a question with lettered choices; the right one is the answer."""
    choices = _choices(row)
    if choices is None:
        return missing_key(row, "choices")
    key = next((name for name in RIGHT if name in row), None)
    right = _right(row[key], choices) if key else None
    if key is None or right is None:
        return missing_key(row, "right choice among those given")
    asked = [row[name] for name in (*SETTINGS, *STEMS) if isinstance(row.get(name), str)]
    lines = [f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False)]
    used = (*SETTINGS, *STEMS, *CHOICES, key, *(name for name in row if row[name] in choices))
    return question_and_answer("\n\n".join([*asked, "\n".join(lines)]), lines[right], row=row, used=used)


def _right(value: Any, choices: list[str]) -> int | None:
    """Say which choice is right: by number from 0, by letter, by number as text from 0, or by its words."""
    if isinstance(value, str) and value in choices:
        return choices.index(value)
    if isinstance(value, str) and len(value) == 1 and value.upper() in string.ascii_uppercase:
        value = string.ascii_uppercase.index(value.upper())
    elif isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(choices) else None


def _annotated_text(row: dict[str, Any]) -> str | None:
    """Give the text that annotations are about."""
    said = row.get("userInput", row.get("text", row.get("sentence", row.get("tokens", row.get("words")))))
    if isinstance(said, dict):
        said = said.get("text")
    if isinstance(said, list) and all(isinstance(word, str) for word in said):
        return " ".join(said)
    return said if isinstance(said, str) else None


def _is_annotated(row: dict[str, Any]) -> bool:
    if _annotated_text(row) is None:
        return False
    return isinstance(row.get("userInput"), dict) or any(isinstance(row.get(name), list | dict) for name in ANNOTATIONS)


def _read_annotated(row: dict[str, Any]) -> Conversation | RowFault:
    """Read a text with what is marked in it, as JSON: entities where words are tagged, else the columns as they are."""
    text = _annotated_text(row)
    if text is None:
        return missing_key(row, "'text'")
    tokens, tags = row.get("tokens"), row.get("tags")
    answer: Any = {name: row[name] for name in ANNOTATIONS if name in row}
    if isinstance(tokens, list) and isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
        answer = list(_entities(tokens, tags))
    used = ("userInput", "text", "sentence", "tokens", "words", *ANNOTATIONS)
    return question_and_answer(text, json.dumps(answer, ensure_ascii=False), row=row, used=used)


def _entities(tokens: list[str], tags: list[str]) -> Iterator[dict[str, str]]:
    """Join tagged words to entities: B begins one, I and its kin go on with it."""
    words: list[str] = []
    kind = ""
    for token, tag in [*zip(tokens, tags, strict=False), ("", "O")]:
        place, _, label = tag.partition("-")
        if words and (place in ("B", "O", "S", "U") or label != kind):
            yield {"text": " ".join(words), "label": kind}
            words = []
        if place != "O":
            words.append(token)
            kind = label


def _is_verified(row: dict[str, Any]) -> bool:
    return isinstance(row.get("prompt"), list) and isinstance(row.get("reward_model"), dict)


def _read_verified(row: dict[str, Any]) -> Conversation | RowFault:
    """Read a prompt whose answer is checked by rule: the worked answer where one is kept, else the bare truth."""
    if not _is_verified(row):
        return missing_key(row, "'prompt' and 'reward_model'")
    read = CHATML.read(row["prompt"])
    if isinstance(read, RowFault):
        return read
    around = row.get("extra_info")
    answer = around.get("answer") if isinstance(around, dict) else None
    answer = answer if isinstance(answer, str) else row["reward_model"].get("ground_truth")
    if not isinstance(answer, str):
        return content_fault("ground_truth", answer)
    extra = {key: value for key, value in row.items() if key != "prompt"}
    return Conversation(kind="chat", messages=(*read.messages, Message(role="assistant", content=answer)), extra=extra)


def _is_call(row: dict[str, Any]) -> bool:
    asked = isinstance(row.get("question"), list) and isinstance(row.get("function"), list)
    truth = row.get("ground_truth")
    return asked or (isinstance(truth, list) and bool(truth) and all(isinstance(call, dict) for call in truth))


def _read_call(row: dict[str, Any]) -> Conversation | RowFault:
    """Read a question with the functions that may answer it, or the calls that do, as far as the row holds them."""
    if not _is_call(row):
        return missing_key(row, "'question' and 'function', or 'ground_truth'")
    messages: list[Message] = []
    asked = row.get("question") or []
    if isinstance(asked, list) and asked:
        turns = [turn for held in asked for turn in (held if isinstance(held, list) else [held])]
        read = CHATML.read(turns)
        if isinstance(read, RowFault):
            return read
        messages += read.messages
    if isinstance(row.get("ground_truth"), list):
        messages.append(Message(role="assistant", content=json.dumps(row["ground_truth"], ensure_ascii=False)))
    extra = {key: value for key, value in row.items() if key not in ("question", "function", "ground_truth")}
    if isinstance(row.get("function"), list):
        extra["tools"] = row["function"]
    return Conversation(kind="chat", messages=tuple(messages), extra=extra)


LAYOUTS = (
    ReadOnlyFormat(
        name="reply_tree", needs="prompt: {text, role, replies}", shows="are trees of replies; the best path is read",
        claims=_is_tree, build=_read_tree,
    ),
    ReadOnlyFormat(
        name="seed_tasks", needs="instruction, instances: [{input, output}]", shows="are tasks with instances",
        claims=_is_seed, build=_read_seed,
    ),
    ReadOnlyFormat(
        name="squad", needs="context, question, answers", shows="are questions about a passage, with their answers",
        claims=_is_squad, build=_read_squad,
    ),
    ReadOnlyFormat(
        name="multiple_choice", needs="question, choices, answer", shows="are questions with choices, one right",
        claims=_is_choice, build=_read_choice,
    ),
    ReadOnlyFormat(
        name="annotated", needs="text (or tokens) and spans, slots, intents, entities or tags",
        shows="are texts with what is marked in them, which becomes a JSON answer",
        claims=_is_annotated, build=_read_annotated,
    ),
    ReadOnlyFormat(
        name="verified_prompts", needs="prompt: [messages], reward_model: {ground_truth}",
        shows="are prompts with a truth to check answers by", claims=_is_verified, build=_read_verified,
    ),
    ReadOnlyFormat(
        name="function_calls", needs="question, function (or ground_truth)",
        shows="are questions to be answered by a function call, or such calls", claims=_is_call, build=_read_call,
    ),
)  # fmt: skip
