"""`fine-tune estimate`: the contract of --runs, one configuration, and bad input."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from finetune_exe.cli.estimate import command
from finetune_exe.domain.plan_yaml import write_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.workflow.estimates import wished_plan

RUN = {"id": "a1", "model": "Llama-3.1-8B", "method": "qlora-nf4", "micro_batch": "2", "seq_len": "2048",
       "gpu_type": "A100-80GB", "grad_checkpointing": "yes"}  # fmt: skip


def estimate(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_runs_are_answered_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    lines = [RUN, {"id": 2, "model": "no such model"}, {**RUN, "id": "a3", "gpu_type": "unknown"}]
    file.write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    first, second, third = map(json.loads, estimate("--runs", str(file)).output.splitlines())
    assert (first["id"], second["id"], third["id"]) == ("a1", 2, "a3")
    for name in ("allocated_gib", "reserved_gib", "device_gib"):
        size = first["memory"][name]
        assert size["low"] < size["mid"] < size["high"]
    assert sum(first["memory"]["parts"].values()) == pytest.approx(first["memory"]["allocated_gib"]["mid"], abs=0.01)
    assert first["speed"]["tokens_per_second_per_gpu"]["mid"] > 0
    assert first["refused"] is None
    assert second["memory"] is None
    assert second["refused"]
    assert third["memory"] == first["memory"]
    assert third["speed"] is None
    assert "GPU" in third["refused"]


@pytest.mark.parametrize("line", ['{"id": "b"', "[]", "7", '{"model": "x"}', '{"id": "b", "model": ["x"]}', "[" * 9999])
def test_a_bad_line_is_named_and_nothing_is_answered(tmp_path: Path, line: str) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text(json.dumps(RUN) + "\n" + line + "\n")
    with pytest.raises(FineTuneError) as fault:
        estimate("--runs", str(file))
    assert (fault.value.code, fault.value.exit_status) == ("R01", 65)
    assert "line 2" in fault.value.where


def test_a_missing_file_is_said() -> None:
    with pytest.raises(FineTuneError, match="D07"):
        estimate("--runs", "nowhere.jsonl")


def test_one_configuration_is_shown_with_parts_and_intervals() -> None:
    shown = estimate("--model", "llama 3.1 8b", "--gpu", "RTX 4090", "--method", "qlora", "--length", "2048").output
    for word in ("weights", "activations", "allocated:", "on the device:", "tokens/s", "RTX 4090"):
        assert word in shown
    assert "process:" in estimate("--model", "embedded", "--cpu").output


def test_options_reach_the_estimate() -> None:
    def allocated(*arguments: str) -> float:
        answer = json.loads(estimate("--model", "qwen2.5 0.5b", "--gpu", "A100", "--json", *arguments).output)
        return float(answer["memory"]["allocated_gib"]["mid"])

    plain = allocated()
    for more in (["--rank", "256"], ["--micro-batch-size", "4"], ["--length", "2048"], ["--method", "full"]):
        assert allocated(*more) > plain
    assert allocated("--checkpointing", "--length", "8192") < allocated("--length", "8192")


def test_a_model_without_dimensions_is_said() -> None:
    with pytest.raises(FineTuneError, match="M05"):
        estimate("--model", "someone/unknown-model", "--gpu", "A100")


@pytest.mark.parametrize("arguments", [(), ("--model", "gpt2", "--runs", "x"), ("--plan", "p.yaml", "--model", "gpt2")])
def test_exactly_one_thing_is_estimated(arguments: tuple[str, ...]) -> None:
    assert estimate(*arguments).exit_code == 2


def test_what_does_not_fit_is_said_with_what_would() -> None:
    shown = estimate("--model", "llama 3.1 70b", "--gpu", "A100 80GB", "--method", "qlora", "--length", "4096").output
    assert "80.0 GiB on one GPU: it does not fit" in shown
    assert "with --checkpointing it takes" in shown
    assert "it fits" in estimate("--model", "gpt2", "--gpu", "A100 80GB").output


def test_gpus_that_are_named_and_not_used_are_said() -> None:
    shown = estimate("--model", "llama 3.1 8b", "--gpu", "8xH100", "--method", "full").output
    assert "--set parallelism.kind=fsdp --set parallelism.num_gpus=8" in shown
    shared = estimate("--model", "llama 3.1 8b", "--gpu", "8xH100", "--method", "full",
                      "--set", "parallelism.kind=fsdp", "--set", "parallelism.num_gpus=8").output  # fmt: skip
    assert "idle GPUs" not in shared


def test_other_hardware_and_another_method_are_estimated_for_a_plan(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    write_plan(wished_plan("gpt2", hardware="A100", method="lora"), plan)
    assert "gpt2, lora, 1 x" in estimate("--plan", str(plan)).output
    shown = estimate("--plan", str(plan), "--gpu", "RTX 4090", "--method", "full").output
    assert "gpt2, full" in shown
    assert "RTX 4090" in shown


def test_a_wrong_setting_is_quoted_alone() -> None:
    with pytest.raises(FineTuneError, match="C04") as caught:
        estimate("--model", "gpt2", "--gpu", "A100", "--set", "batch.micro_batch_size=0")
    assert caught.value.where == "--set batch.micro_batch_size=0"


def test_a_configuration_without_rows_has_no_duration_and_no_cost() -> None:
    shown = estimate("--model", "gpt2", "--gpu", "A100").output
    assert "duration" not in shown
    assert "cost" not in shown
