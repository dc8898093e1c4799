"""The content of a request in any protocol, and the base of protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torchscript_bundle.serving.api.fields import Field, Unread
from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.json_schema import JsonSchema
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.errors import RequestError

PARAMETERS = "parameters"
#: The version of every archive.
VERSION = "1.0"


class RequestFields(Protocol):
    """The fields, by their keys, of requests to a mode or to its explanations."""

    @property
    def item_keys(self) -> Mapping[str, Field]:
        """Members of an item that is an object."""

    @property
    def parameters(self) -> Mapping[str, Field]:
        """Members of `parameters`."""

    def for_inference_client(self, call: Call) -> Call:
        """Adapt a call of Hugging Face's InferenceClient to the answers that it parses."""


@dataclass(frozen=True)
class Call:
    """Items to answer, and how to put their answers together; nothing in it is checked yet.

    `reply` makes the response's JSON of the answers, in order. `listed` says that the client sent a
    list, so that errors name the item.
    """

    items: Sequence[object]
    parameters: Mapping[str, object]
    reply: Callable[[list[Any]], Any]
    listed: bool = True


@dataclass(frozen=True)
class ProtocolSchemas:
    """A protocol's OpenAPI part; `name` prefixes its schemas, and `reply` refers to `Answer`."""

    name: str
    request: JsonSchema
    reply: JsonSchema
    examples: Mapping[str, object]
    parts: Mapping[str, JsonSchema] = field(default_factory=dict)


class RequestProtocol(ABC):
    """One way to write requests and their answers: an entry of `protocols.PROTOCOLS`.

    `keys` are those of its objects, beside the model's and `parameters`. The paths are TorchServe's
    addresses by their OpenAPI operation ids; `{}` stands for the model's name.
    """

    keys: tuple[str, ...] = ()
    predict_paths: Mapping[str, str] = {}
    explain_paths: Mapping[str, str] = {}

    @abstractmethod
    def recognizes(self, payload: object, client: Client) -> bool:
        """Return whether this client's parsed JSON is in this protocol."""

    @abstractmethod
    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        """Read a request; raise RequestError where it breaks the protocol."""

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        """Return its part of the OpenAPI document, if it has one for these fields."""
        return None


def read_parameters(
    holders: Iterable[Mapping[str, object]], fields: RequestFields
) -> dict[str, object]:
    """Merge the `parameters` of several objects; each may be given once."""
    found: dict[str, object] = {}
    for holder in holders:
        parameters = holder.get(PARAMETERS, {})
        if not isinstance(parameters, dict):
            known = " or ".join(fields.parameters)
            expected = f"with {known}" if known else "and empty for this model"
            raise RequestError(422, f"parameters must be an object, {expected}")
        check_keys(parameters, fields.parameters, where="parameters.")
        for name, value in parameters.items():
            if name in found:
                raise RequestError(422, f"{name} is given twice; send it once")
            found[name] = value
    return found


def target_keys(fields: RequestFields) -> set[str]:
    """Return an item's keys that say what to explain, as in `{"data": "...", "target": 1}`."""
    return {
        key
        for key, field in fields.item_keys.items()
        if key in fields.parameters or isinstance(field, Unread)
    }


def text_keys(fields: RequestFields) -> list[str]:
    """Return the keys of an item that make its text."""
    return [key for key in fields.item_keys if key not in target_keys(fields)]
