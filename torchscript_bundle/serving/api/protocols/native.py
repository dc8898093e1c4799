"""The form of the TorchServe example and of Hugging Face's inference endpoints.

A text, an object or a list of either; as it is, or under `inputs` or `data` beside `parameters`.
"""

from __future__ import annotations

from typing import Any

from torchscript_bundle.serving.api.fields import without_unread
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Call,
    Form,
    asides,
    read_parameters,
)
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

#: Keys of the object around items.
WRAPPERS = ("inputs", "data")


def read(payload: object, form: Form) -> Call:
    """See the module.

    Raises:
        RequestError: 422 for unknown keys, or for no input or two of them.
    """
    if not isinstance(payload, dict):
        return _call(payload, {})
    payload = without_unread(form.item_keys, payload)
    parts = _parts(form)
    check_keys(payload, (*parts, *WRAPPERS, *form.parameters, PARAMETERS))
    beside = {key: payload[key] for key in form.parameters if key in payload}
    parameters = read_parameters([payload, {PARAMETERS: beside}], form)
    item = {key: payload[key] for key in parts if key in payload}
    wrapped = [key for key in WRAPPERS if key in payload]
    if len(wrapped) + bool(item) != 1:
        raise RequestError(422, f"send one input: {_forms(form)}")
    if wrapped:
        return _call(payload[wrapped[0]], parameters)
    # {"text": ["one", "two"]} is as old as the TorchServe example.
    if list(item) == ["text"]:
        return _call(item["text"], parameters)
    return Call([item], parameters, _first, listed=False)


def _call(value: object, parameters: dict[str, object]) -> Call:
    if isinstance(value, list):
        return Call(value, parameters, list)
    return Call([value], parameters, _first, listed=False)


def _first(answers: list[Any]) -> Any:
    return answers[0]


def _parts(form: Form) -> list[str]:
    """Return the keys of an item that make its text."""
    beside = asides(form)
    return [key for key in form.item_keys if key not in beside]


def _forms(form: Form) -> str:
    keys = ", ".join(f'"{key}"' for key in _parts(form))
    return f'an object with {keys}, or the same under "inputs" or "data"'
