"""Faults in forms that single sources do not show: other encodings, countries, model families and languages."""

from __future__ import annotations

import random
import re
import string

import pytest
from tests.unit.data.judged import codes, found

from finetune_exe.data.checks.ending import OpenEnd, open_end
from finetune_exe.data.checks.example import asked, text
from finetune_exe.data.checks.tongue import answer_language

ANSWER = "The harbour was dug by hand in the winter of the great frost. It lets the boats rest when the sea is rough."


GERMAN, POLISH = (
    "\u00dcberm\u00e4\u00dfig gr\u00f6\u00dfere \u00d6fen f\u00fcr die Stra\u00dfe",
    "za\u017c\u00f3\u0142\u0107 g\u0119\u015bl\u0105",
)
RUSSIAN, GREEK = (
    "\u043f\u0440\u0438\u0432\u0435\u0442 \u043a\u0430\u043a \u0434\u0435\u043b\u0430 \u0441\u0435\u0433\u043e\u0434\u043d\u044f \u0432\u0435\u0447\u0435\u0440\u043e\u043c",
    "\u03ba\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1 \u03ba\u03b1\u03b9 \u03b5\u03c5\u03c7\u03b1\u03c1\u03b9\u03c3\u03c4\u03ce \u03c0\u03bf\u03bb\u03cd",
)
ARABIC, HEBREW = (
    "\u0627\u0644\u0633\u0644\u0627\u0645 \u0639\u0644\u064a\u0643\u0645",
    "\u05e9\u05dc\u05d5\u05dd \u05dc\u05db\u05d5\u05dc\u05dd",
)
CHINESE, THAI = (
    "\u4f60\u597d\uff0c\u4eca\u5929\u7684\u5929\u6c14\u975e\u5e38\u597d",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a",
)


@pytest.mark.parametrize(
    ("said", "written", "read"),
    [
        (GERMAN, "utf-8", "cp850"), (GERMAN, "utf-8", "cp437"), (GERMAN, "utf-8", "mac_roman"), (POLISH, "utf-8", "cp1250"),
        (RUSSIAN, "utf-8", "cp1251"), (RUSSIAN, "cp1251", "latin-1"), (GREEK, "utf-8", "cp1252"),
        (GREEK, "cp1253", "latin-1"), (ARABIC, "utf-8", "cp1256"), (HEBREW, "utf-8", "cp1255"), (CHINESE * 2, "utf-8", "gbk"),
        (CHINESE, "utf-8", "latin-1"), (THAI, "utf-8", "cp874"),
    ],
)  # fmt: skip
def test_text_decoded_by_another_rule_is_found_and_the_right_text_is_not(said: str, written: str, read: str) -> None:
    assert "mojibake" in codes(f"{ANSWER} {said.encode(written).decode(read, 'replace')} it says.")
    assert "mojibake" not in codes(f"{ANSWER} {said} it says.")


@pytest.mark.parametrize("said", [
    "\u251c\u2500\u2500 src\n\u2502   \u251c\u2500\u2500 \u00e9t\u00e9.py\n\u2514\u2500\u2500 docs", "\u221a2 and \u221a\u03c0 are not equal to \u221a\u221e.",
    "The letters \u00e4\u00f6\u00fc\u00df and \u00c4\u00d6\u00dc, or \u00e1\u00e9\u00ed\u00f3\u00fa.", "\u0e40\u0e18\u0e2d\u0e40\u0e1b\u0e47\u0e19\u0e40\u0e1e\u0e37\u0e48\u0e2d\u0e19\u0e02\u0e2d\u0e07\u0e40\u0e23\u0e32",
])  # fmt: skip
def test_tables_roots_and_alphabets_are_no_mojibake(said: str) -> None:
    assert "mojibake" not in codes(f"{ANSWER} {said}")


@pytest.mark.parametrize("said", [
    "the pay\u00adment", "word\ufe01s", "first\u2028second", "item \uf0b7 here", "see \ufffc here", "acc\u034fount", "a \u2800 b",
    "the passw\u03bfrd", "the acc\u0585unt", "\u043fa\u0440\u043e\u043b\u044c", "\U0001d430\U0001d422\U0001d42b\U0001d41e money", "the \uff50\uff41\uff59\uff4d\uff45\uff4e\uff54",
])  # fmt: skip
def test_marks_and_letters_that_only_look_right_are_found(said: str) -> None:
    assert "invisible_characters" in codes(f"{ANSWER} {said}.")


@pytest.mark.parametrize("said", [
    "\u03b2-carotene, 5 \u03bcm, h\u03bd and \u039d\u03b1\u039fH", "let \U0001d465 be in \u211d and \U0001d53c[\U0001d44b] be finite", "\u5168\u89d2\uff21\uff22\uff23\uff11\u3067\u3059",
    "\u2764\ufe0f and \u2714\ufe0f", "\u043a\u043b\u0430\u0441\u0441 std \u0438 \u0444\u0430\u0439\u043b log.txt", "\u2801\u2803\u2800\u2809",
])  # fmt: skip
def test_science_emoji_and_braille_are_left_alone(said: str) -> None:
    assert "invisible_characters" not in codes(f"{ANSWER} {said}.")


@pytest.mark.parametrize("token", [
    "[gMASK]<sop>", "<eoh>", "<reserved_106>", "[|endofturn|]", "<fim_prefix>", "<unused12>", "<0x0A>", "<TOKENS_UNUSED_1>",
    "\nUSER: and then?\nASSISTANT: that", "<end_of_utterance>", "<SPECIAL_12>", "GPT4 Correct User: hi", "[PAD]",
])  # fmt: skip
def test_marks_of_less_common_model_families_are_found(token: str) -> None:
    assert "special_token" in codes(f"{ANSWER} {token}")


def test_a_gap_to_fill_is_no_special_token() -> None:
    assert "special_token" not in codes("Fill [MASK] or <mask> in; map List<Item>, use x[0] | y.")


def brazilian(chance: random.Random) -> str:
    digits = [chance.randrange(10) for _ in range(9)]
    for _ in range(2):
        weights = range(len(digits) + 1, 1, -1)
        rest = sum(map(lambda digit, weight: digit * weight, digits, weights)) % 11
        digits.append(0 if rest < 2 else 11 - rest)
    said = "".join(map(str, digits))
    return f"{said[:3]}.{said[3:6]}.{said[6:9]}-{said[9:]}"


def spanish(chance: random.Random) -> str:
    number = chance.randrange(10**7, 10**8)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def french(chance: random.Random) -> str:
    number = f"2{chance.randrange(40, 99)}{chance.randrange(1, 13):02d}{chance.randrange(1, 96):02d}{chance.randrange(10**6):06d}"
    return re.sub(r"(.)(..)(..)(..)(...)(...)", r"\1 \2 \3 \4 \5 \6", number) + f" {97 - int(number) % 97:02d}"


@pytest.mark.parametrize(("make", "word"), [(brazilian, "CPF"), (spanish, "DNI"), (french, "num\u00e9ro")])
def test_identity_numbers_are_found_by_their_check_digits(make, word: str) -> None:  # type: ignore[no-untyped-def]
    chance = random.Random(5)  # noqa: S311
    for _ in range(20):
        number = make(chance)
        assert "pii" in codes(f"{ANSWER} {word} {number}.")
        last = number[-1]
        wrong = str((int(last) + 1) % 10) if last.isdigit() else "ABCDEFGHJ"["ABCDEFGHJ".find(last) - 1]
        assert wrong == last or "pii" not in codes(f"{ANSWER} {word} {number[:-1]}{wrong}.")


@pytest.mark.parametrize("number", ["RSSMRA85T10A562S", "44051401359", "2345 6789 0124"])
def test_published_examples_of_identity_numbers_hold(number: str) -> None:
    """The examples of the Italian, Polish and Indian numbers that descriptions of their check digits use."""
    words = "PESEL, Aadhaar or codice fiscale"
    assert "pii" in codes(f"{ANSWER} {words}: {number}.")


@pytest.mark.parametrize("said", [
    "Reach me: ingrid.haugen [at] nordpost [dot] no", "ingrid dot haugen at nordpost dot com", "\u90ae\u7bb1ingrid@nordpost.no\u83b7\u53d6",
    "Call 0044 20 7946 3817 now", "Tel. 06 42 91 83 57", "WhatsApp (11) 94738-2261", "\u624b\u673a 13857294416", "text me on 07481 629374",
    "call me at 4157392846", "from 2a02:8109:9a40:1b2c:5d3e:77aa:1f0b:c3d4", "Via Garibaldi 14, 20121 Milano",
    "Keizersgracht 123, 1015 CJ Amsterdam", "Calle de Alcal\u00e1 47, 28014 Madrid", "passport number 536401829",
])  # fmt: skip
def test_personal_data_of_other_countries_is_found(said: str) -> None:
    assert "pii" in codes(f"{ANSWER} {said}")


@pytest.mark.parametrize("said", [
    "Call 1-800-275-2273 free, or 0800 123 4567.", "phone 5 to 10 times, 20 30 40", "2001:db8::1 and fe80::1 and ::1", "12:30:45:10 on tape",
    "Look at dot product and dot com bubble.", "CPF 123.456.789-00", "DNI 12345678A", "Tracking number 1Z999AA10123456784",
    "EAN 4006381333931 and ISBN 9780306406157", "A passport number has 9 characters.", "std::vector<int> a; b::c::d()", "f(at) and g[at]",
])  # fmt: skip
def test_what_looks_like_personal_data_is_left_alone(said: str) -> None:
    assert "pii" not in codes(f"{ANSWER} {said}")


def key(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(random.Random(length).choices(alphabet, k=length))  # noqa: S311


@pytest.mark.parametrize("said", [
    "Authorization: Bearer " + key(40), "dapi" + key(32, "0123456789abcdef"), "gsk_" + key(52), "xai-" + key(80), "7214839205:AA" + key(33),
    "hooks.slack.com/services/T" + key(9, string.ascii_uppercase) + "/B" + key(9, string.ascii_uppercase) + "/" + key(24),
    "discord.com/api/webhooks/" + key(18, string.digits) + "/" + key(68), "GOCSPX-" + key(28),
])  # fmt: skip
def test_keys_of_other_services_are_found(said: str) -> None:
    assert "secret" in codes(f"{ANSWER}\n{said}")


@pytest.mark.parametrize("said", [
    "I'm afraid I can't help you with this request.", "I won't be able to help with that.", "I'd rather not talk about that.",
    "I do not feel comfortable writing about this topic.", "Dabei kann ich Ihnen nicht helfen.",
    "Przykro mi, ale nie mog\u0119 w tym pom\u00f3c.", "Beklager, men jeg kan ikke hjelpe med det.", "Maaf, saya tidak dapat membantu.",
    "\uc8c4\uc1a1\ud558\uc9c0\ub9cc \uadf8 \uc694\uccad\uc740 \ub3c4\uc640\ub4dc\ub9b4 \uc218 \uc5c6\uc2b5\ub2c8\ub2e4.",
])  # fmt: skip
def test_refusals_in_other_words_and_languages_are_found(said: str) -> None:
    assert "refusal" in codes(said)


@pytest.mark.parametrize("said", [
    "I'm afraid of the dark, so I sleep with a lamp on.", "I can't recommend this place enough.", "That is something I love about the sea.",
    "I'd rather not be late, said the rabbit.", "It is not something you see every day.",
])  # fmt: skip
def test_sentences_that_begin_like_a_refusal_are_left_alone(said: str) -> None:
    assert "refusal" not in codes(said)


def test_random_letters_are_gibberish_and_languages_and_code_are_not() -> None:
    chance = random.Random(9)  # noqa: S311
    for alphabet in (string.ascii_lowercase, "asdfghjklqwertzuiop"):
        mash = " ".join("".join(chance.choices(alphabet, k=chance.randrange(4, 9))) for _ in range(40))
        assert "gibberish" in codes(mash)
    assert "gibberish" in codes(key(400, "0123456789abcdef"))
    assert "gibberish" in codes(key(200, string.punctuation))
    for said in (
        "Asubuhi iliyofuata watoto walienda mtoni mapema kwa sababu walitaka kuona mashua kubwa zikipita polepole.",
        "Seuraavana aamuna lapset menivat aikaisin joelle, koska he halusivat katsella veneita koko paivan ajan.",
        "ACGTTGCATGTCGCATGATGCATGAGAGCT" * 8,
        "for idx in range(num_rows):\n    total += weights[idx] * scores[idx]\n    norms.append(total)\nprint(norms, total)",
    ):
        assert "gibberish" not in codes(said)


@pytest.mark.parametrize("said", [
    '```json\n{"answer": "It is old."}\n```', "{'answer': 'It is old.'}", '[{"role": "assistant", "content": "It is old."}]',
    '{"choices": [{"role": "assistant", "content": "It is old."}]}',
])  # fmt: skip
def test_answers_wrapped_by_programs_are_found(said: str) -> None:
    assert "json_in_string" in codes(said)


@pytest.mark.parametrize(
    "said",
    ["A caf&eacute; near.", "<!-- wp:paragraph -->\nIt is old.", "K&ouml;ln &bull; Bonn", "<![CDATA[It is old.]]>"],
)
def test_markup_of_other_kinds_is_found(said: str) -> None:
    assert "html_residue" in codes(f"{ANSWER} {said}")
    assert "html_residue" not in codes(f"{ANSWER} AT&T; p = &phi; a &and; b")


@pytest.mark.parametrize(("language", "said"), [
    ("pl", "Nast\u0119pnego ranka dzieci posz\u0142y wcze\u015bnie nad rzek\u0119, bo chcia\u0142y zobaczy\u0107 \u0142odzie."),
    ("sw", "Asubuhi iliyofuata watoto walienda mtoni mapema kwa sababu walitaka kuona mashua."),
    ("cs", "Druh\u00fd den r\u00e1no \u0161ly d\u011bti brzy k \u0159ece, proto\u017ee cht\u011bly vid\u011bt lod\u011b."),
])  # fmt: skip
def test_languages_with_few_common_words_in_a_sentence_are_told(language: str, said: str) -> None:
    assert answer_language(said) == language


def test_a_program_does_not_break_off_where_a_sentence_would() -> None:
    said = "def area(width, height):\n    # the area of a rectangle\n    {}"
    for line in (
        "return width * height",
        "TABLE[name] = width, height, depth, description",
        "result = width or height",
    ):
        assert open_end(said.format(line)) is OpenEnd.NO_PROSE
    assert open_end("It works like this:\n```python\ndef area(width, height):\n    return width *") is OpenEnd.BROKEN
    assert open_end("It works like this:\n```python\narea = 3\n```") is OpenEnd.CLOSED


def test_signs_of_a_missing_answer_are_too_short() -> None:
    usual = [asked("Explain it.", f"It is number {number} of the things that one can explain.") for number in range(9)]
    rows = [*usual, *(asked("Why is it so?", said) for said in ("N/A", "...", "null", "12", "No"))]
    assert found("too_short", rows) == [9, 10, 11]


def test_a_question_with_its_answer_in_one_text_is_told_of_and_prose_is_not() -> None:
    rows = [text(f"### Instruction:\nAdd {n} and 1.\n\n### Response:\n{n + 1}") for n in range(12)]
    assert found("prompt_in_text", rows) == list(range(12))
    plays = [text(f"First Citizen:\nLine {n}.\n\n{name}:\nSpeak.") for n, name in enumerate(["All", "Marcius"] * 6)]
    assert found("prompt_in_text", plays) == []
