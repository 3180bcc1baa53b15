"""Gather all that was given: logs, states, events, configurations, adapters, answers, and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from finetune_exe.diagnosis.artefacts import ADAPTERS, look_at_adapter, look_at_answers, look_at_samples
from finetune_exe.diagnosis.chat_template import look_at_template
from finetune_exe.diagnosis.checks import suspicions
from finetune_exe.diagnosis.config import SUFFIXES, Config, read_config, read_value
from finetune_exe.diagnosis.match import Hit, Scan
from finetune_exe.diagnosis.read import Line, nothing_to_diagnose, quote, read_file, read_stream, read_text
from finetune_exe.diagnosis.series import Series, read_run_events, read_trainer_state
from finetune_exe.diagnosis.sieve import Sieve
from finetune_exe.diagnosis.tensorboard import read_event_file
from finetune_exe.diagnosis.tools import settings_of, tool_of_keys, tool_of_text, tools
from finetune_exe.domain.events import (
    AnyEvent,
    BatchShrunk,
    LossSpiked,
    Noticed,
    RunFinished,
    RunStopped,
    Sampled,
    StepFinished,
    StepSkipped,
    read_events,
)
from finetune_exe.domain.plan import Plan
from finetune_exe.domain.plan_yaml import read_plan
from finetune_exe.domain.values import Scalar
from finetune_exe.errors import FineTuneError

STDIN = Path("-")
_LOGS = ("*.log", "*.txt", "*.out", "*.err")
_EVENTS = "events.out.tfevents"
_ANSWERS = ("generated_predictions.jsonl", "predictions.jsonl", "answers.jsonl", "samples.jsonl", "generations.jsonl")
_MOST_FILES = 40
_SCRIPTS = {".py", ".sh"}
_LARGEST_JSON = 1 << 28


@dataclass(slots=True)
class Material:
    """All that was read."""

    scan: Scan = field(default_factory=Scan)
    histories: list[Series] = field(default_factory=list)
    """Losses from trainer states and events, which are whole, unlike those picked out of a log."""
    plan: Plan | None = None
    plan_path: Path | None = None
    configs: list[Config] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    """What configurations, adapters and answers show."""
    unfinished: bool = False
    names: list[str] = field(default_factory=list)

    @property
    def tool(self) -> str | None:
        """The training program, by its configuration first and its log second."""
        configured = next((config.tool for config in self.configs if config.tool), None)
        return configured or self.scan.tool or tool_of_text("\n".join(self.scan.prose or ()))

    @property
    def values(self) -> dict[str, Scalar]:
        """What the tool was told in its own words: the log repeats it, a configuration says it better."""
        told: dict[str, Scalar] = {name: read_value(value) for name, value in self.scan.assigned.items()}
        for config in self.configs:
            told |= config.values
        return told

    @property
    def settings(self) -> dict[str, Scalar]:
        """The settings of our plan that the tool's words come to, by dotted path."""
        values = self.values
        tool = self.tool if self.tool in tools() else tool_of_keys(values) or "transformers"
        found = {path: value for config in self.configs for path, value in config.settings.items()}
        found |= settings_of(tool, values)
        for config in self.configs:
            found |= config.said
        return found

    @property
    def series(self) -> Series:
        """The fullest course of losses: a whole history, or a log that goes on after it."""
        logged = self.scan.metrics.series
        whole = next((series for series in self.histories if series.points), logged)
        return logged if len(logged.points) > 1.1 * len(whole.points) else whole


def gather(paths: Sequence[Path], *, stdin: BinaryIO | None = None) -> Material:
    """Read everything.

    Args:
        paths: Logs, trainer states, event files, configurations, adapters, answers, plans, or folders of them; `-`
            stands for `stdin`.
        stdin: A stream with a log or a description, read only where a path is `-`.

    Raises:
        FineTuneError: L01 where there is nothing to read, or it is empty or no text.
    """
    material = Material()
    for path in paths:
        if path == STDIN and stdin is not None:
            material.names.append("standard input")
            sieve = Sieve()
            material.scan.read(read_stream(stdin, where="standard input", sieve=sieve), sieve)
        elif path.is_dir():
            _read_folder(path, material)
        else:
            _read_file(path, material)
    material.hits += _suspicions(material)
    return material


def _suspicions(material: Material) -> Iterator[Hit]:
    """Say what the settings make likely, each with the line of the configuration that gives it."""
    if not material.values:
        return
    for hit in suspicions(material.values, material.settings):
        places = ((config, config.line_of(hit.setting or "")) for config in material.configs)
        config, line = next(((config, line) for config, line in places if line is not None), (None, None))
        yield replace(hit, line=line, text=f"{config.path.name}: {hit.text}" if config else hit.text)


def gather_words(text: str) -> Material:
    """Take a description as all there is."""
    material = Material(names=["the description"])
    material.scan.read(read_text(text, where="the description"), Sieve())
    material.hits += _suspicions(material)
    return material


def _read_file(path: Path, material: Material) -> None:
    material.names.append(quote(str(path)))
    try:
        if path.name in ADAPTERS:
            material.hits += look_at_adapter(path)
        elif path.name.startswith(_EVENTS):
            material.histories.append(read_event_file(path))
        elif path.name == "events.jsonl":
            _read_own_events(path, material)
        elif path.suffix == ".jsonl":
            material.hits += look_at_answers(path)
        elif path.suffix == ".json":
            _read_json(path, material)
        elif path.suffix in SUFFIXES:
            _read_settings(path, material)
        else:
            sieve = Sieve()
            material.scan.read(read_file(path, sieve=sieve), sieve)
    except OSError as fault:
        raise nothing_to_diagnose(f"it cannot be read: {fault.strerror or fault}", where=str(path)) from fault


def _read_own_events(path: Path, material: Material) -> None:
    _content(path)
    events = read_events(path)
    material.histories.append(read_run_events(events))
    material.unfinished = bool(events) and not any(isinstance(event, RunFinished) for event in events)
    notices = (Line(number=i, text=e.message) for i, e in enumerate(events, 1) if isinstance(e, Noticed))
    told = material.scan.prose
    material.scan.prose = None  # what the run notices is no complaint in somebody's words
    material.scan.read(notices, Sieve())
    material.scan.prose = told
    material.hits += _incidents(events)
    if material.unfinished:
        material.hits += _stop(events)
    material.hits += look_at_samples([event for event in events if isinstance(event, Sampled)])


def _incidents(events: Sequence[AnyEvent]) -> Iterator[Hit]:
    """Take what the run itself noticed as evidence."""
    for number, event in enumerate(events, 1):
        match event:
            case BatchShrunk():
                text = f"memory ran out at step {event.step}; {event.micro_batch_size} rows at a time from there on"
                yield Hit(label="oom", strength=0.55, text=text, line=number)
            case StepSkipped():
                text = f"step {event.step} was left out: {event.reason}; rows {', '.join(event.rows[:3])}"
                yield Hit(label="nan_loss", strength=0.55, text=text, line=number)
            case LossSpiked():
                text = f"loss {event.loss:.3g} at step {event.step}, usual was {event.usual:.3g}"
                rows = ", ".join(event.rows[:3])
                yield Hit(label="lr_divergence", strength=0.35, text=f"{text}; rows {rows}", line=number)
            case _:
                pass


def _stop(events: Sequence[AnyEvent]) -> Iterator[Hit]:
    """Say where the events of an unfinished run end, and by whose wish where they tell it."""
    last, step = events[-1], next((event for event in reversed(events) if isinstance(event, StepFinished)), None)
    if isinstance(last, RunStopped):
        text = f"stopped by {last.reason} after step {last.step}"
        yield Hit(label="interrupted", strength=0.9, text=text, line=len(events))
    else:
        text = f"the last step told of is {step.step} of {step.num_steps}" if step else "no step was told of"
        yield Hit(label="interrupted", strength=0.45, text=text, line=len(events))


def _read_json(path: Path, material: Material) -> None:
    content = _content(path)
    if b'"log_history"' not in content:
        config = read_config(path)
        if config is not None and (config.tool or path.name in ("adapter_config.json", "tokenizer_config.json")):
            material.configs.append(config)
            return
    material.histories.append(read_trainer_state(path, content))


def _read_settings(path: Path, material: Material) -> None:
    """Read a plan of ours, another tool's configuration or, failing that, a text."""
    config = read_config(path)
    if config is not None and "schema" in config.values and "task.description" in config.values:
        material.plan, material.plan_path = read_plan(path), path
    elif config is not None:
        material.configs.append(config)
    else:
        sieve = Sieve()
        material.scan.read(read_file(path, sieve=sieve), sieve)


def _read_folder(folder: Path, material: Material) -> None:
    """Read a run's folder, ours or one that another program wrote."""
    found = list(_worth_reading(folder))
    output = _last_checkpoint(folder)
    if output is not None:
        names = ("trainer_state.json", *ADAPTERS)
        known = set(found)
        found += [file for name in names if (file := output / name).is_file() and file not in known]
    found = _of_one_script(folder, found, output, material)
    if not found:
        what = "the folder holds no events, trainer_state.json, log, configuration, adapter or answers"
        raise nothing_to_diagnose(what, where=str(folder))
    faults = []
    for file in found[:_MOST_FILES]:
        try:
            _read_file(file, material)
        except FineTuneError as fault:
            faults.append(fault)
            material.names[-1] += f" (left out: {fault.what})"
    if faults and len(faults) == len(found[:_MOST_FILES]):
        raise faults[0]
    for saved in dict.fromkeys((folder, folder / "model", output or folder)):
        material.hits += look_at_template(saved)
    if (folder / "plan.yaml").is_file():
        try:
            material.plan, material.plan_path = read_plan(folder / "plan.yaml"), folder / "plan.yaml"
        except FineTuneError as fault:
            material.names.append(f"plan.yaml (left out: {fault.what})")


def _worth_reading(folder: Path) -> Iterator[Path]:
    own = folder / "events.jsonl"
    patterns = ("trainer_state.json", *ADAPTERS, "adapter_config.json", "tokenizer_config.json", *_ANSWERS, *_LOGS,
                f"{_EVENTS}*", f"runs/*/{_EVENTS}*", f"logs/{_EVENTS}*", f"logs/*/{_EVENTS}*")  # fmt: skip
    files = [own, *(file for pattern in patterns for file in sorted(folder.glob(pattern)))]
    yield from (file for file in files if file.is_file() and file.stat().st_size)
    if own.is_file():
        return
    for pattern in ("*.yaml", "*.yml", "*.json", "*.py", "*.sh"):
        for file in sorted(folder.glob(pattern)):
            config = read_config(file) if file.name != "plan.yaml" else None
            if config is not None and config.tool and settings_of(config.tool, config.values):
                yield file


def _of_one_script(folder: Path, found: list[Path], output: Path | None, material: Material) -> list[Path]:
    """Leave out scripts where several could have made the run, but the one that names where it went."""
    scripts = [file for file in found if file.suffix in _SCRIPTS]
    if len(scripts) < 2:
        return found
    mine = [file for file in scripts if output is not None and _names_output(file, folder, output)]
    others = [file for file in scripts if len(mine) != 1 or file not in mine]
    material.names += [f"{quote(str(file))} (left out: it may not be what made the run)" for file in others]
    return [file for file in found if file not in others]


def _names_output(script: Path, folder: Path, output: Path) -> bool:
    config = read_config(script)
    named = config.values.get("output_dir") if config else None
    return isinstance(named, str) and (folder / named).resolve() in (output.resolve(), *output.resolve().parents)


def _last_checkpoint(folder: Path) -> Path | None:
    """Find the newest folder with a trainer's state in or below a folder, up to three levels down."""
    if (folder / "trainer_state.json").is_file() or (folder / "events.jsonl").is_file():
        return None
    patterns = ("*/trainer_state.json", "*/checkpoint-*/trainer_state.json", "*/*/checkpoint-*/trainer_state.json")
    states = [state for pattern in patterns for state in folder.glob(pattern) if state.is_file()]
    return max(states, key=lambda state: (state.stat().st_mtime, state.parent.name)).parent if states else None


def _content(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST_JSON:
        raise nothing_to_diagnose("it is too large for a file of this kind", where=str(path))
    content = path.read_bytes()
    if not content.strip():
        raise nothing_to_diagnose("it is empty", where=str(path))
    return content
