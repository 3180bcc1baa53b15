"""One other trainer, measured: `PYTHON benchmarks/training_peers.py NAME FOLDER`, PYTHON being of its own environment.

FOLDER holds `case.json` and `tokens.jsonl` as `benchmarks/training.py` writes them. Each peer gets the same token ids,
method, batch size, length, learning rate and number format, and is otherwise left at its own defaults; that it may
train on a processor is said where it asks for that. Nothing of the peers is changed: what a step learned and took
is seen by a callback of theirs and a hook before the model's forward. The result is written into FOLDER, as NAME.json.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", AXOLOTL_DO_NOT_TRACK="1", DISABLE_VERSION_CHECK="1", WANDB_MODE="off"
)


def load_rows(folder: Path) -> Any:
    """Give the rows as a data set with ids, labels and a mask of ones."""
    from datasets import Dataset

    rows = [json.loads(line) for line in (folder / "tokens.jsonl").read_text(encoding="utf-8").splitlines()]
    return Dataset.from_list([{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows])


def make_watch() -> Any:
    """Make the callback that counts; its class can only be made where transformers is."""
    import torch
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        """Notes when each step began, what it learned, and its loss."""

        def __init__(self) -> None:
            self.began: list[float] = []
            self.learned: list[int] = []
            self.real: list[int] = []
            self.padded: list[int] = []
            self.losses: list[float] = []
            self.ended = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            model.register_forward_pre_hook(self._count, with_kwargs=True)

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began.append(time.monotonic())
            for counts in (self.learned, self.real, self.padded):
                counts.append(0)

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" in (logs or {}):
                self.losses.append(float(logs["loss"]))
                print(f"step {len(self.losses)}, loss {self.losses[-1]:.3f}", file=sys.stderr)

        def _count(self, model: Any, inputs: Any, named: dict[str, Any]) -> None:
            labels, mask = named["labels"], named.get("attention_mask")
            if torch.is_grad_enabled() and self.learned:
                real = labels.numel() if mask is None or mask.dim() != 2 else int((mask != 0).sum())
                self.learned[-1] += int((labels != -100).sum())
                self.real[-1] += real
                self.padded[-1] += labels.numel()

    return Watch()


def run_trl(folder: Path, case: dict[str, Any], watch: Any) -> None:
    """Train with TRL's SFTTrainer."""
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    config = SFTConfig(
        output_dir=str(folder / "trl-output"), per_device_train_batch_size=case["batch"], num_train_epochs=1,
        max_length=case["max_length"], learning_rate=case["learning_rate"], bf16=True, use_cpu=_on_cpu(),
        report_to="none", save_strategy="no", logging_steps=1,
    )  # fmt: skip
    adapter = LoraConfig(
        r=case["rank"], lora_alpha=2 * case["rank"], target_modules="all-linear", task_type="CAUSAL_LM"
    )
    SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(case["base"]),
        args=config,
        train_dataset=load_rows(folder),
        processing_class=AutoTokenizer.from_pretrained(case["base"]),
        peft_config=adapter if case["method"] == "lora" else None,
        callbacks=[watch],
    ).train()


def run_llamafactory(folder: Path, case: dict[str, Any], watch: Any) -> None:
    """Train with LLaMA-Factory, from rows that are tokenised already."""
    from datasets import DatasetDict
    from llamafactory.train.tuner import run_exp

    DatasetDict({"train": load_rows(folder)}).save_to_disk(str(folder / "llamafactory-rows"))
    adapter = {
        "finetuning_type": "lora", "lora_rank": case["rank"], "lora_alpha": 2 * case["rank"], "lora_target": "all"
    }  # fmt: skip
    run_exp(
        {
            "stage": "sft", "do_train": True, "model_name_or_path": case["base"], "template": "empty",
            **(adapter if case["method"] == "lora" else {"finetuning_type": "full"}),
            "dataset": "rows", "tokenized_path": str(folder / "llamafactory-rows"), "cutoff_len": case["max_length"],
            "output_dir": str(folder / "llamafactory-output"), "per_device_train_batch_size": case["batch"],
            "num_train_epochs": 1, "learning_rate": case["learning_rate"], "bf16": True, "use_cpu": _on_cpu(),
            "report_to": "none", "save_strategy": "no", "logging_steps": 1,
        },
        callbacks=[watch],
    )  # fmt: skip


def run_axolotl(folder: Path, case: dict[str, Any], watch: Any) -> None:
    """Train with Axolotl, from rows that are tokenised already; without its own kernels where there is no GPU."""
    from axolotl.cli.args import TrainerCliArgs
    from axolotl.cli.config import load_cfg
    from axolotl.cli.train import do_train
    from axolotl.utils.dict import DictDefault
    from axolotl_watch import WatchPlugin

    WatchPlugin.watch = watch
    rows = folder / "axolotl-rows.jsonl"
    load_rows(folder).to_json(str(rows))
    adapter = {
        "adapter": "lora", "lora_r": case["rank"], "lora_alpha": 2 * case["rank"], "lora_target_linear": True
    }  # fmt: skip
    kernels = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")
    config = {
        "base_model": case["base"], **(adapter if case["method"] == "lora" else {}),
        "datasets": [{"path": str(rows), "ds_type": "json", "type": ""}],
        "dataset_prepared_path": str(folder / "axolotl-prepared"), "sequence_len": case["max_length"],
        "pad_to_sequence_len": False, "micro_batch_size": case["batch"], "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "optimizer": "adamw_torch", "learning_rate": case["learning_rate"], "lr_scheduler": "linear", "bf16": True,
        "output_dir": str(folder / "axolotl-output"), "save_strategy": "no", "logging_steps": 1,
        "plugins": ["axolotl_watch.WatchPlugin"], **(dict.fromkeys(kernels, False) if _on_cpu() else {}),
    }  # fmt: skip
    do_train(load_cfg(DictDefault(config)), TrainerCliArgs())


PEERS = {"trl": run_trl, "llamafactory": run_llamafactory, "axolotl": run_axolotl}


def _on_cpu() -> bool:
    import torch

    return not torch.cuda.is_available()


def _peak_gib() -> float:
    """Give the peak of memory: of the process on a processor, of what PyTorch allocated on a GPU."""
    import torch

    if _on_cpu():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    """Train with the named peer and print what was seen."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    watch = make_watch()
    PEERS[name](folder, case, watch)
    result = {
        "learned": sum(watch.learned[1:]),
        "tokens": sum(watch.real[1:]),
        "padded": sum(watch.padded[1:]),
        "seconds": watch.ended - watch.began[1],
        "losses": watch.losses,
        "weights": watch.learned,
        "peak_gib": _peak_gib(),
    }
    (folder / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
