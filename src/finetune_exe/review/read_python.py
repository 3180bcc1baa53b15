"""Training scripts, read by their syntax alone and never run: what the calls that configure a training are given."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from finetune_exe.domain.unreadable import unreadable
from finetune_exe.domain.values import Scalar
from finetune_exe.domain.yaml_tree import MOST_ITEMS, Item, Place

GROUPS = {
    "SFTConfig": "args", "TrainingArguments": "args", "Seq2SeqTrainingArguments": "args", "DPOConfig": "args",
    "GRPOConfig": "args", "KTOConfig": "args", "RewardConfig": "args", "RLOOConfig": "args", "ORPOConfig": "args",
    "UnslothTrainingArguments": "args",
    "PrefixTuningConfig": "prefix", "PromptTuningConfig": "prompt", "IA3Config": "ia3",
    "LoraConfig": "lora", "get_peft_model": "lora", "BitsAndBytesConfig": "quantization",
    "SFTTrainer": "trainer", "Trainer": "trainer", "DPOTrainer": "trainer", "GRPOTrainer": "trainer",
    "KTOTrainer": "trainer", "RewardTrainer": "trainer", "Seq2SeqTrainer": "trainer", "UnslothTrainer": "trainer",
    "PeftModel": "peft_used", "get_peft_model_state_dict": "peft_used", "AutoPeftModelForCausalLM": "peft_used",
    "train_on_responses_only": "responses", "get_chat_template": "template",
    "DataCollatorForCompletionOnlyLM": "collator", "DataCollatorForLanguageModeling": "collator",
}  # fmt: skip
"""The calls that matter, and the group that their arguments make."""
_LIBRARIES = {"trl", "transformers", "peft", "unsloth", "bitsandbytes"}
"""Where the calls come from; others have classes of the same names with other arguments."""
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
               ast.FloorDiv: operator.floordiv}  # fmt: skip
_LARGEST = 1e15


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a script configures."""

    root: Item
    """Groups by the kind of call; of several calls of a kind the last counts."""
    calls: tuple[tuple[str, str, Item], ...]
    """Each call: its group, its name, and its arguments."""
    modules: frozenset[str]
    """Top-level packages that it imports."""
    assigned: Mapping[str, Item]
    """Attributes that are set, as tokenizer.pad_token."""
    constants: Mapping[str, Item]
    """Names given a value once, outside of functions."""


def read_python(text: str, *, where: str) -> Script:
    """Read a script.

    Raises:
        FineTuneError: C15 where it is no Python, or nested beyond all bounds.
    """
    try:
        tree = ast.parse(text)
        return _Reader(tree).script()
    except SyntaxError as fault:
        place = Place(fault.lineno or 1, fault.offset or 1)
        raise unreadable(f"it is no Python: {fault.msg}", where=where, place=place) from fault
    except (RecursionError, ValueError, MemoryError) as fault:
        raise unreadable(f"it is no Python that can be read: {fault}", where=where) from fault


class _Reader:
    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree
        self.bound: dict[str, ast.expr | None] = {}
        self.origins, self.renamed = dict(_imports(tree)), dict(_renamed(tree))
        for node in ast.walk(tree):
            for name, value in _bindings(node):
                self.bound[name] = None if name in self.bound else value

    def script(self) -> Script:
        calls = []
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                name = self._called(node.func)
                group = _group(node, name)
                if group is not None and self.origins.get(_root_name(node.func), "trl") in _LIBRARIES:
                    calls.append((group, name, self._call(node, first="model" if group == "trainer" else "()")))
        calls.sort(key=lambda call: call[2].place)
        groups: dict[str, Item] = {}
        for group, _, item in calls:
            if group != "model" or _says_more(item, groups.get(group)):
                groups[group] = item
        constants = {
            name: self._item(value, _place(value), 0)
            for statement in self.tree.body
            for name, value in _bindings(statement)
            if value is not None and self.bound[name] is not None
        }
        return Script(
            root=Item(content=groups, place=Place(1, 1), key_place=Place(1, 1)),
            calls=tuple(calls), modules=frozenset(self.origins.values()), assigned=self._assigned(),
            constants=constants,
        )  # fmt: skip

    def _called(self, function: ast.expr) -> str:
        """Give the last name of what is called, as its library calls it."""
        name = _last_name(function)
        return self.renamed.get(name, name) if isinstance(function, ast.Name) else name

    def _call(self, node: ast.Call, *, first: str = "()") -> Item:
        """Give the arguments of a call; `first` is what the one without a name is called."""
        group: dict[str, Item] = {}
        if node.args:
            group[first] = self._item(node.args[0], _place(node.args[0]), 0)
        for keyword in node.keywords:
            if keyword.arg is None:
                spread = self._item(keyword.value, _place(keyword.value), 0)
                group |= spread.content if isinstance(spread.content, dict) else {"**": spread}
            else:
                group[keyword.arg] = self._item(keyword.value, Place(keyword.lineno, keyword.col_offset + 1), 0)
        place = _place(node)
        return Item(content=group, place=place, key_place=place, size=1 + len(group))

    def _item(self, node: ast.expr, key_place: Place, depth: int) -> Item:
        place = _place(node)
        if depth > 20:
            return _computed(node, key_place)
        match node:
            case ast.Constant(value=str() | int() | float() | bool() | None as value) if _is_usual(value):
                return Item(content=value, place=place, key_place=key_place, quoted=_is_number(value))
            case ast.Name(id=name) if self.bound.get(name) is not None:
                value_node = self.bound[name]
                assert value_node is not None
                found = self._item(value_node, key_place, depth + 1)
                return Item(content=found.content, place=place, key_place=key_place, computed=found.computed,
                            quoted=found.quoted, size=found.size)  # fmt: skip
            case ast.Attribute(value=ast.Name(id="torch"), attr=name):
                return Item(content=name, place=place, key_place=key_place)
            case ast.List(elts=elements) | ast.Tuple(elts=elements) if len(elements) < MOST_ITEMS:
                children = tuple(self._item(element, _place(element), depth + 1) for element in elements)
                return Item(content=children, place=place, key_place=key_place, size=1 + len(children))
            case ast.Dict():
                return self._dictionary(node, key_place, depth)
            case ast.Call(func=ast.Name(id="dict"), args=[]):
                inner = {
                    word.arg: self._item(word.value, _place(word.value), depth + 1)
                    for word in node.keywords
                    if word.arg
                }
                return Item(content=inner, place=place, key_place=key_place, size=1 + len(inner))
            case ast.Call(func=function) if GROUPS.get(self._called(function)) in ("lora", "quantization"):
                return self._call(node)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner_item = self._item(operand, key_place, depth + 1)
                number = inner_item.scalar
                if isinstance(number, int | float):
                    return Item(content=-number, place=place, key_place=key_place)
            case ast.BinOp():
                value = self._arithmetic(node, key_place, depth)
                if value is not None:
                    return Item(content=value, place=place, key_place=key_place)
        return _computed(node, key_place)

    def _dictionary(self, node: ast.Dict, key_place: Place, depth: int) -> Item:
        inner: dict[str, Item] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            item = self._item(value, _place(key or value), depth + 1)
            if key is None:
                inner |= item.content if isinstance(item.content, dict) else {}
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                inner[key.value] = item
        return Item(content=inner, place=_place(node), key_place=key_place, size=1 + len(inner))

    def _arithmetic(self, node: ast.BinOp, key_place: Place, depth: int) -> Scalar:
        work = _ARITHMETIC.get(type(node.op))
        left, right = (self._item(side, key_place, depth + 1).scalar for side in (node.left, node.right))
        numbers = isinstance(left, int | float) and isinstance(right, int | float)
        if work is None or not numbers or max(abs(left), abs(right)) > _LARGEST:  # type: ignore[arg-type]
            return None
        try:
            return work(left, right)  # type: ignore[no-any-return]
        except ArithmeticError:
            return None

    def _assigned(self) -> dict[str, Item]:
        found = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
                target = node.targets[0]
                found[f"{_last_name(target.value)}.{target.attr}"] = self._item(node.value, _place(node), 0)
        return found


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Give each imported name with the package that it comes from."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield from ((alias.asname or alias.name, ".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, node.module.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname or alias.name).split(".")[0], alias.name.split(".")[0]


def _renamed(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Give each name that an import gives to something of another name, with that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from ((alias.asname, alias.name) for alias in node.names if alias.asname)


def _root_name(node: ast.AST) -> str:
    """Give the first name of a dotted one."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Name what a statement binds, with its value where there is one that can be read."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, value
                elif isinstance(target, ast.Tuple | ast.List):
                    yield from ((name.id, None) for name in target.elts if isinstance(name, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
            yield name, value
        case ast.AugAssign(target=ast.Name(id=name)) | ast.NamedExpr(target=ast.Name(id=name)):
            yield name, None
        case ast.For(target=ast.Name(id=name)):
            yield name, None
        case ast.FunctionDef():
            yield from ((argument.arg, None) for argument in (*node.args.args, *node.args.kwonlyargs))


def _last_name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _group(node: ast.Call, name: str) -> str | None:
    """Say to which group the arguments of a call belong."""
    owner = _owner(node.func)
    if name == "from_pretrained" and "Peft" in owner:
        return "peft_used"
    if name == "from_pretrained":
        return None if "okenizer" in owner or "rocessor" in owner else "model"
    bare = name == "get_peft_model" and not any(keyword.arg in ("r", "lora_alpha") for keyword in node.keywords)
    return "peft_used" if bare and not owner.endswith("Model") else GROUPS.get(name)


def _owner(node: ast.AST) -> str:
    return ast.unparse(node.value) if isinstance(node, ast.Attribute) else ""


def _says_more(item: Item, before: Item | None) -> bool:
    """Choose the call that loads the model to train among several: the first that says how."""
    return before is None or (isinstance(before.content, dict) and len(before.content) <= 1)


def _place(node: ast.AST) -> Place:
    return Place(getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1)


def _computed(node: ast.expr, key_place: Place) -> Item:
    return Item(content=ast.unparse(node)[:200], place=_place(node), key_place=key_place, computed=True)


def _is_usual(value: object) -> bool:
    """Say whether a number is one that can be reckoned with; infinities and digits without end are not."""
    return not isinstance(value, int | float) or abs(value) < _LARGEST


def _is_number(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True
