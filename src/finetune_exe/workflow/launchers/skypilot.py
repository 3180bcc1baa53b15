"""A task file for SkyPilot, which rents the machines and runs it there."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

from finetune_exe.errors import OK, FineTuneError
from finetune_exe.workflow.launchers.job import Job, refused

PORT = 29500


class SkyPilot:
    """Hands a task file to `sky launch`."""

    def script(self, job: Job) -> str:
        """Write the task file; the folder it is launched from goes along, plan and data in it."""
        from ruamel.yaml import YAML
        from ruamel.yaml.scalarstring import LiteralScalarString

        start = (
            f"torchrun --nnodes {job.machines} --nproc-per-node {job.processes_per_machine} --virtual-local-rank "
            f'--master-port {PORT} --node-rank "$SKYPILOT_NODE_RANK" --master-addr "$FIRST_NODE" '
        )
        run = "".join(f"{line}\n" for line in (
            "set -euo pipefail", 'FIRST_NODE="$(echo "$SKYPILOT_NODE_IPS" | head -n 1)"',
            start + job.line("-m", "finetune_exe"),
        ))  # fmt: skip
        task: dict[str, Any] = {
            "name": job.name.lower(),
            "num_nodes": job.machines,
            "resources": self._resources(job),
            "workdir": ".",
            "setup": 'pip install "finetune-exe[train]"',
            "run": LiteralScalarString(run) if run.replace("\n", "").isprintable() else run,
        }
        written = io.StringIO()
        yaml = YAML()
        yaml.width = 4096
        yaml.dump(task, written)
        return written.getvalue()

    def launch(self, job: Job, note: Callable[[str], object]) -> int:
        """Write the file beside the run's folder and launch it; SkyPilot asks before it rents anything.

        Raises:
            FineTuneError: X01 where SkyPilot is not installed, T23 where it refuses.
        """
        if shutil.which("sky") is None:
            raise FineTuneError(
                "X01",
                what="SkyPilot is not installed",
                where="PATH",
                why="its program `sky` rents the machines",
                fix='pip install "skypilot[aws]", or gcp, azure, kubernetes...; to see the file only, add --dry-run',
            )
        path = job.write(self.script(job), "sky.yaml")
        note(f"sky launch {path}")
        if subprocess.run(["sky", "launch", str(path)], check=False).returncode != OK:
            raise refused("sky", path, "see what it wrote above")
        return OK

    def _resources(self, job: Job) -> dict[str, Any]:
        if not job.uses_gpus:
            return {"cpus": f"{max(2, job.hardware.num_cores)}+"}
        return {"accelerators": {accelerator(job.hardware.gpus[0].name): job.processes_per_machine}}


def accelerator(name: str) -> str:
    """Give SkyPilot's name of a GPU: H100, A100-80GB, RTX4090."""
    words = [word for word in re.sub(r"^(NVIDIA )?(GeForce )?", "", name).split() if word not in ("SXM", "PCIe", "NVL")]
    size = words.pop() if re.fullmatch(r"\d+GB", words[-1]) else ""
    short = "".join(words)
    return f"{short}-{size}" if short == "A100" and size == "80GB" else short
