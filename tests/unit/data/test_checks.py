"""Every check of the table finds its fault and leaves alone what only looks like it."""

from __future__ import annotations

import string
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.data.checks import CHECKS, DATA_CHECKS, ROW_CHECKS
from finetune_exe.data.checks.check import DataCheck, RowCheck, mask, shorten
from finetune_exe.data.checks.ending import OpenEnd, open_end
from finetune_exe.data.checks.example import asked, labelled, turns
from finetune_exe.data.checks.facts import join_facts, tabulate
from finetune_exe.data.checks.label_names import canonical, is_typo
from finetune_exe.data.checks.mojibake import find_mojibake
from finetune_exe.data.checks.repetition import find_loop
from finetune_exe.data.checks.row import RowView
from finetune_exe.data.checks.verify import entropy, is_card_number, is_iban, passes_luhn
from finetune_exe.knowledge.refusals import refusal_in
from finetune_exe.text.conversation import Conversation

PLAIN = (
    asked("Where does the river rise?", "It rises in the hills, and runs to the sea."),
    turns(("system", "Be brief."), ("user", "Hello"), ("assistant", "Hi! How can I help?")),
    asked("Summe?", "Die Summe betr\u00e4gt 12,50 \u20ac \u2013 \u201eschon bezahlt\u201c."),
    asked("\u4f60\u597d\uff1f", "\u4f60\u597d\uff01\u6211\u80fd\u4e3a\u4f60\u505a\u4ec0\u4e48\uff1f"),
)


def find(check: DataCheck, rows: list[Conversation]) -> list[int]:
    facts = tabulate(range(len(rows)), [RowView(row) for row in rows])
    return sorted(hit.row for hit in check.find(facts))


@given(st.text(max_size=60))
def test_a_row_knows_its_signs_and_its_characters_beyond_ascii(said: str) -> None:
    view = RowView(asked(said, said))
    assert view.signs == "".join(c for c in view.text if c.isascii() and c != " " and not c.islower())
    assert view.foreign == "".join(c for c in view.text if not c.isascii())


@pytest.mark.parametrize("around", ["\u4f60\u597d\uff0c ", "na\u00efve 12 ", "\u0661\u0662 ", "Plain words, "])
@pytest.mark.parametrize("said", [
    "Charge it to card 4266 8414 4395 8705.", "Hello.\npassword: Brandt2407!XZr",
    "AKIAQ7X2M4N8P5R9T3VZ", "<|im_end|>", "I am {{name}}, and so on.", "a\x1b[31m b", "Sh\u00c3\u00a9 was.", "corre\u2066ct",
])  # fmt: skip
def test_a_fault_is_found_whatever_stands_around_it(said: str, around: str) -> None:
    alone = codes(asked("Go on.", said))
    assert alone <= codes(asked(f"{around}Go on.", f"{around}{said} {around}"))
    assert alone


def codes(row: Conversation) -> set[str]:
    view = RowView(row)
    return {check.code for check in ROW_CHECKS if check.find(view) is not None}


@pytest.mark.parametrize("check", ROW_CHECKS, ids=lambda check: check.code)
def test_a_row_check_finds_its_example_only(check: RowCheck) -> None:
    assert check.find(RowView(check.example)) is not None
    assert check.find(RowView(check.counterexample)) is None


@pytest.mark.parametrize("check", DATA_CHECKS, ids=lambda check: f"{check.code}-{check.find.__name__}")
def test_a_check_of_all_rows_finds_its_example_only(check: DataCheck) -> None:
    assert find(check, list(check.example))
    assert not find(check, list(check.counterexample))
    assert not find(check, [])


def test_every_code_has_one_meaning() -> None:
    kinds: dict[str, set[tuple[str, str, str]]] = {}
    for check in CHECKS:
        kinds.setdefault(check.code, set()).add((check.severity, check.message, check.fix))
    assert {code for code, meanings in kinds.items() if len(meanings) > 1} == set()
    assert len(kinds) > 45


@pytest.mark.parametrize("row", PLAIN, ids=range(len(PLAIN)))
def test_plain_rows_have_no_fault(row: Conversation) -> None:
    assert codes(row) == set()


def test_one_table_is_that_of_its_parts() -> None:
    rows = [asked(f"Question {number}?", f"Answer {number} is long enough to be one.") for number in range(9)]
    whole = tabulate(range(9), [RowView(row) for row in rows])
    parts = join_facts([tabulate([number], [RowView(row)]) for number, row in enumerate(rows)])
    for name in ("index", "characters", "end", "prompt_key", "answer_key", "edges"):
        assert (getattr(whole, name) == getattr(parts, name)).all(), name
    assert (whole.labels, whole.languages) == (parts.labels, parts.languages)
    assert (whole.words.words == parts.words.words).all()


@pytest.mark.parametrize(
    "piece",
    [
        "7 ", "12 A, ", "1,2A.3", "<s>", "{{ a ", "Human: ", "pass=", "-----BEGIN ", "ab://a:", "a.b@", "DE12 ", "&#12",
        "i am sorry, ", "sk-", "[", " ", "\n", "\u00c3\u00a9 ", "\u0430a", "### ",
    ],
)  # fmt: skip
def test_no_text_keeps_a_check_busy(piece: str) -> None:
    """A check that looks back and forth over a long text would not come to an end here."""
    long = piece * (60_000 // len(piece))
    for row in (RowView(asked("Go on.", long)), RowView(asked(long, "Yes, it is."))):
        for check in ROW_CHECKS:
            check.find(row)


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_text_makes_a_check_fail(prompt: str, answer: str) -> None:
    for row in (asked(prompt, answer), turns(("assistant", answer), ("tool", prompt), ("user", answer))):
        codes(row)
        tabulate([0], [RowView(row)])


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_exactly_one_check_digit_passes_luhn(digits: str) -> None:
    assert sum(passes_luhn(digits + last) for last in "0123456789") == 1


@given(st.integers(0, 10**18 - 1))
def test_a_changed_digit_of_an_iban_is_seen(number: int) -> None:
    account = f"{number:018d}"
    check_digits = next(f"{pair:02d}" for pair in range(2, 99) if is_iban(f"DE{pair:02d}{account}"))
    changed = str((int(account[5]) + 1) % 10).join((account[:5], account[6:]))
    assert not is_iban(f"DE{check_digits}{changed}")


def test_published_test_numbers_are_cards_and_accounts_by_their_digits() -> None:
    assert is_card_number("4111111111111111") is False  # only two digits, as samples have
    assert is_card_number("4012888888881881")
    assert not is_card_number("4012888888881882")
    assert is_iban("DE89370400440532013000")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765431")


def test_entropy_is_that_of_the_shares() -> None:
    assert entropy("aaaa") == 0
    assert entropy("abcd") == 2
    assert entropy("aabb") == 1


@given(
    st.lists(st.sampled_from(["\u00e9", "\u00fc", "\u201c", "\u2019", "\u2013", "\u20ac", "\u4f60\u597d", "\u0434\u0430"]), min_size=1).map("".join),
    st.text(alphabet=string.ascii_letters + " ", max_size=20),
)  # fmt: skip
def test_utf8_read_as_latin1_is_found(lost: str, around: str) -> None:
    wrong = lost.encode().decode("latin-1")
    assert find_mojibake(f"{around} {wrong} {around}") >= 0
    assert find_mojibake(f"{around} {lost} {around}") == -1


@pytest.mark.parametrize(
    "text",
    [
        "\u00ab C\u2019est \u00e0 Orl\u00e9ans\u00a0\u00bb", "N\u00c3O \u00c9 ASSIM", "le CAF\u00c9\u201d", "\u00c4nderungen\u2026", "il est arriv\u00e9\u00a0\u00bb",
        "na\u00efve", "\u00d6\u201d", "20\u00a0\u00b0C", "\u0420\u041e\u0421\u0421\u0418\u042f \u0438 \u0421\u0421\u0421\u0420", "\u0420\u0430\u0441\u0441\u043a\u0430\u0437",
    ],
)  # fmt: skip
def test_accents_beside_quotes_are_no_mojibake(text: str) -> None:
    assert find_mojibake(text) == -1


@given(st.text(alphabet=string.ascii_lowercase + " ", min_size=8, max_size=60), st.integers(13, 30))
def test_a_loop_is_found_wherever_it_stands(unit: str, times: int) -> None:
    if sum(map(str.isalnum, unit)) * 2 < len(unit) or len(set(unit)) < 4:
        return
    assert find_loop(f"It began well enough. {unit * times}") is not None
    assert find_loop(f"{unit * times}") is not None


def test_rulers_and_laughter_are_no_loops() -> None:
    assert find_loop("Ha ha ha ha ha ha!") is None
    assert find_loop("Title\n" + "=" * 400) is None
    assert find_loop("| - | - | - |" * 20) is None


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("It is in the north of the", OpenEnd.BROKEN),
        ("It is old. It stands in the north, and", OpenEnd.BROKEN),
        ("Start a shop.\nIf you own a dog, walk those of others, and also", OpenEnd.BROKEN),
        ("It is old. It stands in the north of this country", OpenEnd.OPEN),
        ("The fifth planet from the Sun", OpenEnd.OPEN),
        ("Popcorn jelly bean ice cream", OpenEnd.BARE),
        ("Jane Austen", OpenEnd.NO_PROSE),
        ("It is old. It stands there.", OpenEnd.CLOSED),
        ("- apples from the garden\n- pears from the shop\n- figs from the south of Italy", OpenEnd.NO_PROSE),
        ("I thank you for your letter.\n\nSincerely,\nJohn Smith", OpenEnd.NO_PROSE),
        ("def f(x):\n    return x + one_more_number_here", OpenEnd.NO_PROSE),
        ("See https://example.org/a/page/that/is/long", OpenEnd.NO_PROSE),
        ("", OpenEnd.NO_PROSE),
    ],
)  # fmt: skip
def test_the_end_of_an_answer(answer: str, end: OpenEnd) -> None:
    assert open_end(answer) is end


def test_spellings_of_a_label_are_one() -> None:
    spellings = ("card_lost", "Card Lost", "CARD-LOST ", "card  lost", "c\u00e1rd_lost")
    assert {canonical(label) for label in spellings} == {"card lost"}
    assert is_typo("card_arrivla", "card_arrival")
    assert is_typo("card_arival", "card_arrival")
    assert is_typo("card_arrrival", "card_arrival")
    assert not is_typo("card_arrival", "card_arrival")
    assert not is_typo("pin_blocked", "pin_unlocked")


@given(st.text(alphabet=string.ascii_lowercase, min_size=2, max_size=12), st.data())
def test_swapped_neighbours_are_a_typo(label: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(label) - 2))
    swapped = label[:place] + label[place + 1] + label[place] + label[place + 2 :]
    assert is_typo(label, swapped) == (label != swapped)


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.", "I cannot assist with that request.", "As an AI language model, I don't have feelings.",
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.", "Je suis d\u00e9sol\u00e9, mais je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudar con eso.", "\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63d0\u4f9b\u8fd9\u4e9b\u4fe1\u606f\u3002",
    ],
)  # fmt: skip
def test_refusals_are_known_in_several_languages(answer: str) -> None:
    assert refusal_in(answer) is not None


@pytest.mark.parametrize(
    "answer",
    [
        "As an AI, I can suggest three ways.", "I'm sorry to hear that. Let us see what can be done.", "I can't wait to see you!",
        "As an AI researcher, I do not work at night.", "Sorry is a hard word to say.", "Ich kann Deutsch sprechen.",
    ],
)  # fmt: skip
def test_help_is_no_refusal(answer: str) -> None:
    assert refusal_in(answer) is None


@pytest.mark.parametrize("name", ["password", "Secret key", "API_KEY", "Kennwort", "\u5bc6\u7801", "contrase\u00f1a"])
@pytest.mark.parametrize("sign", [":", " = ", "\uff1a", '": "', " is: ", ' : "'])
def test_a_named_secret_is_found_whatever_stands_around_it(name: str, sign: str) -> None:
    for around in ("", "a = b: c; \u0130\n", "x" * 40 + " ", "so: "):
        row = RowView(asked("Go on.", f"{around}{name}{sign}Brandt2407!XZr {around}"))
        assert next(check for check in ROW_CHECKS if check.code == "secret").find(row) is not None


@pytest.mark.parametrize(("question", "is_found"), [
    ("Choose a word for the <MASK> token.", True), ("Which is the [SEP] token of it?", True),
    ("Make up a token for me.", False), ("What may an API token look like?", False),
])  # fmt: skip
def test_a_secret_that_was_asked_for_is_none_but_tokens_of_texts_ask_for_none(question: str, is_found: bool) -> None:
    row = asked(question, "It is so.\nexport AWS_SECRET_ACCESS_KEY=WmE4kuv4VGOfYcMuqbKLLp+2jfTuOQPeWIDtcKZ1")
    assert ("secret" in codes(row)) == is_found


def test_secrets_are_quoted_by_their_ends_only() -> None:
    row = asked("Greet.", "token = ghp_" + "aB3dE6gH9kL2nP5rS8uV1xY4zC7fJ0mQ2wTs")
    [extract] = [found for check in ROW_CHECKS if check.code == "secret" and (found := check.find(RowView(row)))]
    assert "ghp_***" in extract
    assert "aB3dE6gH9" not in extract
    assert mask("Brandt2407!XZr").startswith("Bra***")


@given(st.text(max_size=400), st.integers(0, 400))
def test_extracts_are_short_lines(text: str, place: int) -> None:
    extract = shorten(text, place)
    assert len(extract) <= 90
    assert "\n" not in extract


def test_a_label_column_makes_a_row_a_labelled_one() -> None:
    row = asked("My card is lost.", "")
    labelled = replace(row, origin={**row.origin, "columns": {"prompt": "text", "answer": "category"}})
    assert codes(row) == {"empty_output"}
    assert codes(labelled) == {"empty_label"}


def test_a_short_labelled_text_in_the_same_words_is_a_copy_and_one_in_other_words_is_none() -> None:
    usual = [labelled(f"Text number {number}.", ("lost", "blocked")[number % 2]) for number in range(20)]
    rows = [
        *usual,
        labelled("My card was declined, why? Help me.", "lost"),
        labelled("My card was declined. Why? help me", "lost"),
        labelled("My old card was declined, why? Help me.", "lost"),
    ]
    check = next(check for check in DATA_CHECKS if check.code == "near_duplicate")
    assert find(check, rows) == [21]


def test_no_check_is_listed_twice() -> None:
    names = Counter((check.code, check.find.__module__, check.find.__name__) for check in CHECKS)
    assert set(names.values()) == {1}
