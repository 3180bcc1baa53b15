"""The plan as a YAML file that a person edits: read with line and column of every fault, written with its reasons."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_origin

from pydantic import BaseModel, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from finetune_exe.atomic import write_file
from finetune_exe.domain.plan import SETTING_GROUPS, BaseModelChoice, Plan
from finetune_exe.domain.values import Decision
from finetune_exe.domain.yaml_text import parse_yaml, write_yaml
from finetune_exe.domain.yaml_tree import Item, Json, Place
from finetune_exe.errors import FineTuneError
from finetune_exe.units import format_number

_HEADER = """\
# A fine-tuning plan. Edit any value from `task` to `seed`: the comment behind a value says why it is what it is.
# `decisions` at the end holds the whole reason with source, confidence and alternatives.

"""
_COMPUTED = """
# Computed from the above by `fine-tune analyze`; what you change here is overwritten.
# Leave `decisions` as it is: it is how the report tells your values from the advised ones.

"""


class _Draft(Plan):
    """A plan whose choices need not be defended yet."""

    @model_validator(mode="after")
    def _every_choice_defended(self) -> Self:
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """One key or value that cannot stay."""

    place: Place
    path: str
    message: str


def read_plan(path: Path) -> Plan:
    """Read a plan file; a setting that differs from its default and has no decision becomes the user's decision.

    Raises:
        FineTuneError: C01 where it is not the YAML we read; C06 for another schema number; C02 with every unknown key
            and wrong value in the file.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as fault:
        raise FineTuneError(
            "C01",
            what="the plan cannot be read",
            where=str(path),
            why=fault.strerror or str(fault) if isinstance(fault, OSError) else "a plan is a text file in UTF-8",
            fix=f"give the plan in this folder: {path / 'plan.yaml'}"
            if (path / "plan.yaml").is_file()
            else "check the path, or write a plan with `fine-tune analyze`",
        ) from fault
    root = parse_yaml(text, where=str(path))
    content = root.plain()
    if isinstance(content, dict):
        Plan.require_schema(content.get("schema", Plan.schema_number), path)
    try:
        draft = _Draft.model_validate_json(json.dumps(content))
    except ValidationError as fault:
        problems = _problems(fault, root)
        raise FineTuneError(
            "C02",
            what=f"{len(problems)} {'key or value is' if len(problems) == 1 else 'keys or values are'} not understood",
            where="\n         ".join(
                f"{path}:{problem.place.line}:{problem.place.column}: {problem.path}: {problem.message}"
                for problem in problems
            ),
            why="left alone, it would change nothing or something else than you mean",
            fix="correct the lines named",
        ) from fault
    return _defend(draft, reason="set in the plan file")


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan so that `read_plan` gives the same plan again."""
    write_file(path, dump_plan(plan).encode())


def dump_plan(plan: Plan) -> str:
    """Write a plan as YAML: first what a person edits, each advised value with its reason, then what was computed."""
    whole = plan.model_dump(mode="json", by_alias=True)
    edited = ("schema", "task", "model", *SETTING_GROUPS, "seed")
    computed = plan.model_dump(mode="json", by_alias=True, exclude=set(edited) | {"schema_"}, exclude_defaults=True)
    changed = plan.changed_by_user()
    comments = {}
    for path, decision in plan.decisions.items():
        advised = decision.value if isinstance(decision.value, str) else _shown(decision.value)
        reason = f"yours; advised {advised}: {decision.reason}" if path in changed else decision.reason
        comments[path] = textwrap.shorten(_printable(reason), width=80, placeholder="...")
    return (
        _HEADER
        + write_yaml({name: whole[name] for name in edited}, comments=comments)
        + _COMPUTED
        + write_yaml(computed, comments={})
    )


def apply_settings(plan: Plan, assignments: Sequence[str]) -> Plan:
    """Change settings by `path=value`, the value as in YAML; each becomes the user's own.

    `method.kind=qlora` switches to that kind, keeping what both kinds have, and so does `schedule.warmup.steps=20` to
    warm-up by steps.

    Raises:
        FineTuneError: C04 for an unknown path, a value of the wrong type, or a setting that the plan's kind lacks.
    """
    content = plan.model_dump(mode="json", by_alias=True)
    paths = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or path not in _setting_paths():
            raise _unknown_setting(assignment)
        try:
            value = parse_yaml(text or "null", where=f"--set {assignment}").plain()
        except FineTuneError as fault:
            raise _refused(assignment, fault.what) from fault
        _assign(content, path, value, assignment=assignment)
        paths.append(path)
    try:
        draft = _Draft.model_validate_json(json.dumps(content))
    except ValidationError as fault:
        problems = _problems(fault, parse_yaml(json.dumps(content, ensure_ascii=False), where="plan"))
        faults = "; ".join(f"{problem.path}: {problem.message}" for problem in problems)
        raise _refused(" ".join(assignments), faults) from fault
    present = {path for path, _, _ in draft.settings()}
    return _defend(draft, reason="set on the command line", chosen=present.intersection(paths))


def _defend(draft: Plan, *, reason: str, chosen: Collection[str] = ()) -> Plan:
    """Make the user's the settings that were chosen, that nobody defended, or that were theirs with another value."""
    decisions = dict(draft.decisions)
    undefended = {path for path, _ in draft.undefended()}
    for path, value, _ in draft.settings():
        theirs = path in decisions and decisions[path].source == "you" and decisions[path].value != value
        if theirs or path in undefended or (path in chosen and path not in decisions):
            decisions[path] = Decision(value=value, reason=reason, source="you", confidence="high")
            if path == "model.reference":
                # another model: nothing that was known of the old one holds
                model = BaseModelChoice(reference=draft.model.reference, name=draft.model.reference)
                draft = draft.model_copy(update={"model": model})
    return Plan.model_validate({**dict(draft), "decisions": decisions})


def _assign(content: dict[str, Any], path: str, value: Json, *, assignment: str) -> None:
    """Put a value at its path; a tagged union changes its member for the tag or for a field that defines a member.

    One path of data may be given without the brackets of a list.
    """
    *groups, leaf = path.split(".")
    if path in ("data.paths", "data.validation_paths", "data.test_paths") and isinstance(value, str):
        value = [value]
    if not groups:
        content[leaf] = value
        return
    owner = target = content
    models: tuple[type[BaseModel], ...] = (Plan,)
    for group in groups:
        models = _models_of(model.model_fields[group] for model in models if group in model.model_fields)
        owner, target = target, target[group]
    if len(models) == 1:
        target[leaf] = value
        return
    current = next(model for model in models if _kind(model) == target["kind"])
    if leaf == "kind":
        kept = {name for model in models if _kind(model) == value for name in model.model_fields}
        owner[groups[-1]] = {**{name: item for name, item in target.items() if name in kept}, "kind": value}
        return
    if leaf in current.model_fields:
        target[leaf] = value
        return
    member = next(model for model in models if leaf in model.model_fields)
    if not member.model_fields[leaf].is_required():
        only = f"{'.'.join(groups)}.kind={_kind(member)}"
        raise _refused(assignment, f"it belongs to {only}, and this plan has {target['kind']}; add --set {only}")
    owner[groups[-1]] = {"kind": _kind(member), leaf: value}


def _setting_paths() -> tuple[str, ...]:
    """List every path a user may set, those of all members of a tagged union included."""
    groups = (path for group in SETTING_GROUPS for path in _paths_below(group, Plan.model_fields[group]))
    return ("model.reference", *dict.fromkeys(groups), "seed")


def _paths_below(path: str, field: FieldInfo) -> Iterator[str]:
    models = _models_of([field])
    if not models:
        yield path
    for model in models:
        for name, inner in model.model_fields.items():
            yield from _paths_below(f"{path}.{name}", inner)


def _models_of(fields: Iterable[FieldInfo]) -> tuple[type[BaseModel], ...]:
    """List the document parts that a field may hold."""
    return tuple(model for field in fields for model in _models_in(field.annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and get_origin(annotation) is None:
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _kind(model: type[BaseModel]) -> str:
    return str(model.model_fields["kind"].default)


def _problems(fault: ValidationError, root: Item) -> list[_Problem]:
    """Say each thing wrong once, in the order of the file; a value that no member of a union takes is one problem."""
    found: dict[tuple[Place, str], list[str]] = {}
    for error in fault.errors(include_url=False, include_context=True):
        node = root
        path: list[str] = []
        models: tuple[type[BaseModel], ...] = (Plan,)
        owners = models
        for part in error["loc"]:
            child = _child(node, part)
            if child is None:
                continue
            if isinstance(part, str):
                owners = models
                models = _models_of(model.model_fields[part] for model in models if part in model.model_fields)
            node = child
            path.append(str(part))
        if error["type"] == "missing":
            path.append(str(error["loc"][-1]))
        if error["type"].startswith("union_tag") and isinstance(node.content, dict) and "kind" in node.content:
            node = node.content["kind"]
            path.append("kind")
        place = node.key_place if error["type"] == "extra_forbidden" else node.place
        messages = found.setdefault((place, ".".join(path) or "plan"), [])
        message = _message(error, node, known=_names(owners))
        if message not in messages:
            messages.append(message)
    return [
        _Problem(place=place, path=path, message=" or ".join(messages))
        for (place, path), messages in sorted(found.items())
    ]


def _child(node: Item, part: str | int) -> Item | None:
    """Step into a group or list; parts of an error's path that only name a member of a union lead nowhere."""
    if isinstance(node.content, dict):
        return node.content.get(str(part)) if isinstance(part, str) else None
    if isinstance(node.content, tuple) and isinstance(part, int):
        return node.content[part]
    return None


def _names(models: Iterable[type[BaseModel]]) -> list[str]:
    return list(dict.fromkeys(field.alias or name for model in models for name, field in model.model_fields.items()))


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list",
    "dict_type": "a group of settings",
    "model_type": "a group of settings",
    "model_attributes_type": "a group of settings",
    "none_required": "null",
}


def _message(error: ErrorDetails, node: Item, *, known: Sequence[str]) -> str:
    """Say what is wrong with one key or value, and what was probably meant."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown key; {_nearest(str(error['loc'][-1]), known) or 'known here: ' + ', '.join(known)}"
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return "has no kind"
        case "literal_error" | "union_tag_invalid":
            choices = str(context.get("expected") or context.get("expected_tags"))
            names = [name.strip("' ") for name in choices.replace(" or ", ",").split(",")]
            guess = _nearest(str(node.content), names)
            return f"expected {choices}, found {_shown(node.plain())}{f'; {guess}' if guess else ''}"
        case kind if kind in _EXPECTED:
            return f"expected {_EXPECTED[kind]}, found {_shown(node.plain())}"
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case _:
            return f"{error['msg'].replace('Input should be', 'must be')}, found {_shown(node.plain())}"


def _nearest(name: str, known: Sequence[str]) -> str | None:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]}?" if near else None


def _unknown_setting(assignment: str) -> FineTuneError:
    path, equals, _ = assignment.partition("=")
    if not equals and path in _setting_paths():
        return _refused(assignment, f"it gives no value; write {path}=VALUE")
    near = difflib.get_close_matches(path, _setting_paths(), n=3, cutoff=0.5)
    name = path.rsplit(".", 1)[-1]
    leaf = [known for known in _setting_paths() if name in _called(known.rsplit(".", 1)[-1])]
    group = path.rpartition(".")[0]
    leaf = [known for known in leaf if known.rpartition(".")[0] == group] or leaf
    near = [] if leaf else near
    meant = ", ".join(dict.fromkeys([*leaf, *near]))
    return _refused(
        assignment, f"{path!r} is no setting; {f'did you mean {meant}?' if meant else 'see plan.yaml for all'}"
    )


def _called(leaf: str) -> tuple[str, str]:
    """Give what a setting is called: its name, and the initials of its words, as in lr for learning_rate."""
    return leaf, "".join(word[0] for word in leaf.split("_") if word)


def _refused(assignment: str, what: str) -> FineTuneError:
    return FineTuneError(
        "C04",
        what=what,
        where=f"--set {assignment}",
        why="it would change nothing, or something else than you mean",
        fix="write --set path=value with a path as in plan.yaml, such as --set optimizer.learning_rate=2e-4",
    )


def _shown(value: Json | tuple[Json, ...]) -> str:
    match value:
        case bool() | None:
            return json.dumps(value)
        case int() | float():
            return format_number(value)
        case dict():
            return "a group"
        case _:
            return textwrap.shorten(json.dumps(value, ensure_ascii=False), width=60, placeholder="...")


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
