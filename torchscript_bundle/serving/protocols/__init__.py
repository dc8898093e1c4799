"""The forms that a JSON request may have, recognised by what it holds: one file each."""

from __future__ import annotations

from torchscript_bundle.serving.protocols import kserve, native, open_inference
from torchscript_bundle.serving.protocols.call import Call, Form


def read_call(payload: object, form: Form, model_name: str) -> Call:
    """What a request asks for, whichever form it has.

    Args:
        payload: a string, or parsed JSON.
        form: knows which keys and parameters there are.
        model_name: what answers of the Open Inference Protocol are signed with.

    Raises:
        RequestError: 422 for a form that is none of these, or wrong in itself.
    """
    if isinstance(payload, dict) and "instances" in payload:
        return kserve.read(payload, form)
    if isinstance(payload, dict) and open_inference.is_one(payload):
        return open_inference.read(payload, form, model_name)
    return native.read(payload, form)
