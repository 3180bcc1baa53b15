"""Faults planted in real files: nearly all are found, and the rows left alone raise nearly no alarm.

Run with `-s` to see recall and false alarms kind by kind.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from finetune_exe.data.check import check
from finetune_exe.data.ingest import ingest, open_sources
from finetune_exe.data.rows import KeptRow
from finetune_exe.data.sources import find_sources

FT = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft"
EACH = 4
"""Rows that each fault is planted in, in each file."""
Chance = random.Random
Pair = tuple[str, str]


def card(chance: Chance) -> str:
    """Make a card number with its check digit, by the rule as the standard words it."""
    digits = [5, chance.randrange(1, 6), *(chance.randrange(10) for _ in range(13))]
    doubled = [digit * 2 if place % 2 == 0 else digit for place, digit in enumerate(digits)]
    last = -sum(digit // 10 + digit % 10 for digit in doubled) % 10
    text = "".join(map(str, [*digits, last]))
    return " ".join(text[start : start + 4] for start in range(0, 16, 4))


def account(chance: Chance) -> str:
    """Make a French-length German account number with its check digits, computed from 98 as the standard says."""
    number = "".join(str(chance.randrange(10)) for _ in range(18))
    return f"DE{98 - int(number + '131400') % 97:02d}{number}"


def noise(chance: Chance, length: int) -> str:
    return base64.b64encode(bytes(chance.randrange(256) for _ in range(length))).decode().rstrip("=")


def key(chance: Chance, length: int) -> str:
    letters = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    return "".join(chance.choice(letters) for _ in range(length))


class Fault(NamedTuple):
    """One kind of fault, and how to plant it in a question and its answer."""

    code: str
    plant: Callable[[Chance, str, str], Pair]


def middle(answer: str, inserted: str) -> str:
    place = answer.find(" ", len(answer) // 2)
    return f"{answer[:place]}{inserted}{answer[place:]}" if place > 0 else f"{answer} {inserted}"


FAULTS = (
    Fault("empty_output", lambda c, q, a: (q, "")),
    Fault("whitespace_output", lambda c, q, a: (q, c.choice([" ", "\n\n", "\t "]))),
    Fault("empty_prompt", lambda c, q, a: ("", a)),
    Fault("prompt_echo", lambda c, q, a: (q, q)),
    Fault("mojibake", lambda c, q, a: (q, middle(a, " \u00e0 la carte, caf\u00e9 \u2013 \u201cd\u00e9j\u00e0 vu\u201d".encode().decode("cp1252", "replace")))),
    Fault("mojibake", lambda c, q, a: (q, middle(a, " \u0434\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c".encode().decode("latin-1")))),
    Fault("control_characters", lambda c, q, a: (q, middle(a, c.choice(["\x00", "\x1b[1m", "\x07", "\x9b"])))),
    Fault("invisible_characters", lambda c, q, a: (q, a[:9] + c.choice("\u202e\u2066\ufeff\u2060") + a[9:])),
    Fault("invisible_characters", lambda c, q, a: (q, middle(a, " p\u0430yment"))),
    Fault("replacement_character", lambda c, q, a: (middle(q, "\ufffd\ufffd"), a)),
    Fault("end_mark_written", lambda c, q, a: (q, a + c.choice(["<|im_end|>", "</s>", "<end_of_turn>", "<|eot_id|>", "<|endoftext|>"]))),
    Fault("special_token", lambda c, q, a: (q, middle(a, c.choice(["<|im_end|>", "</s>", "<end_of_turn>", "<|eot_id|>", "<|endoftext|>"])))),
    Fault("special_token", lambda c, q, a: (q + c.choice(["<|im_end|>", "</s>"]), a)),
    Fault("special_token", lambda c, q, a: (q, a + c.choice(["<|im_start|>", "<|user|>", "<start_of_turn>", "[/INST]", "<|eot_id|><|start_header_id|>user"]))),
    Fault("special_token", lambda c, q, a: (q, f"{a}\n\nHuman: go on\n\nAssistant: yes")),
    Fault("template_residue", lambda c, q, a: (q, c.choice(["### Response:\n", "Assistant: ", "### Answer: "]) + a)),
    Fault("html_residue", lambda c, q, a: (q, c.choice(["<div>{}</div>", "<p>{}</p>", "{}<br/>&nbsp;", '{}<a href="/x">more</a>']).format(a))),
    Fault("repetition_loop", lambda c, q, a: (q, f"{a} " + "and so it goes on as before " * 15)),
    Fault("gibberish", lambda c, q, a: (q, noise(c, 400))),
    Fault("refusal", lambda c, q, a: (q, c.choice(["I'm sorry, but I can't help with that.", "As an AI language model, I cannot do this.", "I am unable to fulfill this request."]))),
    Fault("json_in_string", lambda c, q, a: (q, json.dumps({"answer": a}))),
    Fault("wrong_language", lambda c, q, a: (q, c.choice([
        "Das Haus, in dem sie wohnten, stand an einer Stra\u00dfe, die nach Norden f\u00fchrte.",
        "La maison o\u00f9 ils vivaient \u00e9tait au bord d'une route qui menait vers le nord.",
        "\u0414\u043e\u043c, \u0432 \u043a\u043e\u0442\u043e\u0440\u043e\u043c \u043e\u043d\u0438 \u0436\u0438\u043b\u0438, \u0441\u0442\u043e\u044f\u043b \u0443 \u0434\u043e\u0440\u043e\u0433\u0438.",
        "Ev, kuzeye giden bir yolun kenar\u0131nda duruyordu ve \u00e7ok eskiydi ama bir o kadar da g\u00fczeldi.",
    ]))),
    Fault("truncated_output", lambda c, q, a: (q, f"{a} It is also known that most of the")),
    Fault("too_long", lambda c, q, a: (q, " ".join([a] * (1 + 400_000 // len(a))))),
    Fault("pii", lambda c, q, a: (q, f"{a} The card is {card(c)}.")),
    Fault("pii", lambda c, q, a: (q, f"{a} Pay into {account(c)}.")),
    Fault("pii", lambda c, q, a: (q, f"{a} Write to ingrid.haugen{c.randrange(99)}@nordpost{c.randrange(99)}.no.")),
    Fault("pii", lambda c, q, a: (q, f"{a} Call +47 22 {c.randrange(10, 99)} {c.randrange(10, 99)} {c.randrange(10, 99)}.")),
    Fault("secret", lambda c, q, a: (q, f"{a}\ntoken: ghp_{key(c, 36)}")),
    Fault("secret", lambda c, q, a: (f"{q}\nOPENAI_API_KEY=sk-proj-{key(c, 40)}", a)),
    Fault("secret", lambda c, q, a: (q, f"{a}\nmongodb+srv://root:{key(c, 14)}@cluster.internal/db")),
    Fault("unfilled_placeholder", lambda c, q, a: (q, f"{a} Ask {{{{name}}}} for more.")),
)  # fmt: skip
SOURCES = (
    "reasoning/gsm8k_train.jsonl",
    "alpaca/torchtune_alpaca_tiny.json",
    "chat/tinker_conversations.jsonl",
    "seed_tasks/user_oriented_instructions.jsonl",
)
"""Real files that no other truth is made of, with answers in words."""
ALLOWED = 0.03
"""Share of alarms that may be false."""
LOSS = 0.05
"""Share of planted faults that may be missed."""


def pairs(name: str) -> list[Pair]:
    """Read questions and answers, without those that are no sentences or have a fault of their own."""
    opened = open_sources(find_sources([str(FT / name)]), format_name=None)
    rows = [row.conversation.messages for row in ingest(opened, deduplicate=True) if isinstance(row, KeptRow)]
    read = [
        (turns[0].content, turns[1].content)
        for turns in rows
        if [turn.role for turn in turns[:2]] == ["user", "assistant"]
    ]
    return [(q, a) for q, a in read if 60 < len(a) < 3000 and len(q) > 20 and a.rstrip()[-1] in ".!?0123456789"]


@pytest.mark.skipif(not FT.exists(), reason="the real data is not here")
def test_planted_faults_are_found_and_others_are_not(tmp_path: Path) -> None:
    chance = random.Random(20)  # noqa: S311
    hits: dict[str, list[bool]] = {}
    alarms: list[tuple[str, str, int, str]] = []
    num_alarms = 0
    for name in SOURCES:
        clean = list(dict.fromkeys(pairs(name)))
        chance.shuffle(clean)
        rows = clean[:1500]
        planted: dict[int, str] = {}
        places = chance.sample(range(len(rows)), min(len(rows) // 2, EACH * len(FAULTS)))
        for number, place in enumerate(places):
            fault = FAULTS[number % len(FAULTS)]
            if fault.code == "too_long" and number >= 2 * len(FAULTS):
                continue
            rows[place] = fault.plant(chance, *rows[place])
            planted[place] = fault.code
        path = tmp_path / f"{Path(name).stem}.jsonl"
        path.write_text("".join(json.dumps({"prompt": q, "completion": a}) + "\n" for q, a in rows))
        findings = check([str(path)], workers=1).findings
        for place, code in planted.items():
            rows_found = {row.index for finding in findings if finding.code == code for row in finding.rows}
            hits.setdefault(code, []).append(place in rows_found)
        for finding in findings:
            if finding.severity == "info":
                continue
            num_alarms += len(finding.rows)
            involved = [row for row in finding.rows if row.index not in planted and row.of_index not in planted]
            alarms += [(name, finding.code, row.index or 0, row.extract) for row in involved]
    for code, were_found in sorted(hits.items()):
        print(f"{code:24} {sum(were_found)}/{len(were_found)}")
    print(*alarms, f"{len(alarms)} of {num_alarms} alarms are on rows that were left alone", sep="\n")
    every = [hit for were_found in hits.values() for hit in were_found]
    assert sum(every) >= (1 - LOSS) * len(every)
    assert min(sum(were_found) / len(were_found) for were_found in hits.values()) >= 0.7
    assert len(alarms) <= ALLOWED * num_alarms
