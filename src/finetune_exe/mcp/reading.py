"""Tools that only look: nothing is written or trained."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_types import CallToolResult

from finetune_exe.agents.roots import Roots
from finetune_exe.diagnosis.read import quote_secrets
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.review import Severity
from finetune_exe.domain.task import FormatName, Preset, TaskSpec
from finetune_exe.mcp.answers import answer
from finetune_exe.mcp.wishes import (
    Column,
    Configuration,
    Dollars,
    Files,
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
    columns_named,
    unclear,
)
from finetune_exe.workflow.background import Background


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingTools:
    """The tools, each a method: its docstring is what the agent reads."""

    roots: Roots
    background: Background

    def analyze(
        self,
        task: Task,
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
    ) -> CallToolResult:
        """Recommend an approach to a fine-tuning task: base model, method, every hyperparameter with its reason and
        source, memory, duration and cost with intervals, rows needed, evaluation. Use save_plan to write it down."""
        spec = TaskSpec(
            description=task, task_type=task_type, data_paths=self.roots.rows(data), model=self.roots.model(model),
            gpu=hardware, method=method, preset=preset, budget_usd=budget_usd, hours=hours,
            keep_abilities=keep_abilities, permissive_license=permissive_license,
        )  # fmt: skip
        plan = self._make(spec, settings)
        shown = plan.model_dump(mode="json", by_alias=True, exclude={*WEIGHED}, exclude_none=True)
        return answer(plan_facts(plan), quoted=shown)

    def estimate(
        self,
        model: Model = None,
        plan: PlanFile | None = None,
        hardware: Hardware = None,
        method: Method = None,
        settings: Settings = [],  # noqa: B006
    ) -> CallToolResult:
        """Say what one configuration takes: peak memory by parts, speed, duration and cost, each with an interval. Give
        a model (method, hardware and settings beside it), or a plan file."""
        from finetune_exe.estimate.expectation import estimate_plan
        from finetune_exe.report.estimate import plan_estimate_contract
        from finetune_exe.workflow.estimates import wished_plan

        if plan is not None:
            wished = self._open(plan, settings, beside={"model": model, "hardware": hardware, "method": method})
        else:
            reference, changes = self.roots.model(model) or "embedded", self.roots.settings(settings)
            wished = wished_plan(reference, hardware=hardware, method=method or "lora", settings=changes)
        contract = plan_estimate_contract(estimate_plan(wished))
        figures = ("memory", "speed", "process_gib")
        return answer({name: contract[name] for name in figures}, quoted=contract)

    def check_dataset(
        self,
        paths: Rows,
        validation: Rows = [],  # noqa: B006
        test: Rows = [],  # noqa: B006
        format: FormatName | None = None,
        model: Model = None,
        prompt_column: Column = None,
        answer_column: Column = None,
    ) -> CallToolResult:
        """Check training rows for more than a hundred kinds of fault, duplicates, and leaks into held-out rows. With a
        model that is on this machine, loss masks are proven too. Changes nothing."""
        from finetune_exe.data.check import check
        from finetune_exe.models.locate import folder_at_hand
        from finetune_exe.text.tokenizer import load_tokenizer

        reference = self.roots.model(model)
        folder = folder_at_hand(reference) if reference else None
        tokenizer = load_tokenizer(folder, chat_template=None) if folder else None
        report = check(
            self.roots.rows(paths), validation=self.roots.rows(validation), test=self.roots.rows(test),
            format_name=format, columns=columns_named(prompt_column, answer_column), tokenizer=tokenizer,
        )  # fmt: skip
        found = [{"code": f.code, "severity": f.severity, "rows": len(f.rows)} for f in report.findings]
        facts = {"records": report.records, "kept": report.kept, "format": report.format, "findings": found,
                 "masks_checked": report.masks_checked}  # fmt: skip
        return answer(facts, quoted=report.model_dump(mode="json", by_alias=True))

    def generate_config(
        self,
        to: str = "plan",
        plan: PlanFile | None = None,
        from_file: Configuration = None,
        task: Task | None = None,
        data: Rows = [],  # noqa: B006
        model: Model = None,
        hardware: Hardware = None,
        settings: Settings = [],  # noqa: B006
    ) -> CallToolResult:
        """Give a training configuration as text, from a plan file, from another trainer's file or for a model, in the
        language of a trainer: plan (this one), python (a script on transformers and PEFT alone), trl, unsloth, axolotl,
        llamafactory, ms-swift, torchtune, litgpt, mlx or openai. Writes nothing."""
        from finetune_exe.export.targets import find_exporter

        exporter, left = find_exporter(to), None
        if plan is not None:
            beside = {"task": task, "data": data, "model": model, "hardware": hardware, "from_file": from_file}
            wished = self._open(plan, settings, beside=beside)
        elif from_file is not None:
            if data or model:
                raise unclear("from_file says what the data and the model are", "leave out data and model")
            wished, left = self._carry(from_file, task or ANY_TASK, hardware, settings)
        else:
            rows, base = self.roots.rows(data), self.roots.model(model)
            spec = TaskSpec(description=task or ANY_TASK, data_paths=rows, model=base, gpu=hardware)
            wished = self._make(spec, settings)
        files = exporter.export(wished)
        facts = {**plan_facts(wished), "target": exporter.name, "files": [file.name for file in files]}
        return answer(facts, quoted=left, files=[(file.name, file.text) for file in files])

    def review_config(self, files: Files, hardware: Hardware = None) -> CallToolResult:
        """Review training configurations or scripts of Axolotl, LLaMA-Factory, TRL, ms-swift, torchtune, LitGPT, MLX,
        Unsloth or transformers, and plans: unknown and ignored keys, contradictions, traps of masks, packing and
        templates, and with hardware what does not fit. Nothing of a file is run."""
        from finetune_exe.workflow.reviewing import review_files

        reviews, passed_over = review_files([self.roots.confine(file) for file in files], gpu=hardware)
        counts = [
            {"tool": review.tool, "settings": review.num_settings,
             **{f"{severity}s": review.count(severity) for severity in SEVERITIES},
             "codes": sorted({finding.code for finding in review.findings})}
            for review in reviews
        ]  # fmt: skip
        quoted = {"files": [review.model_dump(mode="json") for review in reviews],
                  "passed_over": [{"path": fault.where, "reason": fault.what} for fault in passed_over]}  # fmt: skip
        return answer({"files": counts, "passed_over": len(passed_over)}, quoted=quoted)

    def plan_evaluation(self, plan: PlanFile) -> CallToolResult:
        """Say how the run of a plan will be judged: metrics, test rows, baseline, and how many test rows it takes to
        find the wanted difference."""
        from finetune_exe.report.plan import evaluation_lines

        wished = self._open(plan, [], beside={})
        facts = {
            "metrics": list(wished.evaluation.metrics), "confidence_level": wished.evaluation.confidence_level,
            "max_generations": wished.evaluation.max_generations, "test_fraction": wished.data.test_fraction,
            "test_rows_wanted": wished.data_needs.test_samples,
        }  # fmt: skip
        quoted = {
            "evaluation": evaluation_lines(wished), "why_so_many_test_rows": wished.data_needs.test_reason,
            "decisions": {path: decision.model_dump(mode="json") for path, decision in wished.decisions.items()
                          if path.startswith(("evaluation.", "data.test", "data.detectable"))},
        }  # fmt: skip
        return answer(facts, quoted=quoted)

    def compare(self, a: str, b: str, margin: float | None = None, lower_is_better: bool = False) -> CallToolResult:
        """Hold model b against model a on the same items, paired, with interval and verdict: improved, non_inferior,
        regressed or inconclusive. Both are files of JSON lines with item, score and perhaps cluster."""
        from finetune_exe.evaluation.compare import Question, compare_results
        from finetune_exe.evaluation.result_files import Keys, read_results
        from finetune_exe.report.comparison import comparison_contract

        keys = Keys(item="item", score="score", cluster="cluster")
        first, second = (read_results(self.roots.confine(path), keys) for path in (a, b))
        question = Question(margin=margin, higher_is_better=not lower_is_better)
        contract = comparison_contract(compare_results(a, b, first, second, question))
        told = ("n", "clusters", "mean_a", "mean_b", "difference", "ci95", "p_value", "test", "verdict", "margin",
                "minimum_detectable_difference")  # fmt: skip
        return answer({name: contract[name] for name in told}, quoted=contract)

    def diagnose(self, paths: list[str], context: str | None = None) -> CallToolResult:
        """Find out why a run went wrong, or that nothing did: from run folders, logs, tracebacks, trainer_state.json,
        configurations, of this or any other trainer, and what the user saw in words (context)."""
        from finetune_exe.workflow.debugging import debug

        diagnosis = debug([self.roots.confine_all(path) for path in paths], context=context).diagnosis
        found = [{"label": f.label, "confidence": f.confidence} for f in diagnosis.findings]
        return answer({"findings": found}, quoted=diagnosis.model_dump(mode="json", by_alias=True))

    def run_status(self, run: RunFolderName) -> CallToolResult:
        """Say how far a run is: state, step, losses, what it noticed, and the end of its log."""
        from finetune_exe.workflow.progress import run_progress

        folder = self.roots.confine_all(run)
        progress = run_progress(folder, started=self.background.state(folder))
        log = Path(os.path.realpath(self.background.log_of(folder)))
        said = quote_secrets(self.background.log_tail(log)) if self.roots.holds(log) else ""
        return answer(
            progress.facts(), quoted={"problems": progress.problems, "noticed": progress.noticed, "log": said}
        )

    def _carry(
        self, source: str, task: str, hardware: str | None, settings: list[str]
    ) -> tuple[Plan, dict[str, object]]:
        """Make a plan of another trainer's file, which may name nothing outside of the folders either."""
        from finetune_exe.workflow.carrying import carry_plan

        path = self.roots.configuration(source)
        carried = carry_plan(path, task=task, hardware=hardware, settings=self.roots.settings(settings))
        left = [entry._asdict() for entry in carried.left]
        return carried.plan, {"not_carried_over": left, "review": carried.review.model_dump(mode="json")}

    def _make(self, spec: TaskSpec, settings: list[str]) -> Plan:
        from finetune_exe.workflow.plans import make_plan

        return make_plan(spec, settings=self.roots.settings(settings))

    def _open(self, plan: str, settings: list[str], *, beside: Mapping[str, object]) -> Plan:
        """Open a plan, which says all of what may else be given beside it."""
        from finetune_exe.workflow.plans import open_plan

        given = [name for name, value in beside.items() if value]
        if given:
            raise unclear(f"plan and {given[0]} exclude each other", "leave one out; settings change a part of a plan")
        return open_plan(self.roots.plan(plan), settings=self.roots.settings(settings))


SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
ANY_TASK = "follow instructions"
"""What a model shall learn where nobody says it."""
WEIGHED = ("shortlist", "considered")
"""Parts of a plan that say what was not chosen; they stay in the file, and would not fit beside the rest."""


def plan_facts(plan: Plan) -> dict[str, Any]:
    """Give the figures of a plan, none of them words of a file."""
    estimates = {
        name: {"low": estimate.value.low, "mid": estimate.value.mid, "high": estimate.value.high, "unit": estimate.unit}
        for name, estimate in plan.estimates.items()
    }
    return {"task_type": plan.task.type, "method": plan.method.kind, "estimates": estimates}
