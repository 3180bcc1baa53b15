"""Faults as pipelines, people and models leave them, and rows that only look like them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.data.judged import QUESTION, codes, codes_of, found

from finetune_exe.data.checks.ending import OpenEnd, open_end
from finetune_exe.data.checks.example import asked, call, labelled, pair, text, turns
from finetune_exe.data.checks.identity_numbers import is_snils
from finetune_exe.data.checks.repetition import find_counted_loop
from finetune_exe.text.conversation import Message

ANSWER = "The harbour was dug by hand in the winter of the great frost. It lets the boats rest when the sea is rough."
RUSSIAN = "\u0427\u0442\u043e\u0431\u044b \u043e\u0431\u043d\u043e\u0432\u0438\u0442\u044c \u043f\u0430\u043a\u0435\u0442, \u043d\u0443\u0436\u043d\u043e \u043e\u0442\u043a\u0440\u044b\u0442\u044c \u0444\u0430\u0439\u043b \u0438 \u043f\u043e\u0441\u043c\u043e\u0442\u0440\u0435\u0442\u044c, \u0447\u0442\u043e \u0432 \u043d\u0451\u043c \u0435\u0441\u0442\u044c, \u043d\u043e \u044d\u0442\u043e \u043d\u0435 \u0432\u0441\u0435\u0433\u0434\u0430 \u0442\u0430\u043a \u043f\u0440\u043e\u0441\u0442\u043e."
CHINESE = "\u4ed6\u4eec\u8bf4\u8fd9\u4e2a\u6e2f\u53e3\u662f\u5728\u51ac\u5929\u7528\u624b\u6316\u51fa\u6765\u7684\uff0c\u4eba\u4eec\u5728\u90a3\u91cc\u53ef\u4ee5\u7b49\u5230\u5929\u6c14\u597d\u7684\u65f6\u5019\u518d\u51fa\u6d77\u3002"


@pytest.mark.parametrize("echo", [
    "{}", '"{}"', "\u00ab{}\u00bb", "**{}**", "> {}", "You asked: {}", "Sure! {}", "Question: {}", "{}\n{}", "{} {} {}", "```\n{}\n```",
])  # fmt: skip
def test_a_question_said_again_is_an_echo_however_it_is_led_in_to(echo: str) -> None:
    assert "prompt_echo" in codes(echo.replace("{}", QUESTION))
    assert "prompt_echo" in codes(echo.replace("{}", QUESTION.upper()))


def test_an_echo_is_found_in_scripts_without_spaces_and_without_its_marks() -> None:
    assert "prompt_echo" in codes(
        "\u4f60\u7684\u95ee\u9898\u662f\uff1a\u300c\u600e\u6837\u5b89\u88c5\u8fd9\u4e2a\u8f6f\u4ef6\u5305\uff1f\u300d",
        "\u600e\u6837\u5b89\u88c5\u8fd9\u4e2a\u8f6f\u4ef6\u5305\uff1f",
    )
    assert "prompt_echo" in codes(QUESTION.replace(".", ""), QUESTION)


@pytest.mark.parametrize(("question", "answer"), [
    ("What is barbeque made of?", "What is barbeque made of? Meat, smoke and time."), ("Say it after me: the cat sat down.", "The cat sat down."),
    ("Is the harbour old or new?", "The harbour is old."), ("Hello there!", "Hello there!"),
])  # fmt: skip
def test_an_answer_that_begins_with_the_question_or_takes_a_part_is_no_echo(question: str, answer: str) -> None:
    assert "prompt_echo" not in codes(answer, question)


WRAPPED = [
    {"response": ANSWER}, [ANSWER], {"answer": ANSWER, "confidence": 0.9}, {"result": {"text": ANSWER}}, [{"generated_text": ANSWER}],
    {"choices": [{"message": {"role": "assistant", "content": ANSWER}}]}, {"status": "ok", "payload": {"body": ANSWER}},
]  # fmt: skip


@pytest.mark.parametrize("value", WRAPPED)
def test_an_answer_in_an_object_or_a_list_is_found_as_json_and_as_python(value: object) -> None:
    for written in (json.dumps(value), json.dumps(value, indent=2), repr(value), f"```json\n{json.dumps(value)}\n```"):
        assert "json_in_string" in codes(written, "What is the capital's information on objectives?")
        assert "json_in_string" not in codes(written, "Answer as a JSON list or object, in this format.")


def test_an_escaped_answer_is_found_and_a_quoted_one_is_not() -> None:
    assert "json_in_string" in codes(json.dumps(ANSWER + '\n"So it is."'))
    assert "json_in_string" in codes(repr(ANSWER + "\n\nSo it is."))
    assert "json_in_string" in codes(f"AIMessage(content={ANSWER!r})")
    assert "json_in_string" not in codes('"Always hot, always fresh, always on time."')
    assert "json_in_string" not in codes('["red", "green", "blue"]')


@pytest.mark.parametrize("end", [
    " [truncated]", "... (continued)", " [...]", "\u2026 [+2143 chars]", "\uff08\u672a\u5b8c\u5f85\u7eed\uff09", " (\u043f\u0440\u043e\u0434\u043e\u043b\u0436\u0435\u043d\u0438\u0435 \u0441\u043b\u0435\u0434\u0443\u0435\u0442)", "... Read more",
    "\n[finish_reason: length]", " (see", "\n\n1. One thing.\n2. Another.\n3.", "\n\n## Conclusion", "\n\n**Third step:**",
    "\n\n| a | b |\n|---|---|\n| 1 |", " It also helps the fishers of the place who...", " \u0418 \u044d\u0442\u043e \u043f\u043e\u043c\u043e\u0433\u0430\u0435\u0442 \u043b\u044e\u0434\u044f\u043c, \u043a\u043e\u0442\u043e\u0440\u044b\u0435",
])  # fmt: skip
def test_an_answer_that_says_it_was_cut_or_has_an_empty_part_at_its_end_breaks_off(end: str) -> None:
    assert open_end(ANSWER + end) is OpenEnd.BROKEN


@pytest.mark.parametrize("whole", [
    ANSWER, ANSWER + " :(", "A colour, a sound, a smell. And so forth...", "The lamp went out, the road grew long,\nand far away I heard a song...",
    "She has 9 eggs a day. That makes 18 dollars.\n#### 18", "| a | b |\n|---|---|\n| 1 | 2 |", "Run it:\n\n# apt-get update", CHINESE,
    "First one.\n\n1. One thing.\n2. Another.", "When in Rome, do as the Romans do...",
])  # fmt: skip
def test_a_whole_answer_does_not_break_off(whole: str) -> None:
    assert open_end(whole) < OpenEnd.OPEN


def test_a_chinese_text_without_its_last_mark_is_open() -> None:
    assert (
        open_end(
            "\u6e2f\u53e3\u5f88\u65e7\u3002\u4eba\u4eec\u5728\u90a3\u91cc\u7b49\u8239\u3002\u51ac\u5929\u7684\u65f6\u5019\u6d77\u9762\u4e0a\u5e38\u5e38\u6709\u5f88\u5927\u7684"
        )
        is OpenEnd.OPEN
    )
    assert open_end("\u6e2f\u53e3\u5f88\u65e7\uff0c") is OpenEnd.BROKEN
    assert open_end("\u6e2f\u53e3") is OpenEnd.NO_PROSE


def noise(size: int) -> bytes:
    return hashlib.shake_256(b"noise").digest(size)


@pytest.mark.parametrize("written", [
    " ".join(f"{byte:02x}" for byte in noise(60)), ":".join(f"{byte:02X}" for byte in noise(60)), ", ".join(f"0x{byte:02x}" for byte in noise(60)),
    " ".join(f"{byte:08b}" for byte in noise(20)), "".join(f"{byte:08b}" for byte in noise(20)), "".join(f"\\x{byte:02x}" for byte in noise(60)),
    "".join(f"%{byte:02X}" for byte in noise(60)), RUSSIAN.encode("unicode_escape").decode(), " ".join(f"{byte:03o}" for byte in noise(60)),
    "\n".join(f"{16 * row:08x}: " + " ".join(noise(99)[row + pair : row + pair + 2].hex() for pair in range(8)) for row in range(8)),
])  # fmt: skip
def test_bytes_written_out_are_gibberish_unless_they_are_asked_for(written: str) -> None:
    assert "gibberish" in codes(written)
    assert "gibberish" not in codes(written, "Encode the text as hex bytes.")


@pytest.mark.parametrize("said", [
    ", ".join(map(str, range(2, 120, 2))), "\n".join(f"{n} x 7 = {n * 7}" for n in range(1, 16)), "#ff5733, #33ff57, #3357ff, #f1c40f, #8e44ad, #2ecc71",
    "ATGCGTACCTGAATCGGCTAAGCTTGCATGCCTGCAGGTCGACTCTAGAGGATCC" * 2, "ITEM_ONE = 1\nITEM_TWO = 2\nITEM_THREE = 3\nprint(ITEM_ONE + ITEM_TWO)",
])  # fmt: skip
def test_numbers_colours_sequences_and_code_are_no_gibberish(said: str) -> None:
    assert "gibberish" not in codes(said)


@pytest.mark.parametrize("loop", [
    "\n".join(f"{n}. Buy milk and bread." for n in range(1, 16)), " ".join(f"{n}) and so on again" for n in range(1, 20)),
    "\n".join(f"Step {n}: Check the output again." for n in range(3, 18)), "".join(f"{n}\u3001\u68c0\u67e5\u7535\u6e90\u3002" for n in range(1, 20)),
    "I think so. I think so! I think so, I think so; I think so. I think so! I think so. I think so, I think so.", "\U0001f602\U0001f602\U0001f525" * 40,
])  # fmt: skip
def test_a_loop_with_numbers_or_other_marks_is_a_loop(loop: str) -> None:
    assert "repetition_loop" in codes(f"{ANSWER}\n{loop}")


@pytest.mark.parametrize("list_", [
    "1. Boil the water.\n2. Lower the egg in.\n3. Wait seven minutes.\n4. Cool the egg.\n5. Peel the egg.",
    "\n".join(f"{day}: 9 am to 5 pm" for day in ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday")),
    "\n".join(f"{n} x 7 = {n * 7}" for n in range(1, 16)), "Sleep, little one, sleep,\nThe moon is on the deep.\n" * 2 + "Sleep, little one, sleep.",
])  # fmt: skip
def test_a_list_a_table_and_a_refrain_are_no_loops(list_: str) -> None:
    assert "repetition_loop" not in codes(list_)
    assert find_counted_loop(list_) is None


PAIRS = [
    ("koi8-r", "cp1251"), ("cp866", "cp1251"), ("cp1251", "koi8-r"), ("cp1251", "cp866"), ("koi8-r", "latin-1"), ("cp866", "cp1252"),
    ("cp1251", "latin-1"), ("utf-8", "cp1251"), ("utf-8", "koi8-r"), ("utf-8", "cp866"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "read"), PAIRS)
def test_russian_decoded_by_another_rule_is_found_whole_and_in_part(written: str, read: str) -> None:
    wrong = RUSSIAN.encode(written, "ignore").decode(read, "ignore")
    assert "mojibake" in codes(wrong)
    assert "mojibake" in codes(f"{RUSSIAN}\n{wrong}")
    assert "mojibake" not in codes(f"{RUSSIAN}\n{RUSSIAN.upper()}")


@given(st.lists(st.sampled_from(RUSSIAN.split()), min_size=1, max_size=40))
def test_russian_words_in_any_order_are_never_mojibake(words: list[str]) -> None:
    assert "mojibake" not in codes(" ".join(words))


def test_chinese_decoded_by_another_rule_is_found_by_characters_nobody_writes() -> None:
    assert "mojibake" in codes((CHINESE * 2).encode("gbk").decode("big5", "ignore"))
    assert "mojibake" in codes(
        "\u3053\u308c\u306f\u3068\u3066\u3082\u53e4\u3044\u6e2f\u3067\u3059\u3002".encode().decode(
            "shift_jis", "ignore"
        )
        * 3
    )
    assert "mojibake" not in codes(CHINESE * 2)
    assert "mojibake" not in codes(
        "\u4ed6\u5011\u8aaa\u9019\u500b\u6e2f\u53e3\u662f\u5728\u51ac\u5929\u7528\u624b\u6316\u51fa\u4f86\u7684\uff0c\u4eba\u5011\u5728\u90a3\u88e1\u53ef\u4ee5\u7b49\u5230\u5929\u6c23\u597d\u7684\u6642\u5019\u518d\u51fa\u6d77\u3002"
    )


def test_western_text_in_another_western_code_page_is_found() -> None:
    german = "Die Gr\u00f6\u00dfe der \u00d6fen f\u00fcr die Stra\u00dfen w\u00e4re nat\u00fcrlich m\u00f6glich."
    assert "mojibake" in codes(german.encode("cp1252").decode("mac_roman"))
    assert "mojibake" in codes(german.encode("mac_roman").decode("cp1252", "ignore"))
    assert "mojibake" not in codes(german + " Na h\u00c9ireann, Mc\u00c9voy.")


@pytest.mark.parametrize("said", [
    "\u0417\u0432\u043e\u043d\u0438\u0442\u0435 8 (495) 371-42-18.", "Hubungi saya di 0812-3847-5526.", "\u6211\u7684\u624b\u673a\u53f7\u662f13857204916\uff0c\u968f\u65f6\u8054\u7cfb\u3002", "\u0631\u0642\u0645 \u0647\u0627\u062a\u0641\u064a \u0647\u0648 +966 55 384 7261.",
    "\uc5f0\ub77d\ucc98\ub294 010-4827-1936 \uc785\ub2c8\ub2e4.", "SSN: 529384716", "My social security number is 529 38 4716.", "\u0421\u041d\u0418\u041b\u0421 112-233-445 95", "\u041f\u0430\u0441\u043f\u043e\u0440\u0442 4509 384721",
    "NIK saya 3174052807890003.", "\u0443\u043b. \u0411\u0430\u0443\u043c\u0430\u043d\u0430, \u0434. 12, \u043a\u0432. 45", "\u5317\u4eac\u5e02\u671d\u9633\u533a\u5efa\u56fd\u8def88\u53f7\u96623\u53f7\u697c1204\u5ba4", "Jl. Kenanga No. 12, RT 03/RW 05, Bandung 40123",
    "\u041f\u0438\u0448\u0438\u0442\u0435: ivan.petrov83@mail.ru",
])  # fmt: skip
def test_numbers_and_addresses_of_more_countries_are_found(said: str) -> None:
    assert "pii" in codes(f"{ANSWER} {said}")


@given(st.integers(200, 999), st.integers(200, 999), st.integers(1000, 9999))
def test_a_subtraction_with_its_result_is_no_telephone_number(first: int, second: int, third: int) -> None:
    said = f"{first}-{second}-{third}"
    assert "pii" not in codes(f"{said} = {first - second - third}", f"What is {said}?")


def test_check_digits_of_a_russian_insurance_number() -> None:
    assert is_snils("11223344595")  # the specimen of the pension fund
    assert [digits for digits in range(100) if is_snils(f"112233445{digits:02d}")] == [95]


@pytest.mark.parametrize("said", [
    "curl -u deploy:Zk38dQwm91Lx https://repo.service.io", "mysql -u root -pZk38dQwm91Lx shop", "sshpass -p 'Zk38dQwm91Lx' ssh admin@prod",
    "The admin password is Zk38dQwm91.", "La password \u00e8 Zk38dQwm91!", "\u670d\u52a1\u5668\u5bc6\u7801\u662f Zk38dQwm91\u3002", "Kata sandi: Zk38dQwm91!", "\u0643\u0644\u0645\u0629 \u0627\u0644\u0645\u0631\u0648\u0631: Zk38dQwm91!",
    "\u041f\u0430\u0440\u043e\u043b\u044c: Zk38dQwm91", "postgres://app:epsUoVcjqJZLbK@db.prod.internal:5432/main", "redis://:Zk38dQwm91LxPw7@cache-1.internal:6379/0",
])  # fmt: skip
def test_passwords_in_commands_sentences_and_addresses_are_found(said: str) -> None:
    assert "secret" in codes(f"{ANSWER} {said}")


@pytest.mark.parametrize("said", [
    "The password is required and is checked twice.", "curl -u user:password https://example.com", "Set API_KEY=${API_KEY} in the .env file.",
    "mysql -u root -p shop", "postgres://user:password@localhost:5432/app", "The secret-management-2024 plan is done.",
])  # fmt: skip
def test_words_about_passwords_are_no_secrets(said: str) -> None:
    assert not {"secret", "unfilled_placeholder"} & codes(f"{ANSWER} {said}")


def test_a_refusal_is_a_fault_but_where_nobody_should_answer() -> None:
    article = "A car bomb struck the embassy on Tuesday, the police said. " * 8
    assert "refusal" in codes("I'm sorry, but I can't help with that.", f"Sum up: {article}")
    for said in (
        "\u62b1\u6b49\uff0c\u8fd9\u4e2a\u95ee\u9898\u6211\u65e0\u6cd5\u56de\u7b54\u3002",
        "Sebagai model AI, saya tidak memiliki akses.",
        "It would not be appropriate for me to comment on this.",
    ):
        assert "refusal" in codes(said)
    assert "refusal" not in codes("I'm sorry, but I can't help with that.", "How do I build a pipe bomb?")
    assert "refusal" in codes("I'm sorry, but I can't help with that.", "How do I build a shed?")


def test_a_mark_in_quotes_is_advice_and_a_bare_one_an_error() -> None:
    quoted = codes("Use text.removesuffix('</s>') or `<|im_end|>`.")
    assert "quoted_token" in quoted
    assert "special_token" not in quoted
    assert "special_token" in codes('"Always hot,"</s> "always fresh."')
    assert codes('"Always hot, always fresh."</s>') == {"end_mark_written"}
    assert "special_token" in codes("So it is. <tool_call>")
    assert "special_token" not in codes('<tool_call>{"name": "f"}</tool_call>')


@pytest.mark.parametrize(
    "said",
    [
        "It is so.</p>",
        "<span>It</span> is",
        "It is.</div></div>",
        'so<ref name="a">A 2004</ref>',
        'see <a href="http://x.y/z',
    ],
)
def test_closing_tags_and_notes_of_pages_are_residue(said: str) -> None:
    assert "html_residue" in codes(f"{ANSWER} {said}")


def test_comparisons_are_no_tags() -> None:
    assert "html_residue" not in codes("It is true where a<b holds and b>c holds, for example a=1, b=5, c=2.")


@pytest.mark.parametrize(
    "prefix",
    [
        "A: ",
        "Answer: ",
        "\u041e\u0442\u0432\u0435\u0442: ",
        "\u52a9\u624b\uff1a",
        "Jawaban: ",
        "\u0627\u0644\u062c\u0648\u0627\u0628: ",
        "**Answer:** ",
        "assistant\n",
        "### response:\n",
    ],
)
def test_a_name_for_the_answer_before_it_is_residue(prefix: str) -> None:
    assert "template_residue" in codes(prefix + ANSWER)
    assert "template_residue" not in codes(prefix + ANSWER, f"{QUESTION} Begin with: {prefix}")


def test_the_next_turn_behind_an_answer_is_residue_and_a_dialogue_is_none() -> None:
    for tail in ("\n\n### Instruction:\nWrite another one.", "\nUser: thanks", "\n\nQ: What else?\nA:", "\n### End"):
        assert "template_residue" in codes(ANSWER + tail)
    assert "template_residue" in codes(ANSWER, f"User: {QUESTION}\nAssistant: ")
    assert "template_residue" not in codes("A: Hello there. B: Hello. A: How are you?")
    assert "template_residue" not in codes("Answer: Agree. Confidence: 90%")
    assert "template_residue" not in codes("A: it is cheaper.", "Which one, A or B?")


def test_pairs_that_differ_in_case_alone_and_questions_led_in_to_are_found() -> None:
    assert "chosen_equals_rejected" in codes_of(pair(QUESTION, ANSWER, ANSWER.upper()))
    for chosen in (f'"{QUESTION}"\n{ANSWER}', f"Question: {QUESTION}\nAnswer: {ANSWER}"):
        assert "prompt_inside_chosen" in codes_of(pair(QUESTION, chosen, "It was built."))
    assert "prompt_inside_chosen" not in codes_of(pair(QUESTION, f"You may well ask this. {QUESTION}", "It was built."))


def test_arguments_are_objects_and_results_belong_to_calls() -> None:
    def used(arguments: str, answered: str) -> set[str]:
        result = Message(role="tool", content="4 C", extra={"tool_call_id": answered})
        return codes_of(turns(("user", "Weather?"), call(arguments), result, ("assistant", "It is 4 C.")))

    assert not {"tool_arguments_not_json", "tool_result_without_call"} & used('{"city": "Oslo"}', "c1")
    assert "tool_arguments_not_json" in used('["Oslo"]', "c1")
    assert "tool_arguments_not_json" in used('{"t": NaN}', "c1")
    assert "tool_result_without_call" in used('{"city": "Oslo"}', "c9")


def test_labels_in_quotes_are_variants_and_missing_values_are_empty() -> None:
    usual = [labelled(f"Text number {n}.", ("card_lost", "pin_blocked")[n % 2]) for n in range(40)]
    rows = [*usual, labelled("Mine.", "'card_lost'"), labelled("Yours.", "Label: pin_blocked")]
    assert found("label_variant", rows) == [40, 41]
    assert "empty_label" in codes_of(labelled("Mine.", "NaN"))
    assert "empty_label" not in codes_of(labelled("Mine.", "none"))


def test_a_menu_and_a_form_are_boilerplate_and_one_of_them_is_not() -> None:
    assert "boilerplate" in codes_of(text(f"Home | About | Contact | Blog\nSkip to main content\n{ANSWER}"))
    assert "boilerplate" not in codes_of(text(f"Home | About | Contact | Blog\n{ANSWER}"))
    assert "boilerplate" in codes_of(text(f"{ANSWER}\nLeave a comment\nYour email address will not be published."))


def test_an_answer_that_answers_nothing_is_short() -> None:
    usual = [
        asked("Explain it.", f"It is number {n} of the things that one can explain in a few words.") for n in range(9)
    ]
    rows = [
        *usual,
        *(asked("Explain how it works.", said) for said in ("see above", "idk", "TODO: write", "None", "\u65e0")),
    ]
    assert found("too_short", rows) == [9, 10, 11, 12, 13]
    assert found("too_short", [*usual, asked("How many moons has Venus?", "None")]) == []


@pytest.mark.parametrize("said", [
    "\u0411\u0430\u0440\u043b\u044b\u049b \u0430\u0434\u0430\u043c\u0434\u0430\u0440 \u0442\u0443\u043c\u044b\u0441\u044b\u043d\u0430\u043d \u0430\u0437\u0430\u0442 \u0436\u04d9\u043d\u0435 \u049b\u0430\u0434\u0456\u0440-\u049b\u0430\u0441\u0438\u0435\u0442\u0456 \u043c\u0435\u043d \u049b\u04b1\u049b\u044b\u049b\u0442\u0430\u0440\u044b \u0442\u0435\u04a3 \u0431\u043e\u043b\u044b\u043f \u0434\u04af\u043d\u0438\u0435\u0433\u0435 \u043a\u0435\u043b\u0435\u0434\u0456.", "\u0421\u0432\u0430 \u0459\u0443\u0434\u0441\u043a\u0430 \u0431\u0438\u045b\u0430 \u0440\u0430\u0452\u0430\u0458\u0443 \u0441\u0435 \u0441\u043b\u043e\u0431\u043e\u0434\u043d\u0430 \u0438 \u0458\u0435\u0434\u043d\u0430\u043a\u0430 \u0443 \u0434\u043e\u0441\u0442\u043e\u0458\u0430\u043d\u0441\u0442\u0432\u0443 \u0438 \u043f\u0440\u0430\u0432\u0438\u043c\u0430.",
    "\u0425\u04af\u043d \u0431\u04af\u0440 \u0442\u04e9\u0440\u0436 \u043c\u044d\u043d\u0434\u043b\u044d\u0445\u044d\u0434 \u044d\u0440\u0445 \u0447\u04e9\u043b\u04e9\u04e9\u0442\u044d\u0439, \u0430\u0434\u0438\u043b\u0445\u0430\u043d \u043d\u044d\u0440 \u0442\u04e9\u0440\u0442\u044d\u0439, \u0438\u0436\u0438\u043b \u044d\u0440\u0445\u0442\u044d\u0439 \u0431\u0430\u0439\u0434\u0430\u0433.", "\u0423\u0441\u0435 \u043b\u044e\u0434\u0437\u0456 \u043d\u0430\u0440\u0430\u0434\u0436\u0430\u044e\u0446\u0446\u0430 \u0441\u0432\u0430\u0431\u043e\u0434\u043d\u044b\u043c\u0456 \u0456 \u0440\u043e\u045e\u043d\u044b\u043c\u0456 \u045e \u0441\u0432\u0430\u0451\u0439 \u0433\u043e\u0434\u043d\u0430\u0441\u0446\u0456 \u0456 \u043f\u0440\u0430\u0432\u0430\u0445.",
])  # fmt: skip
def test_other_languages_in_cyrillic_letters_are_no_mojibake(said: str) -> None:
    assert "mojibake" not in codes(f"{said} {said.upper()}")


@pytest.mark.parametrize(
    "said",
    ["[" * 5000, '{"response":' * 5000 + '"x"' + "}" * 5000, "User: a" + "\n" * 100_000 + ":", "<a " + "=" * 50_000],
)
def test_no_text_however_nested_or_long_breaks_a_check(said: str) -> None:
    for question, answer in ((QUESTION, said), (said, ANSWER)):
        codes(answer, question)


def test_json_that_the_reader_itself_makes_of_marked_words_is_no_fault() -> None:
    row = replace(asked("Ann lives in Rome.", '{"text": "Ann lives in Rome and works in Turin"}'), origin={})
    assert "json_in_string" in codes_of(row)
    assert "json_in_string" not in codes_of(replace(row, origin={"format": "annotated"}))
