"""The plan itself, as the file that every command here reads."""

from __future__ import annotations

from finetune_exe.domain.plan import Plan
from finetune_exe.export.exporter import File, Files


class PlanFile:
    """Writes plan.yaml."""

    name = "plan"
    describe = "plan.yaml, for the commands of this program"

    def export(self, plan: Plan) -> Files:
        """Write the plan as YAML."""
        from finetune_exe.domain.plan_yaml import dump_plan

        return (File(name="plan.yaml", text=dump_plan(plan)),)
