"""What a request asks for, free of the protocol that it is written in; the base of protocols."""

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
    """What a request to a mode, or to its explanations, may hold: fields by their keys."""

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
    """Items to answer, and how their answers are put together.

    Attributes:
        items: strings or objects; neither these nor the parameters are checked yet.
        reply: makes the response's JSON of the answers to the items, in order.
        listed: the client sent a list, so an error names the item that it is about.
    """

    items: Sequence[object]
    parameters: Mapping[str, object]
    reply: Callable[[list[Any]], Any]
    listed: bool = True


@dataclass(frozen=True)
class ProtocolSchemas:
    """A protocol in the OpenAPI document.

    Attributes:
        name: prefix of the names of its schemas.
        reply: refers to `Answer`, the answer to one item.
        examples: requests, by what they show.
        parts: further schemas that these refer to.
    """

    name: str
    request: JsonSchema
    reply: JsonSchema
    examples: Mapping[str, object]
    parts: Mapping[str, JsonSchema] = field(default_factory=dict)


class RequestProtocol(ABC):
    """One way to write requests and their answers: an entry of `protocols.PROTOCOLS`.

    Attributes:
        keys: of its objects, beside those of the model and `parameters`.
        predict_paths: addresses of predictions by their OpenAPI operation ids, as TorchServe routes
            them; `{}` stands for the model's name.
        explain_paths: the same for explanations.
    """

    keys: tuple[str, ...] = ()
    predict_paths: Mapping[str, str] = {}
    explain_paths: Mapping[str, str] = {}

    @abstractmethod
    def recognizes(self, payload: object, client: Client) -> bool:
        """Return whether parsed JSON from this client is written in this protocol."""

    @abstractmethod
    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call:
        """Return what a request asks for; raise RequestError for what the protocol excludes."""

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        """Return its own part of the OpenAPI document, if any for these fields."""
        return None


def read_parameters(
    holders: Iterable[Mapping[str, object]], fields: RequestFields
) -> dict[str, object]:
    """Return the parameters in all objects that may have a key `parameters`, each given once."""
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
    """Return the keys of an item that say what to explain, and are no part of its text.

    They may also stand beside a text that is under a key of its own, as in `{"data": "...",
    "target": 1}`.
    """
    return {
        key
        for key, field in fields.item_keys.items()
        if key in fields.parameters or isinstance(field, Unread)
    }


def text_keys(fields: RequestFields) -> list[str]:
    """Return the keys of an item that make its text."""
    return [key for key in fields.item_keys if key not in target_keys(fields)]
