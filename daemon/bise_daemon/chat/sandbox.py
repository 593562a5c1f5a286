"""Jinja's sandbox, with every loop turn, call, filter and join counted, and sizes checked.

Templates come with checkpoints, so they are someone else's programs. The sandbox keeps them from Python's internals;
the allowance keeps them from spending the device's time and memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

MAX_STEPS = 1_000_000  # about a second of looping
ALLOWANCE = "the allowance"  # has a space, so no template can name it

_CHARS_PER_STEP = 256
_MAX_INTEGER_BITS = 1024
# What makes large values out of small ones and is of no use in a prompt.
_PADDING_FILTERS = frozenset({"batch", "center", "format", "indent", "slice", "urlize", "wordwrap", "xmlattr"})
_PADDING_METHODS = frozenset({"center", "expandtabs", "format", "format_map", "ljust", "rjust", "zfill"})
_WIDE_FORMAT = re.compile(r"%[^a-zA-Z%]*(\*|\d{4})")


class Overspent(jinja2.TemplateError):
    """The template asks for more than it may spend."""


class Allowance:
    """What one rendering may spend: steps of work, and characters of any one value and of the whole text."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = self._chars_left = max_chars
        self._steps_left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Pays for work about to be done or just done."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise Overspent(f"expected at most {MAX_STEPS} steps of the template, got more")

    def write(self, text: str) -> None:
        """Pays for a piece of the rendered text."""
        self._chars_left -= len(text)
        if self._chars_left < 0:
            raise Overspent(f"expected at most {self._max_chars} characters of text, got more")

    def admit(self, value: Any) -> Any:
        """`value`, paid for by its size."""
        if isinstance(value, range):
            self.spend(len(value))
        elif isinstance(value, str | list | tuple | dict):
            self._check_size(len(value))
            self.spend(1 + len(value) // _CHARS_PER_STEP)
        else:
            self.spend(1)
        return value

    def check_multiply(self, left: Any, right: Any) -> None:
        """Refuses a product of large size before it is made."""
        for side, times in ((left, right), (right, left)):
            if isinstance(side, str | list | tuple) and isinstance(times, int):
                self._check_size(len(side) * times)
                self.spend(len(side) * max(times, 0) // _CHARS_PER_STEP)
        if isinstance(left, int) and isinstance(right, int):
            self._check_bits(left.bit_length() + right.bit_length())

    def check_power(self, left: Any, right: Any) -> None:
        """Refuses a power of large size before it is made."""
        if isinstance(left, int) and isinstance(right, int):
            self._check_bits(left.bit_length() * abs(right))

    def check_modulo(self, left: Any, _right: Any) -> None:
        """Refuses % formatting that pads."""
        if isinstance(left, str) and _WIDE_FORMAT.search(left):
            raise Overspent(f"expected no width of four digits or * in a % format, got {left[:40]!r}")

    def check_add(self, left: Any, right: Any) -> None:
        """Refuses a sum of large size before it is made."""
        if isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self._check_size(len(left) + len(right))
            self.spend((len(left) + len(right)) // _CHARS_PER_STEP)

    def _check_size(self, size: int) -> None:
        if size > self._max_chars:
            raise Overspent(f"expected values of at most {self._max_chars} characters or items, got {size}")

    def _check_bits(self, bits: int) -> None:
        if bits > _MAX_INTEGER_BITS:
            raise Overspent(f"expected integers of at most {_MAX_INTEGER_BITS} bits, got {bits}")


_CHECKS: dict[str, Callable[[Allowance, Any, Any], None]] = {
    "*": Allowance.check_multiply,
    "**": Allowance.check_power,
    "%": Allowance.check_modulo,
    "+": Allowance.check_add,
}


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that the field's chat templates are written for, bounded."""

    intercepted_binops = frozenset(_CHECKS)

    def __init__(self, now: Callable[[], datetime]) -> None:
        """
        Args:
            now: the clock behind `strftime_now`.
        """
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationTag])
        self.filters = {name: filter_ for name, filter_ in self.filters.items() if name not in _PADDING_FILTERS}
        self.filters |= {"tojson": _tojson, "the_turns_of": _turns, "the_size_of": _size}
        self.globals.pop("lipsum")
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda format_: now().strftime(format_),
        }

    def counted(self, source: str) -> jinja2.Template:
        """The template of `source`, with counting in place."""
        counting: nodes.Template = _Counting().visit(self.parse(source))
        counting.set_environment(self)
        return self.template_class.from_code(self, self.compile(counting), self.make_globals(None))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        allowance: Allowance = context.parent[ALLOWANCE]
        allowance.spend(1)
        return allowance.admit(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _CHECKS[operator](context.parent[ALLOWANCE], left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """None: str.format has no safe form here, since its widths pad; `is_safe_attribute` refuses it."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr not in _PADDING_METHODS and super().is_safe_attribute(obj, attr, value)


class _Counting(NodeTransformer):
    """Wraps what loops run over in a counter, and what grows text in a size check."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - the visitor's names
        self.generic_visit(node)
        node.iter = _filtered(node.iter, "the_turns_of")
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "the_size_of")

    def visit_Filter(self, node: nodes.Filter) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filtered(node, "the_size_of")


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


@jinja2.pass_context
def _turns(context: Context, items: Iterable[Any]) -> Iterator[Any]:
    allowance: Allowance = context.parent[ALLOWANCE]
    for item in items:
        allowance.spend(1)
        yield item


@jinja2.pass_context
def _size(context: Context, value: Any) -> Any:
    allowance: Allowance = context.parent[ALLOWANCE]
    return allowance.admit(value)


class _GenerationTag(Extension):
    """`{% generation %}` marks the assistant's text for training; here it is only its content."""

    tags = {"generation"}  # noqa: RUF012 - Jinja types it so

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own escapes HTML characters, which no model was trained on.
    if indent is not None and not 0 <= indent <= 16:
        raise Overspent(f"expected tojson's indent from 0 to 16, got {indent}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)
