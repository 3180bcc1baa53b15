"""The Jinja environment that chat templates run in: they can reach nothing, and cannot take long or much.

Jinja's immutable sandbox keeps a template from attributes and calls that lead out of it. It does not keep it from
looping for ever or from asking for a gigabyte in one expression. So every loop, macro, block, call, filter and operator
looks at the clock, and whatever could make a large value out of a small one is measured before it is done.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MAX_SECONDS = 2.0
"""Longest that one rendering may take; those of twelve families of templates take less than a millisecond."""
MAX_CHARACTERS = 20_000_000
"""Longest text: a context of a million tokens is four or five million characters."""
MAX_ITEMS = 1_000_000
"""Longest list; a conversation has a few thousand turns at most."""
MAX_NUMBER = 1_000_000
"""Largest number a call or a filter may be given: widths and counts are far below."""
MAX_BITS = 4096
"""Largest integer: two such are multiplied in 15 microseconds, and Python still writes it out (up to 14,284 bits)."""
MAX_WIDTH_DIGITS = 5
"""Widths of so many digits are refused: no template pads to 10,000 characters."""
MAX_INDENT = 64
"""Widest indent of JSON; public templates indent by 2 or 4."""
NEEDLESS_FILTERS = ("pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr")
"""Filters no chat template needs, and that take long on some texts or draw by chance."""
NEEDLESS_NAMES = ("lipsum",)
_WIDTH = re.compile(rf"\d{{{MAX_WIDTH_DIGITS},}}")
_COUNTERS = frozenset({"first", "last", "index", "index0", "revindex", "revindex0", "length"})
_CONCATENATE, _ADD, _COLLECT, _LOOK = "~", "+", "[]", "!"
"""Filters of our own; no template can name them."""


class TemplateLimitError(TemplateError):
    """The template took too long, or asked for too much."""


class GenerationBlock(Extension):
    """Let `{% generation %}...{% endgeneration %}` render as its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's interface

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Take the body as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class GuardedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox with limits. `begin` starts the clock of one rendering."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])
    faults = (
        TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
    )  # fmt: skip
    """What a template raises, or can run into."""

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, loopcontrols], finalize=self._output
        )
        self.deadline = float("inf")
        for name in NEEDLESS_NAMES:
            self.globals.pop(name, None)
        for name in NEEDLESS_FILTERS:
            self.filters.pop(name, None)
        self.filters["tojson"] = _to_json
        guards: dict[str, Callable[..., None]] = {
            "replace": _guard_replace, "join": _guard_join, "format": _guard_percent, "indent": _guard_indent,
        }  # fmt: skip
        for name, function in list(self.filters.items()):
            self.filters[name] = self._guarded(function, guards.get(name))
        self.filters[_CONCATENATE] = self._concatenate
        self.filters[_ADD] = self._add
        self.filters[_COLLECT] = self._collect
        self.filters[_LOOK] = pass_context(lambda _context, _value: self.tick())
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    @property
    def most_characters(self) -> int:
        """Longest text that a template may write."""
        return MAX_CHARACTERS

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Get an attribute, if it is harmless; the counters of loops are, and are asked for most."""
        if type(obj) is LoopContext and attribute in _COUNTERS:
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def begin(self) -> None:
        """Start the clock."""
        self.deadline = time.monotonic() + MAX_SECONDS

    def tick(self) -> None:
        """Look at the clock.

        Raises:
            TemplateLimitError: Time is up.
        """
        if time.monotonic() > self.deadline:
            raise TemplateLimitError("the template ran too long")

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        _replace_expressions(tree)
        for node in tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block)):
            clock = nodes.Filter(nodes.Const(None), _LOOK, [], [], None, None, lineno=node.lineno)
            look = nodes.ExprStmt(clock, lineno=node.lineno)
            node.body.insert(0, look)  # type: ignore[attr-defined]
        return tree

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - Jinja's signature
        """Call what the template calls, if it is harmless."""
        __self.tick()
        if __obj is dict or __obj is Namespace:
            _refuse_large((args, kwargs))
        elif __obj is not __self.globals["range"]:  # Jinja limits it itself
            _refuse_numbers((*args, *kwargs.values()))
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str):
            if name == "join":
                args = (list(islice(args[0], MAX_ITEMS)),) if args else args
                _guard_join(args[0] if args else (), owner)
            elif name == "replace":
                _guard_replace(owner, *args)
            elif name == "expandtabs":
                _refuse_size(len(owner) + owner.count("\t") * int(args[0] if args else 8))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Let `format` fill in its pattern only where that cannot become too much."""
        fill = super().wrap_str_format(value)
        if fill is None:
            return None

        def guarded(*args: Any, **kwargs: Any) -> str:
            _guard_format(value.__self__, (args, kwargs))
            return fill(*args, **kwargs)

        return guarded

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Do an operation whose result cannot be too large."""
        self.tick()
        if operator == "*":
            _guard_product(left, right)
        elif operator == "**":
            if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > MAX_BITS:
                raise TemplateLimitError("the template computes too large a number")
        elif operator == "%" and isinstance(left, str):
            _guard_percent(left, right)
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _refuse_size(len(left) + len(right), items=not isinstance(left, str))
        return super().call_binop(context, operator, left, right)

    def _guarded(self, function: Callable[..., Any], guard: Callable[..., None] | None) -> Callable[..., Any]:
        """Wrap a filter; what Jinja must know of it (whether it takes the context) is kept."""
        first = 1 if getattr(function, "jinja_pass_arg", None) is not None else 0

        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.tick()
            _refuse_numbers((*args[first + 1 :], *kwargs.values()))
            if guard is not None:
                guard(*args[first:], **kwargs)
            return function(*args, **kwargs)

        for mark in ("jinja_pass_arg", "jinja_async_variant"):
            if hasattr(function, mark):
                setattr(guarded, mark, getattr(function, mark))
        return guarded

    def _output(self, value: Any) -> Any:
        self.tick()
        return value

    def _concatenate(self, *parts: Any) -> str:
        self.tick()
        texts = [str(part) for part in parts]
        _refuse_size(sum(map(len, texts)))
        return "".join(texts)

    def _add(self, *parts: Any) -> Any:
        """Give `a + b + ...`, at once where all are texts, as they mostly are."""
        try:
            _refuse_size(sum(map(len, parts)))
            return "".join(parts)
        except TypeError:
            total = parts[0]
            for part in parts[1:]:
                total = self.call_binop(None, "+", total, part)
            return total

    def _collect(self, value: Any) -> Any:
        self.tick()
        _refuse_large(value)
        return value


def _replace_expressions(node: nodes.Node) -> None:
    """Send `a ~ b`, `a + b`, and lists, tuples and dicts written in the template, through filters that measure them."""
    for field, value in list(node.iter_fields()):
        if isinstance(value, nodes.Node):
            setattr(node, field, _replaced(value))
        elif isinstance(value, list):
            setattr(node, field, [_replaced(item) if isinstance(item, nodes.Node) else item for item in value])


def _replaced(node: nodes.Node) -> nodes.Node:
    _replace_expressions(node)
    if isinstance(node, nodes.Concat):
        first, *rest = node.nodes
        return nodes.Filter(first, _CONCATENATE, rest, [], None, None, lineno=node.lineno)
    if isinstance(node, nodes.Add):
        first, *rest = _summands(node)
        return nodes.Filter(first, _ADD, rest, [], None, None, lineno=node.lineno)
    is_load = not isinstance(node, nodes.Tuple) or node.ctx == "load"
    if isinstance(node, nodes.List | nodes.Tuple | nodes.Dict) and is_load:
        return nodes.Filter(node, _COLLECT, [], [], None, None, lineno=node.lineno)
    return node


def _summands(node: nodes.Expr) -> list[nodes.Expr]:
    """Take `a + b + c` apart, from the left as it is computed."""
    if isinstance(node, nodes.Filter) and node.name == _ADD:
        assert node.node is not None
        return [node.node, *node.args]
    return [*_summands(node.left), node.right] if isinstance(node, nodes.Add) else [node]


def _refuse_size(size: int, *, items: bool = False) -> None:
    if size > (MAX_ITEMS if items else MAX_CHARACTERS):
        raise TemplateLimitError("the template wrote too much")


def _refuse_numbers(values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise TemplateLimitError("the template asks for too large a number")


def _refuse_large(value: Any) -> None:
    """Refuse a value that would be too large written out, however often it holds the same part."""
    size, items = _measure(value)
    _refuse_size(size)
    _refuse_size(items, items=True)


def _measure(value: Any) -> tuple[int, int]:
    size = items = 0
    waiting = [value]
    while waiting:
        part = waiting.pop()
        items += 1
        if isinstance(part, str):
            size += len(part)
        elif isinstance(part, dict):
            waiting += part.keys()
            waiting += part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
        if size > MAX_CHARACTERS or items > MAX_ITEMS or len(waiting) > 2 * MAX_ITEMS:
            raise TemplateLimitError("the template wrote too much")
    return size, items


def _guard_product(left: Any, right: Any) -> None:
    for value, times in ((left, right), (right, left)):
        if not isinstance(times, int):
            continue
        if isinstance(value, str | bytes):
            _refuse_size(len(value) * times)
        elif isinstance(value, list | tuple):
            size, items = _measure(value)
            _refuse_size(size * times)
            _refuse_size(items * times, items=True)
        elif isinstance(value, int) and value.bit_length() + times.bit_length() > MAX_BITS:
            raise TemplateLimitError("the template computes too large a number")


def _guard_replace(text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> None:
    whole, part, other = str(text), str(old), str(new)
    _refuse_size(len(whole) + whole.count(part) * len(other))


def _guard_join(values: Any, between: Any = "", *_: Any, **__: Any) -> None:
    if isinstance(values, list | tuple):
        size, items = _measure(values)
        _refuse_size(size + items * len(str(between)))


def _guard_percent(text: Any, *values: Any, **named: Any) -> None:
    """Look at a `%` format: no wide fields, and no more than what goes in, as often as it goes in."""
    pattern = str(text)
    if _WIDTH.search(pattern) or "*" in pattern:
        raise TemplateLimitError("the template asks for too wide a field")
    size, _ = _measure((values, named))
    _refuse_size(len(pattern) + pattern.count("%") * (size + 10**MAX_WIDTH_DIGITS // 10))


def _guard_format(pattern: str, values: Any) -> None:
    """Look at a `format` pattern in the same way; a width given as a value is refused."""
    if _WIDTH.search(pattern) or re.search(r"\{[^{}]*\{", pattern.replace("{{", "")):
        raise TemplateLimitError("the template asks for too wide a field")
    size, _ = _measure(values)
    _refuse_size(len(pattern) + pattern.count("{") * (size + 10**MAX_WIDTH_DIGITS // 10))


def _guard_indent(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    whole = str(text)
    room = len(width) if isinstance(width, str) else int(width)
    _refuse_size(len(whole) + (whole.count("\n") + 1) * max(0, room))


def _to_json(value: Any, indent: int | None = None, **_: Any) -> str:
    """Write JSON as models are used to: letters as they are."""
    _refuse_large(value)
    if indent is not None and not 0 <= indent <= MAX_INDENT:
        raise TemplateLimitError("the template asks for too wide an indent")
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    _refuse_size(len(form) * 100)
    if _WIDTH.search(form):
        raise TemplateLimitError("the template asks for too wide a field")
    return time.strftime(form)
