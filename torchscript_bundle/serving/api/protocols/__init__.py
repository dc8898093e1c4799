"""The forms that a JSON request may have, recognised by what it holds: one file each."""

from __future__ import annotations

from torchscript_bundle.serving.api.http import Client
from torchscript_bundle.serving.api.protocols import inference_client as hugging_face
from torchscript_bundle.serving.api.protocols import kserve, native, open_inference
from torchscript_bundle.serving.api.protocols.call import PARAMETERS, Call, Form


def first_keys(form: Form) -> frozenset[str]:
    """Return the keys of one model by which an object is recognised as a request for it."""
    keys = (*form.item_keys, *form.parameters)
    return frozenset((*keys, *native.WRAPPERS, kserve.INSTANCES, PARAMETERS))


def read_call(payload: object, form: Form, model_name: str, client: Client = "http") -> Call:
    """What a request asks for, whichever form it has.

    Args:
        payload: a string, or parsed JSON.
        form: knows which keys and parameters there are.
        model_name: what answers of the Open Inference Protocol are signed with.
        client: who asks.

    Raises:
        RequestError: 422 for a form that is none of these, or wrong in itself.
    """
    if isinstance(payload, dict) and client == "open_inference_grpc":
        return open_inference.read_grpc(payload, form, model_name)
    if isinstance(payload, dict) and "instances" in payload:
        return kserve.read(payload, form)
    if isinstance(payload, dict) and open_inference.is_one(payload):
        return open_inference.read(payload, form, model_name)
    if isinstance(payload, dict) and "inputs" in payload and client == "huggingface_hub":
        return hugging_face.read(payload, form)
    return native.read(payload, form)
