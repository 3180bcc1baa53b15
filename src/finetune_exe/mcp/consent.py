"""Ask the user before anything is written or trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.resolve import Elicit
from mcp_types import CallToolResult
from pydantic import BaseModel, Field

from finetune_exe.agents.quoting import visible_json
from finetune_exe.agents.roots import Roots
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.errors import FineTuneError
from finetune_exe.mcp.answers import answer
from finetune_exe.report.numbers import format_interval


class Consent(BaseModel):
    """What the user is asked."""

    agreed: bool = Field(description="Do it?")


Question = Elicit[Consent] | Consent
Reply = ElicitationResult[Consent]


def _question(context: Context, confirm: bool, what: str) -> Question:
    """Ask the user where the client can; otherwise take the agent's word that the user was asked."""
    capabilities = context.client_capabilities
    if capabilities is not None and capabilities.elicitation is not None:
        return Elicit(what, Consent)
    return Consent(agreed=confirm)


def may_save(context: Context, output: str, confirm: bool = False) -> Question:
    """Ask about writing a plan."""
    return _question(context, confirm, f"Write a new plan file {visible_json(output)}?")


def may_convert(context: Context, output: str, confirm: bool = False) -> Question:
    """Ask about converting rows."""
    return _question(context, confirm, f"Write the converted rows to a new file {visible_json(output)}?")


def may_prepare(context: Context, plan: str, export_to: str | None = None, confirm: bool = False) -> Question:
    """Ask about preparing data."""
    also = f", and export it to {visible_json(export_to)}" if export_to else ""
    return _question(context, confirm, f"Prepare the data of {visible_json(plan)} into dataset beside it{also}?")


def may_train(
    context: Context,
    plan: str,
    run: str | None = None,
    resume: bool = False,
    settings: Sequence[str] = (),
    confirm: bool = False,
) -> Question:
    """Ask about training, with what the plan expects it to take."""
    work = "Go on training" if resume else "Train"
    where = f" into the run {visible_json(run)}" if run else ""
    changed = f", changed by {visible_json(list(settings))}" if settings else ""
    return _question(
        context, confirm, f"{work} the plan {visible_json(plan)}{where}{changed}?{_expected(context, plan)}"
    )


def _expected(context: Context, plan: str) -> str:
    """Say what a plan expects; nothing where it cannot be used, for then the tool says why."""
    roots = cast(Roots, context.request_context.lifespan_context)
    try:
        estimates = read_plan(roots.plan(plan)).estimates
    except FineTuneError:
        return ""
    parts = [f"{name} {format_interval(estimate.value, estimate.unit)}" for name, estimate in estimates.items()]
    return f" Expected by the plan: {', '.join(parts)}." if parts else ""


def may_evaluate(context: Context, run: str, confirm: bool = False) -> Question:
    """Ask about evaluating."""
    return _question(context, confirm, f"Evaluate the run {visible_json(run)}? It runs both models.")


def may_export(
    context: Context, run: str, to: str = "merged", output: str | None = None, confirm: bool = False
) -> Question:
    """Ask about exporting."""
    where = visible_json(output) if output else "its folder export"
    return _question(context, confirm, f"Export the model of {visible_json(run)} as {to} into {where}?")


def may_stop(context: Context, run: str, confirm: bool = False) -> Question:
    """Ask about stopping."""
    return _question(context, confirm, f"Stop training {visible_json(run)}? It saves first, and can go on later.")


def refused(reply: Reply) -> CallToolResult | None:
    """Give the answer to a call that the user did not agree to; None where the user did."""
    if isinstance(reply, AcceptedElicitation) and reply.data.agreed:
        return None
    return answer({"done": False, "reason": "not confirmed by the user: nothing was done",
                   "fix": "ask the user, and call again with confirm: true if the answer is yes"})  # fmt: skip
