"""Messages -> a prompt, by the model's own template, which is code: it is rendered in a sandbox.

Imported only where a bundle has a template, since it alone needs jinja2.
Source: transformers' `utils/chat_template_utils.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from torchscript_bundle.serving.errors import ArtifactError, RequestError


class Generation(Extension):
    """The tag around what an assistant says, which matters in training alone."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """Renders messages.

    Args:
        source: the template.
        special_tokens: by their roles, such as `bos_token`.

    Raises:
        ArtifactError: it is no template.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, Any]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ArtifactError(f"bundle.json: chat_template: {error}") from error
        self._special_tokens = dict(special_tokens)

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt that the model's answer to the last message follows.

        Raises:
            RequestError: 422 for messages that the template does not take.
        """
        try:
            return self._template.render(
                messages=messages, add_generation_prompt=True, **self._special_tokens
            )
        except TemplateError as error:
            # What a template raises itself is its author's sentence; the others may hold texts.
            said = f" ({error})" if isinstance(error, _RefusedError) else ""
            raise RequestError(
                422,
                f"the model's chat template does not take these messages{said}; send others, such "
                "as one of the role user",
            ) from None


class _RefusedError(TemplateError):
    """What `raise_exception` raises in a template."""


def _refuse(message: str) -> NoReturn:
    raise _RefusedError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own escapes HTML, which a prompt is not."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
