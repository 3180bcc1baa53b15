"""Tools that write files or compute for long; each is confirmed by the user first."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import anyio
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Resolve
from mcp_types import CallToolResult
from pydantic import Field

from finetune_exe.agents.roots import Roots
from finetune_exe.atomic import require_new
from finetune_exe.domain.shipment import ShipmentForm
from finetune_exe.domain.task import Preset, TaskSpec
from finetune_exe.errors import OK
from finetune_exe.mcp.answers import answer
from finetune_exe.mcp.consent import (
    Reply,
    may_convert,
    may_evaluate,
    may_export,
    may_prepare,
    may_save,
    may_stop,
    may_train,
    refused,
)
from finetune_exe.mcp.reading import plan_facts
from finetune_exe.mcp.wishes import (
    Agreed,
    Column,
    Dollars,
    ExportFolder,
    ExportForm,
    Hardware,
    Hours,
    KeepAbilities,
    Method,
    Model,
    PermissiveLicense,
    PlanFile,
    Rows,
    RunFolderName,
    Settings,
    Task,
    TaskType,
    Turns,
    WrittenFormat,
    columns_named,
    turns_named,
    unclear,
)
from finetune_exe.workflow.background import Background, own_environment, stop_training

_NEXT = "call run_status until the state is finished; it goes on when this server ends"


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingTools:
    """The tools, each a method: its docstring is what the agent reads."""

    roots: Roots
    background: Background

    def save_plan(
        self,
        task: Task,
        output: Annotated[str, Field(description="The new plan file, as in plan.yaml. Never replaces one.")],
        reply: Annotated[Reply, Resolve(may_save)],
        task_type: TaskType = None,
        data: Rows = [],  # noqa: B006 - the schema shows it; it is never changed
        model: Model = None,
        hardware: Hardware = None,
        method: Method = None,
        preset: Preset = "auto",
        budget_usd: Dollars = None,
        hours: Hours = None,
        keep_abilities: KeepAbilities = False,
        permissive_license: PermissiveLicense = False,
        settings: Settings = [],  # noqa: B006
        confirm: Agreed = False,
    ) -> CallToolResult:
        """Write the plan that analyze gives for the same arguments to a new file."""
        from finetune_exe.domain.plan_yaml import write_plan
        from finetune_exe.workflow.plans import make_plan

        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        path = self.roots.confine(output)
        require_new(path)
        spec = TaskSpec(
            description=task, task_type=task_type, data_paths=self.roots.rows(data), model=self.roots.model(model),
            gpu=hardware, method=method, preset=preset, budget_usd=budget_usd, hours=hours,
            keep_abilities=keep_abilities, permissive_license=permissive_license,
        )  # fmt: skip
        plan = make_plan(spec, settings=self.roots.settings(settings))
        write_plan(plan, path)
        return answer({"done": True, "plan": str(path), **plan_facts(plan)})

    def convert_dataset(
        self,
        paths: Rows,
        to: WrittenFormat,
        output: Annotated[str, Field(description="The new file of JSON lines. Never replaces one.")],
        reply: Annotated[Reply, Resolve(may_convert)],
        prompt_column: Column = None,
        answer_column: Column = None,
        turns: Turns = None,
        confirm: Agreed = False,
    ) -> CallToolResult:
        """Write rows, whatever their format, to a new file in another one: alpaca, chatml, completion and others; with
        turns, texts that hold whole dialogues are parted. Tells how many rows could not be converted, and why."""
        from finetune_exe.workflow.converting import convert_to_file

        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        path = self.roots.confine(output)
        columns = columns_named(prompt_column, answer_column)
        form = turns_named(turns)
        if columns and form:
            raise unclear("rows have two columns, or one text with turns", "give columns or turns, not both")
        done = convert_to_file(self.roots.rows(paths), path, target=to, columns=columns, turns=form)
        facts = {"done": True, "seen": done.seen, "written": done.written, "format": done.source_format}
        dropped, noted = ([one.model_dump(mode="json") for one in counted] for counted in (done.dropped, done.noted))
        return answer(facts, quoted={"file": str(path), "dropped": dropped, "noted": noted})

    async def prepare_dataset(
        self,
        plan: PlanFile,
        context: Context,
        reply: Annotated[Reply, Resolve(may_prepare)],
        export_as: ExportForm = None,
        export_to: ExportFolder = None,
        confirm: Agreed = False,
    ) -> CallToolResult:
        """Read, clean, split and tokenise the rows of a plan into the folder dataset beside it, and prove the masks.
        Tells how many rows were dropped, by reason. A dataset that is up to date is taken over. With export_as, the
        rows are also written as another trainer reads them."""
        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        path = self.roots.plan(plan)
        self.roots.confine(str(path.parent / "dataset"))
        arguments = ["dataset", f"--plan={path}", "--json", *self._export(export_as, export_to)]
        status, said, complaints = await _run(arguments, self.roots.folders[0], context)
        if status != OK:
            return _failed(status, complaints)
        content = json.loads(said.rstrip("\n").rpartition("\n")[2])
        manifest = content["dataset"]
        figures = {name: value for name, value in manifest.items() if isinstance(value, int | float)}
        return answer({"done": True, "folder": content["folder"], **figures}, quoted=content)

    def _export(self, form: str | None, folder: str | None) -> list[str]:
        """Write the options of an export, into a folder that is new."""
        if (form is None) != (folder is None):
            raise unclear("export_as and export_to go together", "give both, or neither")
        if form is None or folder is None:
            return []
        output = self.roots.confine(folder)
        require_new(output)
        return [f"--export={form}", f"--output={output}"]

    def train_start(
        self,
        plan: PlanFile,
        reply: Annotated[Reply, Resolve(may_train)],
        run: Annotated[str | None, Field(description="The run's folder.  [default: runs/NAME beside the plan]")] = None,
        max_minutes: Annotated[float | None, Field(gt=0, description="Stop in good order after so long.")] = None,
        resume: Annotated[bool, Field(description="Go on with a run that was stopped.")] = False,
        settings: Settings = [],  # noqa: B006
        confirm: Agreed = False,
    ) -> CallToolResult:
        """Start training a plan in a process of its own, and return at once. Never replaces a run that is there."""
        from finetune_exe.workflow.plans import open_plan
        from finetune_exe.workflow.reports import default_run
        from finetune_exe.workflow.resuming import run_exists

        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        path = self.roots.plan(plan)
        wished = open_plan(path, settings=self.roots.settings(settings))
        folder = self.roots.confine(run or str(default_run(path)))
        self.roots.confine(str(self.background.log_of(folder)))
        if folder.exists() and not resume:
            raise run_exists(folder, resumable=True)
        arguments = ["train", f"--run={folder}", "--json", *(["--resume"] if resume else []),
                     *([f"--max-minutes={max_minutes}"] if max_minutes else []),
                     *(f"--set={setting}" for setting in settings), "--", str(path)]  # fmt: skip
        process = self.background.start("training", arguments, folder)
        return answer({"done": True, "run": str(folder), "process": process, **plan_facts(wished), "next": _NEXT})

    def train_stop(
        self, run: RunFolderName, reply: Annotated[Reply, Resolve(may_stop)], confirm: Agreed = False
    ) -> CallToolResult:
        """Ask a training to save after its step and leave; train_start with resume goes on with it."""
        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        folder = self.roots.confine(run)
        return answer({"done": True, "run": str(folder), "asked_process": stop_training(folder)})

    def evaluate_start(
        self, run: RunFolderName, reply: Annotated[Reply, Resolve(may_evaluate)], confirm: Agreed = False
    ) -> CallToolResult:
        """Start the evaluation of a finished run, base against tuned on held-out rows, and return at once. The result
        becomes the run's resource evaluation."""
        from finetune_exe.workflow.run_folder import RunFolder, open_run

        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        folder = self.roots.confine_all(run)
        open_run(folder)
        self.roots.plan(str(RunFolder(folder).plan))
        process = self.background.start("evaluating", ["eval", "--json", "--", str(folder)], folder)
        return answer({"done": True, "run": str(folder), "process": process, "next": _NEXT})

    def export_start(
        self,
        run: RunFolderName,
        reply: Annotated[Reply, Resolve(may_export)],
        to: Annotated[
            ShipmentForm, Field(description="Whole weights, one file for llama.cpp, or the adapter.")
        ] = "merged",
        output: Annotated[str | None, Field(description="The new folder.  [default: export/FORM in the run]")] = None,
        confirm: Agreed = False,
    ) -> CallToolResult:
        """Start writing the model of a run that passed its evaluation for other programs, verified and with its card,
        and return at once. A model that did not pass is not exported; only the user can do that."""
        from finetune_exe.workflow.run_folder import RunFolder, open_run

        if (unconfirmed := refused(reply)) is not None:
            return unconfirmed
        folder = self.roots.confine_all(run)
        open_run(folder)
        self.roots.plan(str(RunFolder(folder).plan))
        target = self.roots.confine(output or str(folder / "export" / to))
        require_new(target)
        process = self.background.start(
            "exporting", ["export", f"--to={to}", f"--output={target}", "--json", "--", str(folder)], folder
        )
        return answer({"done": True, "run": str(folder), "output": str(target), "process": process, "next": _NEXT})


async def _run(arguments: list[str], folder: Path, context: Context) -> tuple[int, str, str]:
    """Run a command to its end, telling the client what it says meanwhile; it is killed where the call is cancelled."""
    said: list[str] = []
    complaints: list[str] = []
    command = [sys.executable, "-m", "finetune_exe", *arguments]
    async with (
        await anyio.open_process(command, stdin=subprocess.DEVNULL, cwd=folder, env=own_environment()) as process,
        anyio.create_task_group() as group,
    ):
        group.start_soon(_collect, process, said)
        group.start_soon(_relay, process, complaints, context)
        status = await process.wait()
    return status, "".join(said), "".join(complaints)


async def _collect(process: Process, said: list[str]) -> None:
    assert process.stdout is not None
    async for text in TextReceiveStream(process.stdout, errors="replace"):
        said.append(text)


async def _relay(process: Process, complaints: list[str], context: Context) -> None:
    assert process.stderr is not None
    async for text in TextReceiveStream(process.stderr, errors="replace"):
        complaints.append(text)
        await context.report_progress(float(len(complaints)), message="preparing")


def _failed(status: int, complaints: str) -> CallToolResult:
    result = answer({"done": False, "exit_status": status}, files=[("what it said", complaints[-4_000:])])
    return result.model_copy(update={"is_error": True})
