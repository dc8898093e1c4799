"""The protocols of JSON requests: one file and one entry of the table each."""

from __future__ import annotations

from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Call,
    RequestFields,
    RequestProtocol,
)
from torchscript_bundle.serving.api.protocols.kserve import KServe
from torchscript_bundle.serving.api.protocols.native import InferenceClient, Native
from torchscript_bundle.serving.api.protocols.open_inference import (
    OpenInference,
    OpenInferenceGrpc,
)

#: The first one that recognizes a request reads it; the native one recognizes any.
PROTOCOLS: tuple[RequestProtocol, ...] = (
    OpenInferenceGrpc(),
    KServe(),
    OpenInference(),
    InferenceClient(),
    Native(),
)


def first_keys(fields: RequestFields) -> frozenset[str]:
    """Return the keys that make an object a request for one model."""
    own = (key for protocol in PROTOCOLS for key in protocol.keys)
    return frozenset((*fields.item_keys, *fields.parameters, *own, PARAMETERS))


def read_call(
    payload: object, fields: RequestFields, model_name: str, client: Client = "http"
) -> Call:
    """Read a request, a string or parsed JSON, in whichever protocol."""
    protocol = next(each for each in PROTOCOLS if each.recognizes(payload, client))
    return protocol.read(payload, fields, model_name)
