"""Losses of pairs beside those of TRL's DPOTrainer, on the same model, the same tokens and the same reference."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny import write_model

from finetune_exe.domain.plan import Precision
from finetune_exe.models.forward import LossFunction, collate
from finetune_exe.models.preference import PreferenceLoss
from finetune_exe.prepared.store import SequenceView
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer

PAIRS = (
    ("say fox", "the fox said so", "the end"),
    ("say dog please", "the dog", "the lazy user jumps over the brown dog"),
    ("who said it", "the assistant", "fox"),
)


def trainer_of(base: Path, folder: Path, *, beta: float) -> Any:
    """Let TRL put an adapter on the base, whose reference is then the base, and move that adapter."""
    pytest.importorskip("datasets", reason="datasets is not installed")
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer

    rows = [{"prompt": prompt, "chosen": f" {better}", "rejected": f" {worse}"} for prompt, better, worse in PAIRS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = trl.DPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
            args=trl.DPOConfig(output_dir=str(folder), beta=beta, use_cpu=True, bf16=False, report_to="none",
                               gradient_checkpointing=False),
            train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(base),
            peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
        )  # fmt: skip
    torch.manual_seed(1)
    for name, parameter in made.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    made.model.eval()
    return made


def tokens_of(tokenizer: ChatTokenizer, prompt: str, answer: str) -> tuple[list[int], list[int]]:
    asked = tokenizer.encode(f"{prompt}\n").ids
    return asked, [*tokenizer.encode(answer).ids, tokenizer.eos_token_id]


@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_the_loss_and_its_gradient_are_those_of_trl(beta: float, tmp_path: Path) -> None:
    base = write_model(tmp_path / "m", seed=2)
    trainer = trainer_of(base, tmp_path / "out", beta=beta)
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    tokenizer, model = load_tokenizer(base, chat_template=None), trainer.model
    examples, sequences = [], list[SequenceView]()
    for prompt, *answers in PAIRS:
        (asked, better), (_, worse) = (tokens_of(tokenizer, prompt, answer) for answer in answers)
        examples.append({"prompt_ids": asked, "chosen_ids": better, "rejected_ids": worse})
        for answer in (better, worse):
            learned = [False] * len(asked) + [True] * len(answer)
            sequences.append(SequenceView(torch.tensor(asked + answer).numpy(), torch.tensor(learned).numpy()))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]

    theirs = trainer._compute_loss(model, DataCollatorForPreference(pad_token_id=0)(examples), False)
    wanted = torch.autograd.grad(theirs, trainable)
    preference = PreferenceLoss(LossFunction(model, Precision(), device="cpu"), beta=beta)
    ours = preference(collate(sequences, pad_token_id=0, device="cpu")).nll_N.mean()
    found = torch.autograd.grad(ours, trainable)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-8
