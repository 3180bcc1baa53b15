"""Every command line that stands in the documents or in a command's help is one that the program understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from finetune_exe.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src/finetune_exe/cli").glob("*.py")])
END_OF_COMMAND = {"|", ">", "&&", "..."}


def command_lines(text: str) -> Iterator[list[str]]:
    """Give the words behind `fine-tune` of lines that hold a command alone, up to a pipe or an ellipsis."""
    for line in re.findall(r"^ *(?:\$ )?fine-tune ([a-z].*)$", text.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(line, comments=True)
        end = next((place for place, word in enumerate(words) if word in END_OF_COMMAND), len(words))
        if words and words[0] in COMMANDS:
            yield words[:end]


def understood(words: list[str]) -> None:
    """Read a command line as the program does, and run nothing.

    Raises:
        click.ClickException: An unknown command, option or choice.
    """
    command: click.Command | None = cli
    context = click.Context(cli, info_name="fine-tune")
    while isinstance(command, click.Group) and words:
        _, command, words = command.resolve_command(context, words)
        assert command is not None
        context = click.Context(command, parent=context)
    assert command is not None
    given, _, _ = command.make_parser(context).parse_args([*words])
    for parameter in command.params:
        value = given.get(str(parameter.name))
        if isinstance(parameter.type, click.Choice):
            for choice in value if isinstance(value, list) else [value]:
                if isinstance(choice, str):
                    parameter.type.convert(choice, parameter, context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_is_understood(page: Path) -> None:
    for words in command_lines(page.read_text(encoding="utf-8")):
        try:
            understood(words)
        except click.ClickException as fault:
            pytest.fail(f"fine-tune {shlex.join(words)}: {fault.format_message()}")


def test_many_command_lines_are_found() -> None:
    found = [words for page in PAGES for words in command_lines(page.read_text(encoding="utf-8"))]
    assert len(found) > 150
    assert {words[0] for words in found} >= {*COMMANDS} - {"schema"}


@pytest.mark.parametrize("line", ["train p.yaml --resum", "export RUN --to pickle", "openai begin", "analyze x --gpu"])
def test_a_line_that_is_no_command_is_found(line: str) -> None:
    [words] = command_lines(f"    fine-tune {line}  # as in a guide")
    with pytest.raises(click.ClickException):
        understood(words)
