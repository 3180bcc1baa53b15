"""What `fine-tune doctor` found, to read."""

from __future__ import annotations

from finetune_exe.domain.checkup import Checkup, Part, RunState, SelfTest
from finetune_exe.domain.values import Check
from finetune_exe.report.page import Block, Bullet, Field, Heading, Table, Title, render_text
from finetune_exe.units import format_duration, format_gib, format_number


def render_checkup(checkup: Checkup) -> str:
    """Write the checkup for a terminal: what is wrong first, then everything that was looked at."""
    return render_text(_page(checkup))


def _page(checkup: Checkup) -> list[Block]:
    hardware = checkup.hardware
    features = ", ".join(hardware.cpu_features) or "no instructions that matter here"
    gpus = ", ".join(f"{gpu.name} ({format_gib(gpu.memory_bytes)})" for gpu in hardware.gpus) or "none"
    fields = (
        Field("Verdict", _verdict(checkup)),
        Field("Program", f"finetune-exe {checkup.program}, Python {checkup.python}, {checkup.system}"),
        Field("Processor", f"{hardware.cpu}, {hardware.num_cores} cores, {features}"),
        Field("Memory", format_gib(hardware.memory_bytes)),
        Field("GPUs", gpus),
    )
    return [
        Title("DOCTOR", fields),
        *_parts(checkup.parts),
        Heading("WHAT THIS MACHINE CAN DO"), _abilities(checkup.abilities), *_fixes(checkup),
        *_runs(checkup.runs),
        *_self_tests(checkup.self_tests),
    ]  # fmt: skip


def _verdict(checkup: Checkup) -> str:
    if checkup.failures:
        return f"{len(checkup.failures)} wrong: {'; '.join(checkup.failures)}"
    tested = f", {len(checkup.self_tests)} self-tests made" if checkup.self_tests else ", no self-test made"
    return f"nothing is wrong{tested}, {format_duration(checkup.seconds)}"


def _parts(parts: tuple[Part, ...]) -> list[Block]:
    if not parts:
        return []
    rows = []
    for part in parts:
        missing = [
            f"{package.name}{package.wanted} ({package.version or 'missing'})"
            for package in part.packages
            if not package.suffices
        ]
        there = ", ".join(f"{package.name} {package.version}" for package in part.packages if package.version)
        rows.append((part.name, "yes" if part.is_complete else f"no: {', '.join(missing)}", there or "nothing"))
    return [Heading("INSTALLED"), Table(header=("Part", "Complete", "Packages"), rows=tuple(rows))]


def _mark(passed: bool | None) -> str:
    return {True: "yes", False: "NO", None: "-"}[passed]


def _abilities(checks: tuple[Check, ...]) -> Table:
    rows = tuple((check.name, _mark(check.passed), check.detail) for check in checks)
    return Table(header=("Looked at", "Good", "Found"), rows=rows)


def _fixes(checkup: Checkup) -> list[Block]:
    return [Bullet(f"{check.name}: {check.fix}") for check in checkup.abilities if check.fix]


def _runs(runs: tuple[RunState, ...]) -> list[Block]:
    if not runs:
        return []
    blocks: list[Block] = [Heading("RUNS")]
    rows = tuple((run.folder, "DAMAGED" if run.state == "damaged" else run.state, str(run.num_checkpoints))
                 for run in runs)  # fmt: skip
    blocks.append(Table(header=("Folder", "State", "Whole checkpoints"), rows=rows))
    for run in runs:
        blocks += [Bullet(f"{run.folder}: {problem}") for problem in run.problems]
        blocks += [Bullet(f"{run.folder}: fix: {run.fix}")] if run.fix else []
    return blocks


def _self_tests(tests: tuple[SelfTest, ...]) -> list[Block]:
    if not tests:
        return []
    rows = tuple(
        (
            test.name,
            "-" if test.figure is None else format_number(test.figure),
            format_number(test.tolerance),
            test.verdict,
            f"{test.claim}. {test.detail}" if test.verdict != "passed" else test.claim,
        )
        for test in tests
    )
    return [
        Heading("SELF-TESTS"),
        Table(header=("Test", "Figure", "Tolerance", "Verdict", "What must hold"), rows=rows),
    ]
