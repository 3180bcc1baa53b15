"""The coarse look at a text: its language and its form."""

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.plans import write_jsonl

from finetune_exe.data.answers import answer_kind
from finetune_exe.data.checks.tongue import answer_language, names_language
from finetune_exe.data.language import language_of
from finetune_exe.data.profile import profile_data
from finetune_exe.domain.task import AnswerKind
from finetune_exe.estimate.rows import usable_rows
from finetune_exe.knowledge.refusals import BEYOND_ASCII, RefusalPhrases
from finetune_exe.knowledge.rows import read_rows

FT = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ft"
# Article 1 of the Universal Declaration of Human Rights (United Nations, 1948).
ARTICLE_1 = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience",
    "de": "Alle Menschen sind frei und gleich an Wuerde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão, devem agir uns",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft och samvete",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu järki ja",
    "pl": "Wszyscy ludzie rodzą się wolni i równi w swojej godności i swoich prawach. Są obdarzeni rozumem i sumieniem",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve birbirlerine",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai akal dan",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है",
}


@pytest.mark.parametrize("code", ARTICLE_1)
def test_languages_are_told_apart(code: str) -> None:
    assert language_of(ARTICLE_1[code]) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Il bambino imparò a leggere. Iniziò a frequentare la scuola.", "it"),
        ("Dell'acqua fluì dal beccuccio e l'uomo chiuse il rubinetto.", "it"),
        ("All\u2019inizio l\u2019azienda era piccola.", "it"),
        ("L'homme qu'elle aime n'est pas d'ici.", "fr"),
        ("Copilul a învățat să citească și a început școala.", "ro"),
        ("Za\u010dal se u\u010dit, aby mohl j\u00edt do \u0161koly.", "cs"),
    ],
)
def test_short_sentences_are_told_apart(text: str, code: str) -> None:
    assert language_of(text) == code


def test_what_is_no_language_is_not_called_one() -> None:
    for text in ("", "42", "{'a': [1, 2, 3]}", "x = foo(bar)[0] + baz.qux(1, 2, 3)", "::: --- :::"):
        assert language_of(text) is None


def test_public_texts_are_told_by_their_language() -> None:
    if not FT.exists():
        pytest.skip("the public data files are not on this machine")
    articles = json.loads((FT / "multilingual" / "xquad.de.json").read_text(encoding="utf-8"))["data"]
    told = Counter(language_of(part["context"]) for article in articles for part in article["paragraphs"])
    assert told["de"] >= 0.97 * told.total()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("The bank opens at nine.", "prose"),
        ("Dear Sir, I return the form (signed) and hope for the best.\nYours", "prose"),
        ("positive", "prose"),
        ("42", "number"),
        ("-3.5 %", "number"),
        ("He has 3 + 4 = 7 apples.\n#### 7", "worked"),
        ("Add them. The answer is 12.", "worked"),
        ('{"sender": "A", "total": 12.5}', "json"),
        ('```json\n{"sender": "A"}\n```', "json"),
        ("SELECT name FROM users WHERE id = 3", "sql"),
        ("def add(a, b):\n    return a + b", "code"),
        ("Here you are:\n```python\nfor row in rows:\n    print(row)\n```", "code"),
        ("#include <stdio.h>\nint main() {\n  return 0;\n}", "code"),
        ("  \n", "empty"),
    ],
)
def test_answers_are_told_by_their_form(answer: str, kind: AnswerKind) -> None:
    assert answer_kind(answer) == kind


def test_the_profile_says_what_the_rows_show(tmp_path: Path) -> None:
    rows = [
        {
            "messages": [
                *([{"role": "system", "content": "Be short."}] if number % 4 == 0 else []),
                {"role": "user", "content": f"How is the weather in town number {number}, and will it rain?"},
                {"role": "assistant", "content": f"Das Wetter in Stadt {number} ist gut, und es wird nicht regnen."},
            ]
        }
        for number in range(80)
    ]
    empty = {"messages": [{"role": "user", "content": "Say"}, {"role": "assistant", "content": ""}]}
    profile = profile_data([str(write_jsonl(tmp_path / "rows.jsonl", [*rows, *rows[:10], *([empty] * 10)]))])
    assert profile.num_rows == 100
    assert profile.system_prompt_share == pytest.approx(0.23)
    assert profile.empty_answer_share == pytest.approx(0.10)
    assert profile.duplicate_share == pytest.approx(0.19)
    assert profile.answer_kinds == {"prose": 0.9, "empty": 0.1}
    assert profile.languages == {"de": 1.0}
    assert profile.translated_share == 1.0
    assert profile.missing == ("10% of the rows have no answer",)
    assert profile.row_characters_p50 <= profile.row_characters_p99 <= profile.row_characters_max


def test_rows_that_nothing_is_learned_from_are_not_counted_as_usable(tmp_path: Path) -> None:
    def row(number: int, *, asks: str = "user", answer: str = "Yes, it is.") -> object:
        turns = [{"role": asks, "content": f"Is {number} a number?"}, {"role": "assistant", "content": answer}]
        return {"messages": turns}

    good = [row(number) for number in range(30)]
    rows = [*good, *good[:5], *(row(number, answer="") for number in range(5))]
    unknown = [row(number, asks="nobody") for number in range(20)]
    path = write_jsonl(tmp_path / "rows.jsonl", [*rows, *unknown])
    profile = profile_data([str(path)])
    assert (profile.num_rows, profile.num_unusable) == (60, 20)
    assert usable_rows(profile) == 35
    assert usable_rows(profile, deduplicate=True) == 30
    assert profile.missing[:2] == (
        f"20 of 60 rows cannot be read and are dropped (unknown_role): `fine-tune dataset --check {path}` names them",
        "12% of the others have no answer",
    )


PIECES = ("English", "german", "latin", "x", "\u00fc", " ", " ", "\x1c", "\n", ".", "(", "'", "-")


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_the_name_of_a_language_is_a_word_by_itself(around: str) -> None:
    assert names_language(f"{around} Spanish! {around}", "es")
    words = around.lower().translate(dict.fromkeys(map(ord, ".,:;!?()[]\"'*"), " ")).split()
    assert names_language(around, "en") == bool({"english", "latin"} & set(words))


@pytest.mark.parametrize(
    ("question", "speaks"),
    [
        ("Test for natural language inference: does it follow?", False),
        ("What is a large language model?", False),
        ("Which programming language is it?", False),
        ("Say it in your own language.", True),
        ("Use natural language, in the language of the question.", True),
    ],
)
def test_what_is_called_a_language_and_is_none_asks_for_no_other(question: str, speaks: bool) -> None:
    assert names_language(question, "de") == speaks


@pytest.mark.parametrize("code", ["en", "de"])
def test_an_answer_is_told_by_its_language_wherever_the_telling_words_stand(code: str) -> None:
    assert answer_language(ARTICLE_1[code] * 3) == code
    assert answer_language("Xyzzy plugh " * 11 + ARTICLE_1["en"]) in ("en", None)


REFUSALS = {language.code: language for language in read_rows("refusals.toml", key="language", kind=RefusalPhrases)}


@pytest.mark.parametrize("code", sorted(BEYOND_ASCII))
@given(data=st.data())
def test_refusals_of_other_scripts_are_never_ascii(code: str, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(REFUSALS[code].refusals))
    assert not data.draw(st.from_regex(form)).isascii()
