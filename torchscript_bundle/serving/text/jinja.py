"""Jinja templates that come with a model, rendered in a sandbox at a bounded cost.

The only module that needs jinja2, so it is imported only for artifacts with a template.
Source of the names that templates may use: transformers' `utils/chat_template_utils.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Most loop iterations and calls of one rendering: about a second of a slow core. A usual template
#: takes some ten thousand for a thousand messages.
MOST_STEPS = 200_000
#: Most characters that a template may write, or make by multiplying.
MOST_CHARACTERS = 10_000_000
#: Largest power that a template may compute, in bits.
MOST_BITS = 1_000
#: The variable with the step counter; a name that no template can write.
STEPS = "steps of this rendering"


class RefusedError(TemplateError):
    """Raised by `raise_exception` in a template, with its author's message."""


class TooMuchError(TemplateError):
    """The template takes too many steps or writes too much."""


class Template:
    """A compiled template; raises ValueError where the source is none."""

    def __init__(self, source: str) -> None:
        environment = _Environment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        try:
            tree = environment.parse(source)
            for loop in tree.find_all(nodes.For):
                counted = nodes.Filter(loop.iter, "counted", [], [], None, None)
                loop.iter = counted.set_lineno(loop.lineno)
            tree.set_environment(environment)
            self._template = environment.from_string(tree)
        except (TemplateError, RecursionError) as error:
            raise ValueError(str(error)) from error

    def render(self, **values: Any) -> str:
        """Return the text; raise RefusedError, TooMuchError, or whatever a mistake in it raises."""
        pieces, size = [], 0
        for piece in self._template.generate({**values, STEPS: _Steps()}):
            pieces.append(piece)
            size += len(piece)
            _check_size(size)
        return "".join(pieces)


@dataclass
class _Steps:
    left: int = MOST_STEPS

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise TooMuchError("too many steps")


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the names that transformers defines, and with limits."""

    intercepted_binops = frozenset(["*", "**"])

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.filters["tojson"] = _to_json
        self.filters["counted"] = _counted
        self.globals["raise_exception"] = _refuse
        self.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        # lipsum makes text of any length.
        del self.globals["lipsum"]

    def call(self, context: Context, called: Any, /, *args: Any, **options: Any) -> Any:
        """Count each call, which ends recursive macros, and the iterations of recursive loops."""
        _steps(context).take()
        if isinstance(called, LoopContext):  # the `loop` of a recursive one
            args = (_counted(context, args[0]), *args[1:])
        return super().call(context, called, *args, **options)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse products and powers that would fill the memory."""
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            if left.bit_length() * right > MOST_BITS:
                raise TooMuchError("too large a power")
        elif operator == "*":
            for value, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(value, str | list | tuple):
                    _check_size(len(value) * times)
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """The tag around an assistant's text, which matters in training only."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@pass_context
def _counted(context: Context, values: Iterable[Any]) -> Iterator[Any]:
    """Count each iteration; the iterable of every loop goes through this filter."""
    steps = _steps(context)
    for value in values:
        steps.take()
        yield value


def _steps(context: Context) -> _Steps:
    steps = context[STEPS]
    assert isinstance(steps, _Steps)
    return steps


def _check_size(size: int) -> None:
    if size > MOST_CHARACTERS:
        raise TooMuchError("too long a text")


def _refuse(message: str) -> NoReturn:
    raise RefusedError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return unescaped JSON; Jinja's own filter escapes it for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
