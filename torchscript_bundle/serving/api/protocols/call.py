"""What a request asks for, free of the protocol that it speaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torchscript_bundle.serving.api.fields import Field, Unread
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

PARAMETERS = "parameters"


class Form(Protocol):
    """What a request may hold: that of a mode, or of its explanations."""

    @property
    def item_keys(self) -> Mapping[str, Field]:
        """Members of an item that is an object, by their keys."""

    @property
    def parameters(self) -> Mapping[str, Field]:
        """The parameters, by their names."""

    def for_inference_client(self, call: Call) -> Call:
        """Adapt a call of Hugging Face's InferenceClient to the answers that it parses."""


@dataclass(frozen=True)
class Call:
    """Items to answer, and how their answers are put together.

    Attributes:
        items: strings or objects, not checked yet.
        parameters: by name; the names are the mode's.
        reply: the value of the response, from the answers to the items, in order.
        listed: whether the client sent a list, so that an error says which item it is about.
    """

    items: Sequence[object]
    parameters: Mapping[str, object]
    reply: Callable[[list[Any]], Any]
    listed: bool = True


def read_parameters(holders: Iterable[Mapping[str, object]], form: Form) -> dict[str, object]:
    """The parameters of a request, wherever it gives them.

    Args:
        holders: objects that may have an object under the key `parameters`.
        form: says which there are.

    Raises:
        RequestError: 422 for an unknown parameter, or one that is given twice.
    """
    found: dict[str, object] = {}
    for holder in holders:
        parameters = holder.get(PARAMETERS, {})
        if not isinstance(parameters, dict):
            raise RequestError(422, f"parameters must be an object, {_known(form)}")
        check_keys(parameters, form.parameters, where="parameters.")
        for name, value in parameters.items():
            if name in found:
                raise RequestError(422, f"{name} is given twice; send it once")
            found[name] = value
    return found


def asides(form: Form) -> set[str]:
    """Return the keys of an item that are not part of its text: what `/explanations` explains.

    They may also stand beside a text that is under a key of its own, as in `{"data": "...",
    "target": 1}`.
    """
    return {
        key
        for key, field in form.item_keys.items()
        if key in form.parameters or isinstance(field, Unread)
    }


def _known(form: Form) -> str:
    return "with " + " or ".join(form.parameters) if form.parameters else "and empty for this model"
