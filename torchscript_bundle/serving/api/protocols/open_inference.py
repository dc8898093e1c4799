"""The Open Inference Protocol (KServe's second): named tensors in, named tensors out.

Source: https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.protocols.call import (
    PARAMETERS,
    Call,
    Form,
    asides,
    read_parameters,
)
from torchscript_bundle.serving.api.values import check_keys, check_text
from torchscript_bundle.serving.errors import RequestError

FORM = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]}'
NO_CONTENTS = (
    "there are no texts; put them into the contents.bytes_contents of an input (TorchServe drops "
    "raw_input_contents)"
)
#: The reply's only output.
OUTPUT = "answers"
#: The version that every archive has.
VERSION = "1.0"
#: By these a client says whether the reply may be binary. It never is, and it says so itself.
#: Source: the protocol's binary tensor data extension.
BINARY_REPLY = "binary_data_output"
BINARY_OUTPUT = "binary_data"


def is_one(payload: dict[str, object]) -> bool:
    """Whether a request has this form: an input is an object with a datatype, or with a shape."""
    inputs = payload.get("inputs")
    return isinstance(inputs, list) and any(
        isinstance(each, dict) and ("datatype" in each or "shape" in each) for each in inputs
    )


def read(payload: dict[str, Any], form: Form, model_name: str) -> Call:
    """See the module. Several inputs are the members of one object each, by their names.

    Raises:
        RequestError: 422 for a wrong tensor; the message shows a right one.
    """
    check_keys(payload, ("id", "model_name", "inputs", "outputs", PARAMETERS))
    identity = {"id": check_text(payload["id"], "the id")} if "id" in payload else {}
    if payload.get("model_name", model_name) != model_name:
        raise RequestError(422, "model_name is not the model of this address; send its name")
    _check_outputs(payload.get("outputs", []))
    items = _items([_tensor(each) for each in payload["inputs"]], form)
    parameters = read_parameters([_without_binary_reply(payload), *payload["inputs"]], form)

    def answer(answers: list[Any]) -> dict[str, Any]:
        texts = [json.dumps(each, ensure_ascii=False, allow_nan=False) for each in answers]
        return {**identity, **reply(model_name, OUTPUT, texts)}

    return Call(items, parameters, answer)


def read_grpc(payload: dict[str, Any], form: Form, model_name: str) -> Call:
    """Reads what TorchServe makes of the message of a ModelInfer call.

    That has texts in base64 and no parameters; the reply must have an id.

    Raises:
        RequestError: as `read`; 400 for texts that are not UTF-8.
    """
    if not payload["inputs"]:
        raise RequestError(422, NO_CONTENTS)
    items = _items([_tensor(_decode_base64(each)) for each in payload["inputs"]], form)

    def answer(answers: list[Any]) -> dict[str, Any]:
        # TorchServe itself writes each element as JSON.
        return {"id": payload["id"], **reply(model_name, OUTPUT, answers)}

    return Call(items, {}, answer)


def reply(model_name: str, output: str, elements: Sequence[Any]) -> dict[str, Any]:
    """A reply with one output: an element for each answer, as JSON.

    The protocol has no tensor of objects.
    """
    tensor = {
        "name": output,
        "shape": [len(elements)],
        "datatype": "BYTES",
        "data": list(elements),
    }
    return {"model_name": model_name, "model_version": VERSION, "outputs": [tensor]}


def _check_outputs(outputs: object) -> None:
    """Refuses a choice of outputs that the reply would not be."""
    if not isinstance(outputs, list) or not all(map(_is_output, outputs)):
        raise RequestError(422, f'the only output is {{"name": "{OUTPUT}"}}; send that, or none')


def _is_output(value: object) -> bool:
    if not isinstance(value, dict) or value.get("name") != OUTPUT:
        return False
    parameters = value.get(PARAMETERS, {})
    return (
        value.keys() <= {"name", PARAMETERS}
        and isinstance(parameters, dict)
        and parameters.keys() <= {BINARY_OUTPUT}
        and isinstance(parameters.get(BINARY_OUTPUT, False), bool)
    )


def _without_binary_reply(payload: dict[str, Any]) -> dict[str, Any]:
    parameters = payload.get(PARAMETERS)
    if not isinstance(parameters, dict) or BINARY_REPLY not in parameters:
        return payload
    fields.Boolean(BINARY_REPLY, "Whether the reply may be binary.").check(parameters[BINARY_REPLY])
    left = {name: value for name, value in parameters.items() if name != BINARY_REPLY}
    return {PARAMETERS: left}


def _items(tensors: Sequence[tuple[str, list[object]]], form: Form) -> list[object]:
    """An object for each row. A single input is the text, whatever name it goes by."""
    columns = dict(tensors)
    if len(columns) != len(tensors):
        raise RequestError(422, "two inputs have the same name; give each its own")
    if len({len(data) for data in columns.values()}) != 1:
        raise RequestError(422, "the inputs have different numbers of elements; send equally many")
    if columns.keys() - set(form.item_keys):
        if len(columns) > 1 or "text" not in form.item_keys:
            names = [key for key in form.item_keys if key not in asides(form)]
            raise RequestError(422, f"the inputs of this model are {', '.join(names)}")
        columns = {"text": next(iter(columns.values()))}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tensor(value: object) -> tuple[str, list[object]]:
    """Name and elements of an input."""
    if not isinstance(value, dict):
        raise RequestError(422, f"an input is no object; send {FORM}")
    check_keys(value, ("name", "shape", "datatype", "data", PARAMETERS), where="inputs.")
    name, shape, data = value.get("name"), value.get("shape"), value.get("data")
    if value.get("datatype") != "BYTES":
        raise RequestError(422, f"this model takes texts, datatype BYTES; send {FORM}")
    if not isinstance(name, str) or not isinstance(data, list) or not isinstance(shape, list):
        raise RequestError(422, f"an input lacks its name, shape or data; send {FORM}")
    while any(isinstance(each, list) for each in data):
        if not all(isinstance(each, list) for each in data):
            raise RequestError(422, "data is partly nested; send a flat list")
        data = [each for row in data for each in row]
    if not _holds(shape, len(data)):
        raise RequestError(422, f"the shape of an input is not that of its data; send {FORM}")
    return name, data


def _decode_base64(tensor: dict[str, Any]) -> dict[str, Any]:
    """An input of a ModelInfer call with its texts as they were sent."""
    if tensor["datatype"] != "BYTES":
        return tensor  # for `_tensor` to refuse
    if not tensor["data"]:
        raise RequestError(422, NO_CONTENTS)
    try:
        texts = [base64.b64decode(each).decode("utf-8") for each in tensor["data"]]
    except UnicodeDecodeError:
        raise RequestError(
            400, "an element of an input is not UTF-8; encode the text as UTF-8"
        ) from None
    return {**tensor, "data": texts}


def _holds(shape: list[object], count: int) -> bool:
    """Whether a tensor of this shape has `count` elements; done before a product grows large."""
    elements = 1
    for size in shape:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= count:
            return False
        elements *= size
        if elements > count:
            return False
    return elements == count
