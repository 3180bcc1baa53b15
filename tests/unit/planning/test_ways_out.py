"""Impossible wishes: the reasons in numbers, and ways out that really are ones."""

import re
import shlex

import pytest
from tests.unit.planning.planned import make_plan, make_profile

from finetune_exe.domain.task import TaskSpec
from finetune_exe.errors import GATE, FineTuneError
from finetune_exe.planning.analyze import analyze
from finetune_exe.planning.hardware import parse_hardware
from finetune_exe.units import GIB

LLAMA_70B = "meta-llama/Llama-3.1-70B"


def refusal(**spec: object) -> FineTuneError:
    with pytest.raises(FineTuneError) as caught:
        make_plan(profile=make_profile(), **spec)  # type: ignore[arg-type]
    assert caught.value.code == "C10"
    assert caught.value.exit_status == GATE
    return caught.value


def test_full_training_of_70b_on_one_card_is_refused_with_ways_out_that_work() -> None:
    card = parse_hardware("RTX 4090")
    error = refusal(hardware=card, model=LLAMA_70B, method="full")
    assert re.search(r"needs [\d,.]+ GiB or more, and 2\d[\d.]* GiB can be used", error.what)
    ways = [shlex.split(line.split("(")[0].split(". ", 1)[1]) for line in error.fix.splitlines()]
    assert len(ways) >= 2
    tried = 0
    for words in ways:
        options = dict(zip(words[::2], words[1::2], strict=True))
        hardware = parse_hardware(options["--gpu"]) if "--gpu" in options else card
        wish = {"model": options.get("--model", LLAMA_70B), "method": options.get("--method", "full")}
        make_plan(profile=make_profile(), hardware=hardware, **wish)
        tried += 1
    assert tried == len(ways)


def test_no_way_out_is_expected_to_break_another_limit() -> None:
    card, rows = parse_hardware("RTX 3060"), make_profile(num_rows=20_000)
    with pytest.raises(FineTuneError) as caught:
        make_plan(profile=rows, hardware=card, model="meta-llama/Llama-3.1-70B-Instruct", hours=1)
    ways = [shlex.split(line.split("(")[0].split(". ", 1)[1]) for line in caught.value.fix.splitlines()]
    tried = [dict(zip(words[::2], words[1::2], strict=True)) for words in ways]
    tried = [options for options in tried if options.keys() & {"--model", "--gpu"}]
    assert len(tried) == 2
    for options in tried:
        plan = make_plan(
            profile=rows, hours=1, hardware=parse_hardware(options["--gpu"]) if "--gpu" in options else card,
            model=options.get("--model", "meta-llama/Llama-3.1-70B-Instruct"), method=options.get("--method", "qlora"),
        )  # fmt: skip
        assert plan.estimates["duration"].value.mid <= 3600


def test_too_little_time_names_the_rows_that_fit_it() -> None:
    profile = make_profile(num_rows=200_000)
    card = parse_hardware("RTX 4090")
    model = "meta-llama/Llama-3.1-8B"
    with pytest.raises(FineTuneError) as caught:
        make_plan(profile=profile, hardware=card, model=model, hours=0.5)
    assert "30 min" in caught.value.what
    rows = int(re.search(r"data.max_rows=(\d+)", caught.value.fix)[1])  # type: ignore[index]
    assert 3 <= rows < 200_000
    make_plan(profile=make_profile(num_rows=rows), hardware=card, model=model, hours=0.5)


def test_a_wish_that_can_be_met_is_not_refused() -> None:
    plan = make_plan(
        profile=make_profile(), hardware=parse_hardware("H100"), model="meta-llama/Llama-3.1-8B", hours=48.0
    )
    assert plan.estimates["duration"].value.high < 48 * 3600


def test_experts_that_are_too_much_to_train_are_left_alone_on_a_card_that_holds_them_in_4_bit() -> None:
    card, model = parse_hardware("RTX 4090"), "Qwen/Qwen3-30B-A3B"
    error = refusal(hardware=card, model=model, method="qlora")
    wish = "method.target_modules=[q_proj, k_proj, v_proj, o_proj]"
    assert f"1. --set '{wish}'" in error.fix
    spec = TaskSpec(description="write a docstring", data_paths=("rows.jsonl",), model=model, method="qlora")
    plan = analyze(spec, profile=make_profile(), hardware=card, settings=[wish])
    assert 15 * GIB < plan.estimates["memory"].value.mid < 21 * GIB


def test_a_model_made_for_code_is_no_way_out_for_another_task() -> None:
    machine = parse_hardware("8xA100")
    for description, code in (("answer our customers", False), ("write Python functions", True)):
        with pytest.raises(FineTuneError) as caught:
            make_plan(description=description, hardware=machine, model=LLAMA_70B, method="full", num_rows=20_000)
        [model] = re.findall(r"--model (\S+)", caught.value.fix)
        assert ("code" in model.lower()) is code
