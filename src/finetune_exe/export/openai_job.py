"""The file that `fine-tune openai start` reads: a job for OpenAI's fine-tuning, or a service with its interface."""

from __future__ import annotations

import re
from collections.abc import Iterator

from finetune_exe.domain.method_kinds import METHOD_NAMES
from finetune_exe.domain.plan import Plan
from finetune_exe.export.configuration_file import TRAIN_ROWS, VALIDATION_ROWS, ConfigurationFile, Key, key, prepare
from finetune_exe.knowledge.hosted_models import hosted_models

DEFAULT_MODEL = "gpt-4.1-mini-2025-04-14"
_SUFFIX_LENGTH = 40


def _keys(plan: Plan) -> Iterator[Key]:
    known = plan.model.reference in hosted_models()
    yield key("model", plan.model.reference if known else DEFAULT_MODEL, *(("model.reference",) if known else ()),
              note="" if known else "the service's own; name another that it trains")  # fmt: skip
    yield key("training_file", TRAIN_ROWS)
    yield key("validation_file", VALIDATION_ROWS)
    yield key("suffix", _suffix(plan))
    yield key("seed", plan.seed, "seed")
    yield key("method.type", "supervised")
    whole = plan.schedule.epochs == int(plan.schedule.epochs)
    epochs = max(1, round(plan.schedule.epochs))
    place = "method.supervised.hyperparameters"
    yield key(f"{place}.n_epochs", epochs, *(("schedule.epochs",) if whole else ()))
    rows = plan.batch.effective * plan.parallelism.num_gpus
    yield key(f"{place}.batch_size", rows, "batch.micro_batch_size", "batch.gradient_accumulation_steps",
              "parallelism.num_gpus")  # fmt: skip
    yield key(f"{place}.learning_rate_multiplier", "auto", note="of a learning rate that the service does not tell")


def _suffix(plan: Plan) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", plan.task.description.lower()).strip("-")
    return words[:_SUFFIX_LENGTH].strip("-") or "tuned"


OPENAI = ConfigurationFile(
    name="openai",
    title="OpenAI's fine-tuning interface (openai 3.57)",
    file_name="openai.yaml",
    methods=tuple(METHOD_NAMES),
    keys=_keys,
    commands=lambda plan: (
        'pip install "finetune-exe[openai]"',
        prepare("openai"),
        f"fine-tune openai check {TRAIN_ROWS} {VALIDATION_ROWS}",
        "fine-tune openai start openai.yaml        # says what would be sent and what it costs",
        "fine-tune openai start openai.yaml --yes  # sends the rows, and begins",
    ),
    otherwise=(
        "the rows leave this machine, for the address that --endpoint names (the default is OpenAI's)",
        "the service trains models of its own, by a method, with a learning rate and on hardware that it does not tell",
        "rows longer than the model reads are cut at their end",
        "the weights stay there: the tuned model is used by its name",
    ),
    loads_model=False,
)
