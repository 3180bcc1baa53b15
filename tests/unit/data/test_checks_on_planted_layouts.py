"""Faults planted in real chats, texts, pairs and labelled texts; `test_checks_on_planted_faults` has those of columns.

Run with `-s` to see recall and false alarms kind by kind.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from finetune_exe.data.check import check
from finetune_exe.data.raw import RawRow
from finetune_exe.data.read import read_rows

FT = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft"
EACH = 3
"""Rows that each fault is planted in."""
LOSS, ALLOWED = 0.03, 0.03
"""Shares of planted faults that may be missed, and of alarms that may be false."""
Chance = random.Random
Row = dict[str, Any]


def rows_of(name: str) -> list[Any]:
    return [entry.row for entry in read_rows(FT / name) if isinstance(entry, RawRow)]


def turn(role: str, content: object) -> Row:
    return {"role": role, "content": content}


def distinct(rows: Sequence[Row]) -> list[Row]:
    return list({json.dumps(row): row for row in rows}.values())


def chats() -> list[Row]:
    """Read conversations; some begin with a word joiner, which is a fault of their own, and is taken out."""
    found = []
    for row in rows_of("chat/journal_chat.jsonl") + rows_of("chat/tinker_conversations.jsonl"):
        turns = [turn(one["role"], one["content"].replace("\u2060", "")) for one in row["messages"]]
        roles = [one["role"] for one in turns if one["role"] != "system"]
        answered = all(one["content"].strip() for one in turns)
        if answered and roles and roles == ["user", "assistant"] * (len(roles) // 2):
            found.append({"messages": turns})
    return distinct(found)


def texts() -> list[Row]:
    articles = [max(row.values(), key=len) for row in rows_of("summarization/t0_cnn_dailymail_tldr.jsonl")]
    sections = (FT / "completion/wiki_demo.txt").read_text(encoding="utf-8").split("\n")
    return [{"text": text} for text in dict.fromkeys(articles[:60] + sections[:300]) if 300 < len(text) < 5000]


def paired() -> list[Row]:
    rows = []
    for row in rows_of("preference/dpo_en_demo.json"):
        prompt, chosen, rejected = row["conversations"][-1]["value"], row["chosen"]["value"], row["rejected"]["value"]
        if len(row["conversations"]) == 1 and len(prompt) < 1500 and 60 < len(chosen) < 3000 > len(rejected):
            rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return distinct(rows)


def reviews() -> list[Row]:
    lines = (FT / "classification/sst2_dev.txt").read_text(encoding="utf-8").splitlines()
    names = {"0": "negative", "1": "positive"}
    return [{"text": line[2:], "label": names[line[0]]} for line in dict.fromkeys(lines) if len(line) > 40]


class Fault(NamedTuple):
    """A kind of fault, and how to plant it in a row, beside another row that stays as it is."""

    code: str
    plant: Callable[[Chance, Row, Row], Row]


def said(change: Callable[[list[Row]], object]) -> Callable[[Chance, Row, Row], Row]:
    """Plant a fault in the turns."""
    return lambda chance, row, other: {
        "messages": change([dict(one) for one in row["messages"] if one["role"] != "system"])
    }


CHAT = (
    Fault("no_assistant", said(lambda t: [one for one in t if one["role"] == "user"][:1])),
    Fault("assistant_first", said(lambda t: [*t[1:], turn("user", "And then?"), turn("assistant", "Then it ends.")])),
    Fault("consecutive_user", said(lambda t: [turn("user", "Good day to you."), *t])),
    Fault("consecutive_assistant", said(lambda t: [*t, turn("assistant", "Is there anything else?")])),
    Fault("no_final_assistant", said(lambda t: [*t, turn("user", "Thanks, that was of great help.")])),
    Fault("unknown_role", said(lambda t: [turn("narrator", t[0]["content"]), *t[1:]])),
    Fault("role_name_variant", said(lambda t: [turn({"user": "human", "assistant": "ai"}[one["role"]], one["content"]) for one in t])),
    Fault("missing_content", said(lambda t: [*t[:-1], {"role": "assistant"}])),
    Fault("null_content", said(lambda t: [turn("user", None), *t[1:]])),
    Fault("missing_role", said(lambda t: [{"content": t[0]["content"]}, *t[1:]])),
    Fault("empty_assistant", said(lambda t: [*t[:-1], turn("assistant", " \n")])),
    Fault("empty_messages", said(lambda t: [])),
    Fault("system_not_first", said(lambda t: [*t, turn("system", "Answer in two sentences."), turn("user", "Why?"), turn("assistant", "Because it is so.")])),
    Fault("two_system", said(lambda t: [turn("system", "Be brief."), turn("system", "Be kind."), *t])),
    Fault("tool_result_without_call", said(lambda t: [t[0], turn("tool", "17.3"), *t[1:]])),
    Fault("mixed_keys_in_one_conversation", said(lambda t: [t[0], {"from": "gpt", "value": t[1]["content"]}, *t[2:]])),
    Fault("messages_as_json_string", said(json.dumps)),
    Fault("end_mark_written", said(lambda t: [*t[:-1], turn("assistant", t[-1]["content"] + "<|eot_id|>")])),
    Fault("special_token", said(lambda t: [*t[:-1], turn("assistant", f"<|eot_id|>{t[-1]['content']}")])),
)  # fmt: skip


def reworded(text: str) -> str:
    """Change every fortieth word."""
    words = text.split(" ")
    words[20::40] = ["indeed" for _ in words[20::40]]
    return " ".join(words)


TEXT = (
    Fault("empty_text", lambda c, row, other: {"text": c.choice(["", "\n \n"])}),
    Fault("exact_duplicate", lambda c, row, other: dict(other)),
    Fault("normalised_duplicate", lambda c, row, other: {"text": "  " + other["text"].upper().replace(" ", "  ")}),
    Fault("near_duplicate", lambda c, row, other: {"text": reworded(other["text"])}),
    Fault("contained_duplicate", lambda c, row, other: {"text": other["text"][: len(other["text"]) // 3].rpartition(" ")[0]}),
    Fault("boilerplate", lambda c, row, other: {"text": f"Skip to main content | Log in | Subscribe\n{row['text']}\nPrivacy policy | Terms of use\nAll rights reserved."}),
    Fault("html_residue", lambda c, row, other: {"text": f"<div class='story'><p>{row['text']}</p></div>"}),
    Fault("mojibake", lambda c, row, other: {"text": f"{row['text']} " + "\u2014 the caf\u00e9\u2019s \u201copen\u201d door".encode().decode("cp1252", "replace")}),
    Fault("control_characters", lambda c, row, other: {"text": row["text"].replace(" ", " \x08", 1)}),
    Fault("repetition_loop", lambda c, row, other: {"text": row["text"] + " which was said to be said" * 30}),
)  # fmt: skip
PAIR = (
    Fault("chosen_equals_rejected", lambda c, row, other: {**row, "rejected": row["chosen"]}),
    Fault("empty_rejected", lambda c, row, other: {**row, "rejected": c.choice(["", "  "])}),
    Fault("empty_prompt", lambda c, row, other: {**row, "prompt": ""}),
    Fault("missing_key", lambda c, row, other: {key: row[key] for key in ("prompt", "chosen")}),
    Fault("refusal_chosen", lambda c, row, other: {**row, "chosen": "I'm sorry, but I can't assist with that request."}),
    Fault("prompt_inside_chosen", lambda c, row, other: {**row, "chosen": f"{row['prompt']}\n\n{row['chosen']}"}),
)  # fmt: skip
OTHER = {"negative": "positive", "positive": "negative"}
LABEL = (
    Fault("label_variant", lambda c, row, other: {**row, "label": c.choice([row["label"].title(), f" {row['label']}", row["label"].upper()])}),
    Fault("empty_label", lambda c, row, other: {**row, "label": ""}),
    Fault("empty_text", lambda c, row, other: {**row, "text": " "}),
    Fault("conflicting_duplicate", lambda c, row, other: {"text": other["text"], "label": OTHER[other["label"]]}),
    Fault("exact_duplicate", lambda c, row, other: dict(other)),
)  # fmt: skip


def as_lines(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_table(rows: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["text", "label"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


class Outcome(NamedTuple):
    """What a check made of one file."""

    num_planted: int
    missed: list[tuple[str, str]]
    num_alarms: int
    false_alarms: list[tuple[str, int, str]]


def look(rows: list[Row], faults: Sequence[Fault], path: Path) -> Outcome:
    """Plant each fault in some rows, write the file and check it."""
    chance = random.Random(31)  # noqa: S311
    chance.shuffle(rows)
    places = chance.sample(range(len(rows)), 2 * EACH * len(faults))
    planted: dict[int, str] = {}
    for number, (place, partner) in enumerate(zip(places[::2], places[1::2], strict=True)):
        fault = faults[number % len(faults)]
        rows[place] = fault.plant(chance, rows[place], rows[partner])
        planted[place] = fault.code
    path.write_text(as_table(rows) if path.suffix == ".csv" else as_lines(rows), encoding="utf-8")
    report = check([str(path)], workers=1)
    assert report.records == len(rows)
    found = [(finding.code, row) for finding in report.findings for row in finding.rows]
    missed = [
        (code, str(rows[place])[:200])
        for place, code in planted.items()
        if not any(code == other and place in (row.index, row.of_index) for other, row in found)
    ]
    loud = [(finding.code, row) for finding in report.findings if finding.severity != "info" for row in finding.rows]
    false = [
        (code, row.index or 0, row.extract)
        for code, row in loud
        if row.index not in planted and row.of_index not in planted
    ]
    return Outcome(len(planted), missed, len(loud), false)


@pytest.mark.skipif(not FT.exists(), reason="the real data is not here")
def test_planted_faults_are_found_and_others_are_not(tmp_path: Path) -> None:
    outcomes = [
        look(chats(), CHAT, tmp_path / "chats.jsonl"),
        look(texts(), TEXT, tmp_path / "texts.jsonl"),
        look(paired(), PAIR, tmp_path / "pairs.jsonl"),
        look(reviews(), LABEL, tmp_path / "reviews.csv"),
    ]
    for outcome in outcomes:
        print(f"{outcome.num_planted} planted, missed:", *outcome.missed, sep="\n")
        print(f"{outcome.num_alarms} alarms, on rows that were left alone:", *outcome.false_alarms, sep="\n")
    assert sum(len(each.missed) for each in outcomes) <= LOSS * sum(each.num_planted for each in outcomes)
    assert sum(len(each.false_alarms) for each in outcomes) <= ALLOWED * sum(each.num_alarms for each in outcomes)
