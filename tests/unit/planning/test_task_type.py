"""The task type, from words and data."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.unit.planning.planned import make_profile

from finetune_exe.knowledge.task_signs import task_signs
from finetune_exe.planning.task import classify_task

HERE = Path(__file__).parent
TRUTH = HERE.parents[2] / ".." / "shared" / "truth"


class Described(NamedTuple):
    """A description and the types a fair judge accepts for it."""

    text: str
    types: tuple[str, ...]


def user_tasks(name: str) -> list[Described]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(": ") for line in lines if line and not line.startswith("#")]
    return [Described(text=text, types=tuple(types.split("/"))) for types, _, text in pairs]


def published(name: str) -> list[dict[str, Any]]:
    if not (TRUTH / name).exists():
        pytest.skip("the labelled task descriptions are not on this machine")
    return [json.loads(line) for line in (TRUTH / name).read_text(encoding="utf-8").splitlines()]


def share_accepted(described: list[Described]) -> float:
    return sum(classify_task(one.text, None).type in one.types for one in described) / len(described)


@pytest.mark.parametrize(
    ("description", "type"),
    [
        ("write the one-line docstring of a Python function", "code"),
        ("classify support tickets by urgency", "classification"),
        ("translate legal contracts into German", "translation"),
        ("summarize news articles", "summarization"),
        ("extract names and dates from invoices", "extraction"),
        ("make my emails more formal", "rewriting"),
        ("answer customer questions about our bank", "qa"),
        ("solve grade school math problems", "reasoning"),
        ("a chatbot for my shop", "chat"),
        ("write product descriptions", "generation"),
        ("continue novels in the style of Dickens", "completion"),
        ("detect cats in images", "other"),
        ("forecast next month's sales", "other"),
        ("train embeddings for semantic search", "other"),
        ("Given a review in which a phone is described, your task is to translate it into French.", "translation"),
        ("From the answers of users, extract the dates they mention.", "extraction"),
    ],
)
def test_plain_requests_are_understood(description: str, type: str) -> None:
    task = classify_task(description, None)
    assert task.type == type
    assert task.evidence


def test_what_users_ask_for_is_understood() -> None:
    assert share_accepted(user_tasks("user_tasks.txt")) >= 0.95


def test_what_users_ask_for_is_mostly_understood_where_no_sign_was_made_for_it() -> None:
    assert share_accepted(user_tasks("user_tasks_unseen.txt")) >= 0.65


def test_tasks_in_more_languages_are_understood() -> None:
    assert share_accepted(user_tasks("user_tasks_languages.txt")) >= 0.95
    assert share_accepted(user_tasks("user_tasks_languages_unseen.txt")) >= 0.8


@pytest.mark.parametrize(
    ("description", "type"),
    [
        ("Smistare i reclami all'ufficio giusto", "classification"),
        ("Riassumere i verbali in cinque punti", "summarization"),
        ("Tradurre manuali dal tedesco", "translation"),
        ("Estrarre dalle fatture data e importo", "extraction"),
        ("Rispondere alle domande dei dipendenti sul regolamento", "qa"),
        ("Rendere più formali le mie e-mail", "rewriting"),
        ("Risolvere problemi di matematica passo per passo", "reasoning"),
        ("Un assistente con cui chiacchierare", "chat"),
        ("Scrivere descrizioni di prodotti", "generation"),
        ("Generare test unitari per il nostro codice Java", "code"),
        ("Répondre aux questions des clients en français", "qa"),
        ("Escribir correos en inglés", "generation"),
        ("Fragen auf Deutsch beantworten", "qa"),
    ],
)
def test_plain_requests_in_other_languages_are_understood(description: str, type: str) -> None:
    assert classify_task(description, None).type == type


def test_signs_of_other_languages_are_not_found_in_english() -> None:
    signs = [sign for sign in task_signs() if sign.language != "en"]
    texts = [one.text for name in ("user_tasks.txt", "user_tasks_unseen.txt") for one in user_tasks(name)]
    found = [match[0] for text in texts for sign in signs for match in sign.pattern.finditer(text)]
    assert len(found) <= 0.01 * len(texts), found


def test_text_tasks_are_hardly_ever_declined() -> None:
    described = user_tasks("user_tasks.txt") + user_tasks("user_tasks_unseen.txt")
    texts = [one for one in described if one.types != ("other",)]
    declined = [one.text for one in texts if classify_task(one.text, None).type == "other"]
    assert len(declined) <= 0.01 * len(texts), declined


def test_published_descriptions_are_mostly_understood() -> None:
    rows = published("taskdesc.jsonl")
    described = [Described(text=row["definition"], types=(row["our_type"], *row["also_ok"])) for row in rows]
    assert share_accepted(described) >= 0.87
    ours = [row for row in rows if row["our_type"] != "other"]
    assert sum(classify_task(row["definition"], None).type == "other" for row in ours) <= 0.01 * len(ours)


def test_requests_that_are_no_classification_are_hardly_ever_called_one() -> None:
    rows = published("taskdesc_is_classification.jsonl")
    said = [row for row in rows if classify_task(row["definition"], None).type == "classification"]
    right = sum(row["is_classification"] for row in said)
    assert right >= 0.7 * len(said)
    assert right >= 0.7 * sum(row["is_classification"] for row in rows)


def test_the_memory_of_a_gpu_is_no_amount_of_text() -> None:
    reading = classify_task("Answer tickets like our best agents, RTX 3060 8GB", None)
    assert (reading.type, reading.others) == ("qa", ())
    assert classify_task("24 GB VRAM: answer tickets", None).type == "qa"
    assert classify_task("8 GB of German newspapers", None).type == "completion"


def test_plain_data_overrule_words() -> None:
    assert classify_task("handle mail", None).type == "generation"
    for told in ("handle mail", "translate mail"):
        assert classify_task(told, make_profile(labels=("a", "b"))).type == "classification"
        assert classify_task(told, make_profile(format="completion")).type == "completion"
        assert classify_task(told, make_profile(num_turns_mean=6.0)).type == "chat"
        assert classify_task(told, make_profile(format="squad")).type == "qa"
        assert classify_task(told, make_profile(format="function_calls")).type == "extraction"
        assert classify_task(told, make_profile(answer_kinds={"sql": 0.5, "code": 0.4, "prose": 0.1})).type == "code"
        assert classify_task(told, make_profile(answer_kinds={"json": 0.9, "prose": 0.1})).type == "extraction"
        assert classify_task(told, make_profile(answer_kinds={"worked": 0.9, "prose": 0.1})).type == "reasoning"
    assert classify_task("handle mail", make_profile(translated_share=0.9)).type == "translation"
    assert classify_task("translate mail", make_profile(answer_kinds={"prose": 0.9})).type == "translation"


def test_where_words_and_data_disagree_both_are_told() -> None:
    reading = classify_task("translate mail", make_profile(labels=("a", "b")))
    evidence = "; ".join(reading.evidence)
    assert "2 labels" in evidence
    assert "reads as translation" in evidence
    assert (reading.confidence, reading.others) == ("high", ("translation",))


def test_what_the_user_says_it_is_counts_before_data_and_words() -> None:
    for profile in (None, make_profile(labels=("a", "b"))):
        reading = classify_task("translate mail", profile, told="summarization")
        assert (reading.type, reading.source, reading.others) == ("summarization", "you", ())
        assert "it reads as" in reading.evidence[1]
    assert classify_task("detect cats in images", None, told="qa").type == "qa"
    assert classify_task("translate mail", None, told="translation").evidence == ("you said so",)


def test_how_sure_a_reading_is_follows_what_else_was_read() -> None:
    plain = classify_task("summarize news articles", None)
    assert (plain.confidence, plain.others) == ("medium", ())
    torn = classify_task("summarize and translate the news", None)
    assert (torn.type, torn.confidence, torn.others) == ("summarization", "low", ("translation",))
    dumb = classify_task("handle mail", None)
    assert (dumb.type, dumb.confidence, len(dumb.others)) == ("generation", "low", 10)
    assert "other" not in dumb.others
