"""The five commands end to end by the SDK's own client over standard input and output, training included."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the part [mcp] is not installed")

from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp_types import ElicitRequestParams, ElicitResult
from tests.integration.conftest import in_a_process
from tests.tiny import write_rows
from tests.unit.mcp.calling import quoted

SETTINGS = ["data.group_by=topic", "precision.base_dtype=float32", "evaluation.max_new_tokens=8", "schedule.epochs=1"]
PATIENCE_SECONDS = 300


def serve(folder: Path, work: Callable[[Client, list[str]], Awaitable[Any]], *, mode: str = "auto") -> Any:
    """Start `fine-tune mcp` in a folder and work with it; the client's user agrees to everything, and it is noted."""
    asked: list[str] = []

    async def agree(_: Any, question: ElicitRequestParams) -> ElicitResult:
        asked.append(question.message)
        return ElicitResult(action="accept", content={"agreed": True})

    async def run() -> Any:
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "finetune_exe", "mcp"], env=dict(os.environ), cwd=folder
        )
        async with Client(server, mode=mode, elicitation_callback=agree) as client:
            return await work(client, asked)

    return asyncio.run(run())


async def facts(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool and give what it says in the open."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def until(client: Client, run: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for the state of a run until it is as wished."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        state = await facts(client, "run_status", run=run)
        if reached(state):
            return state
        await asyncio.sleep(0.5)
    result = await client.call_tool("run_status", {"run": run})
    raise AssertionError(result.content)


async def read(client: Client, address: str) -> str:
    """Read a resource."""
    return quoted((await client.read_resource(address)).contents[0].text)  # type: ignore[union-attr]


def test_the_five_commands_from_a_sentence_to_a_verdict(tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "model").mkdir()
    for file in tiny_model.iterdir():
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())

    async def work(client: Client, asked: list[str]) -> None:
        wish = {"task": "reply to short requests", "data": ["rows.jsonl"], "model": "./model", "settings": SETTINGS}
        for name in ("analyze", "dataset", "config", "eval", "debug"):
            assert f"# {name}:" in (await client.get_prompt(name, {"words": "x"})).messages[0].content.text  # type: ignore[union-attr]
        assert (await facts(client, "analyze", **wish))["method"] in ("lora", "full")
        assert not asked
        assert (await facts(client, "check_dataset", paths=["rows.jsonl"], model="./model"))["masks_checked"]
        assert (await facts(client, "generate_config", to="trl", **wish))["files"]
        assert (await facts(client, "save_plan", output="plan.yaml", **wish))["done"]
        assert (await facts(client, "plan_evaluation", plan="plan.yaml"))["metrics"]
        prepared = await facts(client, "prepare_dataset", plan="plan.yaml", export_as="axolotl", export_to="export")
        assert list((tmp_path / "export").glob("*.jsonl"))
        assert prepared["done"]
        assert (tmp_path / "dataset" / "manifest.json").is_file()
        assert (await facts(client, "run_status", run="runs/plan"))["state"] == "absent"
        assert (await facts(client, "train_start", plan="plan.yaml"))["done"]
        twice = await client.call_tool("train_start", {"plan": "plan.yaml"})
        assert twice.structured_content["error"] in ("FT-O01", "FT-O02")  # type: ignore[index]
        state = await until(client, "runs/plan", lambda state: state["state"] == "finished")
        assert state["step"] == state["num_steps"]
        assert state["best_validation_loss"] > 0
        found = await facts(client, "diagnose", paths=["runs/plan"])
        assert found["findings"][0]["label"]
        assert (await facts(client, "evaluate_start", run="runs/plan"))["done"]
        await until(client, "runs/plan", lambda state: state["has_evaluation"] and state["state"] == "finished")
        assert (await facts(client, "export_start", run="runs/plan"))["done"]
        state = await until(client, "runs/plan", lambda state: state["state"] == "finished")
        assert state["exports"] == []
        log = (await client.call_tool("run_status", {"run": "runs/plan"})).content[1].text  # type: ignore[union-attr]
        assert "error[FT-E07]" in quoted(log), "what did not pass is not exported, and no agent can say otherwise"
        assert [question.split()[0] for question in asked] == [
            "Write",
            "Prepare",
            "Train",
            "Train",
            "Evaluate",
            "Export",
        ]
        runs = json.loads(await read(client, "finetune://runs"))["runs"]
        assert [run["run"] for run in runs] == ["runs/plan"]
        assert {address.rpartition("/")[2] for address in runs[0]["addresses"]} == {
            "plan",
            "report",
            "evaluation",
            "metrics",
        }
        for address in runs[0]["addresses"]:
            assert await read(client, address)
        assert (
            json.loads((await read(client, "finetune://runs/runs%2Fplan/metrics")).splitlines()[-1])["event"]
            == "run_finished"
        )

    serve(tmp_path, work)


def test_training_outlives_the_server_and_is_stopped_in_good_order(tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")
    settings = [
        word
        for setting in (*SETTINGS, "schedule.epochs=400", "checkpoints.early_stopping_patience=null")
        for word in ("--set", setting)
    ]
    planned = in_a_process(
        "analyze", "reply to short requests", "--data", "rows.jsonl", "--model", tiny_model, *settings, folder=tmp_path
    )
    assert planned.status == 0, planned.err
    plan = tmp_path / "plan.yaml"

    async def refuse(client: Client, _: list[str]) -> None:
        outside = await client.call_tool("train_start", {"plan": "plan.yaml"})
        assert outside.structured_content["error"] == "FT-A01"  # type: ignore[index]
        (tmp_path / "model").mkdir()
        for file in tiny_model.iterdir():
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
        plan.write_text(plan.read_text().replace(str(tiny_model), "./model"))

    async def start(client: Client, _: list[str]) -> None:
        assert (await facts(client, "train_start", plan="plan.yaml"))["done"]
        await until(client, "runs/plan", lambda state: state["state"] == "training" and (state["step"] or 0) > 0)

    async def stop(client: Client, _: list[str]) -> None:
        state = await facts(client, "run_status", run="runs/plan")
        assert state["state"] == "training"
        asked = await facts(client, "train_stop", run="runs/plan")
        assert asked["asked_process"] == state["process"]
        left = await until(client, "runs/plan", lambda state: state["process"] is None)
        assert left["state"] == "unfinished"
        assert left["num_checkpoints"] > 0
        again = await client.call_tool("train_stop", {"run": "runs/plan"})
        assert again.structured_content["error"] == "FT-A04"  # type: ignore[index]

    serve(tmp_path, refuse)
    serve(tmp_path, start, mode="legacy")
    serve(tmp_path, stop)


def test_a_training_that_fails_at_once_says_why(tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "rows.jsonl")

    async def work(client: Client, _: list[str]) -> None:
        wish = {"task": "reply to short requests", "data": ["rows.jsonl"], "model": "embedded"}
        await facts(client, "save_plan", output="plan.yaml", **wish)
        (tmp_path / "rows.jsonl").unlink()
        await facts(client, "train_start", plan="plan.yaml")
        await until(client, "runs/plan", lambda state: state["state"] == "failed")
        result = await client.call_tool("run_status", {"run": "runs/plan"})
        assert "error[FT-D07]" in quoted(result.content[1].text)  # type: ignore[union-attr]

    serve(tmp_path, work)


@pytest.mark.parametrize("root", ["/", "none"])
def test_roots_that_confine_nothing_stop_the_server(root: str, tmp_path: Path) -> None:
    done = in_a_process("mcp", "--root", root, folder=tmp_path)
    assert done.status == 2
    assert "FT-A01" in done.err
