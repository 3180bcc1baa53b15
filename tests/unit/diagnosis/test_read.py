"""Lines come out clean whatever wrote them, and what is quoted gives no secret away."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_exe.diagnosis.read import Line, quote, read_file, read_stream
from finetune_exe.errors import FineTuneError


def lines(content: bytes) -> list[Line]:
    return list(read_stream(io.BytesIO(content), where="test"))


@pytest.mark.parametrize(
    "raw",
    [
        "\x1b[31mValueError: no\x1b[0m",
        "[rank0]: ValueError: no",
        "[default3]:ValueError: no",
        "12: ValueError: no",
        "(RayTrainWorker pid=812, ip=10.0.0.3) ValueError: no",
        "[1,3]<stderr>: ValueError: no",
        "2026-01-02T10:11:12.123456Z stderr F ValueError: no",
        "\u2502 ValueError: no",
        "\x1b]0;title\x07[rank1]: \x1b[1mValueError: no\x1b[0m  ",
        "Value\u200bError: no",
    ],
)
def test_colours_and_launchers_are_taken_away(raw: str) -> None:
    assert [line.text for line in lines(raw.encode())] == ["ValueError: no"]


def test_indentation_inside_a_traceback_stays() -> None:
    assert [line.text for line in lines(b'[rank0]:   File "a.py", line 3')] == ['  File "a.py", line 3']


def test_a_carriage_return_makes_pieces_of_one_line() -> None:
    assert lines(b"one\r two\r\nthree") == [
        Line(number=1, text="one"),
        Line(number=1, text=" two"),
        Line(number=2, text="three"),
    ]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp", "Cs")), min_size=1)))
def test_numbers_are_those_an_editor_shows(texts: list[str]) -> None:
    content = "\n".join(["first", *texts])
    for line in lines(content.encode()):
        assert line.text in content.split("\n")[line.number - 1]


def test_windows_logs_are_read_as_they_are_written() -> None:
    text = "step 1\nRuntimeError: k\u00f6nnen\n"
    assert [line.text for line in lines(text.encode("utf-16"))] == ["step 1", "RuntimeError: k\u00f6nnen"]
    assert [line.text for line in lines(text.encode("utf-8-sig"))] == ["step 1", "RuntimeError: k\u00f6nnen"]


def test_a_line_without_end_is_held_in_pieces() -> None:
    pieces = lines(b"x" * 300_000 + b"\nlast")
    assert max(len(piece.text) for piece in pieces) < 200_000
    assert pieces[-1] == Line(number=2, text="last")


@given(st.binary(max_size=2000))
def test_no_bytes_break_the_reader(content: bytes) -> None:
    try:
        numbers = [line.number for line in lines(content)]
    except FineTuneError as fault:
        code = fault.code
    else:
        code = "L01"
        assert numbers == sorted(numbers)
    assert code == "L01"


@pytest.mark.parametrize("content", [b"", b"  \n\n", b"\x00\x01\x02PK\x03\x04" * 100])
def test_empty_or_binary_input_is_refused(content: bytes) -> None:
    with pytest.raises(FineTuneError) as caught:
        lines(content)
    assert caught.value.code == "L01"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FineTuneError, match="No such file") as caught:
        list(read_file(tmp_path / "train.log"))
    assert caught.value.code == "L01"
    assert "train.log" in caught.value.where


@pytest.mark.parametrize(
    "secret",
    [
        "hf_" + "AbCdEfGhIjKlMnOpQrSt",
        "sk-" + "proj-abcdefghijkl0123",
        "ghp_" + "abcdefghijklmnop0123",
        "github_pat_" + "11ABCDEFG0abcdefgh",
        "xoxb-" + "1234567890-abcdef",
        "AKIA" + "ABCDEFGHIJKLMNOP",
    ],
)
def test_secrets_are_blacked_out(secret: str) -> None:
    for text in (f"token {secret} refused", f"WANDB_API_KEY={secret}", f"https://u:{secret}@host/x", f"'{secret}'"):
        assert secret not in quote(text)
        assert "[redacted]" in quote(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://user:hidden12@host", "https://:hidden12@host", "Bearer hidden123456", "Authorization: Basic hidden12345==",
        "?token=hidden&x=1", "api_key='hidden12'", '{"api_key": "hidden12"}', "password: hidden12", "wandb_token = hidden12",
        "AWS_SECRET_ACCESS_KEY=hidden12/+", "OPENAI_API_KEY: hidden12", '{"token": "hidden12"}', "hub_token: hidden12",
        "token='hidden12'", "private-key=hidden12",
    ],
)  # fmt: skip
def test_credentials_are_known_by_their_place(text: str) -> None:
    assert "[redacted]" in quote(text)
    assert "hidden" not in quote(text)


@pytest.mark.parametrize(
    "text",
    [
        "pad_token: <|endoftext|>", "eos_token=</s>", "special_tokens.pad_token: '<|im_end|>'", "max_new_tokens=128",
        "Unexpected token: expected ','", "tokens_per_second: 12345.678", "num_input_tokens_seen=1234567", "api_key: None"[:8],
        "KeyError: 'content'", "https://huggingface.co/docs",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(text: str) -> None:
    assert quote(text) == text


@given(st.text())
def test_a_quotation_is_one_short_printable_line(text: str) -> None:
    shown = quote(text)
    assert len(shown) <= 300
    assert not any(ord(character) < 32 for character in shown)
