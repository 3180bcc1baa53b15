"""The skill: valid, idempotent, and never over what a user wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finetune_exe.agents import skill
from finetune_exe.agents.install import AGENTS, RECORD, look, remove, write
from finetune_exe.cli.agent import command
from finetune_exe.errors import EXISTS, FineTuneError
from finetune_exe.export.targets import EXPORTERS

ALL = tuple(AGENTS)
FOLDERS = {".claude/skills/fine-tune", ".agents/skills/fine-tune", ".cursor/skills/fine-tune"}


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def agent(*words: str) -> Result:
    done = CliRunner().invoke(command, list(words), standalone_mode=False)
    done.exit_code = done.return_value if isinstance(done.return_value, int) else done.exit_code
    return done


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, home = tmp_path / "project", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(home))
    return folder


def test_the_reference_validator_accepts_every_copy(project: Path) -> None:
    validator = pytest.importorskip("skills_ref", reason="the skills reference library is not installed")
    write(look(ALL, project))
    assert {path.parent.relative_to(project).as_posix() for path in project.rglob("SKILL.md")} == FOLDERS
    for folder in FOLDERS:
        assert validator.validate(project / folder) == []
        assert validator.read_properties(project / folder).name == "fine-tune"


def test_the_reference_validator_can_say_no(project: Path) -> None:
    validator = pytest.importorskip("skills_ref", reason="the skills reference library is not installed")
    write(look(["claude"], project))
    file = project / ".claude/skills/fine-tune/SKILL.md"
    file.write_text(file.read_text().replace("name: fine-tune", "name: Other_Name"))
    assert validator.validate(file.parent)


@pytest.mark.parametrize("name", ALL)
def test_each_agent_has_its_place(name: str, project: Path) -> None:
    assert agent("install", f"--{name}").exit_code == 0
    assert (project / AGENTS[name][0] / "SKILL.md").is_file()
    assert {path.parts[0] for path in map(Path, tree(project))} == {Path(folder).parts[0] for folder in AGENTS[name]}


def test_gemini_gets_a_command_in_which_nothing_is_expanded(project: Path) -> None:
    mine = project / ".gemini/commands/mine.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text("prompt = 'mine'")
    agent("install", "--gemini")
    content = tomllib.loads((project / ".gemini/commands/fine-tune.toml").read_text())
    assert set(content) == {"description", "prompt"}
    assert not re.search(r"[!@]\{|\{\{", content["prompt"])
    assert "skill fine-tune" in content["prompt"]
    agent("uninstall", "--gemini")
    assert tree(project) == {".gemini/commands/mine.toml": b"prompt = 'mine'"}


def test_without_a_name_it_goes_where_all_look(project: Path) -> None:
    assert agent("install").exit_code == 0
    assert {path.parts[0] for path in map(Path, tree(project))} == {".claude", ".agents"}


def test_for_the_user_it_goes_home(project: Path) -> None:
    assert agent("install", "--user", "--claude").exit_code == 0
    assert not tree(project)
    assert (Path.home() / ".claude/skills/fine-tune/SKILL.md").is_file()


def test_installing_twice_changes_nothing(project: Path) -> None:
    agent("install")
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()}
    again = agent("install")
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()} == before
    assert {line.split(":")[0] for line in again.output.splitlines()} == {"unchanged"}


def test_a_dry_run_writes_nothing(project: Path) -> None:
    assert "would be written" in agent("install", "--dry-run").output
    assert not tree(project)


def test_an_edited_file_stays_and_so_does_all_beside_it(project: Path) -> None:
    agent("install")
    edited = project / ".agents/skills/fine-tune/SKILL.md"
    edited.write_text("mine")
    (project / ".claude/skills/fine-tune/references/eval.md").unlink()
    before = tree(project)
    assert "edited by you" in agent("install", "--dry-run").output
    for words in (["install"], ["uninstall"]):
        with pytest.raises(FineTuneError) as refused:
            command.main(words, standalone_mode=False)
        assert refused.value.code == "A02"
        assert refused.value.exit_status == EXISTS
        assert str(edited) in refused.value.where
        assert tree(project) == before
    assert agent("install", "--overwrite").exit_code == 0
    assert edited.read_bytes() == skill.skill_files()["SKILL.md"]


def test_a_file_of_an_earlier_version_is_brought_up_to_date(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = {**skill.skill_files(), "SKILL.md": b"earlier", "references/gone.md": b"gone"}
    monkeypatch.setattr("finetune_exe.agents.install.skill_files", lambda: earlier)
    write(look(["claude"], project))
    monkeypatch.setattr("finetune_exe.agents.install.skill_files", skill.skill_files)
    (folder,) = look(["claude"], project)
    assert {file.path.name: file.state for file in folder.files}["SKILL.md"] == "outdated"
    assert agent("install", "--verify", "--claude").exit_code == 3
    write([folder])
    assert {name.removeprefix(".claude/skills/fine-tune/") for name in tree(project)} == {*skill.skill_files(), RECORD}
    assert look(["claude"], project)[0].current


def test_verify_tells_whole_from_missing_and_changed(project: Path) -> None:
    assert agent("install", "--verify").exit_code == 3
    assert not tree(project)
    agent("install")
    assert agent("install", "--verify").exit_code in (0, None)
    file = project / ".claude/skills/fine-tune/references/debug.md"
    file.write_bytes(file.read_bytes() + b"\n")
    found = agent("install", "--verify", "--json")
    assert found.exit_code == 3
    states = {entry["path"]: entry["state"] for entry in json.loads(found.output)["files"]}
    assert states.pop(str(file)) == "edited"
    assert set(states.values()) == {"current"}


def test_uninstalling_leaves_what_was_there_before(project: Path) -> None:
    other = project / ".claude" / "settings.json"
    other.parent.mkdir()
    other.write_text("{}")
    before = tree(project)
    agent("install", "--claude", "--codex", "--gemini", "--cursor")
    assert agent("uninstall", "--dry-run").exit_code == 0
    assert len(tree(project)) > len(before)
    assert agent("uninstall").exit_code == 0
    assert tree(project) == before
    assert {path.name for path in project.iterdir()} == {".claude"}
    assert agent("uninstall").output == "the skill is not here\n"
    assert not (project / ".claude" / "skills").exists()


def test_a_users_file_beside_the_skill_survives(project: Path) -> None:
    agent("install", "--claude")
    notes = project / ".claude/skills/fine-tune/notes.md"
    notes.write_text("mine")
    remove(look(["claude"], project))
    assert tree(project) == {".claude/skills/fine-tune/notes.md": b"mine"}


def test_a_link_in_the_place_of_a_file_counts_as_the_users(project: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(skill.skill_files()["SKILL.md"])
    file = project / ".claude/skills/fine-tune/SKILL.md"
    file.parent.mkdir(parents=True)
    file.symlink_to(secret)
    with pytest.raises(FineTuneError):
        write(look(["claude"], project))
    write(look(["claude"], project), overwrite=True)
    assert not file.is_symlink()
    assert secret.exists()


@pytest.mark.parametrize("record", [b"\xff", b"[]", b'{"sha256": {"../../../outside": "x"}}', b'{"sha256": 3}'])
def test_a_damaged_record_removes_nothing_else(record: bytes, project: Path) -> None:
    outside = project / "outside"
    outside.write_text("x")
    agent("install", "--claude")
    (project / ".claude/skills/fine-tune" / RECORD).write_bytes(record)
    assert agent("install", "--claude").exit_code == 0
    assert outside.read_text() == "x"


def test_no_words_of_the_user_reach_a_shell_line() -> None:
    texts = {name: content.decode() for name, content in skill.skill_files().items()}
    assert texts["SKILL.md"].count("$ARGUMENTS") == 1
    assert "<user-words>\n$ARGUMENTS\n</user-words>" in texts["SKILL.md"]
    for text in texts.values():
        assert "!`" not in text
        shell = re.findall(r"```(?:bash|sh|shell)\n(.*?)```", text, re.DOTALL)
        assert not shell
        assert set(re.findall(r"`(fine-tune agent run [^`]*)`", text)) <= {
            "fine-tune agent run .fine-tune/request.json",
            "fine-tune agent run .fine-tune/request.json --confirmed",
        }


def test_the_skill_has_a_page_for_each_of_the_five_commands() -> None:
    files = skill.skill_files()
    assert set(files) == {"SKILL.md", *(f"references/{name}.md" for name in skill.COMMANDS)}
    main = files["SKILL.md"].decode()
    assert all(f"`{name}` |" in main and f"references/{name}.md" in main for name in skill.COMMANDS)
    assert len(main.splitlines()) < 500


def test_the_skill_names_every_trainer() -> None:
    page = skill.skill_text("references/config.md")
    assert not [exporter.name for exporter in EXPORTERS if not re.search(rf"\b{exporter.name}\b", page)]


def test_the_requests_that_the_skill_shows_can_be_run(tmp_path: Path) -> None:
    from finetune_exe.agents.request import read_request
    from finetune_exe.cli.main import COMMANDS, cli

    shown = [block for content in skill.skill_files().values()
             for block in re.findall(r"```json\n\s*(.*?)\n\s*```", content.decode(), re.DOTALL)]  # fmt: skip
    assert len(shown) > 8
    for text in shown:
        file = tmp_path / "request.json"
        file.write_text(text)
        request = read_request(file, confirmed=False)
        assert request.command in COMMANDS
        group = cli.make_context("fine-tune", [request.command])
        known = cli.get_command(group, request.command)
        assert known is not None
        known.make_context(request.command, list(request.arguments), parent=group)


def test_the_skill_is_in_the_package_that_is_built() -> None:
    text = (Path(__file__).resolve().parents[3] / "pyproject.toml").read_text()
    assert 'packages = ["src/finetune_exe"]' in text
    assert Path(skill.__file__).parent.joinpath("skill", "SKILL.md").is_file()


def test_help_is_there_without_anything_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "finetune_exe", "agent", "install", "--help"], capture_output=True, text=True, check=True
    )
    assert "--dry-run" in done.stdout
