"""No name an agent can give leads out of the declared folders."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.report import sample

from finetune_exe.agents import roots as roots_module
from finetune_exe.agents.roots import PATH_SETTINGS, Roots
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.errors import FineTuneError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with rows, and links out of it."""
    folder, outside = tmp_path / "project", tmp_path / "outside"
    (folder / "data").mkdir(parents=True)
    (folder / "linked").mkdir()
    outside.mkdir()
    (outside / "secret.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "data" / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    (folder / "inner.jsonl").symlink_to(folder / "data" / "rows.jsonl")
    (folder / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (folder / "away").symlink_to(outside)
    (folder / "linked" / "rows.jsonl").symlink_to(outside / "secret.jsonl")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def roots(project: Path) -> Roots:
    return Roots.declared([project])


OUTSIDE = [
    "../outside/secret.jsonl", "/etc/passwd", "/proc/self/environ", "link.jsonl", "away/secret.jsonl", "away", "..", "~",
    "data/../../outside", "../project-other", "a\0b", "x" * 5_000, "~nobody-of-that-name/x", "//etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_outside_are_refused(name: str, roots: Roots, project: Path) -> None:
    (project.parent / "project-other").mkdir()
    for refuse in (roots.confine, roots.confine_all, lambda name: roots.rows([name])):
        with pytest.raises(FineTuneError) as refused:
            refuse(name)
        assert refused.value.code == "A01"


@pytest.mark.parametrize(("name", "found"), [("data/rows.jsonl", "data/rows.jsonl"), ("inner.jsonl", "data/rows.jsonl"),
                                             ("data/../data", "data"), (".", "."), ("not there yet", "not there yet")])  # fmt: skip
def test_names_inside_come_to_their_place(name: str, found: str, roots: Roots, project: Path) -> None:
    assert roots.confine(name) == (project / found).resolve()


@given(st.text(alphabet="./~*ab\\", max_size=14) | st.text(max_size=8))
def test_whatever_is_written_nothing_outside_comes_out(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("root") / "inner"
    folder.mkdir()
    roots = Roots.declared([folder])
    found: list[str] = []
    with suppress(FineTuneError):
        found += [str(roots.confine(name)), *roots.rows([name])]
    assert all(Path(path).resolve().is_relative_to(folder) for path in found if path != "stdlib")


@pytest.mark.parametrize(
    "name", ["linked", ".", "**/*.jsonl", "*.jsonl", "../*/*.jsonl", "/etc/*", "data/*/../../../outside/*"]
)
def test_folders_and_patterns_are_looked_through(name: str, roots: Roots) -> None:
    with pytest.raises(FineTuneError) as refused:
        roots.rows([name])
    assert refused.value.code == "A01"


def test_patterns_and_folders_inside_give_their_files(roots: Roots, project: Path) -> None:
    assert roots.rows(["data/*.jsonl", "data", "stdlib"]) == (
        str(project / "data/rows.jsonl"),
        str(project / "data"),
        "stdlib",
    )


@pytest.mark.parametrize("name", ["hf://owner/rows", "https://example.org/rows.jsonl", "file:///etc/passwd"])
def test_rows_elsewhere_are_refused(name: str, roots: Roots) -> None:
    with pytest.raises(FineTuneError):
        roots.rows([name])


@pytest.mark.parametrize("name", ["/etc", "../outside", "~/model", "./away", "away", "x\0", "x" * 300])
def test_models_outside_are_refused(name: str, roots: Roots) -> None:
    with pytest.raises(FineTuneError):
        roots.model(name)


def test_models_inside_come_to_their_place(roots: Roots, project: Path) -> None:
    (project / "my" / "model").mkdir(parents=True)
    assert roots.model("my/model") == roots.model("./my/model") == str(project / "my" / "model")


@pytest.mark.parametrize("name", ["embedded", "Qwen/Qwen2.5-0.5B-Instruct", "llama 3.1 8b", None])
def test_names_of_models_stay_names(name: str | None, roots: Roots) -> None:
    assert roots.model(name) == name


@pytest.mark.parametrize("path", [*PATH_SETTINGS, "data", "model", " data.paths "])
def test_settings_that_name_files_are_refused(path: str, roots: Roots) -> None:
    with pytest.raises(FineTuneError):
        roots.settings([f"{path}=/etc/passwd"])
    assert roots.settings(["data.max_length=64"]) == ("data.max_length=64",)


def test_every_setting_that_names_a_file_is_known() -> None:
    """A new setting of this kind must be added to PATH_SETTINGS."""
    named = {
        path
        for path, _, _ in sample.plan().settings()
        if "path" in path or "template" in path or path == "model.reference"
    }
    assert named <= set(PATH_SETTINGS)


@pytest.mark.parametrize(
    "change", [{"paths": ("../outside",)}, {"test_paths": ("/etc/passwd",)}, {"validation_paths": ("link.jsonl",)},
               {"chat_template": "../outside/x.jinja"}, {"paths": ("hf://a/b",)}],
)  # fmt: skip
def test_a_plan_that_names_files_outside_is_refused(change: dict[str, object], roots: Roots, project: Path) -> None:
    plan = sample.plan()
    inside = plan.model_copy(update={"data": plan.data.model_copy(update={"paths": ("data/rows.jsonl",)})})
    write_plan(inside, project / "plan.yaml")
    assert roots.plan("plan.yaml") == project / "plan.yaml"
    write_plan(inside.model_copy(update={"data": inside.data.model_copy(update=change)}), project / "plan.yaml")
    with pytest.raises(FineTuneError) as refused:
        roots.plan("plan.yaml")
    assert refused.value.code == "A01"


def test_pipes_are_refused(roots: Roots, project: Path) -> None:
    os.mkfifo(project / "pipe.jsonl")
    with pytest.raises(FineTuneError):
        roots.confine("pipe.jsonl")


def test_a_folder_of_too_many_files_is_refused(roots: Roots, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots_module, "MOST_FILES", 0)
    with pytest.raises(FineTuneError):
        roots.confine_all("data")


@pytest.mark.parametrize("folder", ["/", "/no/such/folder"])
def test_roots_that_confine_nothing_are_refused(folder: str) -> None:
    with pytest.raises(FineTuneError):
        Roots.declared([Path(folder)])
