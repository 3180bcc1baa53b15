"""Runs, plans and reports as resources, found by looking into the declared folders: no path comes from the client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote as percent

from finetune_exe.agents.quoting import fit_json, fit_text, quote, visible_json
from finetune_exe.agents.roots import LARGEST_PLAN, Roots
from finetune_exe.diagnosis.read import quote_secrets
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.run_folder import RunFolder

DEEPEST = 4
"""Levels below a declared folder that are searched."""
MOST_FOLDERS = 2_000
MOST_SHOWN = 200
_METRIC_LINES = 400
SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages", "checkpoints", "dataset", "model"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What may be read, each a method."""

    roots: Roots

    def list_runs(self) -> str:
        """List the runs with the addresses of their parts."""
        runs = [
            {"run": name, "addresses": [f"finetune://runs/{percent(name, safe='')}/{part}" for part in parts_of(run)]}
            for name, run in self._runs().items()
        ]
        return quote(fit_json({"runs": runs}).text)

    def list_plans(self) -> str:
        """List the plan files with their addresses."""
        found = [{"plan": name, "address": f"finetune://plans/{percent(name, safe='')}"} for name in self._plans()]
        return quote(fit_json({"plans": found}).text)

    def run_plan(self, run: str) -> str:
        """Give the plan as it was run."""
        return self._text(self._run(run).plan)

    def run_report(self, run: str) -> str:
        """Give plan, dataset, training and evaluation to read."""
        return self._text(self._run(run).report)

    def run_evaluation(self, run: str) -> str:
        """Give the evaluation."""
        return self._text(self._run(run).evaluation)

    def run_metrics(self, run: str) -> str:
        """Give the latest events, one JSON object a line."""
        path = self._confined(self._run(run).events)
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")[-_METRIC_LINES:]
        return _shown("\n".join(lines))

    def plan(self, plan: str) -> str:
        """Give a plan file."""
        try:
            return self._text(self._plans()[plan])
        except KeyError:
            raise _absent(plan) from None

    def _text(self, path: Path) -> str:
        return _shown(self._confined(path).read_text(encoding="utf-8", errors="replace"))

    def _confined(self, path: Path) -> Path:
        confined = self.roots.confine(str(path))
        if not confined.is_file():
            raise _absent(path.name)
        return confined

    def _run(self, name: str) -> RunFolder:
        try:
            return self._runs()[name]
        except KeyError:
            raise _absent(name) from None

    def _runs(self) -> dict[str, RunFolder]:
        found = {}
        for name, folder in self._folders():
            run = RunFolder(folder)
            if run.plan.is_file() and (run.summary.is_file() or run.events.is_file()):
                found[name] = run
        return found

    def _plans(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for name, folder in self._folders():
            for file in sorted(folder.glob("*.yaml")):
                if len(found) < MOST_SHOWN and not file.is_symlink() and _is_plan(file):
                    found[f"{name}/{file.name}".removeprefix("./")] = file
        return found

    def _folders(self) -> Iterator[tuple[str, Path]]:
        """Walk the declared folders, following no link, and name each folder by its place in them."""
        count = 0
        for number, root in enumerate(self.roots.folders):
            for place, folders, _ in os.walk(root):
                path = Path(place)
                levels = path.relative_to(root).parts
                hidden = [name for name in folders if name.startswith(".") or name in SKIPPED]
                folders[:] = [] if len(levels) >= DEEPEST else sorted(set(folders).difference(hidden))
                count += 1
                if count > MOST_FOLDERS:
                    return
                yield "/".join((*([f"@{number}"] if number else []), *levels)) or ".", path


def parts_of(run: RunFolder) -> list[str]:
    """Name what can be read of a run as it is now."""
    parts = {"plan": run.plan, "report": run.report, "evaluation": run.evaluation, "metrics": run.events}
    return [name for name, path in parts.items() if path.is_file()]


def _shown(text: str) -> str:
    """Put a text between marks, cut to size and without keys."""
    return quote(fit_text(quote_secrets(text)))


def _is_plan(file: Path) -> bool:
    if not file.is_file():
        return False  # a pipe would be waited for
    try:
        with file.open("rb") as opened:
            head = opened.read(4_096)
        if b"task:" not in head or b"schema:" not in head or file.stat().st_size > LARGEST_PLAN:
            return False
        read_plan(file)
    except (OSError, FineTuneError):
        return False
    return True


def _absent(name: str) -> FineTuneError:
    return FineTuneError(
        "A01", what=f"there is no such resource: {visible_json(name)}", where="the declared folders",
        why="only what finetune://runs and finetune://plans list can be read", fix="read finetune://runs first",
    )  # fmt: skip
