"""The protocols of JSON requests: one file and one entry of the table each."""

from __future__ import annotations

from collections.abc import Collection

from torchscript_bundle.serving.api.http import Client, HttpResponse
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Offer,
    RequestFields,
    RequestProtocol,
)
from torchscript_bundle.serving.api.protocols.cohere_rerank import CohereRerank
from torchscript_bundle.serving.api.protocols.kserve import KServe
from torchscript_bundle.serving.api.protocols.native import InferenceClient, Native
from torchscript_bundle.serving.api.protocols.open_inference import (
    OpenInference,
    OpenInferenceGrpc,
)
from torchscript_bundle.serving.api.protocols.openai_embeddings import OpenAIEmbeddings
from torchscript_bundle.serving.api.protocols.text_embeddings_inference import ADDRESSES

#: Of those at an address (`paths`), or of all, the first one that recognizes a request reads it,
#: and the last one otherwise.
PROTOCOLS: tuple[RequestProtocol, ...] = (
    OpenInferenceGrpc(),
    OpenAIEmbeddings(),
    CohereRerank(),
    *ADDRESSES,
    KServe(),
    OpenInference(),
    InferenceClient(),
    Native(),
)


def first_keys(fields: RequestFields) -> frozenset[str]:
    """Return the keys that make an object a request for one model."""
    own = (key for protocol in _asked_of(fields.offers) for key in protocol.keys)
    return frozenset((*fields.item_keys, *fields.parameters, *own, PARAMETERS))


def find_protocol(
    payload: object, offers: Collection[Offer], client: Client = "http", path: str = ""
) -> RequestProtocol:
    """Return the protocol of a request, a string or parsed JSON, to a model with these offers."""
    known = _at(path) or _asked_of(offers)
    return next((each for each in known if each.recognizes(payload, client)), known[-1])


def needs_body(path: str) -> bool:
    """Return whether requests to an address have a body."""
    return all(each.needs_body for each in _at(path))


def adapt_error(response: HttpResponse, path: str) -> HttpResponse:
    """Give an error the form of the address that the request was sent to."""
    known = _at(path)
    return known[-1].adapt(response) if known and response.status >= 400 else response


def _at(path: str) -> list[RequestProtocol]:
    return [each for each in PROTOCOLS if path in each.paths]


def _asked_of(offers: Collection[Offer]) -> list[RequestProtocol]:
    """Return the protocols that a model may be asked in at an address of all protocols."""
    return [each for each in PROTOCOLS if each.offer is None or each.offer in offers]
