"""The documents say what the program is: links lead somewhere, and every table is that of the code."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.unit.planning.planned import make_plan
from tests.unit.report import sample

from finetune_exe import errors
from finetune_exe.cli.main import COMMANDS
from finetune_exe.data.checks import CHECKS
from finetune_exe.data.checks.guide import checks_reference
from finetune_exe.domain.plan import SETTING_GROUPS, EvaluationChoice, Plan
from finetune_exe.domain.task import FormatName
from finetune_exe.errors import ERRORS
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.workflow.reports import show_plan

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ERROR_PAGES = {page.stem.removeprefix("FT-"): page for page in (ROOT / "docs" / "errors").glob("FT-*.md")}
BEGIN, END = "<!-- settings: written by tests/unit/test_docs.py -->", "<!-- end of settings -->"
GROUPS = ("task", "model", *SETTING_GROUPS)


def headings(text: str) -> set[str]:
    """Give the anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    """Name the links of a page that lead to no file or heading of this repository."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in headings(file.read_text(encoding="utf-8"))):
            yield target


def table_after(page: Path, heading: str) -> list[list[str]]:
    """Give the cells of the first table below a heading, without its head."""
    text = page.read_text(encoding="utf-8")
    below = text[text.index(f"\n{heading}\n") :]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert rows
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in rows[0].splitlines()[2:]]


def test_the_plan_on_the_first_page_is_what_the_program_says() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    asked = re.search(
        r'^\$ fine-tune analyze "(.+)" --gpu "(.+)" --rows (\d+)\n(.*?)^```', page, re.MULTILINE | re.DOTALL
    )
    assert asked
    assert page[: asked.start()].count("\n") < 12
    plan = make_plan(description=asked[1], hardware=parse_hardware(asked[2]), num_rows=int(asked[3]))
    said = show_plan(plan, Path("plan.yaml")).splitlines()
    assert [line for line in asked[4].splitlines() if line != "..." and line not in said] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert not list(broken_links(page))


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](#one-two) [b](#three) [c](page.md) [d](gone.md) [e](https://example.org)\n")
    assert list(broken_links(page)) == ["#three", "gone.md"]


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    }
    assert not {page for page in PAGES if page != ROOT / "README.md"} - linked


def test_every_error_has_a_page_and_every_page_an_error() -> None:
    assert set(ERROR_PAGES) == set(ERRORS)
    for code, page in ERROR_PAGES.items():
        assert page.read_text(encoding="utf-8").startswith(f"# FT-{code}: {ERRORS[code].title}\n")


def test_the_index_of_errors_lists_them_all() -> None:
    rows = table_after(ROOT / "docs" / "errors" / "README.md", "## All codes")
    assert rows == [
        [f"[FT-{code}](FT-{code}.md)", kind.title, str(kind.exit_status)] for code, kind in sorted(ERRORS.items())
    ]


def test_the_readme_lists_the_commands_and_the_exit_statuses() -> None:
    rows = table_after(ROOT / "README.md", "## Commands")
    named = [re.match(r"`fine-tune (\w+)", row[0]) for row in rows]
    assert [name[1] for name in named if name] == list(COMMANDS)
    statuses = {int(row[0]) for row in table_after(ROOT / "README.md", "## Exit statuses")}
    assert statuses == {value for value in vars(errors).values() if isinstance(value, int)}


def test_layers_are_those_of_the_contract() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    block = re.search(r"## Layers.*?```text\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)
    assert block
    assert [line.split("  ")[0].strip() for line in block[1].splitlines()] == contract


def kind_of(schema: dict[str, Any]) -> str:
    """Say in words what values a JSON schema allows."""
    if "anyOf" in schema:
        return " or ".join(kind_of(part) for part in schema["anyOf"])
    if "$ref" in schema:
        return "group"
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {kind_of(schema['items'])}"
    words = {
        "integer": "whole number",
        "number": "number",
        "boolean": "true or false",
        "string": "text",
        "null": "`null`",
    }
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {schema[key]:,.15g}" for key, word in bounds.items() if key in schema]
    return " ".join([words[schema["type"]], " and ".join(limits)]).strip()


def shown(value: object) -> str:
    """Write a default as YAML has it."""
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def setting_rows(path: str, schema: dict[str, Any], every: dict[str, Any]) -> Iterator[str]:
    """Write the table rows of a group of settings and of the groups in it."""
    for name, field in schema["properties"].items():
        full = f"{path}.{name}"
        for part in field.get("oneOf", ()):
            yield from setting_rows(full, every[part["$ref"].rpartition("/")[2]], every)
        if "oneOf" in field:
            continue
        meaning = field["description"]
        default = "" if "const" in field or "default" not in field else shown(field["default"])
        yield f"| `{full}` | {kind_of(field)} | {default} | {meaning} |".replace("None", "`null`")


def settings_reference() -> str:
    """Write the tables of all settings from the plan's own model."""
    schema = Plan.model_json_schema()
    every = schema["$defs"]
    parts = []
    for group in GROUPS:
        field = schema["properties"][group]
        kinds = [every[part["$ref"].rpartition("/")[2]] for part in field.get("oneOf", [field])]
        for kind in kinds:
            title = f"{group}.kind: {kind['properties']['kind']['const']}" if len(kinds) > 1 else group
            head = "| setting | value | default | meaning |\n|---|---|---|---|"
            parts.append(
                "\n".join([f"### {title}\n\n{kind['description']}\n\n{head}", *setting_rows(group, kind, every)])
            )
    seed = schema["properties"]["seed"]
    parts.append(
        f"### seed\n\n| setting | value | default | meaning |\n|---|---|---|---|\n"
        f"| `seed` | {kind_of(seed)} | {shown(seed['default'])} | {seed['description']} |"
    )
    return "\n\n".join(parts)


def test_the_settings_reference_is_that_of_the_model() -> None:
    """Rewrite with UPDATE_GOLDEN=1 and read the difference."""
    page = ROOT / "docs" / "guides" / "plan.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN + "\n", 1)
    after = rest[rest.index(END) :]
    written = f"{before}{BEGIN}\n\n{settings_reference()}\n\n{after}"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(written, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == written


def test_the_reference_of_checks_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "guides" / "data-checks.md"
    begin, end = "<!-- checks: written by tests/unit/test_docs.py -->", "<!-- end of checks -->"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(begin + "\n", 1)
    written = f"{before}{begin}\n\n{checks_reference()}\n\n{rest[rest.index(end) :]}"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(written, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == written
    assert all(f"| `{check.code}` |" in written for check in CHECKS)


def test_the_settings_reference_lists_every_setting() -> None:
    listed = set(re.findall(r"^\| `([a-z0-9_.]+)` \|", settings_reference(), re.MULTILINE))
    assert {path for path, _, _ in sample.plan().settings()} <= listed


def test_formats_and_metrics_are_named_in_the_guide_to_the_plan() -> None:
    text = (ROOT / "docs" / "guides" / "plan.md").read_text(encoding="utf-8")
    metrics = get_args(get_args(EvaluationChoice.model_fields["metrics"].annotation)[0])
    assert not [name for name in (*get_args(FormatName), *metrics) if f"`{name}`" not in text]


def llms_text() -> str:
    """Write the page by which a language model finds its way: commands and guides."""
    pages = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"^- \[([^\]]+)\]\(((?:guides|errors)/[^)]+)\): ((?:.|\n  )+)$", pages, re.MULTILINE)
    commands = [f"- `fine-tune {name}`: {does}" for name, does in COMMANDS.items()]
    guides = [f"- [{title}](docs/{path}): {' '.join(says.split())}" for title, path, says in links]
    return "\n".join([
        "# FINETUNE.EXE", "",
        "> A fine-tuning specialist for language models whose advice can be checked: it plans, prepares data, trains, evaluates "
        "and debugs, and every figure has an interval, a reason and a source.", "",
        "Install with `pip install finetune-exe`. Every command takes `--json` and `--help`; exit status 3 means that a check "
        "says no. Agents call it through the skill or the MCP server: [agents](docs/guides/agents.md).", "",
        "## Commands", "", *commands, "", "## Pages", "", *guides, "- [Readme](README.md)", "",
    ])  # fmt: skip


def test_llms_txt_lists_commands_and_pages() -> None:
    text = llms_text()
    assert text.count("](docs/guides/") > 15
    page = ROOT / "llms.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(text, encoding="utf-8")
    assert page.read_text(encoding="utf-8") == text
    assert not [path for path in re.findall(r"\]\(([^)]+)\)", text) if not (ROOT / path).is_file()]
