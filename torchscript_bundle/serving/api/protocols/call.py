"""The content of a request in any protocol, and the base of protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torchscript_bundle.serving.api.fields import Field, Unread
from torchscript_bundle.serving.api.http import Client, HttpResponse
from torchscript_bundle.serving.api.json_schema import COUNT, JsonSchema, record
from torchscript_bundle.serving.api.values import check_keys
from torchscript_bundle.serving.artifact import Bundle, ServingOptions
from torchscript_bundle.serving.errors import RequestError
from torchscript_bundle.serving.text.tokenizer import TextEncoder

PARAMETERS = "parameters"
#: The version of every archive.
VERSION = "1.0"
#: What other people's APIs ask of a model.
Offer = Literal["embeddings", "sparse_embeddings", "ranking", "labels"]
#: Errors about a model that does something else.
NOT_OFFERED: dict[Offer, str] = {
    "embeddings": "this model gives no embeddings",
    "sparse_embeddings": "this model gives no sparse embeddings",
    "ranking": "this model ranks no texts",
    "labels": "this model gives texts no labels",
}


class RequestFields(Protocol):
    """The fields, by their keys, of requests to a mode or to its explanations."""

    @property
    def item_keys(self) -> Mapping[str, Field]:
        """Members of an item that is an object."""

    @property
    def parameters(self) -> Mapping[str, Field]:
        """Members of `parameters`."""

    @property
    def offers(self) -> Mapping[Offer, Mapping[str, object]]:
        """The offers to APIs of others, each with the facts that they tell about it."""

    def for_inference_client(self, call: Call) -> Call:
        """Adapt a call of Hugging Face's InferenceClient to the answers that it parses."""


@dataclass(frozen=True)
class Call:
    """Items to answer, and how to put their answers together; nothing in it is checked yet.

    `reply` makes the response's JSON of the answers, in order; `usage` makes the members that tell
    how many tokens were read, for protocols that tell it. `listed` says that the client sent a
    list, so that errors name the item.
    """

    items: Sequence[object]
    parameters: Mapping[str, object]
    reply: Callable[[list[Any]], Any]
    listed: bool = True
    usage: Callable[[int], Mapping[str, Any]] | None = None

    def respond(self, answers: list[Any], tokens: int) -> Any:
        """Return the response's JSON, of texts that had this many tokens."""
        reply = self.reply(answers)
        return reply if self.usage is None else {**reply, **self.usage(tokens)}


@dataclass(frozen=True)
class Served:
    """The model that a worker serves, for requests about it."""

    bundle: Bundle
    options: ServingOptions
    offers: Mapping[Offer, Mapping[str, object]]
    precision: str
    encoder: TextEncoder


@dataclass(frozen=True)
class Lookup:
    """A request that needs no pass of the model; `answer` makes the response's JSON."""

    answer: Callable[[Served], Any]


@dataclass(frozen=True)
class ProtocolSchemas:
    """A protocol's OpenAPI part; `name` prefixes its schemas, and `reply` refers to `Answer`."""

    name: str
    request: JsonSchema
    reply: JsonSchema
    examples: Mapping[str, object]
    parts: Mapping[str, JsonSchema] = field(default_factory=dict)


@dataclass(frozen=True)
class FailureForm:
    """Errors at the addresses of an API: their schema, and the statuses that it has others for."""

    name: str
    schema: JsonSchema
    statuses: Mapping[int, int] = field(default_factory=dict)


class RequestProtocol(ABC):
    """One way to write requests and their answers: an entry of `protocols.PROTOCOLS`.

    Attributes:
        keys: those of its objects, beside the model's and `parameters`.
        has_answer_form: whether answers are in the artifact's `answer_form`, not always in ours.
        offer: what it asks of a model; None if every model answers it.
        paths: addresses after the model's version at which there is no other protocol.
        anywhere: whether its requests are recognized at the model's other addresses too.
        needs_body: whether its requests have a body.
        failures: how errors at its `paths` look.
        predict_paths, explain_paths: TorchServe's addresses by their OpenAPI operation ids; `{}`
            stands for the model's name.
    """

    has_answer_form = False
    keys: tuple[str, ...] = ()
    offer: Offer | None = None
    paths: tuple[str, ...] = ()
    anywhere = True
    needs_body = True
    failures: FailureForm | None = None
    predict_paths: Mapping[str, str] = {}
    explain_paths: Mapping[str, str] = {}

    @abstractmethod
    def recognizes(self, payload: object, client: Client) -> bool:
        """Return whether this client's parsed JSON is in this protocol."""

    @abstractmethod
    def read(self, payload: Any, fields: RequestFields, model_name: str) -> Call | Lookup:
        """Read a request; raise RequestError where it breaks the protocol."""

    def adapt(self, response: HttpResponse) -> HttpResponse:
        """Give an error at one of its `paths` its own form; return other responses unchanged."""
        return response

    def describe(self, fields: RequestFields, most_items: int) -> ProtocolSchemas | None:
        """Return its part of the OpenAPI document, if it has one for these fields."""
        return None


def check_offer(fields: RequestFields, offer: Offer) -> None:
    """Refuse a request to a model that does something else."""
    if offer not in fields.offers:
        raise RequestError(
            404, f"{NOT_OFFERED[offer]}; send its own requests to /predictions/<its name>"
        )


#: JSON Schema of the value of `token_usage`'s member.
USAGE = record({"prompt_tokens": COUNT, "total_tokens": COUNT})


def token_usage(tokens: int) -> dict[str, Any]:
    """Return the member that tells OpenAI's and Jina's clients how many tokens were read."""
    return {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


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
