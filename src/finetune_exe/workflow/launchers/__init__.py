"""Ways to start a training: here, in several processes, on a batch system, on a cluster, on rented machines."""

from __future__ import annotations

from finetune_exe.workflow.launchers.job import Job, Launcher
from finetune_exe.workflow.launchers.local import Local
from finetune_exe.workflow.launchers.ray_cluster import RayCluster
from finetune_exe.workflow.launchers.skypilot import SkyPilot
from finetune_exe.workflow.launchers.slurm import Slurm
from finetune_exe.workflow.launchers.torchrun import Torchrun

__all__ = ["LAUNCHERS", "Job", "Launcher"]

LAUNCHERS: dict[str, Launcher] = {
    "local": Local(),
    "torchrun": Torchrun(),
    "slurm": Slurm(),
    "ray": RayCluster(),
    "skypilot": SkyPilot(),
}
