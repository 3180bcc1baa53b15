"""Train at a service that has OpenAI's fine-tuning interface: send the rows, begin, watch, stop.

Only https is spoken, and plain http to this machine. The key comes from the environment, stands in no file and no
message, and goes to the address given and nowhere else. What the service says is data: it is cut and printed, no more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from finetune_exe.domain.values import Interval
from finetune_exe.domain.yaml_text import parse_yaml
from finetune_exe.errors import FineTuneError, missing_component
from finetune_exe.evaluation.endpoint import keeps_secrets
from finetune_exe.export.openai_file import ChatFile, check_chat_file, require_sound, tiktoken_counter, training_cost

if TYPE_CHECKING:
    from openai import OpenAI

KEY_VARIABLE = "OPENAI_API_KEY"
_MOST_CHARACTERS = 2000
_MOST_EVENTS = 1000
_SECONDS = 60.0
_DEFAULT_EPOCHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """What would be sent: the job as the service is told it, its files, and what it costs."""

    body: dict[str, Any]
    """Without the two files, which are named when they are there."""
    training: ChatFile
    validation: ChatFile | None
    num_epochs: int
    cost_usd: Interval | None
    """None for a model whose price is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """A job as the service describes it."""

    id: str
    status: str
    model: str
    tuned_model: str | None = None
    """The name to use it by, when it is done."""
    trained_tokens: int | None = None
    """Tokens that are billed, when it is done."""
    fault: str | None = None
    """Why it failed."""


class JobEvent(NamedTuple):
    """Something that the service tells of a job."""

    seconds: int
    """When, since 1970."""
    level: str
    message: str


def read_job(path: Path) -> JobPlan:
    """Read a job's file, and hold the rows it names against the service's rules.

    Raises:
        FineTuneError: C01 where it is no YAML, O05 where a key is not the service's or a row breaks its rules, D07
            where a file is missing.
    """
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"), where=str(path)).plain()
    except (OSError, UnicodeDecodeError) as fault:
        raise _bad_job(path, f"it cannot be read: {fault}") from fault
    if not isinstance(content, dict):
        raise _bad_job(path, "it holds no keys")
    known = ("model", "training_file", "validation_file", "suffix", "seed", "method")
    odd = [name for name in content if name not in known]
    if odd:
        raise _bad_job(path, f"{', '.join(odd)} is none of {', '.join(known)}")
    model, training, validation = (content.get(name) for name in known[:3])
    if not isinstance(model, str) or not isinstance(training, str):
        raise _bad_job(path, "it names no model or no training_file")
    count = tiktoken_counter(model)
    files = [
        check_chat_file(path.parent / name, model=model, count=count)
        for name in (training, validation)
        if isinstance(name, str)
    ]
    require_sound(files)
    epochs = _epochs(content.get("method"))
    return JobPlan(
        body={name: value for name, value in content.items() if name not in ("training_file", "validation_file")},
        training=files[0], validation=files[1] if len(files) > 1 else None, num_epochs=epochs,
        cost_usd=training_cost(files[0].tokens, epochs, model),
    )  # fmt: skip


def _epochs(method: Any) -> int:
    """Look up the epochs; "auto" is taken for the service's usual three."""
    place = method
    for name in ("supervised", "hyperparameters", "n_epochs"):
        place = place.get(name) if isinstance(place, dict) else None
    return place if isinstance(place, int) and place > 0 else _DEFAULT_EPOCHS


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service with OpenAI's fine-tuning interface."""

    url: str

    def start(self, job: JobPlan) -> JobState:
        """Send the files and begin.

        Raises:
            FineTuneError: O06 where the service refuses, X01 without the package openai.
        """
        with _asked(self.url) as client:
            sent = [
                client.files.create(file=Path(file.path), purpose="fine-tune").id
                for file in (job.training, job.validation)
                if file is not None
            ]
            named = dict(zip(("training_file", "validation_file"), sent, strict=False))
            return _state(client.fine_tuning.jobs.create(**job.body, **named))

    def status(self, job_id: str) -> JobState:
        """Ask how far a job is.

        Raises:
            FineTuneError: O06 where the service refuses, X01 without the package openai.
        """
        with _asked(self.url) as client:
            return _state(client.fine_tuning.jobs.retrieve(job_id))

    def cancel(self, job_id: str) -> JobState:
        """Stop a job.

        Raises:
            FineTuneError: O06 where the service refuses, X01 without the package openai.
        """
        with _asked(self.url) as client:
            return _state(client.fine_tuning.jobs.cancel(job_id))

    def events(self, job_id: str) -> tuple[JobEvent, ...]:
        """Ask what happened, oldest first.

        Raises:
            FineTuneError: O06 where the service refuses, X01 without the package openai.
        """
        with _asked(self.url) as client:
            latest = islice(client.fine_tuning.jobs.list_events(job_id, limit=100), _MOST_EVENTS)
            found = [JobEvent(int(event.created_at), _cut(event.level), _cut(event.message)) for event in latest]
        return tuple(reversed(found))


def require_safe(url: str) -> None:
    """Refuse an address that may not be shown a key.

    Raises:
        FineTuneError: O06.
    """
    if not keeps_secrets(url):
        raise _refused(url, "the address is neither https nor http to this machine", "--endpoint https://HOST/v1")


@contextmanager
def _asked(url: str) -> Iterator[OpenAI]:
    """Open a client, and turn what goes wrong into a message without the key.

    Requests to this machine go through no proxy, which would be shown the key.
    """
    try:
        import openai
    except ImportError as fault:
        raise missing_component("openai", extra="openai", needed_for="training at a service") from fault

    require_safe(url)
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise _refused(url, "there is no key", f"put it into the environment variable {KEY_VARIABLE}")
    try:
        with openai.OpenAI(
            api_key=key, base_url=url, timeout=_SECONDS, max_retries=2,
            http_client=openai.DefaultHttpxClient(
                follow_redirects=False, timeout=_SECONDS, trust_env=urlsplit(url).scheme == "https"
            ),
        ) as client:  # fmt: skip
            yield client
    except (openai.OpenAIError, OSError, ValueError, TypeError) as fault:
        said = _cut(str(fault).replace(key, "[key]"))
        raise _refused(url, said, "correct what it names; `fine-tune openai check` finds faults of rows") from None


def _state(job: Any) -> JobState:
    fault = getattr(job.error, "message", None) if job.error is not None else None
    return JobState(
        id=_cut(job.id),
        status=_cut(job.status),
        model=_cut(job.model),
        tuned_model=_cut(job.fine_tuned_model) if job.fine_tuned_model else None,
        trained_tokens=job.trained_tokens if isinstance(job.trained_tokens, int) else None,
        fault=_cut(fault) if fault else None,
    )


def _cut(text: object) -> str:
    return str(text)[:_MOST_CHARACTERS]


def _refused(url: str, why: str, fix: str) -> FineTuneError:
    shown = re.sub(r"//[^/]*@", "//", url.partition("?")[0])
    return FineTuneError("O06", what="nothing came of the request", where=shown, why=why, fix=fix)


def _bad_job(path: Path, why: str) -> FineTuneError:
    return FineTuneError(
        "O05",
        what="the file describes no job",
        where=str(path),
        why=why,
        fix="fine-tune config --plan plan.yaml --to openai -o openai.yaml writes one",
    )
